/** Given colours, and places that are mended: choosing, placing, moving and removing them. */

import { Choices } from "./choices";
import { element, make } from "./dom";
import type { Hint, Size, Spot, Touch } from "./engine";
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

const MOST_POINTS = 80; // of a stroke

function nameOf(color: string): string {
  return SWATCHES.find(([, one]) => one === color)?.[0] ?? color;
}

function dotOf(color: string): HTMLElement {
  const dot = make("span", { className: "dot" });
  dot.style.background = color;
  return dot;
}

function wordOf(what: Touch["what"]): string {
  if (what === "anew") return "other colours";
  return what === "grey" ? "no colour" : `as in answer ${what}`;
}

/** A stroke with fewer points, each so far from the one before. */
function thinned(points: [number, number][], apart: number): [number, number][] {
  const kept = points.slice(0, 1);
  for (const point of points) {
    const [x, y] = kept.at(-1)!;
    if (kept.length < MOST_POINTS && Math.hypot(point[0] - x, point[1] - y) >= apart) kept.push(point);
  }
  return kept;
}

export class Hints {
  readonly viewer: Viewer;
  private all: Hint[] = [];
  private places: Touch[] = [];
  private answer = 0; // that is looked at
  private size: Size = { width: 1, height: 1 };
  private readonly color = element<HTMLInputElement>("color");
  private readonly pick = element<HTMLButtonElement>("pick");
  private readonly reach = element<HTMLInputElement>("reach");
  private readonly swatches: HTMLButtonElement[];
  readonly choices = new Choices((spot, answer) => this.mendAt(spot, answer + 1));
  private latest?: Hint | Touch;
  private isAsking = false;

  /** `onTool` is called when something is about to be placed. */
  constructor(
    private readonly onChange: () => void,
    private readonly onTool: () => void,
  ) {
    this.viewer = new Viewer({
      onPlace: (path, isByKeyboard) => this.put(path, isByKeyboard),
      onMove: (index, place) =>
        this.set(this.all.with(index, this.shifted(this.all[index]!, place))),
      onRemove: (index) => this.set(this.all.toSpliced(index, 1)),
    });
    this.swatches = SWATCHES.map(([name, color]) =>
      make("button", { type: "button", value: color, ariaPressed: "false" }, dotOf(color), name),
    );
    element("swatches").prepend(...this.swatches);
    this.color.addEventListener("input", () => {
      this.pick.value = this.color.value;
      this.choose(this.pick.value);
    });
    for (const button of [...this.swatches, this.pick]) this.setUp(button);
    for (const id of ["thing", "brush"]) element(id).addEventListener("change", () => this.showShape());
    this.reach.addEventListener("input", () => this.showShape());
    this.reach.addEventListener("change", () => this.resize());
    this.showShape();
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.choose(undefined));
  }

  get list(): Hint[] {
    return this.all;
  }

  get touches(): Touch[] {
    return this.places;
  }

  /** Shows these, for a photograph of `size`. */
  reset(hints: Hint[], touches: Touch[], size: Size): void {
    this.size = size;
    [this.all, this.places] = [hints, touches];
    this.show();
  }

  /** These places are mended from the next colours on. */
  mend(touches: Touch[]): void {
    this.places = touches;
  }

  /** Whether a touch asks what the answers have there, while no tool is chosen. */
  set asking(value: boolean) {
    this.isAsking = value;
    this.expect();
  }

  /** Makes the photograph ready for the next touch. */
  private expect(): void {
    const isTool = this.chosen !== undefined;
    this.choices.close();
    this.viewer.placing = isTool || this.isAsking;
    element("place").ariaLabel = isTool
      ? "Place the colour: arrow keys move the cross, Enter places it"
      : "Look at a place: arrow keys move the cross, Enter shows what the answers have there";
  }

  /** Offers to mend an answer, out of so many. */
  offer(answer: number, count: number): void {
    this.answer = answer;
    const others = Array.from({ length: count }, (_, i) => i + 1).filter((one) => one !== answer + 1);
    const kinds = ["anew" as const, "grey" as const, ...others];
    const chosen = this.chosen;
    this.mends = kinds.map((what) => {
      const name = `${wordOf(what)[0]!.toUpperCase()}${wordOf(what).slice(1)} here`;
      const options = { type: "button", value: String(what), ariaPressed: "false", ariaLabel: name } as const;
      const button = make("button", options, typeof what === "number" ? String(what) : name.slice(0, -5));
      this.setUp(button);
      return button;
    });
    const [anew, grey, ...fromOthers] = this.mends as [HTMLButtonElement, HTMLButtonElement];
    const row = make("span", { className: "row" }, "As in answer", ...fromOthers);
    row.hidden = !fromOthers.length;
    element("mends").replaceChildren(anew, grey, row);
    this.choose(this.tools.some(({ value }) => value === chosen) ? chosen : undefined);
  }

  private mends: HTMLButtonElement[] = [];

  private get tools(): HTMLButtonElement[] {
    return [...this.swatches, this.pick, ...this.mends];
  }

  private get chosen(): string | undefined {
    return this.tools.find((one) => one.ariaPressed === "true")?.value;
  }

  private setUp(button: HTMLButtonElement): void {
    button.addEventListener("click", (event) => {
      this.choose(button.ariaPressed === "true" ? undefined : button.value);
      if (event.detail === 0 && this.chosen) this.viewer.focusCross(); // by keyboard
    });
  }

  private get isBrush(): boolean {
    return element<HTMLInputElement>("brush").checked;
  }

  /** In pixels of the photograph. */
  private get radius(): number {
    const share = Number(this.reach.value) / (this.isBrush ? 400 : 100);
    return Math.max(Math.round(share * Math.min(this.size.width, this.size.height)), 1);
  }

  private showShape(): void {
    this.viewer.brush = this.isBrush ? Number(this.reach.value) / 400 : 0;
    this.viewer.frame.classList.toggle("brushing", this.isBrush);
  }

  /** What was touched last becomes larger or smaller. */
  private resize(): void {
    const { latest, radius } = this;
    if (!latest || latest.thing === this.isBrush) return;
    const [hint, touch] = [this.all.indexOf(latest as Hint), this.places.indexOf(latest as Touch)];
    this.latest = { ...latest, radius };
    if (hint >= 0) this.set(this.all.with(hint, this.latest as Hint));
    if (touch >= 0) this.set(this.all, this.places.with(touch, this.latest as Touch));
  }

  /** What the chosen tool does to a place. */
  private put(path: Place[], isByKeyboard: boolean): void {
    const { chosen } = this;
    const [first, ...rest] = thinned(path.map((place) => this.at(place)), this.radius / 2);
    const spot: Spot = { x: first![0], y: first![1], radius: this.radius, thing: !this.isBrush };
    if (rest.length) spot.path = rest;
    if (!chosen) {
      this.choices.ask(spot, this.size, this.answer);
      if (isByKeyboard) this.choices.focus();
    } else if (chosen.startsWith("#")) {
      this.latest = { ...spot, color: chosen };
      this.set([...this.all, this.latest]);
    } else this.mendAt(spot, chosen === "anew" || chosen === "grey" ? chosen : Number(chosen));
  }

  private mendAt(spot: Spot, what: Touch["what"]): void {
    this.latest = { ...spot, what, answer: this.answer };
    this.set(this.all, [...this.places, this.latest]);
  }

  /** The colour that the next touch of the photograph places. */
  choose(color: string | undefined): void {
    for (const one of this.tools) one.ariaPressed = "false";
    const tool = this.tools.find(({ value }) => value === color);
    if (tool) {
      tool.ariaPressed = "true";
      this.onTool();
    }
    this.expect();
    const isColor = color?.startsWith("#");
    element("hint-help").textContent =
      color && isColor
        ? `Touch what is ${nameOf(color)} in the photograph.`
        : "Choose one, then touch what has it.";
    element("mend-help").textContent =
      color && !isColor
        ? "Touch what is wrong in the photograph."
        : "Choose, then touch it. The rest stays.";
  }

  private at({ x, y }: Place): [number, number] {
    return [Math.floor(x * this.size.width), Math.floor(y * this.size.height)];
  }

  private shifted(hint: Hint, place: Place): Hint {
    const [x, y] = this.at(place);
    const path = hint.path?.map((one): [number, number] => [one[0] + x - hint.x, one[1] + y - hint.y]);
    return { ...hint, x, y, path };
  }

  private set(hints: Hint[], touches = this.places): void {
    [this.all, this.places] = [hints, touches];
    this.show();
    this.onChange();
  }

  private show(): void {
    const names = this.all.map(({ color, x, y }) => `${nameOf(color)} at ${x}, ${y}`);
    this.viewer.showPoints(this.all, this.size, names);
    const hints = this.all.map((hint, index) =>
      this.line(names[index]!, () => this.set(this.all.toSpliced(index, 1)), dotOf(hint.color)),
    );
    const mends = this.places.map(({ what, x, y }, index) =>
      this.line(`${wordOf(what)} at ${x}, ${y}`, () => this.set(this.all, this.places.toSpliced(index, 1))),
    );
    element("hint-list").replaceChildren(...hints);
    element("mend-list").replaceChildren(...mends);
  }

  private line(name: string, onRemove: () => void, ...before: Node[]): HTMLLIElement {
    const onclick = () => {
      onRemove();
      element("swatches").querySelector("button")!.focus({ preventScroll: true }); // its own is gone
    };
    const remove = make("button", { type: "button", ariaLabel: `Remove ${name}`, onclick }, "Remove");
    return make("li", {}, ...before, name, remove);
  }
}
