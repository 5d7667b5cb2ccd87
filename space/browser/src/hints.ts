/** The colours that a person knows: choosing, placing, moving and removing them. */

import { element, make } from "./dom";
import type { Hint, Size } from "./engine";
import { type Place, Viewer } from "./viewer";

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

function nameOf(color: string): string {
  return SWATCHES.find(([, one]) => one === color)?.[0] ?? color;
}

export class Hints {
  readonly viewer: Viewer;
  private all: Hint[] = [];
  private size: Size = { width: 1, height: 1 };
  private readonly color = element<HTMLInputElement>("color");
  private readonly pick = element<HTMLButtonElement>("pick");
  private readonly swatches: HTMLButtonElement[];

  constructor(private readonly onChange: () => void) {
    this.viewer = new Viewer({
      onPlace: (place) => this.set([...this.all, this.at(place, this.chosen!)]),
      onMove: (index, place) =>
        this.set(this.all.map((one, i) => (i === index ? this.at(place, one.color) : one))),
      onRemove: (index) => this.set(this.all.filter((_, i) => i !== index)),
    });
    this.swatches = SWATCHES.map(([name, color]) => {
      const dot = make("span", { className: "dot" });
      dot.style.background = color;
      return make("button", { type: "button", value: color, ariaPressed: "false" }, dot, name);
    });
    element("swatches").prepend(...this.swatches);
    this.color.addEventListener("input", () => {
      this.pick.value = this.color.value;
      this.choose(this.pick.value);
    });
    for (const button of [...this.swatches, this.pick]) {
      button.addEventListener("click", (event) => {
        this.choose(button.ariaPressed === "true" ? undefined : button.value);
        if (event.detail === 0 && this.chosen) this.viewer.focusCross(); // by keyboard
      });
    }
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.choose(undefined));
  }

  get list(): Hint[] {
    return this.all;
  }

  /** Shows these, for a photograph of `size`. */
  reset(hints: Hint[], size: Size): void {
    this.size = size;
    this.all = hints;
    this.show();
  }

  private get chosen(): string | undefined {
    return [...this.swatches, this.pick].find((one) => one.ariaPressed === "true")?.value;
  }

  /** The colour that the next touch of the photograph places. */
  choose(color: string | undefined): void {
    const isSwatch = this.swatches.some(({ value }) => value === color);
    for (const one of this.swatches) one.ariaPressed = String(one.value === color);
    this.pick.ariaPressed = String(color !== undefined && !isSwatch);
    this.viewer.placing = color !== undefined;
    element("hint-help").textContent = color
      ? `Touch the photograph where it is ${nameOf(color)}. Escape ends it.`
      : "Was her dress dark red? Choose a colour, then touch the place.";
  }

  private at({ x, y }: Place, color: string): Hint {
    const { width, height } = this.size;
    return { x: Math.floor(x * width), y: Math.floor(y * height), color };
  }

  private set(hints: Hint[]): void {
    this.all = hints;
    this.show();
    this.onChange();
  }

  private show(): void {
    this.viewer.showPoints(this.all, this.size, (hint) => `${nameOf(hint.color)} at ${hint.x}, ${hint.y}`);
    element("hint-list").replaceChildren(
      ...this.all.map((hint, index) => {
        const dot = make("span", { className: "dot" });
        dot.style.background = hint.color;
        const name = `${nameOf(hint.color)} at ${hint.x}, ${hint.y}`;
        const remove = make("button", { type: "button", ariaLabel: `Remove ${name}` }, "Remove");
        remove.addEventListener("click", () => {
          this.set(this.all.filter((_, i) => i !== index));
          element("swatches").querySelector("button")!.focus({ preventScroll: true }); // its own is gone
        });
        return make("li", {}, dot, name, remove);
      }),
    );
  }
}
