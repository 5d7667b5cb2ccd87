/** What the page and its worker say to each other. */

import type { Hint, ModelFacts, Size } from "./layout";

export interface Asks {
  /** Load the runtime and the model. */
  load: { page: string; backend?: Backend };
  /** Decode a photograph, and take it up when the model is there. */
  open: { file: Blob; name: string };
  /** Invent colours, which can be painted from the first step on. */
  colorize: { seed: number; samples: number; hints: Hint[] };
  /** An answer as a picture of at most `longest` pixels along a side. */
  paint: { sample: number; saturation: number; longest: number };
  /** An answer at full size as a file. */
  save: { sample: number; saturation: number; format: Format };
}

export interface Answers {
  load: { model: ModelFacts; backend: Backend; threads: number };
  open: Size;
  colorize: { seconds: number };
  paint: ImageBitmap;
  save: { file: Blob; name: string };
}

export type Kind = keyof Asks;
export type Format = "jpeg" | "png";
export type Backend = "webgpu" | "wasm";

export type Progress =
  | { phase: "load"; bytes: number }
  | { phase: "decoded" }
  | { phase: "read"; share: number }
  | { phase: "step"; step: number; steps: number; picture: ImageBitmap } // of the first answer
  | { phase: "finish"; share: number };

export type ToWorker = { [K in Kind]: { id: number; kind: K; ask: Asks[K] } }[Kind];

export type FromWorker =
  | { id: number; progress: Progress }
  | { id: number; answer: Answers[Kind] }
  | { id: number; error: string; forPeople: boolean; stopped: boolean };
