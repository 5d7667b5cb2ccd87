/** Where answers differ, as a glow; the same as `glow_cover` in space/coloring.py. */

import { percentile } from "./margins";

const [SURE, SURE_SHARE] = [6, 70]; // spread of a*b* that does not glow, and per cent of all places
const [UNSURE_SHARE, RANGE] = [98, 3]; // per cent of places that do not glow in full, and the least range
const [GLOW, COVER] = [[255, 150, 30], 190] as const;

/** How far candidates differ in each cell: their standard deviation, times `scale`. */
export function spreadOf(candidates: Float32Array[], scale: number): Float32Array {
  const area = candidates[0]!.length / 2;
  const variance = (at: number) => {
    const mean = candidates.reduce((sum, one) => sum + one[at]!, 0) / candidates.length;
    return candidates.reduce((sum, one) => sum + (one[at]! - mean) ** 2, 0) / (candidates.length - 1);
  };
  return new Float32Array(area).map((_, at) => scale * Math.sqrt(variance(at) + variance(at + area)));
}

/** Bytes of RGBA, one pixel a cell: only places that are less sure than most glow. */
export function glowPixels(spread: Float32Array): Uint8ClampedArray<ArrayBuffer> {
  const start = Math.max(percentile(spread, SURE_SHARE), SURE);
  const full = Math.max(percentile(spread, UNSURE_SHARE), start + RANGE);
  const pixels = new Uint8ClampedArray(4 * spread.length);
  spread.forEach((one, at) => {
    pixels.set([...GLOW, Math.floor(COVER * Math.min(Math.max((one - start) / (full - start), 0), 1))], 4 * at);
  });
  return pixels;
}
