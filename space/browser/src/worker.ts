/** The worker: everything that takes time, so that the page stays alive. */

import { Refused, Stopped } from "./engine";
import { Pipeline, type Report } from "./pipeline";
import type { Answers, Kind, ToWorker } from "./protocol";

const pipeline = new Pipeline();

function run({ kind, ask }: ToWorker, report: Report): Promise<Answers[Kind]> {
  switch (kind) {
    case "load":
      return pipeline.load(ask, report);
    case "open":
      return pipeline.open(ask, report);
    case "colorize":
      return pipeline.colorize(ask, report);
    case "paint":
      return pipeline.paint(ask);
    case "unsure":
      return pipeline.unsure(ask);
    case "stop":
      return pipeline.stop();
    case "save":
      return pipeline.save(ask, report);
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
    const why = error instanceof Refused ? "refused" : error instanceof Stopped ? "stopped" : undefined;
    self.postMessage({ id, error: message, why });
  }
});
