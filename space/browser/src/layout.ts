/** The picture as the network sees it: sizes, and hints on the grid of chroma cells. */

import { chromaOf } from "./color";
import type { Hint, Size } from "./engine";
import { type Plane, resized } from "./resize";
import { pathOf } from "./things";

/** What the page must know of a model: the properties of its ONNX file (docs/onnx.md), and the file. */
export interface ModelFacts {
  model: string;
  version: string; // of pipeline-colorize
  file: string; // beside the facts
  bytes: number;
  default_processing_resolution: number; // short side of the working picture
  default_second_look: number; // how many times as fine the second look is; 1: there is none
  longest: number; // its long side is at most this many times the short one
  default_eta: number;
  default_temperature: number;
  default_saturation: number; // what 100 % means
  default_num_candidates: number; // drawn for the answers, which have what most of them agree on
  least_candidates: number; // that each of several answers has to itself
  second_look_candidates: number; // that it has at most in a second look
  chroma_balance: number; // how far that is toned down where they do, strengthened where not
  ab_scale: number; // a* and b* of 1 in the network
  chroma_stride: number; // working pixels to a cell of the grid
  stride: number; // sides of the working picture are multiples of this
  guide_detail: number; // pixels of the guide to a cell
  enough_detail?: number; // pixels of the photograph to a cell that a second look needs
  agreement_sharpness: number; // these five: see pipeline_colorize/core/agreement.py and hints.py
  typical_spread: [number, number]; // in a*b*, and as a share of the chroma
  hint_override: number;
  hint_fade: number[][];
  second_look_gain: number;
  hint_channels: number;
  schedule: number[][]; // a row for each step
  second_look_schedule: number[][]; // of the second look
}

/** Halves go to the even neighbour, as in Python. */
export function round(value: number): number {
  const whole = Math.floor(value);
  if (value - whole !== 0.5) return Math.round(value);
  return whole % 2 ? whole + 1 : whole;
}

/**
 * Sizes at which colours are invented: the short side at the model's resolution, in whole strides,
 * and finer, where each cell of chroma then has enough pixels of the photograph.
 */
export function workingSizes(photo: Size, model: ModelFacts): Size[] {
  const { default_processing_resolution: resolution, default_second_look: times } = model;
  const { enough_detail: enough = model.chroma_stride } = model;
  const least = (resolution * times * enough) / model.chroma_stride;
  const again = times > 1 && least <= Math.min(photo.width, photo.height);
  const resolutions = again ? [resolution, resolution * times] : [resolution];
  return resolutions.map((one) => workingSize(photo, one, model));
}

function workingSize({ width, height }: Size, resolution: number, model: ModelFacts): Size {
  const { stride } = model;
  const short = Math.min(height, width);
  const long = Math.max(height, width);
  const scale = Math.min(resolution / short, (model.longest * resolution) / long);
  const whole = (side: number) => Math.max(round((side * scale) / stride), 1) * stride;
  return { width: whole(width), height: whole(height) };
}

/** The cells of chroma that `size` working pixels have. */
export function gridOf({ width, height }: Size, model: ModelFacts): Size {
  return { width: width / model.chroma_stride, height: height / model.chroma_stride };
}

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

/** How far the planes of `rasterizeHints` decide the colour of each cell, 0 to 1. */
export function hintInfluence(
  hints: Float32Array,
  grid: Size,
  fade: ModelFacts["hint_fade"],
): Float64Array {
  const result = new Float64Array(grid.width * grid.height);
  const reach = Math.floor(fade.length / 2);
  const place = hints.subarray(2 * grid.width * grid.height);
  for (let at = place.indexOf(1); at >= 0; at = place.indexOf(1, at + 1)) {
    const [x, y] = [at % grid.width, Math.floor(at / grid.width)];
    for (let row = Math.max(y - reach, 0); row <= Math.min(y + reach, grid.height - 1); row++) {
      const right = Math.min(x + reach, grid.width - 1);
      for (let column = Math.max(x - reach, 0); column <= right; column++) {
        result[row * grid.width + column]! += fade[row - y + reach]![column - x + reach]!;
      }
    }
  }
  return result.map((value) => Math.min(value, 1));
}

/** How many candidates each of several answers is made of; see pipeline_colorize/core/options.py. */
export function candidatesEach(
  model: Pick<ModelFacts, "default_num_candidates" | "least_candidates" | "second_look_candidates">,
  samples: number,
  secondLook: boolean,
): number {
  const { default_num_candidates: all, least_candidates: least } = model;
  const each = Math.max(Math.floor(all / samples), Math.min(all, least));
  return secondLook ? Math.min(each, model.second_look_candidates) : each;
}

/**
 * The candidates of each answer. They are sorted from the coolest to the warmest, so that each
 * answer has like ones; see `warmth_order` in pipeline_colorize/core/agreement.py.
 */
export function groupByWarmth(candidates: Float32Array[], each: number): Float32Array[][] {
  let sorted = candidates;
  if (each > 2 && each < candidates.length) {
    const warmth = new Map(candidates.map((one) => [one, one.reduce((a, b) => a + b, 0)]));
    sorted = [...candidates].sort((a, b) => warmth.get(a)! - warmth.get(b)!);
  }
  const answers = Array.from({ length: sorted.length / each });
  return answers.map((_, i) => sorted.slice(i * each, (i + 1) * each));
}

/** The properties of a model that agreement needs. */
type AgreementFacts = Pick<
  ModelFacts,
  | "ab_scale"
  | "chroma_balance"
  | "agreement_sharpness"
  | "typical_spread"
  | "hint_override"
  | "second_look_gain"
>;

/**
 * The colours that the candidates agree on, place by place, as strong as true colours are; see
 * `agreement_weights` in pipeline_colorize/core/agreement.py.
 *
 * @param drawn the candidates, in the network's units
 * @param influence of the hints, from `hintInfluence`
 */
export function agree(
  drawn: Float32Array[],
  grid: Size,
  model: AgreementFacts,
  influence: Float64Array,
  secondLook = false,
): Float32Array {
  if (drawn.length < 3) return drawn[0]!;
  const area = grid.width * grid.height;
  const reach = Math.floor(Math.min(grid.width, grid.height) / 8);
  const distances = drawn.map((one) => {
    const sum = new Float64Array(area);
    for (const other of drawn) {
      for (let at = 0; at < area; at++) {
        sum[at]! += Math.hypot(one[at]! - other[at]!, one[at + area]! - other[at + area]!);
      }
    }
    return windowMean(windowMean(sum, grid, reach), grid, reach);
  });
  const total = distances.reduce((sum, one) => sum + one.reduce((a, b) => a + b, 0), 0);
  const scale = total / (distances.length * distances[0]!.length) + 1e-9;
  const result = new Float32Array(drawn[0]!.length);
  for (let at = 0; at < area; at++) {
    const least = Math.min(...distances.map((one) => one[at]!));
    const weights = distances.map((one) => Math.exp((-model.agreement_sharpness * (one[at]! - least)) / scale));
    const sum = weights.reduce((a, b) => a + b, 0);
    for (const [k, one] of drawn.entries()) {
      result[at]! += (weights[k]! / sum) * one[at]!;
      result[at + area]! += (weights[k]! / sum) * one[at + area]!;
    }
  }
  const factor = secondLook
    ? influence.map(() => model.second_look_gain)
    : balanceFactor(drawn, result, grid, model);
  const factors = fadeNearHints(factor, influence, grid, model.hint_override);
  return result.map((value, at) => value * factors[at % area]!);
}

/** The factor on the colour of each cell; see `balance_factor` in pipeline_colorize/core/agreement.py. */
function balanceFactor(
  drawn: Float32Array[],
  agreed: Float32Array,
  grid: Size,
  model: AgreementFacts,
): Float64Array {
  const area = grid.width * grid.height;
  const reach = Math.floor(Math.min(grid.width, grid.height) / 4);
  const spread = (at: number) => {
    const mean = drawn.reduce((sum, one) => sum + one[at]!, 0) / drawn.length;
    return drawn.reduce((sum, one) => sum + (one[at]! - mean) ** 2, 0) / drawn.length;
  };
  const averaged = (of: (at: number) => number) => {
    return windowMean(new Float64Array(area).map((_, at) => of(at)), grid, reach);
  };
  const spreads = averaged((at) => Math.sqrt(spread(at) + spread(at + area)));
  const [least, share] = model.typical_spread;
  const typical = averaged(
    (at) => least / model.ab_scale + share * Math.hypot(agreed[at]!, agreed[at + area]!),
  );
  return spreads.map((s, i) => 1 + (model.chroma_balance * (s - typical[i]!)) / (s + typical[i]!));
}

/** Lets a factor on the colour of each cell become 1 near hints. */
function fadeNearHints(
  factor: Float64Array,
  influence: Float64Array,
  grid: Size,
  override: number,
): Float64Array {
  const reach = Math.floor(Math.min(grid.width, grid.height) / 4);
  const covered = windowMean(influence, grid, reach);
  return factor.map(
    (value, i) => 1 + (1 - influence[i]!) * Math.max(1 - override * covered[i]!, 0) * (value - 1),
  );
}

/** Chroma brought to a finer grid. */
export function finer(chroma: Float32Array, from: Size, to: Size): Float32Array {
  const area = from.width * from.height;
  const result = new Float32Array(2 * to.width * to.height);
  for (const channel of [0, 1]) {
    const plane: Plane = { ...from, data: chroma.subarray(channel * area, (channel + 1) * area) };
    result.set(resized(plane, to).data, (channel * result.length) / 2);
  }
  return result;
}

/** What a thing covers of each cell. */
type OfThing = (hint: Hint) => Float32Array;

const MOSTLY = 0.9; // of a cell that takes the colour of its thing

/**
 * Hints for `photo` as three planes of `grid` cells, one behind the other: a*, b* and a mask that is
 * 1 where a colour is given.
 */
export function rasterizeHints(hints: Hint[], photo: Size, grid: Size, thing?: OfThing): Float32Array {
  const area = grid.width * grid.height;
  const result = new Float32Array(3 * area);
  const [wide, high] = [photo.width / grid.width, photo.height / grid.height];
  for (const hint of hints) {
    const covered = hint.thing ? thing!(hint) : undefined;
    const points = pathOf(hint);
    const [a, b] = chromaOf(hint.color);
    for (let at = 0; at < area; at++) {
      const [column, row] = [at % grid.width, Math.floor(at / grid.width)];
      const isIn = covered
        ? covered[at]! >= MOSTLY
        : points.some(([x, y]) => Math.hypot((column + 0.5) * wide - x, (row + 0.5) * high - y) <= hint.radius);
      const holdsOne = points.some(([x, y]) => column === Math.floor(x / wide) && row === Math.floor(y / high));
      if (isIn || holdsOne) [result[at], result[area + at], result[2 * area + at]] = [a, b, 1];
    }
  }
  return result;
}
