/** Colours that are invented on this device, by a worker. */

import { Client } from "./client";
import type { Download, Engine, Look, Made, PageFacts, Recipe, Report, Size } from "./engine";
import type { Answers, Backend, Format, Progress } from "./protocol";

declare const __SIZES__: { wasm: number; webgpu: number };

const MOST_SAMPLES = 8;
const MOST_PHOTOGRAPHS = 200;
const megabytes = (bytes: number) => Math.round(bytes / 1e6);

/** `?backend=wasm` or `webgpu`, for those who want to compare. */
function wantedBackend(): Backend | undefined {
  const wanted = new URLSearchParams(location.search).get("backend");
  return wanted === "wasm" || wanted === "webgpu" ? wanted : undefined;
}

function onProgress(report: Report): (progress: Progress) => void {
  return (progress) => {
    if (progress.phase === "read") report({ text: "Reading the photograph …", share: progress.share });
    if (progress.phase === "finish") {
      report({ text: "Colouring it at full size …", share: progress.share });
    }
    if (progress.phase !== "step") return;
    const { step, steps, picture } = progress;
    report({ text: `Imagining colours: step ${step} of ${steps}`, share: step / steps });
    report({ picture });
  };
}

class LocalEngine implements Engine {
  readonly promise = "Everything happens on your device: the photograph is sent nowhere.";
  private readonly client = new Client();
  private loaded?: Promise<Answers["load"]>;
  private size: Size = { width: 1, height: 1 };
  private file?: Blob;

  async load(report: Report): Promise<PageFacts> {
    this.loaded ??= this.fetchModel(report).catch((error: unknown) => {
      this.loaded = undefined; // the next photograph tries again
      throw error;
    });
    const { model, backend, threads } = await this.loaded;
    const where = backend === "webgpu" ? "the graphics card" : `the processor (threads: ${threads})`;
    document.body.dataset["backend"] = backend;
    return {
      about:
        `Model “${model.model}” ${model.version}: ${megabytes(model.bytes)} MB; runtime: ` +
        `${megabytes(__SIZES__[backend])} MB. Works on ${where}, and offline from now on.`,
      version: model.version,
      models: [model.model],
      model: model.model,
      in_one_pass: false,
      hints: model.hint_channels > 0,
      samplers: [],
      most_steps: 0,
      resolutions: [0, 0],
      samples: MOST_SAMPLES,
      photographs: MOST_PHOTOGRAPHS,
      formats: [
        ["jpeg", "JPEG"],
        ["png", "PNG, lossless"],
      ],
    };
  }

  private fetchModel(report: Report): Promise<Answers["load"]> {
    let bytes = 0;
    const ask = { page: document.baseURI, backend: wantedBackend() };
    return this.client.ask("load", ask, (state) => {
      if (state.phase !== "load") return;
      bytes += state.bytes;
      report({ text: `Loading what imagines the colours: ${megabytes(bytes)} MB`, share: null });
    });
  }

  async open(file: File, report: Report): Promise<void> {
    this.file = file;
    const loading = this.load(report);
    this.size = await this.client.ask("open", { file, name: file.name }, onProgress(report));
    await loading;
  }

  async colorize({ seed, samples, hints, touches = [] }: Recipe, report: Report): Promise<Made> {
    const ask = { seed, samples, hints, touches };
    const made = await this.client.ask("colorize", ask, onProgress(report));
    return { ...this.size, ...made, notes: [] };
  }

  picture(look: Look): Promise<ImageBitmap> {
    return this.client.ask("paint", look);
  }

  before(): Promise<Blob> {
    return Promise.resolve(this.file!);
  }

  unsure(longest: number): Promise<ImageBitmap> {
    return this.client.ask("unsure", { longest });
  }

  save(look: Look, format: string, report: Report): Promise<Download> {
    return this.client.ask("save", { ...look, format: format as Format }, onProgress(report));
  }

  stop(): void {
    void this.client.ask("stop", {});
  }
}

export const createEngine = (): Engine => new LocalEngine();
