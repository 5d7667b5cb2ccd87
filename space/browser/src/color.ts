/**
 * 8-bit sRGB to CIE L*a*b* (D65, 2 degrees), with the constants of pipeline_colorize/core/color.py, which
 * names the sources. The way back is in the model's file.
 */

type Matrix = readonly [Vector, Vector, Vector];
type Vector = readonly [number, number, number];

const WHITE: Vector = [0.95047, 1, 1.08883];
const RGB_TO_XYZ: Matrix = [
  [0.412453, 0.35758, 0.180423],
  [0.212671, 0.71516, 0.072169],
  [0.019334, 0.119193, 0.950227],
];

function toLinear(value: number): number {
  return value > 0.04045 ? ((value + 0.055) / 1.055) ** 2.4 : value / 12.92;
}

function labCurve(ratio: number): number {
  return ratio > 0.008856 ? Math.cbrt(ratio) : 7.787 * ratio + 16 / 116;
}

const LINEAR = Float64Array.from({ length: 256 }, (_, byte) => toLinear(byte / 255));
const GREY_LIGHTNESS = Float32Array.from(LINEAR, (linear) => lightness(linear));

function lightness(y: number): number {
  return Math.min(Math.max(116 * labCurve(y) - 16, 0), 100);
}

/** L* in [0, 100] of the RGBA bytes of some pixels, into `out`. */
export function lightnessOf(pixels: Uint8ClampedArray, out: Float32Array): void {
  const [red, green, blue] = RGB_TO_XYZ[1];
  for (let i = 0, at = 0; i < out.length; i++, at += 4) {
    const r = pixels[at]!;
    const g = pixels[at + 1]!;
    const b = pixels[at + 2]!;
    out[i] =
      r === g && g === b
        ? GREY_LIGHTNESS[r]!
        : lightness(red * LINEAR[r]! + green * LINEAR[g]! + blue * LINEAR[b]!);
  }
}

/** Makes RGBA bytes neutral, each pixel as light as it was. */
export function makeNeutral(pixels: Uint8ClampedArray, from = 0, to = pixels.length): void {
  const [red, green, blue] = RGB_TO_XYZ[1];
  for (let at = from; at < to; at += 4) {
    const [r, g, b] = [pixels[at]!, pixels[at + 1]!, pixels[at + 2]!];
    if (r === g && g === b) continue;
    const y = red * LINEAR[r]! + green * LINEAR[g]! + blue * LINEAR[b]!;
    const grey = 255 * (y > 0.0031308 ? 1.055 * y ** (1 / 2.4) - 0.055 : 12.92 * y);
    pixels[at] = pixels[at + 1] = pixels[at + 2] = grey; // which rounds
  }
}

/** a*, b* of a colour "#rrggbb". */
export function chromaOf(color: string): [number, number] {
  const bytes = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  if (!/^#[0-9a-f]{6}$/i.test(color)) throw new RangeError(`Not a colour: ${color}`);
  const [fx, fy, fz] = RGB_TO_XYZ.map((row, i) => {
    const sum = row.reduce((total, weight, j) => total + weight * LINEAR[bytes[j]!]!, 0);
    return labCurve(sum / WHITE[i]!);
  }) as [number, number, number];
  return [500 * (fx - fy), 200 * (fy - fz)];
}
