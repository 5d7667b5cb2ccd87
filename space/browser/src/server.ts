/** Colours that are invented on the server that gave out the page, by Gradio's queue. */

import {
  type Download,
  type Engine,
  type Facts,
  type Look,
  type Made,
  type News,
  type PageFacts,
  type Recipe,
  Refused,
  type Report,
  Stopped,
  type Touch,
} from "./engine";

const LIVE = 640; // pixels along the long side, while the colours come about
const PAUSE = 1500; // milliseconds until a lost connection is tried again
const API = "gradio_api/";
const FORMATS: PageFacts["formats"] = [
  ["", "same format"],
  [".jpg", "JPEG"],
  [".png", "PNG, lossless"],
];
const STAGES: Record<string, string> = {
  "looking through": "Looking through the film, frame",
  "comparing shots": "Comparing scenes",
  colorizing: "Colouring the film, frame",
};

/** The connection broke. */
class Lost extends Error {}

interface ServerFacts extends Facts {
  function: number;
  film_function: number;
  megabytes: number;
  minutes: number;
}

/** A file that an endpoint gives out. */
interface ServerFile {
  path: string;
  orig_name: string;
}

/** Of Gradio's messages about a job, what is read here. */
interface Message {
  msg: string;
  rank?: number;
  rank_eta?: number | null;
  progress_data?: { index: number | null; length: number | null; desc?: string | null }[];
  success?: boolean;
  message?: string;
  output?: { data?: unknown[]; error?: string | null };
}

const randomName = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");

/** Gradio's messages are HTML. */
const plain = (text: string) =>
  text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");

/** "One person before you, about half a minute." */
export function waiting(rank: number, seconds: number | null | undefined): string {
  const who = rank === 0 ? "You are next" : rank === 1 ? "One person before you" : `${rank} before you`;
  if (!seconds) return `${who} …`;
  const minutes = Math.round(seconds / 60);
  const long =
    seconds < 20
      ? "some seconds"
      : seconds < 45
        ? "about half a minute"
        : minutes <= 1
          ? "about a minute"
          : `about ${minutes} minutes`;
  return `${who}, ${long} …`;
}

class ServerEngine implements Engine {
  promise = "Your photograph is sent to this server.";
  private facts?: ServerFacts;
  private file?: File;
  private sent = new WeakMap<File, string>(); // where files are on the server
  private name?: string; // of the result, on the server
  private recipe?: Recipe;
  private work = new AbortController();
  private report: Report = () => undefined;

  async load(report: Report, model = ""): Promise<PageFacts> {
    const address = `facts?${new URLSearchParams({ model })}`;
    const facts = (this.facts = await (await this.reach(address, {}, report)).json() as ServerFacts);
    this.promise =
      `Your photograph is sent to this server, which deletes it after ${facts.minutes} ` +
      `minute${facts.minutes === 1 ? "" : "s"}.`;
    const about = `Up to ${facts.megabytes} MB for a photograph, and ${facts.photographs} of them at a time.`;
    return { ...facts, about, formats: FORMATS };
  }

  async open(file: File, report: Report): Promise<void> {
    this.stop();
    this.forget();
    this.recipe = undefined;
    this.file = file;
    this.sent.delete(file);
    await this.send(file, "photograph", report);
  }

  /** Brings a file to the server, unless it is there; returns it as Gradio takes it. */
  private async send(file: File, what: string, report: Report): Promise<object> {
    if (!this.sent.has(file)) {
      report({ text: `Sending the ${what} …`, share: null });
      const body = new FormData();
      body.append("files", file, file.name);
      const response = await this.reach(`${API}upload`, { method: "POST", body }, report);
      if (response.status === 413) {
        throw new Refused(`It has more than ${this.facts?.megabytes ?? ""} MB, the limit here.`);
      }
      if (!response.ok) throw new Refused("The server does not take this file.");
      const [path] = (await response.json()) as [string];
      this.sent.set(file, path);
    }
    return { path: this.sent.get(file), meta: { _type: "gradio.FileData" } };
  }

  /** Does something again where the connection was lost; `reach` waits until it is back. */
  private async persist<T>(work: () => Promise<T>): Promise<T> {
    const { signal } = this.work;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (signal.aborted) throw new Stopped();
        if (!(error instanceof Lost)) throw error;
      }
    }
  }

  async colorize(recipe: Recipe, report: Report): Promise<Made> {
    this.stop();
    this.report = report;
    const isOld = this.sent.has(this.file!);
    const work = () => this.persist(() => this.job(recipe, report));
    return work().catch((error: unknown) => {
      if (!isOld || error instanceof Stopped) throw error;
      this.sent = new WeakMap(); // the files may have expired
      return work();
    });
  }

  /** A turn in the queue. */
  private async job(recipe: Recipe, report: Report): Promise<Made> {
    const [name, { signal }] = [randomName(), this.work];
    const file = await this.send(this.file!, "photograph", report);
    const examples: object[] = [];
    for (const one of recipe.examples ?? []) examples.push(await this.send(one.file, "example", report));
    const hints = recipe.hints.map((one) => ({ ...one, what: one.color, answer: 0 }));
    const touches = [...hints, ...(recipe.touches ?? [])].map(lineOf).join("\n");
    const { samples, seed, steps = null, sampler = "", resolution = null, model = "" } = recipe;
    const data = [file, samples, seed, steps, sampler, 1, resolution, "", model, touches, name, examples];
    const session = await this.join(this.facts!.function, data, report);
    const drop = () => this.forget(name);
    signal.addEventListener("abort", drop);
    const made = await listen<Made>(session, signal, report, "Reading the photograph …", (step, steps) => {
      report({ text: `Imagining colours: step ${step} of ${steps}`, share: step / steps });
      void this.showLive(name, report).catch(() => undefined);
    });
    signal.removeEventListener("abort", drop);
    this.forget();
    [this.name, this.recipe] = [name, recipe];
    return made;
  }

  /** Takes a place in the queue; the session that is returned hears what becomes of it. */
  private async join(fn_index: number, data: unknown[], report: Report): Promise<string> {
    const session_hash = randomName();
    const body = JSON.stringify({ data, fn_index, session_hash });
    const headers = { "Content-Type": "application/json" };
    const joined = await this.reach(`${API}queue/join`, { method: "POST", headers, body }, report);
    if (joined.status === 503) throw new Refused("Many people are waiting here. Try again in a minute.");
    if (!joined.ok) throw new Refused(plain(((await joined.json()) as { detail: string }).detail));
    return session_hash;
  }

  async colorizeFilm(file: File, seed: number, report: Report): Promise<Download> {
    this.stop();
    return this.persist(() => this.filmJob(file, seed, report));
  }

  private async filmJob(file: File, seed: number, report: Report): Promise<Download> {
    this.sent.delete(file); // a server that comes back may have lost it
    const data = [await this.send(file, "film", report), seed, ""];
    const session = await this.join(this.facts!.film_function, data, report);
    const { signal } = this.work;
    const made = await listen<ServerFile>(session, signal, report, "Reading the film …", (done, all, stage) =>
      report({ text: `${STAGES[stage] ?? stage} ${done} of ${all}`, share: done / all }),
    );
    report({ text: "Fetching the film …", share: null });
    const response = await this.reach(`${API}file=${encodeURI(made.path)}`, {}, report);
    if (!response.ok) throw new Refused("The server has deleted it already.");
    return { file: await response.blob(), name: made.orig_name };
  }

  private async showLive(name: string, report: Report): Promise<void> {
    const { signal } = this.work;
    const response = await fetch(`results/${name}/picture?size=${LIVE}`, { signal });
    if (response.ok) report({ picture: await createImageBitmap(await response.blob()) });
  }

  /** Fetches, again and again while there is no connection. */
  private async reach(address: string, options: RequestInit, report: Report): Promise<Response> {
    const { signal } = this.work;
    for (;;) {
      const response = await fetch(address, { ...options, signal }).catch(() => undefined);
      if (signal.aborted) throw new Stopped();
      if (response && ![502, 504].includes(response.status)) return response;
      report({ text: "The connection is lost. Waiting until it is back …", share: null });
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }

  /** Something of the result, which is made again where the server has forgotten it. */
  private async ask(kind: string, wish: Record<string, string>, report = this.report): Promise<Response> {
    for (let tries = 0; ; tries++) {
      const response = await this.reach(`results/${this.name}/${kind}?${new URLSearchParams(wish)}`, {}, report);
      if (response.ok) return response;
      const { error } = (await response.json()) as { error: string };
      if (response.status !== 404 || tries || !this.recipe) throw new Refused(error);
      report({ text: "The server has forgotten it; it is made once more …", share: null });
      await this.colorize(this.recipe, ({ ...news }: News) => "text" in news && report(news));
    }
  }

  async picture(look: Look): Promise<ImageBitmap> {
    return createImageBitmap(await (await this.ask("picture", wishOf(look))).blob());
  }

  async before(): Promise<Blob> {
    return (await this.ask("before", {})).blob();
  }

  async unsure(): Promise<ImageBitmap> {
    return createImageBitmap(await (await this.ask("unsure", {})).blob());
  }

  save(look: Look, ending: string, report: Report): Promise<Download> {
    report({ text: "Colouring it at full size …", share: null });
    return this.download("file", { ...wishOf(look), ending }, report);
  }

  film(look: Look): Promise<Download> {
    return this.download("film", wishOf(look));
  }

  private async download(kind: string, wish: Record<string, string>, report?: Report): Promise<Download> {
    const response = await this.ask(kind, wish, report);
    const said = response.headers.get("Content-Disposition") ?? "";
    const [, coded, quoted] = /filename\*=utf-8''([^;]+)|filename="(.*)"/i.exec(said) ?? [];
    return { file: await response.blob(), name: coded ? decodeURIComponent(coded) : quoted ?? kind };
  }

  stop(): void {
    this.work.abort();
    this.work = new AbortController();
  }

  private forget(name = this.name): void {
    if (name) void fetch(`results/${name}`, { method: "DELETE", keepalive: true }).catch(() => undefined);
    if (name === this.name) this.name = undefined;
  }
}

/** A place that somebody touched, as the server reads it. */
function lineOf({ x, y, path = [], radius, thing, what, answer }: Omit<Touch, "what"> & { what: string | number }) {
  const places = [[x, y], ...path].flat().join(" ");
  return `${places}, ${radius}, ${thing ? "thing" : "brush"}, ${what}, ${answer + 1}`;
}

function wishOf({ sample, frame, tone, longest }: Look): Record<string, string> {
  const wish = { sample, size: longest, ...tone, ...(frame && { step: frame }) };
  return Object.fromEntries(Object.entries(wish).map(([key, value]) => [key, String(value)]));
}

/** What becomes of a job, until it is done. `onStep` hears which step of how many of which stage is done. */
function listen<Outcome>(
  session: string,
  signal: AbortSignal,
  report: Report,
  begun: string, // what is said when its turn comes
  onStep: (step: number, steps: number, stage: string) => void,
): Promise<Outcome> {
  const source = new EventSource(`${API}queue/data?session_hash=${session}`);
  const ended = new Promise<Outcome>((resolve, reject) => {
    signal.addEventListener("abort", () => reject(new Stopped()));
    source.onerror = () => reject(new Lost());
    source.onmessage = ({ data }) => {
      const message = JSON.parse(data as string) as Message;
      const [step] = message.progress_data ?? [];
      if (message.msg === "estimation") {
        report({ text: waiting(message.rank ?? 0, message.rank_eta), share: null });
      } else if (message.msg === "process_starts") {
        report({ text: begun, share: null });
      } else if (message.msg === "progress" && step?.index && step.length) {
        onStep(step.index, step.length, step.desc ?? "");
      } else if (message.msg === "process_completed") {
        const made = message.output?.data?.[0] as Outcome | undefined;
        if (message.success && made) resolve(made);
        else reject(new Refused(plain(message.output?.error || "The server could not do it.")));
      } else if (message.msg === "unexpected_error") {
        reject(new Lost());
      }
    };
  });
  return ended.finally(() => source.close());
}

export const createEngine = (): Engine => new ServerEngine();
