/**
 * Where a touch of the photograph reaches: a thing, found by a random walk on the light (Grady 2006) as
 * by `thing_mask` of pipeline_colorize/telling/masks.py, or a stroke of the brush.
 */

import type { Size, Spot } from "./engine";
import { type Plane, resized } from "./resize";

const DETAIL = 128; // pixels along the side of the part in which a thing is looked for
const CORE = 0.2; // share of the radius within which all belongs to the thing
const EDGES = 400; // how much edges hinder the walk
const EVEN = 1e-10;
const STEPS = 400; // of the solver, at most
const ENOUGH = 1e-3; // what may be left of the residual

/** The share of each cell of a grid over a photograph that a spot covers, 0 to 1. */
export function cover(spot: Spot, light: Plane, photo: Size, grid: Size): Float32Array {
  return spot.thing ? thing(spot, light, photo, grid) : stroke(spot, photo, grid);
}

/** The points of a stroke; a thing has one of them. */
export const pathOf = ({ x, y, path = [] }: Spot): [number, number][] => [[x, y], ...path];

function stroke(spot: Spot, photo: Size, grid: Size): Float32Array {
  const [wide, high] = [photo.width / grid.width, photo.height / grid.height];
  const radius = Math.max(spot.radius, wide, high); // colours are no finer
  const points = pathOf(spot);
  return Float32Array.from({ length: grid.width * grid.height }, (_, at) => {
    const [x, y] = [((at % grid.width) + 0.5) * wide, (Math.floor(at / grid.width) + 0.5) * high];
    const away = Math.min(...points.map((point, i) => distance(x, y, points[Math.max(i - 1, 0)]!, point)));
    return Math.min(Math.max((radius - away) / Math.max(wide, high) + 0.5, 0), 1);
  });
}

/** From a place to a line between two others. */
function distance(x: number, y: number, [x1, y1]: [number, number], [x2, y2]: [number, number]): number {
  const [dx, dy] = [x2 - x1, y2 - y1];
  const along = Math.min(Math.max(((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1), 0), 1);
  return Math.hypot(x - x1 - along * dx, y - y1 - along * dy);
}

function thing(spot: Spot, light: Plane, photo: Size, grid: Size): Float32Array {
  const scale = light.width / photo.width;
  const [x, y, radius] = [spot.x * scale, spot.y * scale, Math.max(spot.radius * scale, 1)];
  const reach = 1.15 * radius + 2;
  const [left, top] = [x, y].map((place) => Math.max(Math.trunc(place - reach), 0)) as [number, number];
  const right = Math.min(Math.trunc(x + reach) + 2, light.width);
  const bottom = Math.min(Math.trunc(y + reach) + 2, light.height);
  const [wide, high] = [right - left, bottom - top];
  const shrink = Math.min(DETAIL / Math.max(wide, high), 1);
  const small = { width: Math.max(Math.round(wide * shrink), 3), height: Math.max(Math.round(high * shrink), 3) };
  const part: Plane = { width: wide, height: high, data: new Float32Array(wide * high) };
  for (let row = 0; row < high; row++) {
    const from = (top + row) * light.width;
    part.data.set(light.data.subarray(from + left, from + right), row * wide);
  }
  const away = Float32Array.from({ length: small.width * small.height }, (_, at) => {
    const across = (((at % small.width) + 0.5) * wide) / small.width + left - x;
    return Math.hypot(across, ((Math.floor(at / small.width) + 0.5) * high) / small.height + top - y);
  });
  const core = Math.max(CORE * radius, Math.min(...away));
  const known = away.map((one) => (one <= core ? 1 : one >= radius ? 0 : NaN)); // it wins over the edge
  const walked = known.includes(0) ? walk(even(resized(part, small)), known) : known.fill(1);
  const result = new Float32Array(grid.width * grid.height);
  const share = (wide / small.width / light.width) * grid.width * ((high / small.height / light.height) * grid.height);
  walked.forEach((chance, at) => {
    const column = Math.floor((((((at % small.width) + 0.5) * wide) / small.width + left) / light.width) * grid.width);
    const row = Math.floor(
      ((((Math.floor(at / small.width) + 0.5) * high) / small.height + top) / light.height) * grid.height,
    );
    result[row * grid.width + column]! += share * Math.min(Math.max((chance - 0.15) / 0.25, 0), 1);
  });
  return result.map((one) => Math.min(one, 1));
}

/** Light without grain, of which the walk would take each speck for an edge. */
function even({ width, height, data }: Plane): Plane {
  const mirrored = (at: number, side: number) => (at < 0 ? -1 - at : at >= side ? 2 * side - 1 - at : at);
  const each = (of: (x: number, y: number) => number) =>
    Float32Array.from({ length: width * height }, (_, at) => of(at % width, Math.floor(at / width)));
  const near = [-1, 0, 1];
  const median = each((x, y) => {
    const around = near.flatMap((dy) =>
      near.map((dx) => data[mirrored(y + dy, height) * width + mirrored(x + dx, width)]!),
    );
    return around.sort((a, b) => a - b)[4]!;
  });
  const weights = [-2, -1, 0, 1, 2].map((one) => Math.exp(-(one ** 2) / (2 * 0.7 ** 2)));
  const sum = weights.reduce((a, b) => a + b);
  const blur = (from: Float32Array, of: (x: number, y: number, by: number) => number) =>
    each((x, y) => weights.reduce((total, weight, i) => total + (weight / sum) * from[of(x, y, i - 2)]!, 0));
  const across = blur(median, (x, y, by) => y * width + mirrored(x + by, width));
  const both = blur(across, (x, y, by) => mirrored(y + by, height) * width + x);
  return { width, height, data: both.map((value) => value / 100) };
}

/** How likely a walk from each pixel meets those that are 1 before those that are 0. */
function walk({ width, height, data }: Plane, known: Float32Array): Float32Array {
  const mean = data.reduce((a, b) => a + b, 0) / data.length;
  const spread = Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length);
  const ease = (from: number, to: number) =>
    spread ? Math.exp((-EDGES / (10 * spread)) * (data[from]! - data[to]!) ** 2) + EVEN : 1;
  const area = width * height;
  const right = Float64Array.from({ length: area }, (_, at) => ((at + 1) % width ? ease(at, at + 1) : 0));
  const down = Float64Array.from({ length: area }, (_, at) => (at + width < area ? ease(at, at + width) : 0));
  const degree = right.map(
    (one, at) => one + (at % width ? right[at - 1]! : 0) + down[at]! + (at >= width ? down[at - width]! : 0),
  );
  const apply = (v: Float64Array) =>
    v.map((one, at) => {
      const sides = (at % width ? right[at - 1]! * v[at - 1]! : 0) + right[at]! * (v[at + 1] ?? 0);
      const ends = (at >= width ? down[at - width]! * v[at - width]! : 0) + down[at]! * (v[at + width] ?? 0);
      return degree[at]! * one - sides - ends;
    });
  return conjugateGradient(apply, degree, known);
}

/** The values for which a symmetric system is 0 wherever nothing is known, by steps scaled by its diagonal. */
function conjugateGradient(
  apply: (v: Float64Array) => Float64Array,
  diagonal: Float64Array,
  known: Float32Array,
): Float32Array {
  const value = Float64Array.from(known, (one) => one || 0);
  const free = (v: Float64Array) => v.map((one, at) => (Number.isNaN(known[at]) ? one : 0));
  const dot = (a: Float64Array, b: Float64Array) => a.reduce((total, one, at) => total + one * b[at]!, 0);
  const scaled = (v: Float64Array) => v.map((one, at) => one / diagonal[at]!);
  let residual = free(apply(value).map((one) => -one));
  let direction = scaled(residual);
  let size = dot(residual, direction);
  const enough = ENOUGH ** 2 * dot(residual, residual);
  for (let step = 0; step < STEPS && size > 0 && dot(residual, residual) > enough; step++) {
    const image = free(apply(direction));
    const pace = size / dot(direction, image);
    direction.forEach((one, at) => (value[at]! += pace * one));
    residual = residual.map((one, at) => one - pace * image[at]!);
    const next = scaled(residual);
    const grown = dot(residual, next) / size;
    size *= grown;
    direction = next.map((one, at) => one + grown * direction[at]!);
  }
  return Float32Array.from(value);
}
