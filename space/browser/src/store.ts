/** What was made, kept in this browser until somebody forgets it. */

import type { Recipe, Tone } from "./engine";

export interface Kept {
  id: string;
  file: Blob;
  name: string;
  recipe: Recipe;
  sample: number;
  tone: Tone;
  thumb: Blob;
  when: number;
}

const MOST = 60;

function database(): Promise<IDBDatabase> {
  const asked = indexedDB.open("colorize", 1);
  asked.onupgradeneeded = () => asked.result.createObjectStore("made", { keyPath: "id" });
  return done(asked);
}

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function store(mode: IDBTransactionMode): Promise<IDBObjectStore> {
  return (await database()).transaction("made", mode).objectStore("made");
}

/** All that is kept, the newest first; nothing where the browser keeps nothing. */
export async function kept(): Promise<Kept[]> {
  const all = await store("readonly")
    .then((one) => done<Kept[]>(one.getAll()))
    .catch(() => []);
  return all.sort((a, b) => b.when - a.when);
}

/** Keeps one more; the oldest go. */
export async function keep(one: Kept): Promise<void> {
  try {
    const old = (await kept()).filter(({ id }) => id !== one.id).slice(MOST - 1);
    const made = await store("readwrite");
    old.forEach(({ id }) => made.delete(id));
    await done(made.put(one));
  } catch {
    // a private window, or no room: it works without
  }
}

export async function forgetAll(): Promise<void> {
  await store("readwrite")
    .then((one) => done(one.clear()))
    .catch(() => undefined);
}
