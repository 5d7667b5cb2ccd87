/** What all parts of the page share: what is shown, what goes on, and what went wrong. */

import { element } from "./dom";
import { Refused, Stopped } from "./engine";

export type Screen = "start" | "album" | "work" | "cinema";

export function show(screen: Screen): void {
  document.body.dataset["screen"] = screen;
  for (const one of ["start", "album", "work", "cinema"]) element(one).hidden = one !== screen;
}

export const isShown = (screen: Screen) => document.body.dataset["screen"] === screen;

/** Says what goes on, and how much of it is done, if anything does: `null` where nobody knows. */
export function tell(text: string, share?: number | null): void {
  const progress = element<HTMLProgressElement>("progress");
  element("status").textContent = text;
  progress.hidden = share === undefined;
  if (share === null) progress.removeAttribute("value");
  else if (share !== undefined) progress.value = share;
}

export function complain(text: string): void {
  const trouble = element("trouble");
  trouble.textContent = text;
  trouble.hidden = !text;
  if (text) trouble.scrollIntoView({ block: "nearest" });
}

/** What is wrong, in words. */
export function reason(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return error instanceof Refused ? message : `${message} (nobody expected that)`;
}

/** Says what went wrong, or that it was stopped. */
export function explain(error: unknown, what: string): void {
  if (error instanceof Stopped) return tell("Stopped.");
  const why = reason(error);
  tell("");
  complain(why.includes("cannot be used") ? why : `${what}: ${why}`);
}

/** "Stop" does this; it is shown while there is something to stop. */
export function setStop(stop: (() => void) | undefined): void {
  const button = element<HTMLButtonElement>("stop");
  button.hidden = !stop;
  button.onclick = stop ?? null;
  document.body.toggleAttribute("data-busy", Boolean(stop));
}

/** Gives a file to the visitor. */
export function give(file: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  tell(`Saved as ${name}.`);
}
