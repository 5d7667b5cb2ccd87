/** Several photographs, one after the other; and a strip of all that was made. */

import { element, image, make } from "./dom";
import { type Download, type Engine, type Look, PLAIN, type Recipe, Refused, Stopped, type Tone } from "./engine";
import { complain, explain, give, isShown, reason, setStop, show, tell } from "./shell";
import { forgetAll, keep, kept } from "./store";
import { draw } from "./viewer";
import { zip } from "./zip";

const THUMB = 480; // pixels along the long side

/** A photograph, and how it is coloured. */
export interface Item {
  id: string;
  file: File;
  recipe: Recipe;
  sample: number;
  tone: Tone;
  state: "waiting" | "working" | "done" | "failed";
  why?: string; // it failed
  thumb?: Blob;
  result?: Download;
  isSaved: boolean;
}

export function newItem(file: File, seed = 0): Item {
  const id = `${Date.now()}-${Math.random()}`;
  const recipe = { seed, samples: 1, hints: [] };
  return { id, file, recipe, sample: 0, tone: PLAIN, state: "waiting", isSaved: false };
}

const thumbOf = ({ sample, tone }: Item): Look => ({ sample, tone, longest: THUMB });

export class Album {
  most = Infinity; // photographs at a time
  private items: Item[] = []; // that were given together
  private made: Item[] = []; // of this session and of earlier ones, the newest first
  private isRunning = false;
  private readonly all = element<HTMLButtonElement>("save-all");

  constructor(
    private readonly engine: Engine,
    private readonly open: (item: Item) => void,
    private readonly leave: () => void, // what else is under way
  ) {
    this.all.addEventListener("click", () => void this.saveAll());
    element("resume").addEventListener("click", () => void this.run());
    element("back").addEventListener("click", () => this.show());
    element("forget").addEventListener("click", () => {
      this.made = [];
      void forgetAll();
      this.showStrip();
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.made.some(({ isSaved }) => !isSaved)) event.preventDefault();
    });
    void kept().then((all) => {
      this.made.push(...all);
      this.showStrip();
    });
  }

  get isEmpty(): boolean {
    return this.items.length === 0;
  }

  /** Takes several photographs, and begins. */
  add(files: File[], seed: number): void {
    const left = files.slice(0, this.most - this.items.length);
    if (left.length < files.length) {
      complain(`${this.most} photographs can be done at a time; ${files.length - left.length} were left out.`);
    }
    this.items.push(...left.map((file) => newItem(file, seed)));
    this.show();
  }

  show(): void {
    this.leave();
    show("album");
    this.showItems();
    void this.run();
  }

  clear(): void {
    this.items = [];
  }

  /** A photograph has colours, or other ones than before. */
  async keep(item: Item): Promise<void> {
    const canvas = document.createElement("canvas");
    draw(await this.engine.picture(thumbOf(item)), canvas);
    item.thumb = await new Promise<Blob>((resolve) =>
      canvas.toBlob((blob) => resolve(blob!), "image/jpeg", 0.85),
    );
    item.state = "done";
    item.result = undefined;
    item.isSaved = false;
    this.made = [item, ...this.made.filter((one) => one !== item && one.id !== item.id)];
    this.showStrip();
    void keep(item);
  }

  // --- one after the other -----------------------------------------------------------------------

  private async run(): Promise<void> {
    if (this.isRunning) return;
    this.isRunning = true;
    setStop(() => this.engine.stop());
    try {
      for (let item = this.next(); item && isShown("album"); item = this.next()) await this.color(item);
    } catch (error) {
      explain(error, "The photographs could not all be coloured"); // unless they were stopped
    } finally {
      this.isRunning = false;
      if (isShown("album")) {
        setStop(undefined);
        this.showItems();
        const done = this.items.filter(({ state }) => state === "done").length;
        tell(`${done} of ${this.items.length} photographs have colours.`);
      }
    }
  }

  private next(): Item | undefined {
    return this.items.find(({ state }) => state === "waiting");
  }

  private async color(item: Item): Promise<void> {
    item.state = "working";
    this.showItems();
    const place = `${this.items.indexOf(item) + 1} of ${this.items.length}`;
    const report = (news: object) => {
      if ("text" in news && isShown("album")) tell(`Photograph ${place}: ${String(news.text)}`, null);
    };
    try {
      await this.engine.open(item.file, report);
      await this.engine.colorize(item.recipe, report);
      await this.keep(item);
      item.result = await this.engine.save(thumbOf(item), element<HTMLSelectElement>("format").value, report);
    } catch (error) {
      item.state = error instanceof Stopped ? "waiting" : "failed";
      item.why = reason(error);
      if (!(error instanceof Refused)) throw error;
    } finally {
      this.showItems();
    }
  }

  private async saveAll(): Promise<void> {
    complain("");
    for (const item of this.items) {
      if (item.state === "done" && !item.result) item.state = "waiting"; // it was changed since
    }
    await this.run();
    const done = this.items.filter(({ result }) => result);
    if (!done.length || this.next()) return;
    give(await zip(done.map(({ result }) => result!)), "colorized.zip");
    for (const item of done) item.isSaved = true;
  }

  private again(item: Item): void {
    item.recipe = { ...item.recipe, seed: item.recipe.seed + 1 };
    item.sample = 0;
    item.state = "waiting";
    this.showItems();
    void this.run();
  }

  // --- what is shown -----------------------------------------------------------------------------

  private showItems(): void {
    const focused = document.activeElement?.id;
    element("items").replaceChildren(...this.items.map((item) => this.tile(item)));
    if (focused) document.getElementById(focused)?.focus();
    this.all.disabled = !this.items.some(({ state }) => state === "done");
    element("resume").hidden = this.isRunning || !this.next();
  }

  private tile(item: Item): HTMLLIElement {
    const { file, state, why, thumb, id } = item;
    const word = { waiting: "waits", working: "at work …", done: "", failed: why ?? "" }[state];
    const name = make("span", { className: "name" }, file.name);
    const picture = thumb && state === "done" ? image(thumb) : make("span", { className: "blank" });
    const options = { id: `open-${id}`, className: "large", disabled: state === "failed" };
    const large = make("button", { ...options, onclick: () => this.open(item) }, picture, name);
    const below = state === "done" ? this.tools(item) : make("p", { className: "quiet" }, word);
    return make("li", { className: state }, large, below);
  }

  private tools(item: Item): HTMLElement {
    const { id, file, result } = item;
    const save = () => {
      give(result!.file, result!.name);
      item.isSaved = true;
    };
    const again = { id: `again-${id}`, ariaLabel: `Another try for ${file.name}`, onclick: () => this.again(item) };
    const saving = { id: `save-${id}`, ariaLabel: `Download ${file.name}`, disabled: !result, onclick: save };
    return make("p", { className: "row" }, make("button", again, "Another try"), make("button", saving, "Download"));
  }

  private showStrip(): void {
    element("strip").hidden = this.made.length === 0;
    const buttons = this.made.map((item) => {
      const options = { ariaLabel: item.file.name, onclick: () => this.open(item) };
      return make("li", {}, make("button", options, image(item.thumb!)));
    });
    element("made").replaceChildren(...buttons);
  }
}

