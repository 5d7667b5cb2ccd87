/** What was made, kept in this browser until somebody forgets it; nothing where it keeps nothing. */

import { clear, createStore, delMany, set, values } from "idb-keyval";
import type { Item } from "./album";

const MOST = 60;
const store = createStore("colorize-made", "items");

type Kept = Item & { when: number };

/** All that is kept, the newest first. */
export async function kept(): Promise<Kept[]> {
  const all = await values<Kept>(store).catch(() => []);
  return all.sort((a, b) => b.when - a.when);
}

/** Keeps one more; the oldest go. A private window keeps none, and it works without. */
export async function keep(item: Item): Promise<void> {
  const old = (await kept()).filter(({ id }) => id !== item.id).slice(MOST - 1);
  await delMany(old.map(({ id }) => id), store).catch(() => undefined);
  const one: Kept = { ...item, result: undefined, isSaved: true, when: Date.now() };
  await set(item.id, one, store).catch(() => undefined);
}

export const forgetAll = (): Promise<void> => clear(store).catch(() => undefined);
