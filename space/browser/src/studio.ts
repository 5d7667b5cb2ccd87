/** One photograph, large, and everything that can be done with it. */

import type { Album, Item } from "./album";
import { element, make } from "./dom";
import { type Engine, type Look, type Made, type News, type PageFacts, type Recipe, type Tone } from "./engine";
import { Examples } from "./examples";
import { Hints } from "./hints";
import { beforeAndAfter } from "./share";
import { complain, explain, give, isShown, setStop, show, tell } from "./shell";
import { type Viewer, draw } from "./viewer";

const SCREEN = 1600; // pixels along the long side of what is shown
const ANSWER = 800; // of an answer in the grid
const FRAME_SECONDS = 0.4; // of a film

type View = "answers" | "colour" | "compare" | "unsure" | "film";
type Step = { recipe: Recipe; sample: number; tone: Tone };

const input = (id: string) => element<HTMLInputElement>(id);
const select = (id: string) => element<HTMLSelectElement>(id);

export class Studio {
  album!: Album;
  private readonly hints = new Hints(
    () => void this.recolor(this.item?.sample),
    () => this.view === "answers" && this.see("colour"),
  );
  private readonly examples = new Examples(() => void this.recolor(this.item?.sample));
  private readonly viewer: Viewer = this.hints.viewer;
  private item?: Item;
  private made?: Made;
  private version = "";
  private turn = 0; // rises with every photograph and every colouring
  private steps: Step[] = []; // all that was done, for undo
  private step = -1;
  private count = 1;
  private seen = 1; // answers of the colours before

  constructor(
    private readonly engine: Engine,
    private readonly load: (model?: string) => Promise<PageFacts>,
  ) {
    this.setUpControls();
    this.setUpViews();
    this.setUpUndo();
  }

  /** Shows a photograph, and gives it colours without being asked. */
  async open(item: Item): Promise<void> {
    const mine = ++this.turn;
    this.engine.stop();
    complain("");
    show("work");
    element("back").hidden = this.album.isEmpty;
    this.item = item;
    this.made = undefined;
    this.seen = 1;
    [this.steps, this.step] = [[], -1];
    this.write(item);
    this.hints.reset([], [], { width: 1, height: 1 });
    this.hints.choose(undefined);
    element("answers").replaceChildren();
    this.see("colour");
    this.begin();
    scrollTo({ top: 0 });
    const isReadable = this.viewer.open(item.file);
    const report = (news: News) => mine === this.turn && this.hear(news);
    try {
      await this.load(item.recipe.model);
      await this.engine.open(item.file, report);
      if (mine === this.turn) await this.color(item.recipe, item.sample);
      if (mine === this.turn && !(await isReadable)) await this.viewer.open(await this.engine.before());
      if (mine === this.turn && this.made) await this.repaint();
    } catch (error) {
      if (mine !== this.turn) return;
      this.end(error, `“${item.file.name}” cannot be used`);
      if (!this.made && !(await isReadable) && mine === this.turn) show(this.album.isEmpty ? "start" : "album");
    }
  }

  /** Whatever is under way is no longer wanted. */
  leave(): void {
    this.turn++;
    this.engine.stop();
    setStop(undefined);
  }

  /** Back to the beginning. */
  close(): void {
    this.leave();
    complain("");
    tell("");
    show("start");
  }

  // --- colours -----------------------------------------------------------------------------------

  /** Colours as the controls say. */
  private async recolor(sample = 0): Promise<void> {
    if (!this.item || !isShown("work")) return;
    complain("");
    const recipe = this.read();
    await this.attempt(recipe, Math.min(sample, recipe.samples - 1), "The colours could not be made");
  }

  private async attempt(recipe: Recipe, sample: number, failure: string): Promise<void> {
    const mine = ++this.turn;
    await this.color(recipe, sample).catch((error: unknown) => mine === this.turn && this.end(error, failure));
  }

  private async color(recipe: Recipe, sample: number): Promise<void> {
    const [mine, began] = [this.turn, performance.now()];
    this.begin();
    const made = await this.engine.colorize(recipe, (news) => mine === this.turn && this.hear(news));
    if (mine !== this.turn) return;
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    this.made = made;
    Object.assign(this.item!, { recipe, sample });
    this.hints.reset(recipe.hints, recipe.touches ?? [], made);
    this.hints.offer(sample, recipe.samples);
    this.end();
    this.note();
    await this.showAnswers();
    if (mine !== this.turn) return;
    const isSame = recipe.samples === this.seen; // given colours and mends stay at their answer
    this.seen = recipe.samples;
    if (!isSame && recipe.samples > 1) this.see("answers");
    else if (this.view !== "compare" && (this.view !== "answers" || recipe.samples === 1)) this.see("colour");
    await this.repaint();
    await this.keep();
    if (mine !== this.turn) return;
    const notes = made.notes.map((note) => `${this.item!.file.name} ${note}.`);
    if (recipe.examples?.length && !made.references) notes.push("Nothing in the example was found here.");
    tell(notes.join(" ") || `Done in ${seconds} seconds.`);
    document.body.dataset["made"] = String(this.count++); // how often there were colours
  }

  private keep(): Promise<void> {
    return this.album.keep(this.item!).catch(() => undefined);
  }

  private hear(news: News): void {
    if ("picture" in news) this.viewer.show(news.picture);
    else tell(news.text, news.share);
  }

  private begin(): void {
    setStop(() => this.engine.stop());
    this.showState();
  }

  /** However it went: every button works again, and what was there before is there. */
  private end(error?: unknown, what = ""): void {
    if (error) explain(error, what);
    setStop(undefined);
    if (error && this.item) {
      this.write(this.item);
      const { hints, touches = [] } = this.item.recipe;
      if (this.made) this.hints.reset(hints, touches, this.made);
      if (this.made) void this.repaint();
    }
    this.showState();
  }

  /** What needs finished colours waits for them. */
  private showState(): void {
    const isBusy = document.body.hasAttribute("data-busy");
    const isReady = Boolean(this.made) && !isBusy;
    for (const one of document.querySelectorAll<HTMLInputElement>("#work .ready")) one.disabled = !isReady;
    for (const id of ["hints", "mending", "shape", "examples-given"]) element<HTMLFieldSetElement>(id).disabled = !this.made;
    element("see-answers").parentElement!.hidden = !this.hasSeveral;
    element("see-film").parentElement!.hidden = (this.made?.frames ?? 0) < 2;
    element<HTMLButtonElement>("undo").disabled = !isReady || this.step < 1;
    element<HTMLButtonElement>("redo").disabled = !isReady || this.step >= this.steps.length - 1;
  }

  // --- answers -----------------------------------------------------------------------------------

  private get hasSeveral(): boolean {
    return Boolean(this.made) && this.item!.recipe.samples > 1;
  }

  /** Shows all answers small, unless there are other colours or another tone before it is done. */
  private async showAnswers(): Promise<void> {
    const { recipe, tone } = this.item!;
    const [mine, count] = [this.turn, recipe.samples > 1 ? recipe.samples : 0];
    const buttons: HTMLButtonElement[] = [];
    for (let sample = 0; sample < count; sample++) {
      const picture = await this.engine.picture({ sample, tone, longest: ANSWER });
      if (mine !== this.turn || tone !== this.item!.tone) return;
      const canvas = make("canvas", {});
      draw(picture, canvas);
      const ariaLabel = `Answer ${sample + 1} of ${count}`;
      const onclick = () => void this.choose(sample);
      buttons.push(make("button", { type: "button", ariaLabel, onclick }, canvas));
    }
    element("answers").replaceChildren(...buttons);
    this.markAnswer();
    this.hints.choices.refresh();
  }

  private markAnswer(): void {
    [...element("answers").children].forEach((button, index) => {
      button.ariaPressed = String(index === this.item?.sample);
    });
  }

  private async choose(sample: number): Promise<void> {
    if (!this.item) return;
    this.item.sample = sample;
    this.hints.offer(sample, this.item.recipe.samples);
    this.markAnswer();
    if (this.view !== "compare") this.see("colour");
    this.note();
    await this.repaint();
    await this.keep();
  }

  // --- what is seen ------------------------------------------------------------------------------

  private get view(): View {
    return document.querySelector<HTMLInputElement>("#views input:checked")!.value as View;
  }

  private see(view: View): void {
    input(`see-${view}`).checked = true;
    element("work").dataset["view"] = view;
    this.viewer.comparing = view === "compare";
    this.hints.asking = view === "unsure" && this.hasSeveral;
    element("reel").hidden = view !== "film";
    input("frame-number").max = input("frame-number").value = String(this.made?.frames ?? 1);
  }

  private setUpViews(): void {
    element("views").addEventListener("change", () => {
      this.see(this.view);
      void this.repaint();
    });
    input("frame-number").addEventListener("input", () => void this.repaint());
    element("play").addEventListener("click", () => void this.play());
    element("film").addEventListener("click", () => void this.save(() => this.engine.film!(this.look), false));
    element("film").hidden = !this.engine.film;
  }

  /** Only when it is asked for: nothing moves by itself. */
  private async play(): Promise<void> {
    const number = input("frame-number");
    for (let frame = 1; frame <= Number(number.max) && this.view === "film"; frame++) {
      number.value = String(frame);
      const wait = new Promise((resolve) => setTimeout(resolve, 1000 * FRAME_SECONDS));
      await Promise.all([this.repaint(), wait]);
    }
  }

  private get look(): Look {
    const { sample, tone } = this.item!;
    return { sample, tone, longest: SCREEN };
  }

  private painting?: Promise<void>;
  private isStale = false;

  /** Paints what is looked at; while one painting is under way, only the last wish counts. */
  private repaint(): Promise<void> {
    this.isStale = true;
    this.painting ??= this.paintUntilFresh().finally(() => (this.painting = undefined));
    return this.painting;
  }

  private async paintUntilFresh(): Promise<void> {
    while (this.isStale && this.made) {
      this.isStale = false;
      const mine = this.turn;
      const isUnsure = this.view === "unsure" && this.hasSeveral;
      const frame = this.view === "film" ? Number(input("frame-number").value) : undefined;
      try {
        const picture = await (isUnsure ? this.engine.unsure(SCREEN) : this.engine.picture({ ...this.look, frame }));
        if (mine === this.turn) this.viewer.show(picture);
      } catch (error) {
        if (mine === this.turn) explain(error, "It cannot be shown");
      }
    }
  }

  // --- files -------------------------------------------------------------------------------------

  private async save(make: () => Promise<{ file: Blob; name: string }>, isResult = true): Promise<void> {
    complain("");
    const item = this.item!;
    this.begin();
    try {
      const { file, name } = await make();
      give(file, name);
      if (isResult) item.isSaved = true;
      setStop(undefined);
      this.showState();
    } catch (error) {
      this.end(error, "It could not be saved");
    }
  }

  private async share(): Promise<{ file: Blob; name: string }> {
    const [before, after] = this.viewer.pictures;
    const file = await beforeAndAfter(before, after, input("visible-mark").checked, this.version);
    return { file, name: `${this.item!.file.name.replace(/\.[^.]*$/, "")}-before-after.jpg` };
  }

  // --- controls ----------------------------------------------------------------------------------

  private setUpControls(): void {
    const afresh = () => {
      this.hints.mend([]); // they belong to colours that go
      return this.recolor();
    };
    element("again").addEventListener("click", () => {
      input("seed").value = String((this.read().seed + 1) % 2 ** 32);
      void afresh();
    });
    element("more-answers").addEventListener("click", async () => {
      select("samples").value = element<HTMLButtonElement>("more-answers").value;
      await afresh();
      if (this.hasSeveral) this.see("unsure");
      void this.repaint();
    });
    for (const id of ["samples", "seed", "steps", "sampler", "resolution"]) {
      element(id).addEventListener("change", afresh);
    }
    select("model").addEventListener("change", () => {
      void this.load(select("model").value).then(afresh, (error: unknown) => {
        this.end(error, "That model cannot be had");
      });
    });
    for (const id of ["saturation", "warmth"]) {
      input(id).addEventListener("input", () => {
        this.item!.tone = this.tone;
        this.showTone();
        void this.repaint();
      });
      input(id).addEventListener("change", () => {
        this.note();
        void this.repaint().then(() => this.keepTone());
      });
    }
    element("save").addEventListener("click", () => {
      void this.save(() => this.engine.save(this.look, select("format").value, (news) => this.hear(news)));
    });
    element("share").addEventListener("click", () => void this.save(() => this.share(), false));
    element("close").addEventListener("click", () => this.close());
  }

  /** What a model can do. */
  describe(facts: PageFacts): void {
    const samplers = facts.in_one_pass ? [] : facts.samplers;
    this.version = facts.version;
    fill("model", facts.models.map((one) => [one, one]), facts.model);
    fill("sampler", [["", "the model's own"], ...samplers.map((one): [string, string] => [one, one])]);
    fill("samples", [1, 2, 3, 4, 6, 8].filter((one) => one <= facts.samples).map((one) => [`${one}`, `${one}`]));
    if (!select("format").options.length) fill("format", facts.formats);
    element("of-model").hidden = facts.models.length < 2;
    element("of-sampler").hidden = !samplers.length;
    element("of-steps").hidden = facts.in_one_pass || facts.steps === undefined;
    element("of-resolution").hidden = facts.resolution === undefined;
    Object.assign(input("steps"), { max: String(facts.most_steps), placeholder: String(facts.steps ?? "") });
    const [min, max] = facts.resolutions.map(String);
    Object.assign(input("resolution"), { min, max, placeholder: String(facts.resolution ?? "") });
    element("hints").hidden = !facts.hints;
    this.examples.describe(facts);
    element("mending").hidden = facts.in_one_pass;
    element("see-unsure").parentElement!.hidden = facts.in_one_pass || facts.samples < 2;
    const value = String(Math.min(4, facts.samples));
    Object.assign(element("more-answers"), { value, textContent: `Make ${value} answers` });
    element("shape").hidden = !facts.hints && facts.in_one_pass;
  }

  private get tone(): Tone {
    return { saturation: Number(input("saturation").value) / 100, warmth: Number(input("warmth").value) / 100 };
  }

  /** The answers and what is kept follow the tone of what is shown. */
  private async keepTone(): Promise<void> {
    const mine = this.turn;
    await this.showAnswers().catch((error: unknown) => mine === this.turn && explain(error, "It cannot be shown"));
    if (mine === this.turn) await this.keep();
  }

  private showTone(): void {
    const { saturation, warmth } = this.tone;
    const word = warmth > 0 ? "warmer" : warmth < 0 ? "cooler" : "as it is";
    element("saturation-value").textContent = `${Math.round(100 * saturation)} %`;
    element("warmth-value").textContent = input("warmth").ariaValueText = word;
  }

  private read(): Recipe {
    const seed = Math.floor(Math.abs(Number(input("seed").value))) % 2 ** 32 || 0;
    input("seed").value = String(seed);
    const number = (id: string) => (input(id).value ? Number(input(id).value) : undefined);
    return {
      seed,
      samples: Number(select("samples").value) || 1,
      hints: this.hints.list,
      touches: this.hints.touches,
      examples: this.examples.list,
      model: select("model").value || undefined,
      steps: number("steps"),
      sampler: select("sampler").value || undefined,
      resolution: number("resolution"),
    };
  }

  /** Puts the controls where an item has them. */
  private write({ recipe, tone }: Item): void {
    input("seed").value = String(recipe.seed);
    input("steps").value = String(recipe.steps ?? "");
    input("resolution").value = String(recipe.resolution ?? "");
    select("samples").value = String(recipe.samples);
    select("sampler").value = recipe.sampler ?? "";
    if (recipe.model) select("model").value = recipe.model;
    input("saturation").value = String(100 * tone.saturation);
    input("warmth").value = String(100 * tone.warmth);
    this.examples.show(recipe.examples ?? []);
    this.showTone();
  }

  // --- undo --------------------------------------------------------------------------------------

  private setUpUndo(): void {
    element("undo").addEventListener("click", () => void this.go(this.step - 1));
    element("redo").addEventListener("click", () => void this.go(this.step + 1));
    document.addEventListener("keydown", (event) => {
      const isText = event.target instanceof HTMLInputElement && event.target.type === "number";
      if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || isText || !isShown("work")) return;
      event.preventDefault();
      element(event.shiftKey ? "redo" : "undo").click();
    });
  }

  /** Remembers how things are, unless they are as they were. */
  private note(): void {
    const { recipe, sample, tone } = this.item!;
    const now = { recipe, sample, tone };
    if (JSON.stringify(now) === JSON.stringify(this.steps[this.step])) return;
    this.steps = [...this.steps.slice(0, ++this.step), now];
    this.showState();
  }

  private async go(to: number): Promise<void> {
    const step = this.steps[to];
    if (!step || !this.item) return;
    this.step = to;
    const isSame = JSON.stringify(step.recipe) === JSON.stringify(this.item.recipe);
    this.item.tone = step.tone;
    this.write({ ...this.item, ...step });
    this.showState();
    if (isSame) void this.choose(step.sample).then(() => this.keepTone());
    else await this.attempt(step.recipe, step.sample, "It could not be undone");
  }
}

/** Puts options into a list. What was chosen stays so, where it is there still. */
function fill(id: string, options: [value: string, label: string][], chosen = select(id).value): void {
  const list = select(id);
  list.replaceChildren(...options.map(([value, label]) => make("option", { value }, label)));
  list.value = chosen;
  if (list.selectedIndex < 0) list.selectedIndex = 0;
}
