/** The worker: everything that takes time, so that the page stays alive. */

import { Engine, type Report, Stopped } from "./engine";
import { PhotoError } from "./photo";
import type { Answers, Kind, ToWorker } from "./protocol";

const engine = new Engine();

function run({ kind, ask }: ToWorker, report: Report): Promise<Answers[Kind]> {
  switch (kind) {
    case "load":
      return engine.load(ask, report);
    case "open":
      return engine.open(ask, report);
    case "colorize":
      return engine.colorize(ask, report);
    case "paint":
      return engine.paint(ask);
    case "save":
      return engine.save(ask, report);
  }
}

self.addEventListener("message", async ({ data }: MessageEvent<ToWorker>) => {
  const { id } = data;
  const report: Report = (progress, transfer = []) => self.postMessage({ id, progress }, { transfer });
  try {
    const answer = await run(data, report);
    self.postMessage({ id, answer }, { transfer: answer instanceof ImageBitmap ? [answer] : [] });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const forPeople = error instanceof PhotoError;
    self.postMessage({ id, error: message, forPeople, stopped: error instanceof Stopped });
  }
});
