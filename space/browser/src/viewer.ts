/** The photograph before and after, side by side in one frame, with the places of known colours. */

import { element } from "./dom";
import type { Hint, Size } from "./layout";

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

export class Viewer {
  private readonly frame = element<HTMLDivElement>("compare");
  private readonly before = element<HTMLImageElement>("before");
  private readonly after = element<HTMLCanvasElement>("after");
  private readonly divider = element<HTMLInputElement>("divider");
  private readonly points = element<HTMLDivElement>("points");
  private readonly target = element<HTMLButtonElement>("place");
  private cross = { x: 0.5, y: 0.5 }; // shares of the frame

  /** `onPlace` gets shares of width and height. */
  constructor(onPlace: (place: { x: number; y: number }) => void) {
    this.divider.addEventListener("input", () => this.showDivider());
    this.target.addEventListener("click", (event) => {
      const frame = this.frame.getBoundingClientRect();
      const byKeyboard = event.detail === 0;
      onPlace(
        byKeyboard
          ? this.cross
          : {
              x: (event.clientX - frame.left) / frame.width,
              y: (event.clientY - frame.top) / frame.height,
            },
      );
    });
    this.target.addEventListener("keydown", (event) => this.moveCross(event));
  }

  /** Shows a photograph, without colours yet. */
  open(file: Blob): void {
    URL.revokeObjectURL(this.before.src);
    this.before.src = URL.createObjectURL(file);
    this.after.hidden = true;
    this.divider.value = "50";
    this.showDivider();
  }

  /** Shows colours beside it. */
  show(picture: ImageBitmap): void {
    this.after.hidden = false;
    draw(picture, this.after);
  }

  /** Whether a touch of the photograph places a colour. */
  set placing(value: boolean) {
    this.target.hidden = !value;
    if (!value) return;
    this.target.focus({ preventScroll: true });
    this.frame.scrollIntoView({ block: "nearest" });
  }

  showPoints(hints: Hint[], { width, height }: Size): void {
    const dots = hints.map(({ x, y, color }) => {
      const dot = document.createElement("span");
      dot.style.left = `${(100 * (x + 0.5)) / width}%`;
      dot.style.top = `${(100 * (y + 0.5)) / height}%`;
      dot.style.background = color;
      return dot;
    });
    this.points.replaceChildren(...dots);
  }

  private showDivider(): void {
    this.frame.style.setProperty("--divider", `${this.divider.value}%`);
    this.divider.ariaValueText = `${this.divider.value} % original`;
  }

  private moveCross(event: KeyboardEvent): void {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const pace = event.shiftKey ? 0.1 : 0.02;
    const within = (value: number) => Math.min(Math.max(value, 0), 0.999);
    this.cross = {
      x: within(this.cross.x + pace * arrow[0]),
      y: within(this.cross.y + pace * arrow[1]),
    };
    this.target.style.setProperty("--x", `${100 * this.cross.x}%`);
    this.target.style.setProperty("--y", `${100 * this.cross.y}%`);
  }
}

/** Puts a picture into a canvas of its own size; the picture is given up. */
export function draw(picture: ImageBitmap, canvas: HTMLCanvasElement): void {
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("bitmaprenderer")!.transferFromImageBitmap(picture);
}
