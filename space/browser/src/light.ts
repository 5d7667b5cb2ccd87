/**
 * The light of a photograph as it decides the colours: without what transparency hides, as in
 * pipeline_colorize/core/transparency.py, and with the contrast that a print has lost, as in levels.py.
 */

import { lightnessOf } from "./color";
import type { Size } from "./engine";
import { round } from "./layout";
import { type Box, type Lines, percentile, pictureBox } from "./margins";
import { type Plane, RowResizer, resized } from "./resize";

const CELLS = 64; // to the longer side of the grid on which surroundings are averaged
const NOTHING = 50; // L* of a picture of which nothing is visible
const JUDGED_SIDE = 128;
const [DARKEST, LIGHTEST] = [1, 99];
const FADED_RANGE = [48, 42] as const;
const FADED_BLACK = [12, 20] as const;
const [BLACK, WHITE] = [8, 86];
const MOST = 8;
const UNITS = 655; // of L* 1, in the whole numbers in which it is kept

const within = (value: number, least: number, most: number) => Math.min(Math.max(value, least), most);

/** A photograph's light, row by row from the top. */
export class Light {
  private readonly data: Uint16Array;
  private cells?: Cells;

  constructor(private readonly size: Size) {
    this.data = new Uint16Array(size.width * size.height);
  }

  /** Takes note of the alpha of some rows of RGBA bytes; all of them come before `push`. */
  note(pixels: ImageData, top: number): void {
    this.cells ??= new Cells(this.size);
    this.cells.add(pixels, lightOf(pixels), top);
  }

  /** Takes rows of RGBA bytes. */
  push(pixels: ImageData, top: number): void {
    const light = lightOf(pixels);
    this.cells?.fill(light, pixels, top);
    for (let i = 0, to = top * this.size.width; i < light.data.length; i++) {
      this.data[to++] = Math.round(UNITS * light.data[i]!);
    }
  }

  /** Where the photograph is, without margins and what is fully transparent around it. */
  frame(): Box {
    const { width, height } = this.size;
    const { top, bottom, left, right } = this.cells?.visible() ?? { top: 0, bottom: height, left: 0, right: width };
    const lines: Lines = {
      data: this.data,
      unit: 1 / UNITS,
      start: top * width + left,
      down: width,
      across: 1,
      rows: bottom - top,
      columns: right - left,
    };
    const inner = pictureBox(lines);
    return { top: top + inner.top, bottom: top + inner.bottom, left: left + inner.left, right: left + inner.right };
  }

  /** The rows of L* within a box, from the top. */
  *rows({ top, bottom, left, right }: Box): Generator<Float32Array> {
    for (let y = top; y < bottom; y++) {
      const row = this.data.subarray(y * this.size.width + left, y * this.size.width + right);
      yield Float32Array.from(row, (value) => value / UNITS);
    }
  }
}

export function lightOf({ width, height, data }: ImageData): Plane {
  const light = { width, height, data: new Float32Array(width * height) };
  lightnessOf(data, light.data);
  return light;
}

/** What is visible, averaged over cells, to stand where nothing is. */
export class Cells {
  private readonly grid: Size;
  private readonly total: Float64Array;
  private readonly share: Float64Array;
  private readonly count: Float64Array;
  private readonly columns: Uint8Array; // the cell of each pixel of a row
  private readonly lines: Uint8Array;
  private readonly box: Box;
  private least = 255;
  private most = 0;
  private mean?: Plane;

  constructor(private readonly size: Size) {
    const { width, height } = size;
    const cells = (side: number) => Math.max(1, round(side * Math.min(1, CELLS / Math.max(width, height))));
    this.grid = { width: cells(width), height: cells(height) };
    const area = this.grid.width * this.grid.height;
    [this.total, this.share, this.count] = [new Float64Array(area), new Float64Array(area), new Float64Array(area)];
    this.columns = cellOf(width, this.grid.width);
    this.lines = cellOf(height, this.grid.height);
    this.box = { top: height, bottom: 0, left: width, right: 0 };
  }

  /** Adds rows of a picture, whose alpha is the fourth of its bytes. */
  add({ data }: { data: Uint8ClampedArray }, light: Plane, top: number): void {
    for (let y = 0, at = 0; y < light.height; y++) {
      for (let x = 0; x < light.width; x++, at++) {
        const alpha = data[4 * at + 3]!;
        const cell = this.lines[top + y]! * this.grid.width + this.columns[x]!;
        this.total[cell]! += alpha * light.data[at]!;
        this.share[cell]! += alpha;
        this.count[cell]!++;
        if (alpha) this.see(x, top + y);
        this.least = Math.min(this.least, alpha);
        this.most = Math.max(this.most, alpha);
      }
    }
  }

  private see(x: number, y: number): void {
    this.box.left = Math.min(this.box.left, x);
    this.box.right = Math.max(this.box.right, x + 1);
    this.box.top = Math.min(this.box.top, y);
    this.box.bottom = y + 1;
  }

  /** The box outside of which all is fully transparent; the whole where nothing is visible. */
  visible(): Box {
    return this.most ? this.box : { top: 0, bottom: this.size.height, left: 0, right: this.size.width };
  }

  /** Puts what lies around where nothing is visible, and half of it where half is. */
  fill(light: Plane, { data }: { data: Uint8ClampedArray }, top: number): void {
    if (this.least === 255) return;
    this.mean ??= this.surroundings();
    const across = Array.from({ length: light.width }, (_, x) => between(x, light.width, this.grid.width));
    for (let y = 0, at = 0; y < light.height; y++) {
      const [row, next, down] = between(top + y, this.size.height, this.grid.height);
      const line = Float64Array.from({ length: this.grid.width }, (_, x) => {
        const [upper, lower] = [row, next].map((one) => this.mean!.data[one * this.grid.width + x]!);
        return upper! + down * (lower! - upper!);
      });
      for (let x = 0; x < light.width; x++, at++) {
        const [left, right, share] = across[x]!;
        const around = line[left]! + share * (line[right]! - line[left]!);
        light.data[at] = around + (data[4 * at + 3]! / (this.most || 1)) * (light.data[at]! - around);
      }
    }
  }

  /** Means from coarse to fine; a cell has of its own mean as much as is visible of it. */
  private surroundings(): Plane {
    if (!this.most) return { ...this.grid, data: new Float32Array(this.total.length).fill(NOTHING) };
    const own = (values: Float64Array): Plane => {
      return { ...this.grid, data: Float32Array.from(values, (value, i) => value / this.count[i]! / this.most) };
    };
    const pyramid = [[own(this.total), own(this.share)] as const];
    for (let [one] = pyramid[0]!; one.width > 1 || one.height > 1; [one] = pyramid.at(-1)!) {
      const half = { width: (one.width + 1) >> 1, height: (one.height + 1) >> 1 };
      const [total, share] = pyramid.at(-1)!;
      pyramid.push([resized(total, half, "box"), resized(share, half, "box")]);
    }
    const [last, all] = pyramid.pop()!;
    let mean: Plane = { ...last, data: last.data.map((value, i) => value / all.data[i]!) };
    for (const [total, share] of pyramid.reverse()) {
      const coarse = resized(mean, total);
      mean = { ...total, data: total.data.map((value, i) => value + (1 - share.data[i]!) * coarse.data[i]!) };
    }
    return mean;
  }
}

/** The cell that each pixel along a side lies in. */
function cellOf(side: number, cells: number): Uint8Array {
  const result = new Uint8Array(side);
  for (let cell = 0; cell < cells; cell++) {
    result.fill(cell, Math.floor((cell * side) / cells), Math.floor(((cell + 1) * side) / cells));
  }
  return result;
}

/** The two cells between whose centres a pixel lies, and how near it is to the second. */
function between(at: number, side: number, cells: number): [number, number, number] {
  const place = within(((at + 0.5) * cells) / side - 0.5, 0, cells - 1);
  return [Math.floor(place), Math.min(Math.floor(place) + 1, cells - 1), place % 1];
}

/** The factor on L* that gives a faded photograph its contrast back, and what is added. */
export type Levels = readonly [gain: number, offset: number];

/** Measures levels from the rows of a photograph. */
export class LevelsMeter {
  private readonly resizer: RowResizer;

  constructor({ width, height }: Size) {
    const scale = Math.min(1, JUDGED_SIDE / Math.min(width, height));
    const [across, down] = [width, height].map((side) => Math.max(1, round(side * scale)));
    this.resizer = new RowResizer(width, height, across!, down!, "box");
  }

  push(row: Float32Array): void {
    this.resizer.push(row);
  }

  get levels(): Levels {
    const { data } = this.resizer.plane;
    const [dark, light] = [percentile(data, DARKEST), percentile(data, LIGHTEST)];
    const share = ramp(light - dark, ...FADED_RANGE) * ramp(dark, ...FADED_BLACK);
    if (share === 0 || light === dark) return [1, 0];
    const gain = 1 + share * (Math.min((WHITE - BLACK) / (light - dark), MOST) - 1);
    const middle = ((1 - share) * (dark + light)) / 2 + (share * (BLACK + WHITE)) / 2;
    return [gain, middle - (gain * (dark + light)) / 2];
  }
}

/** 0 at `start` and before, 1 at `end` and behind, and a straight line between. */
function ramp(value: number, start: number, end: number): number {
  return within((value - start) / (end - start), 0, 1);
}

/** Light as the network sees it. */
export function leveled(plane: Plane, [gain, offset]: Levels): Plane {
  if (gain === 1) return plane;
  return { ...plane, data: plane.data.map((value) => within(gain * value + offset, 0, 100)) };
}
