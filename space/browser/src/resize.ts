/**
 * Resizing pictures row by row, along one axis and then the other, by a triangle as torch's
 * `interpolate(mode="bilinear", antialias=True)`, or by means over boxes as Pillow's BOX.
 */

import type { Size } from "./engine";

/** One channel of numbers, row by row. */
export interface Plane extends Size {
  data: Float32Array;
}

type Filter = "triangle" | "box";

interface Taps {
  /** For each new position: the first old one, and the weights of that one and those after it. */
  starts: Int32Array;
  weights: Float64Array[];
}

function taps(size: number, target: number, filter: Filter): Taps {
  const scale = size / target;
  const width = Math.max(scale, 1);
  const support = filter === "box" ? width / 2 : width;
  const starts = new Int32Array(target);
  const weights: Float64Array[] = [];
  for (let i = 0; i < target; i++) {
    const center = scale * (i + 0.5);
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), size);
    const row = Float64Array.from({ length: end - start }, (_, j) => {
      const away = (j + start - center + 0.5) / width;
      return filter === "box" ? Number(away > -0.5 && away <= 0.5) : Math.max(1 - Math.abs(away), 0);
    });
    const sum = row.reduce((total, weight) => total + weight, 0);
    starts[i] = start;
    weights.push(row.map((weight) => weight / sum));
  }
  return { starts, weights };
}

/** Takes the rows of a picture from top to bottom and keeps only the small one. */
export class RowResizer {
  private readonly across: Taps;
  private readonly down: Taps;
  private readonly line: Float64Array;
  private readonly sums: Float64Array;
  private y = 0;
  private first = 0;

  constructor(
    width: number,
    height: number,
    private readonly newWidth: number,
    private readonly newHeight: number,
    filter: Filter = "triangle",
  ) {
    this.across = taps(width, newWidth, filter);
    this.down = taps(height, newHeight, filter);
    this.line = new Float64Array(newWidth);
    this.sums = new Float64Array(newWidth * newHeight);
  }

  /** The next row; after the last one, `plane` is complete. */
  push(row: Float32Array): void {
    this.shorten(row);
    const { starts, weights } = this.down;
    for (let i = this.first; i < this.newHeight && starts[i]! <= this.y; i++) {
      const weight = weights[i]![this.y - starts[i]!] ?? 0;
      const at = i * this.newWidth;
      for (let x = 0; x < this.newWidth; x++) this.sums[at + x]! += weight * this.line[x]!;
    }
    this.y++;
    while (this.first < this.newHeight && this.isComplete(this.first)) this.first++;
  }

  get plane(): Plane {
    const data = Float32Array.from(this.sums);
    return { width: this.newWidth, height: this.newHeight, data };
  }

  private isComplete(row: number): boolean {
    return this.down.starts[row]! + this.down.weights[row]!.length <= this.y;
  }

  private shorten(row: Float32Array): void {
    const { starts, weights } = this.across;
    for (let x = 0; x < this.newWidth; x++) {
      const taps = weights[x]!;
      const start = starts[x]!;
      let sum = 0;
      for (let j = 0; j < taps.length; j++) sum += taps[j]! * row[start + j]!;
      this.line[x] = sum;
    }
  }
}

/** A whole plane in another size. */
export function resized({ width, height, data }: Plane, size: Size, filter?: Filter): Plane {
  const resizer = new RowResizer(width, height, size.width, size.height, filter);
  for (let y = 0; y < height; y++) resizer.push(data.subarray(y * width, (y + 1) * width));
  return resizer.plane;
}
