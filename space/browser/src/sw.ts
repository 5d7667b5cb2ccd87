/**
 * Keeps the page for use without a network. Small files are fetched at once, the runtime and the
 * model when the page has loaded them; every answer carries the headers that threads and the
 * content security policy need, also where the host cannot send them.
 */

import headers from "../headers.json";

declare const __VERSION__: string;
declare const __SHELL__: string[];
declare const __LARGE__: string[];
declare const self: ServiceWorkerGlobalScope;

const SHELL = `colorize-${__VERSION__}`;
const LARGE = "colorize-large"; // as in src/fetch.ts

self.addEventListener("install", (event) => {
  event.waitUntil(install());
});

self.addEventListener("activate", (event) => {
  event.waitUntil(activate());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(self.registration.scope)) {
    event.respondWith(answer(request));
  }
});

async function install(): Promise<void> {
  const cache = await caches.open(SHELL);
  // Past the browser's own cache, which may still hold files of the version before.
  const fresh = ["./", ...__SHELL__].map((file) => new Request(file, { cache: "reload" }));
  await cache.addAll(fresh);
  await self.skipWaiting();
}

/** Forgets earlier versions, and large files that this one has no use for. */
async function activate(): Promise<void> {
  for (const name of await caches.keys()) {
    if (name.startsWith("colorize-") && name !== SHELL && name !== LARGE) await caches.delete(name);
  }
  const wanted = new Set(__LARGE__.map((file) => new URL(file, self.registration.scope).href));
  const large = await caches.open(LARGE);
  for (const { url } of await large.keys()) if (!wanted.has(url)) await large.delete(url);
  await self.clients.claim();
}

async function answer(request: Request): Promise<Response> {
  const kept = await caches.match(request, { ignoreSearch: request.mode === "navigate" });
  if (kept) return withHeaders(kept);
  const response = await fetch(request);
  if (response.ok && request.destination === "image") {
    await (await caches.open(LARGE)).put(request, response.clone());
  }
  return withHeaders(response);
}

function withHeaders(response: Response): Response {
  if (response.type !== "basic" && response.type !== "default") return response;
  const all = new Headers(response.headers);
  for (const [name, value] of Object.entries(headers)) all.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers: all });
}
