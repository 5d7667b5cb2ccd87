/** What the page and its worker say to each other. */

import type { Download, Hint, Look, Size, Touch } from "./engine";
import type { ModelFacts } from "./layout";

export interface Asks {
  /** Load the runtime and the model. */
  load: { page: string; backend?: Backend };
  /** Decode a photograph, and take it up when the model is there. */
  open: { file: Blob; name: string };
  /** Invent colours, which can be painted from the first step on. */
  colorize: { seed: number; samples: number; hints: Hint[]; touches: Touch[] };
  /** An answer as a picture. */
  paint: Look;
  /** Where the answers differ. */
  unsure: { longest: number };
  /** An answer at full size as a file. */
  save: Look & { format: Format };
  /** Leave off. */
  stop: Record<string, never>;
}

export interface Answers {
  load: { model: ModelFacts; backend: Backend; threads: number };
  open: Size;
  colorize: { frames: number };
  paint: ImageBitmap;
  unsure: ImageBitmap;
  save: Download;
  stop: undefined;
}

export type Kind = keyof Asks;
export type Format = "jpeg" | "png";
export type Backend = "webgpu" | "wasm";

export type Progress =
  | { phase: "load"; bytes: number }
  | { phase: "read"; share: number }
  | { phase: "step"; step: number; steps: number; picture: ImageBitmap } // of the first answer
  | { phase: "finish"; share: number };

export type ToWorker = { [K in Kind]: { id: number; kind: K; ask: Asks[K] } }[Kind];

export type FromWorker =
  | { id: number; progress: Progress }
  | { id: number; answer: Answers[Kind] }
  | { id: number; error: string; why?: "refused" | "stopped" };
