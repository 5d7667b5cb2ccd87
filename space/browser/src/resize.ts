/**
 * Making pictures smaller row by row, as torch's `interpolate(mode="bilinear", antialias=True)`
 * does: a triangle as wide as a new pixel is averaged over, along one axis and then the other.
 */

import type { Plane } from "./layout";

interface Taps {
  /** For each new position: the first old one, and the weights of that one and those after it. */
  starts: Int32Array;
  weights: Float64Array[];
}

function taps(size: number, target: number): Taps {
  const scale = size / target;
  const support = Math.max(scale, 1);
  const starts = new Int32Array(target);
  const weights: Float64Array[] = [];
  for (let i = 0; i < target; i++) {
    const center = scale * (i + 0.5);
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const end = Math.min(Math.trunc(center + support + 0.5), size);
    const row = Float64Array.from({ length: end - start }, (_, j) =>
      Math.max(1 - Math.abs(j + start - center + 0.5) / support, 0),
    );
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
  ) {
    this.across = taps(width, newWidth);
    this.down = taps(height, newHeight);
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
