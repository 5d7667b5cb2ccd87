/** What the page asks of whatever invents the colours: this device (local.ts) or a server (server.ts). */

export interface Size {
  width: number;
  height: number;
}

/** A place of a photograph, at its pixels. */
export interface Spot {
  x: number;
  y: number;
  radius: number; // how far a thing may reach, or half the width of a stroke
  thing: boolean; // whether it is the thing there, whose edges the light has
  path?: [x: number, y: number][]; // where a stroke of the brush goes on to
}

/** A colour that is given, for every answer: to one thing, or as points that the whole picture follows. */
export interface Hint extends Spot {
  color: string; // "#rrggbb"
}

/** A place of an answer whose colours are changed after they were made. */
export interface Touch extends Spot {
  what: "anew" | "grey" | number; // of an answer, from 1, whose colours come there
  answer: number; // that is changed, from 0
}

/** A photograph in colour that shows the same things in the same place. */
export interface Example {
  id: string;
  file: File;
}

/** What decides the colours. What is left out is the model's own. */
export interface Recipe {
  seed: number;
  samples: number;
  hints: Hint[];
  touches?: Touch[];
  examples?: Example[];
  model?: string;
  steps?: number;
  sampler?: string;
  resolution?: number;
}

/** How strong the colours are (1: as they were invented), and how warm (-1 to 1). */
export interface Tone {
  saturation: number;
  warmth: number;
}

export const PLAIN: Tone = { saturation: 1, warmth: 0 };

/** a*, b* that the greatest warmth adds; as in space/coloring.py. */
export const WARMTH = [3, 12] as const;

/** One answer as it is to be seen, at most `longest` pixels along a side. */
export interface Look {
  sample: number;
  tone: Tone;
  longest: number;
  frame?: number; // after so many steps; all of them where it is left out
}

/** Colours that are there. */
export interface Made extends Size {
  notes: string[]; // about the file, for people
  frames: number; // that show how the colours came about
  references?: number; // places that got their colour from examples
}

export interface Download {
  file: Blob;
  name: string;
}

/** What goes on: in words, with how much of it is done (null: nobody knows), or as a first picture. */
export type News = { text: string; share: number | null } | { picture: ImageBitmap };
export type Report = (news: News) => void;

/** What can be done here; in the words of the server. */
export interface Facts {
  version: string; // of pipeline-colorize
  models: string[];
  model: string;
  in_one_pass: boolean; // the model takes no steps, so it mends nothing
  hints: boolean; // whether it follows given colours
  samplers: string[];
  steps?: number; // the model's own; left out where they cannot be chosen
  most_steps: number;
  resolution?: number;
  resolutions: [number, number];
  samples: number; // at most, as the next two
  photographs: number;
  references?: number; // pictures in colour; left out where they cannot be followed
  film_seconds?: number; // left out where films cannot be coloured
}

/** What the page says of it besides. */
export interface PageFacts extends Facts {
  about: string; // for the foot of the page
  formats: [value: string, label: string][];
}

export interface Engine {
  readonly promise: string; // what becomes of photographs, for people
  load(report: Report, model?: string): Promise<PageFacts>;
  /** Takes up a photograph: all calls from now on are about it. */
  open(file: File, report: Report): Promise<void>;
  /** Invents colours; what was under way before is stopped. */
  colorize(recipe: Recipe, report: Report): Promise<Made>;
  picture(look: Look): Promise<ImageBitmap>;
  /** The photograph as taken, for browsers that cannot show the file. */
  before(): Promise<Blob>;
  /** The photograph, with a glow where the answers differ. */
  unsure(longest: number): Promise<ImageBitmap>;
  /** One answer in full size. */
  save(look: Look, format: string, report: Report): Promise<Download>;
  /** How an answer came about, as an animation; missing where there are none. */
  film?(look: Look): Promise<Download>;
  /** A whole film in colour; missing where films cannot be coloured. */
  colorizeFilm?(file: File, seed: number, report: Report): Promise<Download>;
  /** Leaves off whatever is under way; its promise is broken by `Stopped`. */
  stop(): void;
}

/** Something cannot be done; the message is for people. */
export class Refused extends Error {}

/** Something is no longer wanted. */
export class Stopped extends Error {}
