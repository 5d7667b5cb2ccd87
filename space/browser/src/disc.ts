/** The places that are mended, on the grid of chroma cells. */

import type { Size, Touch } from "./engine";

/** Where a touch reaches, 0 to 1, on a grid over a photograph; as `disc` in space/coloring.py. */
export function disc({ x, y, radius }: Touch, photo: Size, grid: Size): Float32Array {
  const [wide, high] = [photo.width / grid.width, photo.height / grid.height];
  const soft = Math.max(radius / 4, wide, high);
  return Float32Array.from({ length: grid.width * grid.height }, (_, at) => {
    const column = (at % grid.width) + 0.5;
    const row = Math.floor(at / grid.width) + 0.5;
    const away = Math.hypot(column * wide - x, row * high - y);
    return Math.min(Math.max((radius - away) / soft + 0.5, 0), 1);
  });
}
