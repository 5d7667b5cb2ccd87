/**
 * The even margins around a photograph, which the network does not see: `picture_box` of
 * pipeline_colorize/core/margins.py, which says why each rule is there.
 */

import { round } from "./layout";

const MAX_ROUNDS = 4;
const MIN_SIDE = 32;
const MIN_MARGIN = 0.01;
const MIN_PICTURE = 0.2;
const EVEN_SPREAD = 1.5;
const RIM = 0.01;
const MAX_NOISE = 2.5;
const TOLERANCE_PER_NOISE = 4;
const MIN_TOLERANCE = 1.5;
const SAME_LEVEL = 8;
const DUST = 0.05;
const FILLED = 0.5;
const EDGE = 0.04;
const MIN_EDGE = 3;
const EVEN_LINES = 0.5;
const MAX_BAND = 0.1;
const MIN_GAP = 0.005;
const [BLACK, WHITE] = [5, 97];
const COARSE_SIDE = 1200;
const OF_TWO = { noise: 1, filled: 0.8, edge: 0.01, lines: 2 };
const OF_ONE = { noise: 0.3, filled: 0.95, edge: 0.005, lines: 1 };

/** A part of a picture; what is outside `right` and `bottom` begins there. */
export interface Box {
  top: number;
  bottom: number;
  left: number;
  right: number;
}

/** Lines of L*, which may run in any direction: a view of an array, as NumPy has it. */
export interface Lines {
  data: { readonly [at: number]: number };
  unit: number; // of L*
  start: number;
  down: number; // from a line to the next
  across: number; // from a pixel to the next
  rows: number;
  columns: number;
}

interface Margin {
  level: number;
  noise: number;
  depth: number; // 0 where there is none
  straight: boolean;
  edge: number;
  size: number;
  filled: number;
}

function part(lines: Lines, top: number, bottom: number, left = 0, right = lines.columns): Lines {
  const start = lines.start + top * lines.down + left * lines.across;
  return { ...lines, start, rows: bottom - top, columns: right - left };
}

function thinned(lines: Lines, down: number, across: number): Lines {
  return {
    ...lines,
    down: down * lines.down,
    across: across * lines.across,
    rows: Math.ceil(lines.rows / down),
    columns: Math.ceil(lines.columns / across),
  };
}

const flipped = (lines: Lines): Lines => ({
  ...lines,
  start: lines.start + (lines.rows - 1) * lines.down,
  down: -lines.down,
});

const turned = (lines: Lines): Lines => ({
  ...lines,
  down: lines.across,
  across: lines.down,
  rows: lines.columns,
  columns: lines.rows,
});

/** The mean over a line of some function of each of its pixels. */
function lineMean({ data, unit, start, down, across, columns }: Lines, row: number, of = (value: number) => value) {
  let total = 0;
  for (let i = 0, at = start + row * down; i < columns; i++, at += across) total += of(unit * data[at]!);
  return total / columns;
}

const lineMeans = (lines: Lines, of?: (value: number) => number) =>
  Float64Array.from({ length: lines.rows }, (_, row) => lineMean(lines, row, of));

function valuesOf(lines: Lines): Float32Array {
  const values = new Float32Array(lines.rows * lines.columns);
  for (let row = 0, to = 0; row < lines.rows; row++) lineMean(lines, row, (value) => (values[to++] = value));
  return values;
}

export function percentile(values: Float32Array | Float64Array, share: number): number {
  const sorted = values.toSorted();
  const place = ((sorted.length - 1) * share) / 100;
  const low = Math.floor(place);
  return sorted[low]! + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)]! - sorted[low]!);
}

function deviation(values: Float32Array | Float64Array): number {
  let [total, squares] = [0, 0];
  for (const value of values) total += value;
  for (const value of values) squares += (value - total / values.length) ** 2;
  return Math.sqrt(squares / values.length);
}

/** The line at which the mean distance from a level rises most. */
function sharpest(lines: Lines, level: number): number {
  const means = lineMeans(lines, (value) => Math.abs(value - level));
  let best = 1;
  for (let row = 2; row < means.length; row++) {
    if (means[row]! - means[row - 1]! > means[best]! - means[best - 1]!) best = row;
  }
  return best;
}

/** What the lines of a picture say of a margin, from one side inwards. */
function marginOf(lines: Lines): Margin {
  const rim = valuesOf(part(lines, 0, Math.max(2, round(RIM * lines.rows))));
  const level = percentile(rim, 50);
  const noise = 1.4826 * percentile(rim.map((value) => Math.abs(value - level)), 50);
  const none = { level, noise, depth: 0, straight: false, edge: 0, size: 0, filled: 0 };
  if (noise > MAX_NOISE) return none;
  const limit = Math.max(MIN_TOLERANCE, TOLERANCE_PER_NOISE * noise);
  const departs = (value: number) => Number(Math.abs(value - level) > limit);
  const columns = lineMeans(turned(lines), departs);
  const left = columns.findIndex((share) => share > DUST);
  if (left < 0) return none;
  const right = columns.findLastIndex((share) => share > DUST) + 1;
  const share = lineMeans(part(lines, 0, lines.rows, left, right), departs);
  const even = [...share].map((one) => one <= DUST);
  const least = Math.max(2, round(MIN_MARGIN * lines.rows));
  if (even.slice(0, Math.floor(least / 2) + 1).includes(false) || !even.includes(false)) return none;
  const [lastEven, filled] = edgeOf(share, even);
  const size = even.lastIndexOf(false) + 1 - lastEven;
  const edge = filled - lastEven;
  const evenLines = even.slice(0, filled).filter(Boolean).length / filled;
  if (filled && edge <= Math.max(MIN_EDGE, EDGE * size) && evenLines >= EVEN_LINES) {
    const depth = lastEven + sharpest(part(lines, lastEven, filled + 1, left, right), level);
    const uneven = deviation(lineMeans(part(lines, 0, lastEven + 1, left, right)));
    const inside = percentile(share.slice(filled, filled + 1 + MIN_EDGE), 50);
    if (depth >= least) {
      return { level, noise: Math.max(noise, uneven), depth, straight: true, edge, size, filled: inside };
    }
  }
  const depth = even.indexOf(false);
  return { ...none, depth: depth >= least ? depth : 0 };
}

/** The last even line of a margin and the first filled line of the picture, or zeros. */
function edgeOf(share: Float64Array, even: boolean[]): [number, number] {
  const gap = Math.max(2, round(MIN_GAP * even.length));
  const next = (from: number) => Math.max(share.findIndex((one, row) => row >= from && one >= FILLED), 0);
  let filled = next(0);
  while (filled > 0) {
    const after = even.indexOf(true, filled);
    const goesOn = after > filled && !even.slice(after, after + gap).includes(false);
    if (!goesOn || after - filled > MAX_BAND * even.length) return [even.lastIndexOf(true, filled - 1), filled];
    filled = next(after);
  }
  return [0, 0];
}

function isSharp(margin: Margin, asked: typeof OF_ONE): boolean {
  const edge = Math.max(asked.lines, asked.edge * margin.size);
  return margin.straight && margin.noise <= asked.noise && margin.filled >= asked.filled && margin.edge <= edge;
}

const isHarmless = ({ noise, level }: Margin) => noise <= OF_ONE.noise && !(BLACK <= level && level <= WHITE);

/** Whether margins of one level are straight and sharp enough for their number. */
function areMargins(alike: Margin[]): boolean {
  if (alike.length === 1) return isSharp(alike[0]!, OF_ONE);
  if (alike.length > 2) return alike.filter(({ straight }) => straight).length >= 2;
  const sharp = alike.map((one) => isSharp(one, OF_TWO));
  return !sharp.includes(false) || (sharp.includes(true) && alike.every(isHarmless));
}

/** Which sides' margins are none of the picture's own even grounds. */
function believed(margins: Margin[]): boolean[] {
  let best = margins.map(() => false);
  for (const straight of margins.filter((one) => one.straight)) {
    const like = margins.map(({ depth, level }) => depth > 0 && Math.abs(level - straight.level) <= SAME_LEVEL);
    const count = (sides: boolean[]) => sides.filter(Boolean).length;
    if (areMargins(margins.filter((_, side) => like[side])) && count(like) > count(best)) best = like;
  }
  return best;
}

/** The lines of margin at the top, bottom, left and right, as far as they are one margin. */
function depthsOf(light: Lines): number[] {
  const none = [0, 0, 0, 0];
  if (Math.min(light.rows, light.columns) < MIN_SIDE) return none;
  const step = Math.ceil(Math.max(light.rows, light.columns) / COARSE_SIDE);
  const views = [light, flipped(light), turned(light), flipped(turned(light))];
  const coarse = views.map((view) => thinned(view, step, step));
  const [top, bottom, left, right] = coarse.map(marginOf).map(({ straight, depth }) => (straight ? depth : 0));
  const { rows, columns } = coarse[0]!;
  // Again, without what lies in each other's margins.
  const margins = coarse.map((view, side) =>
    marginOf(side < 2 ? part(view, 0, rows, left, columns - right!) : part(view, 0, columns, top, rows - bottom!)),
  );
  const isMargin = believed(margins);
  const deepest = Math.max(...margins.map(({ straight, depth }) => (straight ? depth : 0)));
  const depths = margins.map((margin, side) => {
    if (!isMargin[side]) return 0;
    if (!margin.straight) return Math.max(0, (Math.min(margin.depth, deepest) - 1) * step + 1);
    const from = (margin.depth - 1) * step;
    const view = part(views[side]!, from, Math.min(margin.depth * step + 1, views[side]!.rows));
    return sharpest(thinned(view, 1, step), margin.level) + from;
  });
  const [above, below, before, after] = depths as [number, number, number, number];
  const inside = part(light, above, light.rows - below, before, light.columns - after);
  const isLarge = Math.min(inside.rows / light.rows, inside.columns / light.columns) >= MIN_PICTURE;
  return isLarge && deviation(valuesOf(thinned(inside, step, step))) > EVEN_SPREAD ? depths : none;
}

/** Where the photograph lies inside its margins. */
export function pictureBox(light: Lines): Box {
  const box = { top: 0, bottom: light.rows, left: 0, right: light.columns };
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const depths = depthsOf(part(light, box.top, box.bottom, box.left, box.right));
    if (!depths.some(Boolean)) break;
    box.top += depths[0]!;
    box.bottom -= depths[1]!;
    box.left += depths[2]!;
    box.right -= depths[3]!;
  }
  return box;
}
