/** Asking the worker. */

import { Refused, Stopped } from "./engine";
import type { Answers, Asks, FromWorker, Kind, Progress } from "./protocol";

interface Waiting {
  resolve: (answer: never) => void;
  reject: (error: Error) => void;
  onProgress: (progress: Progress) => void;
}

export class Client {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  private readonly waiting = new Map<number, Waiting>();
  private count = 0;

  constructor() {
    this.worker.addEventListener("message", ({ data }) => this.hear(data as FromWorker));
    this.worker.addEventListener("error", ({ message }) => {
      const error = new Error(message || "The worker could not start.");
      for (const { reject } of this.waiting.values()) reject(error);
      this.waiting.clear();
    });
  }

  ask<K extends Kind>(
    kind: K,
    ask: Asks[K],
    onProgress: (progress: Progress) => void = () => undefined,
  ): Promise<Answers[K]> {
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, onProgress });
      this.worker.postMessage({ id, kind, ask });
    });
  }

  private hear(message: FromWorker): void {
    const waiting = this.waiting.get(message.id);
    if (!waiting) return;
    if ("progress" in message) return waiting.onProgress(message.progress);
    this.waiting.delete(message.id);
    if ("answer" in message) return waiting.resolve(message.answer as never);
    const kinds = { refused: Refused, stopped: Stopped };
    waiting.reject(new (message.why ? kinds[message.why] : Error)(message.error));
  }
}
