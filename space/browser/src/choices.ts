/** A place of doubt: what each answer has there, to choose from. */

import { element, make } from "./dom";
import type { Size, Spot } from "./engine";
import { pathOf } from "./things";

const SIDE = 144; // pixels of a patch
const LEAST = 0.25; // of the photograph's short side that a patch shows

export class Choices {
  private readonly patches = element("choices");
  private readonly help = element("doubt-help");

  private asked?: [Spot, Size, number];

  constructor(private readonly onChoice: (spot: Spot, answer: number) => void) {}

  /** Shows what the answers have in a place of a photograph, marking the one that is looked at. */
  ask(spot: Spot, photo: Size, answer: number): void {
    this.asked = [spot, photo, answer];
    const pictures = document.querySelectorAll<HTMLCanvasElement>("#answers canvas");
    this.patches.replaceChildren(
      ...[...pictures].map((picture, index) => {
        const ariaLabel = `Answer ${index + 1} here`;
        const options = { type: "button", ariaLabel, ariaPressed: String(index === answer) } as const;
        const button = make("button", options, patchOf(picture, spot, photo), make("span", {}, String(index + 1)));
        button.addEventListener("click", ({ detail }) => {
          this.close();
          if (index === answer) return;
          this.onChoice(spot, index);
          if (detail === 0) element("reach").focus({ preventScroll: true }); // its own is gone
        });
        return button;
      }),
    );
    this.help.textContent = "Choose the answer whose colours this place should have.";
    element("doubt").scrollIntoView({ block: "nearest" });
  }

  /** The answers look otherwise now. */
  refresh(): void {
    if (this.asked) this.ask(...this.asked);
  }

  focus(): void {
    this.patches.querySelector<HTMLElement>("[aria-pressed='false']")?.focus({ preventScroll: true });
  }

  close(): void {
    const several = element("answers").childElementCount > 1;
    if (this.patches.contains(document.activeElement)) element("place").focus({ preventScroll: true });
    this.patches.replaceChildren();
    this.asked = undefined;
    element("more-answers").hidden = several;
    this.help.textContent = several
      ? "Touch a place that glows, and choose among what the answers have there."
      : "There is only one answer so far, and nothing to compare it with.";
  }
}

/** A square of an answer around a place. */
function patchOf(picture: HTMLCanvasElement, { radius, ...spot }: Spot, photo: Size): HTMLCanvasElement {
  const points = pathOf({ radius, ...spot });
  const middle = points[points.length >> 1]!;
  const short = Math.min(photo.width, photo.height);
  const side = Math.min(Math.max(2.5 * radius, LEAST * short), short);
  const scale = picture.width / photo.width;
  const [left, top] = [photo.width, photo.height].map(
    (length, axis) => scale * Math.min(Math.max(middle[axis]! - side / 2, 0), length - side),
  );
  const patch = make("canvas", { width: SIDE, height: SIDE });
  patch.getContext("2d")!.drawImage(picture, left!, top!, scale * side, scale * side, 0, 0, SIDE, SIDE);
  return patch;
}
