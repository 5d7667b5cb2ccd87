/** The colours that a person knows: choosing, placing, listing and removing them. */

import { element, make } from "./dom";
import type { Hint, Size } from "./layout";
import type { Viewer } from "./viewer";

const SWATCHES: [string, string][] = [
  ["skin", "#d9a684"],
  ["dark skin", "#7a4b32"],
  ["fair hair", "#b08a4e"],
  ["brown", "#6b4a2f"],
  ["dark red", "#8a2f3b"],
  ["rose", "#c98a92"],
  ["sky", "#7fa8cf"],
  ["navy", "#2f3f66"],
  ["green", "#5f7a45"],
  ["grey", "#808080"],
];

export class Hints {
  private all: Hint[] = [];
  private size: Size = { width: 1, height: 1 };
  private readonly color = element<HTMLInputElement>("color");
  private readonly button = element<HTMLButtonElement>("point");

  constructor(
    private readonly viewer: Viewer,
    private readonly onChange: () => void,
  ) {
    this.button.addEventListener("click", () => this.place(!this.isPlacing));
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.place(false));
    element("swatches").append(
      ...SWATCHES.map(([name, color]) => {
        const swatch = make("button", { type: "button", title: name, ariaLabel: name });
        swatch.style.background = color;
        swatch.addEventListener("click", () => {
          this.color.value = color;
          this.place(true);
        });
        return swatch;
      }),
    );
  }

  get list(): Hint[] {
    return this.all;
  }

  /** Starts anew, for a photograph of `size`. */
  reset(size: Size): void {
    this.size = size;
    this.all = [];
    this.place(false);
    this.show();
  }

  /** A hint at shares of width and height. */
  add({ x, y }: { x: number; y: number }): void {
    const { width, height } = this.size;
    const whole = (share: number, side: number) =>
      Math.min(Math.max(Math.floor(share * side), 0), side - 1);
    this.all.push({ x: whole(x, width), y: whole(y, height), color: this.color.value });
    this.place(false);
    this.button.focus({ preventScroll: true });
    this.changed();
  }

  private get isPlacing(): boolean {
    return this.button.ariaPressed === "true";
  }

  private place(value: boolean): void {
    this.button.ariaPressed = String(value);
    this.button.textContent = value ? "Touch the place …" : "Place it";
    this.viewer.placing = value;
  }

  private changed(): void {
    this.show();
    this.onChange();
  }

  private show(): void {
    this.viewer.showPoints(this.all, this.size);
    element("hint-list").replaceChildren(...this.all.map((hint) => this.item(hint)));
  }

  private item(hint: Hint): HTMLLIElement {
    const dot = make("span", { className: "dot" });
    dot.style.background = hint.color;
    const where = `${hint.color} at ${hint.x}, ${hint.y}`;
    const remove = make("button", { type: "button", ariaLabel: `Remove ${where}` }, "Remove");
    remove.addEventListener("click", () => {
      this.all = this.all.filter((one) => one !== hint);
      this.changed();
      this.button.focus({ preventScroll: true }); // the one that had it is gone
    });
    return make("li", {}, dot, where, remove);
  }
}
