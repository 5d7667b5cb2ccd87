/** Photographs out of files, and strips of their pixels. */

import { Refused, type Size } from "./engine";

/** Pixels that a photograph may have. */
export const MOST_PIXELS = 100_000_000;
// Pixels worked on at a time.
const STRIP_PIXELS = 1 << 18;

/** A decoded photograph, upright. */
export class Photo {
  private readonly strip: OffscreenCanvas;

  constructor(
    readonly bitmap: ImageBitmap,
    readonly name: string,
    readonly hasAlpha: boolean,
  ) {
    const rows = Math.min(Math.max(Math.floor(STRIP_PIXELS / bitmap.width), 1), bitmap.height);
    this.strip = new OffscreenCanvas(bitmap.width, rows);
  }

  get size(): Size {
    return { width: this.bitmap.width, height: this.bitmap.height };
  }

  /** The RGBA bytes from top to bottom, some rows at a time. */
  *strips(): Generator<{ top: number; rows: number; pixels: ImageData }> {
    const { width, height } = this.bitmap;
    const context = this.strip.getContext("2d", { willReadFrequently: true })!;
    for (let top = 0; top < height; top += this.strip.height) {
      const rows = Math.min(this.strip.height, height - top);
      context.clearRect(0, 0, width, rows);
      context.drawImage(this.bitmap, 0, top, width, rows, 0, 0, width, rows);
      yield { top, rows, pixels: context.getImageData(0, 0, width, rows) };
    }
  }

  /** The whole photograph, at most `longest` pixels long. */
  reduced(longest: number): ImageData {
    const { width, height } = this.bitmap;
    const scale = Math.min(1, longest / Math.max(width, height));
    const size = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
    const canvas = new OffscreenCanvas(size[0]!, size[1]!);
    const context = canvas.getContext("2d", { willReadFrequently: true })!;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, 0, 0, canvas.width, canvas.height);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  close(): void {
    this.bitmap.close();
  }
}

/** Decodes a file; Refused says in one line what is wrong with it. */
export async function openPhoto(file: Blob, name: string): Promise<Photo> {
  if (file.size === 0) throw new Refused("The file is empty (0 bytes).");
  const head = new Uint8Array(await firstBytes(file));
  checkSize(sizeFromHeader(head));
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Refused(whyNot(head));
  }
  checkSize(bitmap);
  return new Photo(bitmap, name, mayHaveAlpha(head));
}

function firstBytes(file: Blob): Promise<ArrayBuffer> {
  return file
    .slice(0, 1 << 18)
    .arrayBuffer()
    .catch(() => {
      throw new Refused("It cannot be read. Is it a folder?");
    });
}

function checkSize(size: Size | undefined): void {
  if (!size || size.width * size.height <= MOST_PIXELS) return;
  throw new Refused(
    `It has ${size.width} × ${size.height} pixels. This page takes up to ` +
      `${MOST_PIXELS / 1e6} million; the colorize command takes more.`,
  );
}

function starts(head: Uint8Array, text: string, at = 0): boolean {
  return [...text].every((letter, i) => head[at + i] === letter.charCodeAt(0));
}

function whyNot(head: Uint8Array): string {
  if (starts(head, "II*\0") || starts(head, "MM\0*")) {
    return "Browsers do not read TIFF files. Save it as PNG or JPEG, or use the colorize command.";
  }
  if (starts(head, "ftyp", 4)) {
    return "This browser does not read that kind of picture (HEIC, perhaps). Save it as JPEG.";
  }
  const starting = ["\x89PNG", "\xff\xd8\xff", "GIF8", "RIFF", "BM"];
  if (starting.some((magic) => starts(head, magic))) return "The picture is damaged or cut off.";
  return "This is not a picture, or of a kind that this browser cannot read.";
}

/** Whether a file of this kind can have transparency; what is opaque is written without. */
function mayHaveAlpha(head: Uint8Array): boolean {
  if (starts(head, "\x89PNG")) return head[25] === 4 || head[25] === 6 || hasChunk(head, "tRNS");
  if (starts(head, "ftyp", 4)) return true; // AVIF
  return starts(head, "GIF8") || (starts(head, "RIFF") && !starts(head, "VP8 ", 12));
}

function hasChunk(head: Uint8Array, name: string): boolean {
  const view = new DataView(head.buffer);
  for (let at = 8; at + 8 < head.length; at += 12 + view.getUint32(at)) {
    if (starts(head, name, at + 4)) return true;
    if (starts(head, "IDAT", at + 4)) return false;
  }
  return false;
}

/** What a PNG or JPEG says of its size, to refuse the largest before they are decoded. */
function sizeFromHeader(head: Uint8Array): Size | undefined {
  const view = new DataView(head.buffer);
  if (starts(head, "\x89PNG") && head.length >= 24) {
    return { width: view.getUint32(16), height: view.getUint32(20) };
  }
  if (!starts(head, "\xff\xd8\xff")) return undefined;
  for (let at = 2; at + 9 < head.length; at += 2 + view.getUint16(at + 2)) {
    const marker = view.getUint16(at);
    const isFrame = marker >= 0xffc0 && marker <= 0xffcf;
    if (isFrame && ![0xffc4, 0xffc8, 0xffcc].includes(marker)) {
      return { width: view.getUint16(at + 7), height: view.getUint16(at + 5) };
    }
    if (marker < 0xff00) return undefined;
  }
  return undefined;
}
