/** The worker: everything that takes time, so that the page stays alive. */

import { Refused, Stopped } from "./engine";
import { Pipeline, type Report } from "./pipeline";
import type { Answers, Asks, Kind, ToWorker } from "./protocol";

const pipeline: { [K in Kind]: (ask: Asks[K], report: Report) => Promise<Answers[K]> } = new Pipeline();

self.addEventListener("message", async ({ data }: MessageEvent<ToWorker>) => {
  const { id, kind, ask } = data;
  const report: Report = (progress, transfer = []) => self.postMessage({ id, progress }, { transfer });
  try {
    const answer = await pipeline[kind](ask as never, report);
    self.postMessage({ id, answer }, { transfer: answer instanceof ImageBitmap ? [answer] : [] });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const why = error instanceof Refused ? "refused" : error instanceof Stopped ? "stopped" : undefined;
    self.postMessage({ id, error: message, why });
  }
});
