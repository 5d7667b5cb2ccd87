/** Asking the worker. */

import type { Answers, Asks, FromWorker, Kind, Progress } from "./protocol";

/** What the worker could not do. */
export class WorkerError extends Error {
  constructor(
    message: string,
    readonly forPeople: boolean, // the message can be shown as it is
    readonly stopped: boolean, // something else was asked for meanwhile
  ) {
    super(message);
  }
}

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
      const error = new WorkerError(message || "The worker could not start.", false, false);
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
    waiting.reject(new WorkerError(message.error, message.forPeople, message.stopped));
  }
}
