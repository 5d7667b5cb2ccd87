/** A picture of before and after, for people who show what they made. */

import { markedJpeg, xmpPacket } from "./mark";

const LONGEST = 2000;

/**
 * Before and after side by side (one above the other where they are wide), as a JPEG that says in its
 * metadata, and if wished in a corner, that the colours were invented.
 */
export async function beforeAndAfter(
  before: CanvasImageSource,
  after: HTMLCanvasElement,
  isMarked: boolean,
  version: string,
): Promise<Blob> {
  const isWide = after.width > after.height * 1.2;
  const [columns, rows] = isWide ? [1, 2] : [2, 1];
  const scale = Math.min(1, LONGEST / Math.max(columns * after.width, rows * after.height));
  const [width, height] = [after.width, after.height].map((side) => Math.round(side * scale)) as [number, number];
  const gap = Math.round(Math.min(width, height) / 60);
  const canvas = document.createElement("canvas");
  canvas.width = columns * width + (columns - 1) * gap;
  canvas.height = rows * height + (rows - 1) * gap;
  const context = canvas.getContext("2d")!;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(before, 0, 0, width, height);
  context.drawImage(after, canvas.width - width, canvas.height - height, width, height);
  if (isMarked) write(context, "Colours are invented");
  const jpeg = await new Promise<Blob>((resolve) => canvas.toBlob((blob) => resolve(blob!), "image/jpeg", 0.92));
  return markedJpeg(jpeg, xmpPacket(version, { picture: "before and after" }));
}

function write(context: CanvasRenderingContext2D, text: string): void {
  const { width, height } = context.canvas;
  const size = Math.max(14, Math.round(Math.min(width, height) / 32));
  context.font = `600 ${size}px system-ui, sans-serif`;
  const wide = context.measureText(text).width + size;
  context.fillStyle = "#0009";
  context.fillRect(width - wide, height - 1.7 * size, wide, 1.7 * size);
  context.fillStyle = "#fff";
  context.fillText(text, width - wide + size / 2, height - 0.55 * size);
}
