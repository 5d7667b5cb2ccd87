/** The photograph, large: its colours, what it was before, and the places of given colours. */

import { element, make } from "./dom";
import type { Hint, Size } from "./engine";

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};
const MOST_ZOOM = 8;

/** Shares of width and height. */
export interface Place {
  x: number;
  y: number;
}

export interface PointEvents {
  onPlace: (path: Place[], isByKeyboard: boolean) => void;
  onMove: (index: number, place: Place) => void;
  onRemove: (index: number) => void;
}

const within = (value: number, least: number, most: number) => Math.min(Math.max(value, least), most);
const inside = ({ x, y }: Place): Place => ({ x: within(x, 0, 0.9999), y: within(y, 0, 0.9999) });

export class Viewer {
  readonly frame = element("frame");
  private readonly stage = element("stage");
  private readonly before = element<HTMLImageElement>("before");
  private readonly after = element<HTMLCanvasElement>("after");
  private readonly divider = element<HTMLInputElement>("divider");
  private readonly points = element("points");
  private readonly target = element<HTMLButtonElement>("place");
  private cross: Place = { x: 0.5, y: 0.5 };
  private zoom = 1;
  private pan: Place = { x: 0, y: 0 }; // pixels of the screen
  private readonly fingers = new Map<number, PointerEvent>();

  constructor(private readonly events: PointEvents) {
    this.divider.addEventListener("input", () => this.layOut());
    this.target.addEventListener("click", (event) => {
      if (event.detail === 0) events.onPlace([this.cross], true);
    });
    this.setUpTouch();
    this.target.addEventListener("keydown", (event) => this.steerCross(event));
    this.setUpZoom();
    this.setUpHold();
    new ResizeObserver(() => this.layOut()).observe(this.frame);
  }

  /** Shows a photograph, without colours yet; says whether the browser can show the file. */
  async open(file: Blob): Promise<boolean> {
    URL.revokeObjectURL(this.before.src);
    this.before.src = URL.createObjectURL(file);
    this.after.hidden = true;
    this.divider.value = "50";
    this.zoomTo(1);
    return this.before.decode().then(
      () => true,
      () => false,
    );
  }

  /** Shows colours. */
  show(picture: ImageBitmap): void {
    this.after.hidden = false;
    draw(picture, this.after);
  }

  /** A picture of what is before, and one of what is shown, for a file that people share. */
  get pictures(): [HTMLImageElement, HTMLCanvasElement] {
    return [this.before, this.after];
  }

  /** Whether before and after stand side by side, with a divider. */
  set comparing(value: boolean) {
    this.frame.classList.toggle("comparing", value);
    this.layOut();
  }

  /** Whether a touch of the photograph places a colour; the picture's whole is colour then. */
  set placing(value: boolean) {
    this.target.hidden = !value;
    const { top, bottom } = this.frame.getBoundingClientRect();
    if (value && (bottom < 0 || top > innerHeight)) this.frame.scrollIntoView({ block: "center" });
    this.frame.classList.toggle("placing", value);
    this.layOut();
  }

  /** How wide a stroke of the brush is, in shares of the short side; 0: things are touched. */
  brush = 0;

  private setUpTouch(): void {
    const { target } = this;
    let path: Place[] = [];
    target.addEventListener("pointerdown", (event) => {
      if (event.button || !event.isPrimary) return;
      target.setPointerCapture(event.pointerId);
      path = [inside(this.at(event))];
      this.showStroke(path);
      if (this.brush) event.stopPropagation(); // the photograph stays where it is
    });
    target.addEventListener("pointermove", (event) => {
      if (!path.length || !this.brush || !event.isPrimary) return;
      path.push(inside(this.at(event)));
      this.showStroke(path);
    });
    target.addEventListener("pointerup", (event) => {
      const isPan = !this.brush && path[0] && this.isAway(path[0], inside(this.at(event)));
      if (path.length && !isPan && event.isPrimary) {
        this.moveCross(path[path.length >> 1]!);
        this.events.onPlace(path, false);
      }
      path = [];
      this.showStroke([]);
    });
    target.addEventListener("pointercancel", () => {
      path = [];
      this.showStroke([]);
    });
  }

  /** Whether a finger has moved the photograph rather than touched it. */
  private isAway(from: Place, to: Place): boolean {
    const { width, height } = this.stage.getBoundingClientRect();
    return Math.hypot((to.x - from.x) * width, (to.y - from.y) * height) > 12;
  }

  private showStroke(path: Place[]): void {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const stroke = document.querySelector<SVGPolylineElement>("#stroke polyline")!;
    stroke.style.strokeWidth = `${2 * this.brush * Math.min(width, height)}px`;
    const points = path.length === 1 ? [path[0]!, path[0]!] : path;
    stroke.setAttribute("points", points.map(({ x, y }) => `${x * width},${y * height}`).join(" "));
  }

  focusCross(): void {
    this.target.focus({ preventScroll: true });
  }

  // --- zoom and pan ------------------------------------------------------------------------------

  private setUpZoom(): void {
    element("closer").addEventListener("click", () => this.zoomTo(this.zoom * 1.6));
    element("farther").addEventListener("click", () => this.zoomTo(this.zoom / 1.6));
    element("fit").addEventListener("click", () => this.zoomTo(1));
    element("zoom").addEventListener("keydown", (event) => {
      const arrow = ARROWS[event.key];
      if (!arrow || this.zoom === 1) return;
      event.preventDefault();
      this.panBy(-60 * arrow[0], -60 * arrow[1]);
    });
    this.frame.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.frame.addEventListener("pointerdown", (event) => this.fingers.set(event.pointerId, event));
    this.frame.addEventListener("pointermove", (event) => this.onDrag(event));
    for (const kind of ["pointerup", "pointercancel", "pointerleave"] as const) {
      this.frame.addEventListener(kind, (event) => this.fingers.delete(event.pointerId));
    }
  }

  private onWheel(event: WheelEvent): void {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / 200), event);
  }

  /** One finger moves what is zoomed, two pinch. */
  private onDrag(event: PointerEvent): void {
    const last = this.fingers.get(event.pointerId);
    if (!last) return;
    const other = [...this.fingers.values()].find((one) => one.pointerId !== event.pointerId);
    this.fingers.set(event.pointerId, event);
    if (other) {
      const apart = (one: PointerEvent) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      this.zoomTo((this.zoom * apart(event)) / Math.max(apart(last), 1), event);
    } else if (this.zoom > 1 && event.target !== this.divider) {
      this.panBy(event.clientX - last.clientX, event.clientY - last.clientY);
    }
  }

  private zoomTo(zoom: number, around?: MouseEvent): void {
    const frame = this.frame.getBoundingClientRect();
    const before = this.zoom;
    this.zoom = within(zoom, 1, MOST_ZOOM);
    const x = (around?.clientX ?? frame.left + frame.width / 2) - frame.left;
    const y = (around?.clientY ?? frame.top + frame.height / 2) - frame.top;
    const grown = this.zoom / before;
    this.pan = { x: x - (x - this.pan.x) * grown, y: y - (y - this.pan.y) * grown };
    this.panBy(0, 0);
  }

  private panBy(x: number, y: number): void {
    const { width, height } = this.frame.getBoundingClientRect();
    this.pan = {
      x: within(this.pan.x + x, width * (1 - this.zoom), 0),
      y: within(this.pan.y + y, height * (1 - this.zoom), 0),
    };
    this.layOut();
  }

  /** Puts zoom, pan and divider on the screen. */
  private layOut(): void {
    const share = Number(this.divider.value) / 100;
    const { width } = this.frame.getBoundingClientRect();
    const { style, classList } = this.frame;
    const cut = width ? (share * width - this.pan.x) / (this.zoom * width) : share;
    const isCut = classList.contains("comparing") && !classList.contains("placing");
    style.setProperty("--cut", `${isCut ? 100 * within(cut, 0, 1) : 0}%`);
    style.setProperty("--divider", `${100 * share}%`);
    style.setProperty("--zoom", String(this.zoom));
    this.stage.style.transform = `translate(${this.pan.x}px, ${this.pan.y}px) scale(${this.zoom})`;
    this.divider.ariaValueText = `${this.divider.value} % of the photograph as it was`;
    classList.toggle("zoomed", this.zoom > 1);
    element<HTMLButtonElement>("fit").disabled = this.zoom === 1;
  }

  // --- what was before ---------------------------------------------------------------------------

  private setUpHold(): void {
    const button = element("hold");
    const hold = (value: boolean) => {
      this.after.classList.toggle("away", value);
      button.ariaPressed = String(value);
    };
    button.addEventListener("pointerdown", () => hold(true));
    for (const kind of ["pointerup", "pointercancel", "pointerleave", "blur", "keyup"]) {
      button.addEventListener(kind, () => hold(false));
    }
    button.addEventListener("keydown", ({ key }) => (key === " " || key === "Enter") && hold(true));
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long touch
  }

  // --- points ------------------------------------------------------------------------------------

  showPoints(hints: Hint[], size: Size, names: string[]): void {
    const isFocused = [...this.points.children].indexOf(document.activeElement!);
    this.points.replaceChildren(
      ...hints.map((hint, index) => {
        const label = `${names[index]}: drag or arrow keys move it, Delete removes it`;
        const point = make("button", { type: "button", className: "point", ariaLabel: label });
        point.style.background = hint.color;
        put(point, { x: (hint.x + 0.5) / size.width, y: (hint.y + 0.5) / size.height });
        this.setUpPoint(point, index);
        return point;
      }),
    );
    (this.points.children[isFocused] as HTMLElement | undefined)?.focus({ preventScroll: true });
  }

  private setUpPoint(point: HTMLButtonElement, index: number): void {
    const place = () => ({ x: parseFloat(point.style.left) / 100, y: parseFloat(point.style.top) / 100 });
    let isMoved = false;
    point.addEventListener("pointerdown", (event) => {
      event.stopPropagation(); // the photograph stays where it is
      point.setPointerCapture(event.pointerId);
      isMoved = false;
    });
    point.addEventListener("pointermove", (event) => {
      if (!point.hasPointerCapture(event.pointerId)) return;
      isMoved ||= Math.hypot(event.movementX, event.movementY) > 0;
      put(point, inside(this.at(event)));
    });
    point.addEventListener("pointerup", () => isMoved && this.events.onMove(index, place()));
    point.addEventListener("keydown", (event) => {
      const arrow = ARROWS[event.key];
      if (event.key === "Delete" || event.key === "Backspace") this.events.onRemove(index);
      else if (arrow) {
        const { x, y } = place();
        put(point, inside({ x: x + 0.02 * arrow[0], y: y + 0.02 * arrow[1] }));
        isMoved = true;
      } else return;
      event.preventDefault();
    });
    point.addEventListener("keyup", ({ key }) => {
      if (key in ARROWS && isMoved) this.events.onMove(index, place());
      isMoved = false;
    });
  }

  private at(event: MouseEvent): Place {
    const stage = this.stage.getBoundingClientRect();
    return {
      x: (event.clientX - stage.left) / stage.width,
      y: (event.clientY - stage.top) / stage.height,
    };
  }

  private steerCross(event: KeyboardEvent): void {
    const arrow = ARROWS[event.key];
    if (!arrow) return;
    event.preventDefault();
    const pace = event.shiftKey ? 0.1 : 0.02;
    this.moveCross({ x: this.cross.x + pace * arrow[0], y: this.cross.y + pace * arrow[1] });
  }

  private moveCross(place: Place): void {
    this.cross = inside(place);
    put(element("cross"), this.cross);
  }
}

function put(one: HTMLElement, { x, y }: Place): void {
  one.style.left = `${100 * x}%`;
  one.style.top = `${100 * y}%`;
}

/** Puts a picture into a canvas of its own size; the picture is given up. */
export function draw(picture: ImageBitmap, canvas: HTMLCanvasElement): void {
  canvas.width = picture.width;
  canvas.height = picture.height;
  canvas.getContext("bitmaprenderer")!.transferFromImageBitmap(picture);
}
