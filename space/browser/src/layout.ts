/** The picture as the network sees it: sizes, padding, and hints on the grid of chroma cells. */

import { chromaOf } from "./color";

/** What the page must know of a model: the properties of its ONNX file (docs/onnx.md), and the file. */
export interface ModelFacts {
  model: string;
  version: string; // of pipeline-colorize
  file: string; // beside the facts
  bytes: number;
  default_processing_resolution: number; // short side of the working picture
  longest: number; // its long side is at most this many times the short one
  default_eta: number;
  default_temperature: number;
  default_saturation: number; // what 100 % means
  default_num_candidates: number; // drawn for each answer, which has what most of them agree on
  chroma_stride: number; // working pixels to a cell of the grid
  stride: number; // the working picture is padded to multiples of this
  guide_detail: number; // pixels of the guide to a cell
  hint_channels: number;
  schedule: number[][]; // a row for each step
}

/** One channel of numbers, row by row. */
export interface Plane extends Size {
  data: Float32Array;
}

/** A known colour, at pixels of the photograph. */
export interface Hint {
  x: number;
  y: number;
  color: string; // "#rrggbb"
}

export interface Size {
  width: number;
  height: number;
}

/** Halves go to the even neighbour, as in Python. */
function round(value: number): number {
  const whole = Math.floor(value);
  if (value - whole !== 0.5) return Math.round(value);
  return whole % 2 ? whole + 1 : whole;
}

/** Size at which colours are invented: the short side at the model's resolution, whole cells. */
export function workingSize({ width, height }: Size, model: ModelFacts): Size {
  const { default_processing_resolution: resolution, chroma_stride: cell } = model;
  const short = Math.min(height, width);
  const long = Math.max(height, width);
  const scale = Math.min(resolution / short, (model.longest * resolution) / long);
  const cells = (side: number) => Math.max(round((side * scale) / cell), 1) * cell;
  return { width: cells(width), height: cells(height) };
}

/** The cells of chroma that `size` working pixels have. */
export function gridOf({ width, height }: Size, model: ModelFacts): Size {
  return { width: width / model.chroma_stride, height: height / model.chroma_stride };
}

const AGREEMENT = 20; // as in pipeline_colorize/basics.py

/** Mean over windows of 2 * reach + 1 cells, as far as they lie inside, down and across. */
function windowMean(x: Float64Array, { width, height }: Size, reach: number): Float64Array {
  const along = (from: Float64Array, count: number, stride: number, lines: number, step: number) => {
    const result = new Float64Array(from.length);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < count; i++) {
        const low = Math.max(i - reach, 0);
        const high = Math.min(i + reach, count - 1);
        let sum = 0;
        for (let k = low; k <= high; k++) sum += from[line * step + k * stride]!;
        result[line * step + i * stride] = sum / (high - low + 1);
      }
    }
    return result;
  };
  return along(along(x, height, width, width, 1), width, 1, height, width);
}

/**
 * What the drawn colours on `grid` agree on, place by place, over its first `cells`; see `agreement`
 * in pipeline_colorize/basics.py.
 */
export function agreed(drawn: Float32Array[], grid: Size, cells: Size): Float32Array {
  if (drawn.length < 3) return drawn[0]!;
  const area = grid.width * grid.height;
  const reach = Math.floor(Math.min(cells.width, cells.height) / 8);
  const distances = drawn.map((one) => {
    const sum = new Float64Array(cells.width * cells.height);
    for (const other of drawn) {
      for (let i = 0; i < sum.length; i++) {
        const at = Math.floor(i / cells.width) * grid.width + (i % cells.width);
        sum[i]! += Math.hypot(one[at]! - other[at]!, one[at + area]! - other[at + area]!);
      }
    }
    return windowMean(windowMean(sum, cells, reach), cells, reach);
  });
  const total = distances.reduce((sum, one) => sum + one.reduce((a, b) => a + b, 0), 0);
  const scale = total / (distances.length * distances[0]!.length) + 1e-9;
  const result = new Float32Array(drawn[0]!.length);
  for (let at = 0; at < area; at++) {
    const row = Math.min(Math.floor(at / grid.width), cells.height - 1); // the rest is padding
    const i = row * cells.width + Math.min(at % grid.width, cells.width - 1);
    const least = Math.min(...distances.map((one) => one[i]!));
    const weights = distances.map((one) => Math.exp((-AGREEMENT * (one[i]! - least)) / scale));
    const sum = weights.reduce((a, b) => a + b, 0);
    for (const [k, one] of drawn.entries()) {
      result[at]! += (weights[k]! / sum) * one[at]!;
      result[at + area]! += (weights[k]! / sum) * one[at + area]!;
    }
  }
  return result;
}

/** `size` made larger to a multiple of `stride`. */
export function paddedSize(size: Size, stride: number): Size {
  const up = (side: number) => Math.ceil(side / stride) * stride;
  return { width: up(size.width), height: up(size.height) };
}

/** The last row and column repeated up to `size`. */
export function pad(p: Plane, size: Size): Plane {
  const data = new Float32Array(size.width * size.height);
  for (let y = 0; y < size.height; y++) {
    const row = Math.min(y, p.height - 1) * p.width;
    for (let x = 0; x < size.width; x++) {
      data[y * size.width + x] = p.data[row + Math.min(x, p.width - 1)]!;
    }
  }
  return { ...size, data };
}

/**
 * Hints for `photo` as three planes of `grid` cells, one behind the other: a*, b* and a mask that is
 * 1 where a colour is given. `cells` of the grid hold the photograph; the rest is padding.
 */
export function rasterizeHints(hints: Hint[], photo: Size, cells: Size, grid: Size): Float32Array {
  const area = grid.width * grid.height;
  const result = new Float32Array(3 * area);
  for (const { x, y, color } of hints) {
    const row = Math.min(Math.floor((y / photo.height) * cells.height), cells.height - 1);
    const column = Math.min(Math.floor((x / photo.width) * cells.width), cells.width - 1);
    const at = row * grid.width + column;
    const [a, b] = chromaOf(color);
    result[at] = a;
    result[area + at] = b;
    result[2 * area + at] = 1;
  }
  return result;
}
