/** From a file to coloured pixels: the pipeline of pipeline_colorize/core/pipeline.py, in the page. */

import { makeNeutral } from "./color";
import { type Hint, PLAIN, Refused, type Size, type Spot, Stopped, type Touch, WARMTH } from "./engine";
import {
  type ModelFacts,
  agree,
  candidatesEach,
  finer,
  gridOf,
  groupByWarmth,
  hintInfluence,
  rasterizeHints,
  workingSizes,
  round,
} from "./layout";
import { glowPixels, spreadOf } from "./glow";
import { LevelsMeter, Light, leveled, lightOf } from "./light";
import type { Box } from "./margins";
import { markedJpeg, xmpPacket } from "./mark";
import { Network, type Seen } from "./network";
import { TorchGenerator } from "./noise";
import { type Photo, openPhoto } from "./photo";
import { PngWriter } from "./png";
import type { Answers, Asks, Progress } from "./protocol";
import { type Plane, RowResizer } from "./resize";
import { cover, pathOf } from "./things";

export type Report = (progress: Progress, transfer?: Transferable[]) => void;

const STEP_PREVIEW = 256; // pixels along the long side
const DETAIL = 1600; // of the picture in which things are looked for
const JPEG_QUALITY = 0.95;

/** Lets messages come in. */
const breathe = () => new Promise((resolve) => setTimeout(resolve));

interface Screen {
  pixels: ImageData;
  light: Plane;
}

/** Colours as they are thought to become. */
interface Frame {
  seen: Seen;
  estimate: Float32Array; // chroma on the grid
}

/** A colouring, from its first step on. */
interface Answer {
  frames: Frame[]; // after each step
  recipe: Asks["colorize"];
  spread?: Float32Array; // of all candidates, in the first one's grid
}

/** The light of a photograph at the two sizes at which the colours are made. */
interface Look {
  working: Plane; // L*, as the network sees it
  guide: Plane; // L*, finer
}

/** A look at a photograph on its way, with the noise of all candidates before and after each step. */
interface Prepared {
  isSecond: boolean;
  schedule: number[][];
  grid: Size;
  each: number; // candidates of an answer
  seen: Seen;
  influence: Float64Array; // of the hints
  noise: Float32Array[];
}

interface Opened {
  photo: Photo;
  frame: Box; // where the photograph is, inside its margins
  looks: Look[]; // the first, and the second where there are enough pixels for it
  screens: Map<number, Screen>; // the photograph made smaller, by its longest side
  answers: Answer[];
  complete: Answer[]; // the last ones that were not stopped
}

export class Pipeline {
  private network?: Network;
  private loading?: Promise<Network>;
  private opened?: Opened;
  private asked = 0; // photographs
  private saving: Promise<unknown> = Promise.resolve();
  private turn = 0;

  async load({ page, backend }: Asks["load"], report: Report): Promise<Answers["load"]> {
    const onBytes = (bytes: number) => report({ phase: "load", bytes });
    this.loading = Network.load(new URL(page), backend, onBytes);
    this.network = await this.loading;
    const { model, threads } = this.network;
    return { model, backend: this.network.backend, threads };
  }

  async open({ file, name }: Asks["open"], report: Report): Promise<Answers["open"]> {
    const asked = ++this.asked;
    const photo = await openPhoto(file, name);
    if (asked !== this.asked) throw new Stopped("Another photograph was given.");
    const turn = ++this.turn;
    await this.loading;
    const { frame, looks } = await this.read(photo, turn, report);
    const before = this.opened?.photo;
    void this.saving.then(() => before?.close()); // its file may still be written
    this.opened = { photo, frame, looks, screens: new Map(), answers: [], complete: [] };
    return photo.size;
  }

  private get ready(): Network {
    if (!this.network) throw new Error("The model is not loaded.");
    return this.network;
  }

  private get current(): Opened {
    if (!this.opened) throw new Error("There is no photograph.");
    return this.opened;
  }

  private async read(photo: Photo, turn: number, report: Report): Promise<Pick<Opened, "frame" | "looks">> {
    const { model } = this.ready;
    const light = new Light(photo.size);
    const take = async (how: "note" | "push") => {
      for (const { top, rows, pixels } of photo.strips()) {
        light[how](pixels, top);
        report({ phase: "read", share: (top + rows) / photo.size.height });
        await this.stillWanted(turn);
      }
    };
    if (photo.hasAlpha) await take("note");
    await take("push");
    const frame = light.frame();
    const inner = sizeOf(frame);
    const looks = workingSizes(inner, model).map((small) => {
      const resizer = (times: number) =>
        new RowResizer(inner.width, inner.height, small.width * times, small.height * times);
      return { working: resizer(1), guide: resizer(model.guide_detail / model.chroma_stride) };
    });
    const meter = new LevelsMeter(inner);
    const takers = [meter, ...looks.flatMap(({ working, guide }) => [working, guide])];
    for (const row of light.rows(frame)) for (const taker of takers) taker.push(row);
    const { levels } = meter;
    return {
      frame,
      looks: looks.map(({ working, guide }) => ({ working: leveled(working.plane, levels), guide: guide.plane })),
    };
  }

  private async stillWanted(turn: number): Promise<void> {
    await breathe();
    if (turn !== this.turn) throw new Stopped("Something else was asked for.");
  }

  async colorize(ask: Asks["colorize"], report: Report): Promise<Answers["colorize"]> {
    const { current } = this;
    const answers: Answer[] = (current.answers = []);
    try {
      const points = { ...ask, hints: ask.hints.filter(({ thing }) => !thing) };
      await this.invent(points, report);
      const places = [...ask.hints.filter(({ thing }) => thing), ...ask.touches];
      for (const [index, place] of places.entries()) await this.mend(place, points, index + 1);
      for (const answer of answers) answer.recipe = ask;
      current.complete = answers;
    } finally {
      if (current.answers === answers) current.answers = current.complete;
    }
    return { frames: answers[0]!.frames.length };
  }

  private async invent(ask: Asks["colorize"], report: Report): Promise<void> {
    const turn = ++this.turn;
    const { model } = this.ready;
    const generator = new TorchGenerator(ask.seed);
    const [first, second] = this.current.looks.map((one, index) => {
      return this.prepare(one, ask, index > 0, generator);
    });
    const steps = first!.schedule.length + ask.samples * (second?.schedule.length ?? 0);
    let step = 0;
    const show = async () => {
      const picture = await this.paint({ sample: 0, tone: PLAIN, longest: STEP_PREVIEW });
      report({ phase: "step", step: ++step, steps, picture }, [picture]);
    };
    // The first look draws the candidates of all answers together, the second those of each.
    await this.denoise(first!, first!.noise, turn, async (candidates) => {
      for (const [sample, own] of groupByWarmth(candidates, first!.each).entries()) {
        this.keep(sample, ask, answerOf(first!, own, model));
      }
      this.current.answers[0]!.spread = spreadOf(candidates, model.ab_scale * model.default_saturation);
      await show();
    });
    for (let sample = 0; second && sample < ask.samples; sample++) {
      const noise = second.noise.map((one) => cut(one, one.length / ask.samples)[sample]!);
      const colors = finer(this.frame(sample).estimate, first!.grid, second.grid);
      blend(noise[0]!, colors, second.schedule[0]!);
      await this.denoise(second, noise, turn, async (candidates) => {
        this.keep(sample, ask, answerOf(second, candidates, model));
        await show();
      });
    }
  }

  /** Changes the colours of an answer in a place, or of all of them where a thing has a colour. */
  private async mend(place: Hint | Touch, ask: Asks["colorize"], number: number): Promise<void> {
    const recipe = { ...ask, seed: ask.seed + number };
    if ("color" in place) recipe.hints = [...ask.hints, place];
    const covered = this.cover(place, this.frame(0).seen.grid);
    const chosen = "color" in place ? this.current.answers.keys() : [place.answer];
    for (const sample of chosen) {
      const { seen, estimate: old } = this.frame(sample);
      let fresh: Float32Array | undefined;
      if ("color" in place || place.what === "anew") fresh = await this.anew(old, covered, recipe);
      else if (place.what !== "grey") fresh = this.frame(place.what - 1).estimate;
      const estimate = old.map((value, at) => value + covered[at % covered.length]! * ((fresh?.[at] ?? 0) - value));
      this.keep(sample, ask, { seen, estimate });
    }
  }

  /** Other colours where there is cover, in agreement with those around it (Lugmayr et al. 2022). */
  private async anew(old: Float32Array, cover: Float32Array, ask: Asks["colorize"]): Promise<Float32Array> {
    const { model } = this.ready;
    const { looks } = this.current;
    const one = { ...ask, samples: 1 };
    const generator = new TorchGenerator(ask.seed);
    const prepared = this.prepare(looks.at(-1)!, one, false, generator, model.least_candidates);
    const before = (row: number[], drawn: Float32Array) => {
      const start = drawn.slice();
      blend(start, old, row); // signal and noise of the colours that stay, before the step
      return (now: Float32Array) => now.map((value, at) => (cover[at % cover.length]! ? value : start[at]!));
    };
    let result = old;
    await this.denoise(prepared, prepared.noise, this.turn, async (candidates) => {
      result = agree(candidates, prepared.grid, model, prepared.influence);
    }, before);
    return result;
  }

  /** What a spot covers of each cell of a grid over the photograph without its margins. */
  private cover(spot: Spot, grid: Size): Float32Array {
    const { frame, photo } = this.current;
    const { light } = this.screen(DETAIL);
    const box = this.frameIn(light);
    const [across, down] = [photo.size.width / light.width, photo.size.height / light.height];
    const place = { top: box.top * down, left: box.left * across, bottom: 0, right: 0 };
    return cover(moved(spot, place), cropped(light, box), sizeOf(frame), grid);
  }

  stop(): Promise<undefined> {
    this.turn++;
    return Promise.resolve(undefined);
  }

  private keep(sample: number, recipe: Asks["colorize"], frame: Frame): void {
    (this.current.answers[sample] ??= { recipe, frames: [] }).frames.push(frame);
  }

  /** Takes up a photograph at one of its working sizes, with noise for all steps there. */
  private prepare(
    { working, guide }: Look,
    ask: Asks["colorize"],
    isSecond: boolean,
    generator: TorchGenerator,
    most = Infinity, // candidates
  ): Prepared {
    const { model } = this.ready;
    const grid = gridOf(working, model);
    const schedule = isSecond ? model.second_look_schedule : model.schedule;
    const { frame } = this.current;
    for (const hint of ask.hints) checkInside(hint, frame);
    const inFrame = ask.hints.map((hint) => moved(hint, frame));
    const hints = rasterizeHints(inFrame, sizeOf(frame), grid, (hint) =>
      this.cover(ask.hints[inFrame.indexOf(hint)]!, grid),
    );
    const each = Math.min(candidatesEach(model, ask.samples, isSecond), most);
    return {
      isSecond,
      schedule,
      grid,
      each,
      seen: this.ready.look(working, guide, hints),
      influence: hintInfluence(hints, grid, model.hint_fade),
      noise: drawNoise(generator, ask.samples * each, schedule.length + 1, model, grid),
    };
  }

  /** Takes candidates from noise to colours; `onStep` gets what they are thought to become. */
  private async denoise(
    { seen, schedule, grid }: Prepared,
    [start, ...fresh]: Float32Array[],
    turn: number,
    onStep: (candidates: Float32Array[]) => Promise<void>,
    before?: (row: number[], noise: Float32Array) => (now: Float32Array) => Float32Array,
  ): Promise<void> {
    let drawn = start!;
    for (const [index, row] of schedule.entries()) {
      if (before) drawn = before(row, start!)(drawn);
      const next = await this.ready.step(seen, row, drawn, fresh[index]!);
      drawn = next.sample;
      await this.stillWanted(turn);
      await onStep(cut(next.estimate, 2 * grid.width * grid.height));
    }
  }

  async paint(look: Asks["paint"]): Promise<ImageBitmap> {
    const { pixels, light } = this.screen(look.longest);
    const result = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height);
    await this.color(result, light, 0, light.height, look);
    return createImageBitmap(result);
  }

  /** Colours rows of a picture from `top` on, out of `height`; margins become neutral. */
  private async color(pixels: ImageData, light: Plane, top: number, height: number, look: Asks["paint"]) {
    const { seen, estimate } = this.toned(look);
    const box = this.frameIn({ width: light.width, height });
    const [first, last] = [top, top + light.height].map((row) => Math.min(Math.max(row, box.top), box.bottom) - top);
    const part = cropped(light, { ...box, top: first!, bottom: last! });
    const rows = { top: first! + top - box.top, height: box.bottom - box.top, light: part };
    const rgb = part.height ? await this.ready.finish(seen, estimate, look.tone.saturation, rows) : undefined;
    if (part.data.length < light.data.length) makeNeutral(pixels.data);
    if (rgb) putColors(pixels, rgb, first!, box.left, part);
  }

  /** Where the photograph is in its picture of another size. */
  private frameIn({ width, height }: Size): Box {
    const { frame, photo } = this.current;
    const [across, down] = [width / photo.size.width, height / photo.size.height];
    const top = Math.min(round(frame.top * down), height - 1);
    const left = Math.min(round(frame.left * across), width - 1);
    const bottom = Math.max(round(frame.bottom * down), top + 1);
    return { top, bottom, left, right: Math.max(round(frame.right * across), left + 1) };
  }

  /** The colours of a look, warmer or cooler; how strong they are comes later. */
  private toned({ sample, frame, tone }: Asks["paint"]): Frame {
    const { seen, estimate } = this.frame(sample, frame);
    const { ab_scale, default_saturation } = this.ready.model;
    const offset = WARMTH.map((one) => (one * tone.warmth) / (ab_scale * default_saturation));
    const half = estimate.length / 2;
    return { seen, estimate: estimate.map((value, at) => value + offset[at < half ? 0 : 1]!) };
  }

  /** The photograph in grey, under a glow where the answers differ. */
  async unsure({ longest }: Asks["unsure"]): Promise<ImageBitmap> {
    const { pixels } = this.screen(longest);
    const canvas = new OffscreenCanvas(pixels.width, pixels.height);
    const context = canvas.getContext("2d")!;
    context.putImageData(pixels, 0, 0);
    context.globalCompositeOperation = "saturation";
    context.fillStyle = "#808080";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    context.imageSmoothingQuality = "high";
    const { spread, frames } = this.answer(0);
    const grid = frames[0]!.seen.grid; // of the first look
    const glow = new OffscreenCanvas(grid.width, grid.height);
    glow.getContext("2d")!.putImageData(new ImageData(glowPixels(spread!), grid.width, grid.height), 0, 0);
    const { top, bottom, left, right } = this.frameIn(canvas);
    context.drawImage(glow, left, top, right - left, bottom - top);
    return canvas.transferToImageBitmap();
  }

  private screen(longest: number): Screen {
    const { photo, screens } = this.current;
    const pixels = screens.get(longest)?.pixels ?? photo.reduced(longest);
    const screen = screens.get(longest) ?? { pixels, light: lightOf(pixels) };
    screens.set(longest, screen);
    return screen;
  }

  private answer(sample: number): Answer {
    const answer = this.current.answers[sample];
    if (!answer) throw new Error(`There is no answer ${sample + 1}.`);
    return answer;
  }

  private frame(sample: number, frame?: number): Frame {
    const { frames } = this.answer(sample);
    return frames[Math.min(frame ?? frames.length, frames.length) - 1]!;
  }

  async save(ask: Asks["save"], report: Report): Promise<Answers["save"]> {
    const { photo } = this.current;
    const { version } = this.ready.model;
    const xmp = xmpPacket(version, this.settings(ask));
    const strips = this.paintedStrips(ask, report);
    const isPng = ask.format === "png";
    const writing = isPng ? toPng(photo, strips, xmp) : toJpeg(photo, strips);
    this.saving = Promise.allSettled([this.saving, writing]);
    const file = isPng ? await writing : await markedJpeg(await writing, xmp);
    const stem = photo.name.replace(/\.[^.]*$/, "") || "photograph";
    return { file, name: `${stem}-colorized.${isPng ? "png" : "jpg"}` };
  }

  /** In the words of the command line. */
  private settings({ sample, tone: { saturation, warmth } }: Asks["save"]) {
    const { seed, samples, hints, touches } = this.answer(sample).recipe;
    const mended = touches.filter(({ answer }) => answer === sample);
    const { model, schedule, default_eta } = this.ready.model;
    return {
      model,
      seed,
      sample: samples > 1 ? `${sample + 1} of ${samples}` : undefined,
      steps: schedule.length,
      scheduler: "OffsetCosineScheduler",
      eta: default_eta,
      saturation: saturation === 1 ? undefined : saturation,
      warmth: warmth || undefined,
      mended: [...hints.map((one) => wordsOf(one, one.color)), ...mended.map((one) => wordsOf(one, one.what))].join(" ") || undefined,
    };
  }

  private async *paintedStrips(ask: Asks["save"], report: Report): Strips {
    const { photo } = this.current;
    const { height } = photo.size;
    for (const { top, rows, pixels } of photo.strips()) {
      await this.color(pixels, lightOf(pixels), top, height, ask);
      yield { top, rows, pixels };
      report({ phase: "finish", share: (top + rows) / height });
      await breathe();
    }
  }
}

type Strips = AsyncGenerator<{ top: number; rows: number; pixels: ImageData }>;

async function toPng(photo: Photo, strips: Strips, xmp: string): Promise<Blob> {
  const { width, height } = photo.size;
  const writer = new PngWriter(width, height, photo.hasAlpha, xmp);
  for await (const { rows, pixels } of strips) await writer.write(pixels.data, rows);
  return writer.finish();
}

async function toJpeg(photo: Photo, strips: Strips): Promise<Blob> {
  try {
    const canvas = new OffscreenCanvas(photo.size.width, photo.size.height);
    const context = canvas.getContext("2d", { alpha: false })!;
    for await (const { top, pixels } of strips) {
      if (photo.hasAlpha) putOnWhite(pixels);
      context.putImageData(pixels, 0, top);
    }
    return await canvas.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
  } catch (error) {
    console.warn(error);
    throw new Refused("It is too large for a JPEG in this browser; take PNG.");
  }
}

const sizeOf = ({ top, bottom, left, right }: Box): Size => ({ width: right - left, height: bottom - top });

/** A place in a photograph without its margins. */
function moved<S extends Spot>(spot: S, { left, top }: Box): S {
  const path = spot.path?.map(([x, y]): [number, number] => [x - left, y - top]);
  return { ...spot, x: spot.x - left, y: spot.y - top, path };
}

function checkInside({ x, y }: Hint, frame: Box): void {
  if (x >= frame.left && x < frame.right && y >= frame.top && y < frame.bottom) return;
  throw new Refused("That place is in the margin around the photograph, which stays without colours.");
}

/** As in the files of the server. */
function wordsOf(spot: Spot, what: Touch["what"] | string): string {
  const path = pathOf(spot).map((point) => point.join(",")).join(" ");
  return `${path},${spot.radius},${spot.thing ? "thing" : "brush"},${what}`;
}

function cropped({ width, data }: Plane, box: Box): Plane {
  const size = sizeOf(box);
  if (size.width === width) return { ...size, data: data.subarray(box.top * width, box.bottom * width) };
  const result = { ...size, data: new Float32Array(size.width * size.height) };
  for (let y = 0; y < size.height; y++) {
    const from = (box.top + y) * width;
    result.data.set(data.subarray(from + box.left, from + box.right), y * size.width);
  }
  return result;
}

/** Three bytes a pixel into a part of a picture, whose transparency stays. */
function putColors({ data, width }: ImageData, rgb: Uint8Array, top: number, left: number, part: Size): void {
  for (let y = 0, from = 0; y < part.height; y++) {
    for (let x = 0, to = 4 * ((top + y) * width + left); x < part.width; x++, from += 3, to += 4) {
      data[to] = rgb[from]!;
      data[to + 1] = rgb[from + 1]!;
      data[to + 2] = rgb[from + 2]!;
    }
  }
}

/** JPEG knows no transparency. */
function putOnWhite({ data }: ImageData): void {
  for (let at = 0; at < data.length; at += 4) {
    const share = data[at + 3]! / 255;
    for (let i = at; i < at + 3; i++) data[i] = 255 + share * (data[i]! - 255);
    data[at + 3] = 255;
  }
}

/** What candidates agree on. */
function answerOf(
  { seen, grid, influence, isSecond }: Prepared,
  candidates: Float32Array[],
  model: ModelFacts,
): Frame {
  return { seen, estimate: agree(candidates, grid, model, influence, isSecond) };
}

/** Parts of an array, each of `length`. */
function cut(array: Float32Array, length: number): Float32Array[] {
  const count = array.length / length;
  return Array.from({ length: count }, (_, i) => array.subarray(i * length, (i + 1) * length));
}

/** Noise of several candidates to what lies between it and `colors`, at the start of a step. */
function blend(noise: Float32Array, colors: Float32Array, [, signal, rate]: number[]): void {
  for (let i = 0; i < noise.length; i++) {
    noise[i] = signal! * colors[i % colors.length]! + rate! * noise[i]!;
  }
}

/**
 * Noise of candidates, one behind the other: the start, then what is fresh after each step. It is
 * drawn as the pipeline draws it: for each step, every candidate's in turn.
 */
function drawNoise(
  generator: TorchGenerator,
  candidates: number,
  draws: number,
  model: ModelFacts,
  grid: Size,
): Float32Array[] {
  const length = 2 * grid.width * grid.height;
  return Array.from({ length: draws }, (_, draw) => {
    const drawn = new Float32Array(candidates * length);
    if (draw > 0 && !model.default_eta) return drawn; // deterministic steps take none
    for (const part of cut(drawn, length)) {
      part.set(generator.normal(length).map((value) => value * model.default_temperature));
    }
    return drawn;
  });
}
