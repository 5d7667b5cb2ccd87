/** Fetching the large files, which are kept for use without a network. */

const LARGE = "colorize-large"; // as in src/sw.ts

/** Called with how many bytes have come since the last call. */
export type OnBytes = (bytes: number) => void;

async function openCache(): Promise<Cache | undefined> {
  try {
    return await caches.open(LARGE);
  } catch {
    return undefined; // a private window, or a page that did not come over https
  }
}

/** The bytes at `url`, from the cache where they are there; then kept in it. */
export async function fetchLarge(url: URL, onBytes: OnBytes): Promise<ArrayBuffer> {
  const cache = await openCache();
  const kept = await cache?.match(url);
  if (kept) {
    const bytes = await kept.arrayBuffer();
    onBytes(bytes.byteLength);
    return bytes;
  }
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url.pathname} could not be loaded (${response.status}).`);
  const bytes = await counted(response, onBytes).arrayBuffer();
  const type = response.headers.get("Content-Type") ?? "application/octet-stream";
  const copy = new Response(bytes.slice(0), { headers: { "Content-Type": type } });
  await cache?.put(url, copy).catch(() => undefined); // no room: it works without
  return bytes;
}

function counted(response: Response, onBytes: OnBytes): Response {
  const count = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      onBytes(chunk.byteLength);
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body!.pipeThrough(count));
}
