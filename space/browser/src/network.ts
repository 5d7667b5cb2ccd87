/** The model's file in onnxruntime-web; docs/onnx.md says what goes in and comes out. */

import type { InferenceSession, Tensor, TypedTensor } from "onnxruntime-web/wasm";
import asyncifyGlue from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.mjs?url";
import asyncifyBinary from "onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm?url";
import jspiGlue from "onnxruntime-web/ort-wasm-simd-threaded.jspi.mjs?url";
import jspiBinary from "onnxruntime-web/ort-wasm-simd-threaded.jspi.wasm?url";
import plainGlue from "onnxruntime-web/ort-wasm-simd-threaded.mjs?url";
import plainBinary from "onnxruntime-web/ort-wasm-simd-threaded.wasm?url";
import { type OnBytes, fetchLarge } from "./fetch";
import type { Size } from "./engine";
import { type ModelFacts, gridOf } from "./layout";
import type { Plane } from "./resize";
import type { Backend } from "./protocol";

type Runtime = typeof import("onnxruntime-web/wasm");

interface Flavour {
  backend: Backend;
  load: () => Promise<Runtime>;
  glue: string;
  binary: string;
}

// A thread too many waits for the others; more than this is no quicker on so small a network.
const MOST_THREADS = 4;

const WASM: Flavour = {
  backend: "wasm",
  load: () => import("onnxruntime-web/wasm"),
  glue: plainGlue,
  binary: plainBinary,
};

/** The runtime for the graphics card, smaller where WebAssembly can wait for JavaScript. */
function forGraphicsCard(): Flavour {
  const waits = "Suspending" in WebAssembly;
  return {
    backend: "webgpu",
    load: () => (waits ? import("onnxruntime-web/jspi") : import("onnxruntime-web/webgpu")),
    glue: waits ? jspiGlue : asyncifyGlue,
    binary: waits ? jspiBinary : asyncifyBinary,
  };
}

/** Of WebGPU, what is asked here; TypeScript does not know it yet. */
interface WithGpu {
  gpu?: { requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean } } | null> };
}

/** Whether there is one that computes; one made of software is slower than WebAssembly. */
async function hasGraphicsCard(): Promise<boolean> {
  try {
    const adapter = await (navigator as WithGpu).gpu?.requestAdapter();
    return adapter != null && !adapter.info?.isFallbackAdapter;
  } catch {
    return false;
  }
}

/** A photograph as the network takes it; what it made of it serves all steps and samples. */
export interface Seen {
  luminance: Tensor;
  hints: Tensor;
  guide: Tensor;
  grid: Size;
  features: Tensor;
}

export class Network {
  private last: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly runtime: Runtime,
    private readonly session: InferenceSession,
    readonly model: ModelFacts,
    readonly backend: Backend,
  ) {}

  /** Loads runtime and model, on the graphics card where there is one that works. */
  static async load(page: URL, wanted: Backend | undefined, onBytes: OnBytes): Promise<Network> {
    const facts = new URL("model/model.json", page);
    const model: ModelFacts = await (await fetch(facts)).json();
    const bytes = fetchLarge(new URL(model.file, facts), onBytes);
    if (wanted !== "wasm" && (wanted === "webgpu" || (await hasGraphicsCard()))) {
      try {
        return await Network.create(forGraphicsCard(), model, await bytes, onBytes);
      } catch (error) {
        console.warn("The graphics card cannot be used; the processor is.", error);
      }
    }
    return Network.create(WASM, model, await bytes, onBytes);
  }

  private static async create(
    { backend, load, glue, binary }: Flavour,
    model: ModelFacts,
    bytes: ArrayBuffer,
    onBytes: OnBytes,
  ): Promise<Network> {
    const runtime = await load();
    const { wasm } = runtime.env;
    wasm.wasmPaths = { mjs: absolute(glue), wasm: absolute(binary) };
    wasm.wasmBinary = await fetchLarge(new URL(absolute(binary)), onBytes);
    wasm.numThreads = self.crossOriginIsolated
      ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS)
      : 1;
    const session = await runtime.InferenceSession.create(new Uint8Array(bytes), {
      executionProviders: [backend],
    });
    const network = new Network(runtime, session, model, backend);
    await network.warmUp();
    return network;
  }

  get threads(): number {
    return this.runtime.env.wasm.numThreads ?? 1;
  }

  /** A run on a small picture, which also shows whether the backend works at all. */
  private async warmUp(): Promise<void> {
    const side = this.model.stride;
    const size = { width: side, height: side };
    const times = this.model.guide_detail / this.model.chroma_stride;
    const light = (scale: number) => ({
      width: side * scale,
      height: side * scale,
      data: new Float32Array((side * scale) ** 2).fill(50),
    });
    const { width, height } = gridOf(size, this.model);
    const seen = this.look(light(1), light(times), new Float32Array(3 * width * height));
    const noise = new Float32Array(2 * width * height);
    const { estimate } = await this.step(seen, this.model.schedule[0]!, noise, noise);
    await this.finish(seen, estimate, 1, { top: 0, height: side, light: light(1) });
  }

  /** Takes up a photograph: L* at a working size, the guide, and hints on the grid. */
  look(luminance: Plane, guide: Plane, hints: Float32Array): Seen {
    const grid = gridOf(luminance, this.model);
    const chroma = 2 * grid.width * grid.height;
    // What comes out is multiplied by the default saturation; a hint's colour must not be.
    const given = hints.map((value, i) =>
      i < chroma ? value / this.model.default_saturation : value,
    );
    return {
      grid,
      luminance: this.picture(luminance),
      guide: this.picture(guide),
      hints: this.floats(given, [1, 3, grid.height, grid.width]),
      features: this.floats(new Float32Array(0), [0]),
    };
  }

  /**
   * One step, a row of a schedule, for several samples, one behind the other: the next ones, and the clean
   * chroma they are thought to become.
   */
  async step(
    seen: Seen,
    row: number[],
    sample: Float32Array,
    fresh: Float32Array,
  ): Promise<{ sample: Float32Array; estimate: Float32Array }> {
    const { width, height } = seen.grid;
    const count = sample.length / (2 * width * height);
    const results = await this.run(seen, ["next_sample", "estimates", "next_features"], {
      sample: this.floats(sample, [count, 2, height, width]),
      noise: this.floats(fresh, [1, count, 2, height, width]),
      schedule: this.floats(row, [1, 6]),
    });
    seen.features = results["next_features"]!;
    return {
      sample: results["next_sample"]!.data as Float32Array,
      estimate: results["estimates"]!.data as Float32Array,
    };
  }

  /**
   * Rows of the picture in sRGB, three bytes a pixel: its `light` from row `top` on, out of `height`
   * rows, with the chroma of `estimate`.
   */
  async finish(
    seen: Seen,
    estimate: Float32Array,
    saturation: number,
    { top, height, light }: { top: number; height: number; light: Plane },
  ): Promise<Uint8Array> {
    const { grid } = seen;
    const factor = saturation * this.model.default_saturation;
    const results = await this.run(seen, ["rgb"], {
      sample: this.floats(estimate, [1, 2, grid.height, grid.width]),
      noise: this.floats([], [0, 1, 2, grid.height, grid.width]),
      schedule: this.floats([], [0, 6]),
      rows: this.picture(light),
      place: new this.runtime.Tensor("int64", BigInt64Array.of(BigInt(top), BigInt(height)), [2]),
      saturation: this.floats([factor], [1]),
    });
    return results["rgb"]!.data as Uint8Array;
  }

  /** Runs the session, one call after the other. */
  private run(seen: Seen, wanted: string[], feeds: Record<string, Tensor>) {
    const { luminance, guide, hints, features } = seen;
    const all: Record<string, Tensor> = {
      luminance,
      guide,
      hints,
      features,
      rows: this.floats([], [1, 1, 0, 0]),
      place: new this.runtime.Tensor("int64", BigInt64Array.of(0n, 0n), [2]),
      saturation: this.floats([1], [1]),
      ...feeds,
    };
    const wantedInputs = this.session.inputNames.map((name) => [name, all[name]!] as const);
    const result = this.last.then(() => this.session.run(Object.fromEntries(wantedInputs), wanted));
    this.last = result.catch(() => undefined);
    return result;
  }

  private picture({ width, height, data }: Plane): Tensor {
    return this.floats(data, [1, 1, height, width]);
  }

  private floats(data: Float32Array | number[], shape: number[]): TypedTensor<"float32"> {
    const array = data instanceof Float32Array ? data : Float32Array.from(data);
    return new this.runtime.Tensor("float32", array, shape);
  }
}

function absolute(url: string): string {
  return new URL(url, import.meta.url).href;
}
