/** The page. */

import { setUpCamera } from "./camera";
import { Client, WorkerError } from "./client";
import { element, make } from "./dom";
import { Hints } from "./hints";
import type { Answers, Backend, Format, Progress } from "./protocol";
import { Viewer, draw } from "./viewer";

declare const __SIZES__: { wasm: number; webgpu: number };

const SCREEN = 1600; // pixels along the long side of what is shown
const THUMBNAIL = 200;

const client = new Client();
const viewer = new Viewer((place) => hints.add(place));
const hints = new Hints(viewer, recolor);
const samples = element<HTMLSelectElement>("samples");
const seed = element<HTMLInputElement>("seed");
const saturation = element<HTMLInputElement>("saturation");
const format = element<HTMLSelectElement>("format");
const save = element<HTMLButtonElement>("save");
const progress = element<HTMLProgressElement>("progress");

let loaded: Promise<Answers["load"]> | undefined;
let shown = 0; // the answer that is looked at
let turn = 0; // rises with every photograph and every colouring
let isBusy = false;

// --- telling -------------------------------------------------------------------------------------

/** Says what goes on, and how much of it is done, if anything does: `null` where nobody knows. */
function tell(text: string, share?: number | null): void {
  element("status").textContent = text;
  progress.hidden = share === undefined;
  if (share === null) progress.removeAttribute("value");
  else if (share !== undefined) progress.value = share;
}

function complain(text: string): void {
  const trouble = element("trouble");
  trouble.textContent = text;
  trouble.hidden = !text;
  if (text) trouble.scrollIntoView({ block: "nearest" });
}

/** Says what went wrong, unless it was overtaken by something else. */
function explain(error: unknown, what: string): void {
  if (error instanceof WorkerError && error.stopped) return;
  tell("");
  const message = error instanceof Error ? error.message : String(error);
  complain(error instanceof WorkerError && error.forPeople ? `${what}: ${message}` : `${what} (${message}).`);
}

const megabytes = (bytes: number) => Math.round(bytes / 1e6);

function onProgress(state: Progress): void {
  if (state.phase === "read") tell("Reading the photograph …", state.share);
  if (state.phase === "finish") tell("Colouring it at full size …", state.share);
  if (state.phase !== "step") return;
  const { step, steps, picture } = state;
  tell(`Imagining colours: step ${step} of ${steps}`, step / steps);
  viewer.show(picture);
}

// --- the model -----------------------------------------------------------------------------------

function load(): Promise<Answers["load"]> {
  loaded ??= fetchModel().catch((error: unknown) => {
    loaded = undefined; // the next photograph tries again
    throw error;
  });
  return loaded;
}

async function fetchModel(): Promise<Answers["load"]> {
  let bytes = 0;
  const ask = { page: document.baseURI, backend: wantedBackend() };
  const result = await client.ask("load", ask, (state) => {
    if (state.phase !== "load") return;
    bytes += state.bytes;
    tell(`Loading what imagines the colours: ${megabytes(bytes)} MB`, null);
  });
  const { model, backend, threads } = result;
  const where = backend === "webgpu" ? "the graphics card" : `the processor (threads: ${threads})`;
  element("facts").textContent =
    `Model “${model.model}” ${model.version}: ${megabytes(model.bytes)} MB; runtime: ` +
    `${megabytes(__SIZES__[backend])} MB. Works on ${where}, and offline from now on.`;
  document.body.dataset["backend"] = backend;
  tell("Ready.");
  return result;
}

/** `?backend=wasm` or `webgpu`, for those who want to compare. */
function wantedBackend(): Backend | undefined {
  const wanted = new URLSearchParams(location.search).get("backend");
  return wanted === "wasm" || wanted === "webgpu" ? wanted : undefined;
}

// --- a photograph --------------------------------------------------------------------------------

async function open(file: Blob, name: string): Promise<void> {
  let mine = turn;
  complain("");
  const model = load();
  try {
    const size = await client.ask("open", { file, name }, (state) => {
      if (state.phase === "decoded") {
        mine = ++turn;
        showWork(file);
      } else if (mine === turn) onProgress(state);
    });
    await model;
    if (mine !== turn) return;
    element("controls").inert = false;
    hints.reset(size);
    await colorize();
  } catch (error) {
    explain(error, loaded ? `“${name}” cannot be used` : "The model could not be loaded");
  }
}

function showWork(file: Blob): void {
  element("start").hidden = true;
  element("work").hidden = false;
  element("answers").replaceChildren();
  element("controls").inert = true; // until the photograph is taken up
  viewer.open(file);
  setBusy(true);
  saturation.value = "100";
  showSaturation();
}

/** What needs a finished answer to work on. */
function setBusy(value: boolean): void {
  isBusy = value;
  save.disabled = saturation.disabled = value;
}

function showStart(): void {
  turn++;
  complain("");
  element("start").hidden = false;
  element("work").hidden = true;
  tell("");
}

/** Colours again, as the controls stand now. */
function recolor(): void {
  complain("");
  void colorize();
}

async function colorize(): Promise<void> {
  if (element("work").hidden || element("controls").inert) return;
  const mine = ++turn;
  shown = 0;
  element("answers").replaceChildren();
  setBusy(true);
  const ask = { seed: readSeed(), samples: Number(samples.value), hints: hints.list };
  try {
    const { seconds } = await client.ask("colorize", ask, (state) => mine === turn && onProgress(state));
    if (mine !== turn) return;
    await repaint();
    if (ask.samples > 1) await showAnswers(ask.samples, mine);
    if (mine !== turn) return;
    setBusy(false);
    tell(`Done in ${seconds.toFixed(1)} seconds. Drag across the photograph to compare.`);
  } catch (error) {
    if (mine === turn) explain(error, "The colours could not be made");
  }
}

function readSeed(): number {
  const value = Math.floor(Math.abs(Number(seed.value))) % 2 ** 32 || 0;
  seed.value = String(value);
  return value;
}

async function showAnswers(count: number, mine: number): Promise<void> {
  for (let sample = 0; sample < count; sample++) {
    const ask = { sample, saturation: factor(), longest: THUMBNAIL };
    const picture = await client.ask("paint", ask);
    if (mine !== turn) return;
    const canvas = make("canvas", {});
    draw(picture, canvas);
    const label = `Answer ${sample + 1} of ${count}`;
    const button = make("button", { type: "button", role: "radio", ariaLabel: label }, canvas);
    button.addEventListener("click", () => choose(sample));
    element("answers").append(button);
  }
  choose(shown);
}

function choose(sample: number): void {
  shown = sample;
  [...element("answers").children].forEach((button, index) => {
    button.ariaChecked = String(index === sample);
  });
  void repaint();
}

// --- what is shown -------------------------------------------------------------------------------

const factor = () => Number(saturation.value) / 100;

function showSaturation(): void {
  element("saturation-value").textContent = `${saturation.value} %`;
}

let painting: Promise<void> | undefined;
let isStale = false;

/** Paints the answer that is looked at; while one painting is under way, only the last wish counts. */
async function repaint(): Promise<void> {
  isStale = true;
  painting ??= paintUntilFresh().finally(() => (painting = undefined));
  return painting;
}

async function paintUntilFresh(): Promise<void> {
  while (isStale) {
    isStale = false;
    const ask = { sample: shown, saturation: factor(), longest: SCREEN };
    const picture = await client.ask("paint", ask).catch(() => undefined);
    if (picture) viewer.show(picture);
  }
}

async function download(): Promise<void> {
  complain("");
  save.disabled = true;
  try {
    const ask = { sample: shown, saturation: factor(), format: format.value as Format };
    const { file, name } = await client.ask("save", ask, onProgress);
    const link = make("a", { href: URL.createObjectURL(file), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    tell(`Saved as ${name}.`);
  } catch (error) {
    explain(error, "It could not be saved");
  } finally {
    save.disabled = isBusy; // other colours may have been asked for meanwhile
  }
}

// --- wiring --------------------------------------------------------------------------------------

/** Takes one photograph out of what was dropped, pasted or chosen, and says what it leaves. */
function take(files: Iterable<File> = []): void {
  const all = [...files];
  const file = all.find(({ type }) => type.startsWith("image/")) ?? all[0];
  if (!file) return complain("That was not a picture file. Choose, drop or paste a photograph.");
  void open(file, file.name);
  if (all.length > 1) complain(`“${file.name}” was taken: this page colours one photograph at a time.`);
}

function setDragging(value: boolean): void {
  document.body.classList.toggle("dragging", value);
}

function setUpFiles(): void {
  const input = element<HTMLInputElement>("file");
  input.addEventListener("change", () => {
    if (input.files?.length) take(input.files);
    input.value = "";
  });
  document.addEventListener("paste", ({ clipboardData, target }) => {
    const files = clipboardData?.files;
    if (files?.length || target !== seed) take(files); // a number can be pasted there
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    setDragging(event.dataTransfer?.types.includes("Files") ?? false);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) setDragging(false); // it left the page, not only one of its parts
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    setDragging(false);
    take(event.dataTransfer?.files);
  });
}

interface Example {
  file: string;
  title: string;
  author: string;
  date: string;
}

async function openExample(url: string, name: string): Promise<void> {
  try {
    const response = await fetch(url);
    if (!response.ok) throw new Error(`status ${response.status}`);
    await open(await response.blob(), name);
  } catch (error) {
    explain(error, `“${name}” could not be loaded`);
  }
}

async function setUpExamples(): Promise<void> {
  const list: Example[] = await (await fetch("examples/examples.json")).json();
  element("examples").append(
    ...list.map(({ file, title, author, date }) => {
      const url = `examples/${file}`;
      const image = make("img", { loading: "lazy", src: url, alt: "" });
      const credit = make("small", {}, `${author}, ${date}`);
      const button = make("button", { type: "button" }, image, make("span", {}, title), credit);
      button.addEventListener("click", () => void openExample(url, file));
      return make("li", {}, button);
    }),
  );
}

element("again").addEventListener("click", () => {
  seed.value = String((readSeed() + 1) % 2 ** 32);
  recolor();
});
seed.addEventListener("change", recolor);
samples.addEventListener("change", recolor);
saturation.addEventListener("input", () => {
  showSaturation();
  void repaint();
});
save.addEventListener("click", () => void download());
element("close").addEventListener("click", showStart);
setUpFiles();
setUpCamera((file, name) => void open(file, name), complain);
void setUpExamples();
void navigator.serviceWorker?.register("sw.js").catch(() => undefined); // no https: no offline use
load().catch((error: unknown) => explain(error, "The model could not be loaded"));
