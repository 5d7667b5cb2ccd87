import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { type Plugin, type ResolvedConfig, type UserConfig, build, defineConfig, mergeConfig } from "vite";
import headers from "./headers.json" with { type: "json" };

const EXAMPLES = "../examples";
const RUNTIME = "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded";
// Leave the runtime's WebAssembly out of its JavaScript: the page loads it itself and counts.
const conditions = ["onnxruntime-web-use-extern-wasm", "module", "browser", "import"];

/** Rows of the table of black-and-white photographs in the examples' SOURCES.md. */
function examples(): { file: string; title: string; author: string; date: string }[] {
  const [, table] = readFileSync(join(EXAMPLES, "SOURCES.md"), "utf8").split("## Black and white");
  return table!
    .split("\n## ")[0]!
    .split("\n")
    .map((line) => line.split("|").map((cell) => cell.trim()))
    .filter((cells) => cells[1]?.endsWith(".jpg"))
    .map((cells) => ({ file: cells[1]!, title: cells[2]!, author: cells[3]!, date: cells[4]! }));
}

/** The model (a folder with model.json and the file that it names) and the example photographs. */
function companions(): Plugin {
  let config: ResolvedConfig;
  return {
    name: "companions",
    apply: "build",
    configResolved: (resolved) => void (config = resolved),
    writeBundle() {
      const copy = (folder: string, files: string[], to: string) => {
        mkdirSync(join(config.build.outDir, to), { recursive: true });
        for (const file of files) copyFileSync(join(folder, file), join(config.build.outDir, to, file));
      };
      const list = examples();
      copy(EXAMPLES, ["SOURCES.md", ...list.map(({ file }) => file)], "examples");
      writeFileSync(join(config.build.outDir, "examples", "examples.json"), JSON.stringify(list));
      const model = process.env["COLORIZE_MODEL"];
      if (!model) return config.logger.warn("COLORIZE_MODEL names no folder: a page without a model");
      copy(model, ["model.json", JSON.parse(readFileSync(join(model, "model.json"), "utf8")).file], "model");
    },
  };
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();
}

/** Writes into sw.js what belongs to the page, and the name of its version. */
function serviceWorker(): Plugin {
  let config: ResolvedConfig;
  return {
    name: "service-worker",
    apply: "build",
    configResolved: (resolved) => void (config = resolved),
    closeBundle: {
      sequential: true,
      order: "post",
      async handler() {
        const { outDir } = config.build;
        const files = filesBelow(outDir).filter((file) => file !== "sw.js" && file !== "README.md");
        const hash = createHash("sha256");
        for (const file of files) hash.update(file).update(readFileSync(join(outDir, file)));
        const large = files.filter((file) => /\.(wasm|onnx|jpg)$/.test(file));
        const define = {
          __VERSION__: JSON.stringify(hash.digest("hex").slice(0, 12)),
          __SHELL__: JSON.stringify(files.filter((file) => !large.includes(file))),
          __LARGE__: JSON.stringify(large),
        };
        const input = "src/sw.ts";
        await build({
          configFile: false,
          logLevel: "warn",
          define,
          publicDir: false,
          build: {
            outDir,
            emptyOutDir: false,
            rollupOptions: { input, output: { entryFileNames: "sw.js", format: "iife" } },
          },
        });
        config.logger.info(`service worker for ${files.length} files, ${basename(outDir)}/sw.js`);
      },
    },
  };
}

/** The policy in the page itself as well, for hosts whose headers cannot be set. */
function policy(): Plugin {
  const content = headers["Content-Security-Policy"];
  const attrs = { "http-equiv": "Content-Security-Policy", content };
  return {
    name: "policy",
    apply: "build",
    transformIndexHtml: () => [{ tag: "meta", attrs, injectTo: "head-prepend" }],
  };
}

/** What is installed is the page that works alone; the icon of both is the same. */
function withoutManifest(): Plugin {
  let config: ResolvedConfig;
  return {
    name: "without-manifest",
    configResolved: (resolved) => void (config = resolved),
    transformIndexHtml: (html) => html.replace(/ *<link rel="(manifest|apple-touch-icon)".*\n/g, ""),
    writeBundle: () => copyFileSync("public/icon.svg", join(config.build.outDir, "icon.svg")),
  };
}

/** The page for a server, without what only works alone, under names that stay the same. */
const forServer: UserConfig = {
  base: "./",
  build: {
    outDir: "../page",
    emptyOutDir: true,
    assetsDir: "",
    rollupOptions: { output: { entryFileNames: "main.js", assetFileNames: "[name][extname]" } },
  },
  publicDir: false,
  plugins: [policy(), withoutManifest()],
};

const forDevice: UserConfig = {
  base: "./",
  worker: { format: "es" },
  plugins: [policy(), companions(), serviceWorker()],
};

export default defineConfig(({ mode }) => {
  const isServer = mode === "server";
  const common: UserConfig = {
  build: { target: "es2023", assetsInlineLimit: 0, modulePreload: { polyfill: false } },
  resolve: { conditions, alias: { "@engine": resolve(isServer ? "src/server.ts" : "src/local.ts") } },
  define: {
    __OFFLINE__: String(!isServer),
    __SIZES__: JSON.stringify({
      wasm: statSync(`${RUNTIME}.wasm`).size,
      webgpu: statSync(`${RUNTIME}.jspi.wasm`).size,
    }),
  },
  server: { headers },
  preview: { headers },
  };
  return mergeConfig(common, isServer ? forServer : forDevice);
});
