/** Files in one ZIP archive, as they are: photographs are compressed already. */

const TABLE = Uint32Array.from({ length: 256 }, (_, start) => {
  let value = start;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Fields of two and four bytes, by turns of [value, bytes]. */
function record(...fields: [value: number, bytes: 2 | 4][]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [, bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [value, bytes] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

const UTF8 = 0x800;
const NEW_YEAR_1980 = 0x21; // dates are left out

/** An archive; a name that is there already gets a number. */
export async function zip(files: { file: Blob; name: string }[]): Promise<Blob> {
  const parts: BlobPart[] = [];
  const directory: BlobPart[] = [];
  const taken = new Set<string>();
  let [offset, length] = [0, 0];
  for (const { file, name } of files) {
    const coded = new TextEncoder().encode(freeName(name, taken));
    const crc = crc32(new Uint8Array(await file.arrayBuffer()));
    const common: [number, 2 | 4][] = [
      [20, 2], [UTF8, 2], [0, 2], [0, 2], [NEW_YEAR_1980, 2],
      [crc, 4], [file.size, 4], [file.size, 4], [coded.length, 2], [0, 2],
    ];
    parts.push(record([0x04034b50, 4], ...common), coded, file);
    directory.push(
      record([0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [offset, 4]),
      coded,
    );
    offset += 30 + coded.length + file.size;
    length += 46 + coded.length;
  }
  const count = files.length;
  const end = record([0x06054b50, 4], [0, 2], [0, 2], [count, 2], [count, 2], [length, 4], [offset, 4], [0, 2]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** A name that is not in `taken`, and is from now on. */
export function freeName(name: string, taken: Set<string>): string {
  const [, stem, ending] = /^(.*?)(\.[^.]*)?$/.exec(name)!;
  let free = name;
  for (let number = 2; taken.has(free.toLowerCase()); number++) free = `${stem}-${number}${ending ?? ""}`;
  taken.add(free.toLowerCase());
  return free;
}
