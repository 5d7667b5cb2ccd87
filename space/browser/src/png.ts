/** Writing PNG files row by row (ISO/IEC 15948), so that no copy of the whole picture is needed. */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const RGB = 2;
const RGBA = 6;
const PAETH = 4;
const XMP_KEYWORD = "XML:com.adobe.xmp";

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc(...parts: Uint8Array[]): number {
  let value = 0xffffffff;
  for (const part of parts) {
    for (const byte of part) value = CRC[(value ^ byte) & 0xff]! ^ (value >>> 8);
  }
  return ~value >>> 0;
}

function chunk(name: string, data: Uint8Array<ArrayBuffer>): Blob {
  const kind = new TextEncoder().encode(name);
  const length = new DataView(new ArrayBuffer(4));
  const check = new DataView(new ArrayBuffer(4));
  length.setUint32(0, data.length);
  check.setUint32(0, crc(kind, data));
  return new Blob([length, kind, data, check]);
}

function header(width: number, height: number, kind: number): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(13));
  view.setUint32(0, width);
  view.setUint32(4, height);
  view.setUint8(8, 8); // bits
  view.setUint8(9, kind);
  return new Uint8Array(view.buffer);
}

/** Collects rows of RGBA bytes, from top to bottom, into a PNG. */
export class PngWriter {
  private readonly channels: number;
  private readonly deflate = new CompressionStream("deflate");
  private readonly writer = this.deflate.writable.getWriter();
  private readonly chunks: Blob[];
  private readonly done: Promise<void>;
  private before: Uint8Array;

  constructor(
    private readonly width: number,
    height: number,
    withAlpha: boolean,
    xmp: string,
  ) {
    this.channels = withAlpha ? 4 : 3;
    this.before = new Uint8Array(width * this.channels);
    // Keyword, no compression, no language, no translated keyword.
    const text = new TextEncoder().encode(`${XMP_KEYWORD}\0\0\0\0\0${xmp}`);
    this.chunks = [
      new Blob([new Uint8Array(SIGNATURE)]),
      chunk("IHDR", header(width, height, withAlpha ? RGBA : RGB)),
      chunk("sRGB", new Uint8Array([0])),
      chunk("iTXt", text),
    ];
    this.done = this.collect();
  }

  private async collect(): Promise<void> {
    const reader = this.deflate.readable.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.chunks.push(chunk("IDAT", value));
    }
  }

  /** The next rows; waits while the compressor is behind. */
  async write(pixels: Uint8ClampedArray, rows: number): Promise<void> {
    const line = this.width * this.channels;
    const filtered = new Uint8Array(rows * (line + 1));
    for (let y = 0; y < rows; y++) {
      const row = this.packed(pixels, y);
      filtered[y * (line + 1)] = PAETH;
      paeth(row, this.before, this.channels, filtered.subarray(y * (line + 1) + 1));
      this.before = row;
    }
    await this.writer.ready;
    await this.writer.write(filtered);
  }

  private packed(pixels: Uint8ClampedArray, y: number): Uint8Array {
    const { width, channels } = this;
    const row = new Uint8Array(width * channels);
    for (let x = 0, at = 4 * y * width, to = 0; x < width; x++, at += 4, to += channels) {
      row[to] = pixels[at]!;
      row[to + 1] = pixels[at + 1]!;
      row[to + 2] = pixels[at + 2]!;
      if (channels === 4) row[to + 3] = pixels[at + 3]!;
    }
    return row;
  }

  async finish(): Promise<Blob> {
    await this.writer.close();
    await this.done;
    return new Blob([...this.chunks, chunk("IEND", new Uint8Array(0))], { type: "image/png" });
  }
}

/** Each byte less what its neighbours to the left and above suggest. */
function paeth(row: Uint8Array, above: Uint8Array, channels: number, out: Uint8Array): void {
  for (let i = 0; i < row.length; i++) {
    const a = i < channels ? 0 : row[i - channels]!;
    const b = above[i]!;
    const c = i < channels ? 0 : above[i - channels]!;
    const pa = Math.abs(b - c);
    const pb = Math.abs(a - c);
    const pc = Math.abs(a + b - 2 * c);
    out[i] = row[i]! - (pa <= pb && pa <= pc ? a : pb <= pc ? b : c);
  }
}
