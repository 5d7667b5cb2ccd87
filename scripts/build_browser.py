"""Build the page that colorizes inside the browser: a folder that any web server can give out.

    python scripts/build_browser.py --output page
    python scripts/build_browser.py --output page --serve

The first build fetches onnxruntime-web and Vite from the npm registry (node and npm are needed);
later ones work offline. docs/browser.md tells about the page.
"""

import argparse
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline_colorize import __version__

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "space" / "browser"
HEADERS = json.loads((SOURCE / "headers.json").read_text("utf-8"))


def export(model: str, precision: str, file: Path) -> None:
    """Write a model as the ONNX file `file`; one that is an ONNX file already is copied."""
    if Path(model).suffix == ".onnx":
        shutil.copyfile(model, file)
        return
    script = ROOT / "scripts" / "export_onnx.py"
    options = ["--model", model, "--precision", precision, "--output", str(file)]
    done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr.strip())


def write_model(folder: Path, model: str, precision: str) -> None:
    """Put the ONNX file into `folder`, and model.json with what the page must know of it.

    The file has its checksum in its name, so that no browser takes an old one for a new one.
    """
    import onnx

    file = folder / "model.onnx"
    export(model, precision, file)
    told = {one.key: json.loads(one.value) for one in onnx.load(file).metadata_props}
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    file = file.rename(folder / f"{told['model']}-{checksum}.onnx")
    told |= {"version": __version__, "file": file.name, "bytes": file.stat().st_size}
    (folder / "model.json").write_text(json.dumps(told), "utf-8")


def npm(*arguments: str, **variables: str) -> None:
    """Run npm in the page's folder; its output is shown only where it fails."""
    program = shutil.which("npm")
    if program is None:
        raise SystemExit("npm is needed to build the page; it comes with Node.js (20 or newer).")
    command = [program, "--no-audit", "--no-fund", "--no-update-notifier", *arguments]
    environment = os.environ | variables
    done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"`npm {arguments[0]}` failed:\n{done.stdout}{done.stderr}")


def install() -> None:
    """Put the packages of the lock file in place, unless they are there."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    stamp = SOURCE / "node_modules" / ".installed"
    if not stamp.is_file() or stamp.read_bytes() != lock:
        npm("ci", "--ignore-scripts")
        stamp.write_bytes(lock)


def build(output: Path, model: str, precision: str) -> None:
    """Build the page with `model` into the folder `output`, which is emptied first."""
    install()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), model, precision)
        target = ["--outDir", str(output.resolve()), "--emptyOutDir"]
        npm("run", "build", "--", *target, COLORIZE_MODEL=folder)
    shutil.copyfile(SOURCE / "README.md", output / "README.md")


class Handler(SimpleHTTPRequestHandler):
    """Gives out files with the headers that threads and the content security policy need."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def end_headers(self) -> None:
        """Add the page's own headers."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *arguments) -> None:
        """Say nothing."""


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server for `folder` on the loopback interface; port 0: any that is free."""
    handler = functools.partial(Handler, directory=str(folder))
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of what a visitor loads: model, runtime (without a graphics card), and the page."""
    told = json.loads((folder / "model" / "model.json").read_text("utf-8"))
    runtime = [file for file in folder.glob("assets/*.wasm") if "threaded-" in file.name]
    page = [*folder.glob("assets/*s"), *folder.glob("*.*")]  # scripts and styles; the rest
    weigh = lambda files: sum(file.stat().st_size for file in files)  # noqa: E731
    return {"model": told["bytes"], "runtime": weigh(runtime), "page": weigh(page)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default", help="name, folder or ONNX file")
    parser.add_argument("--precision", default="fp16", help="fp32, fp16 or int8 weights")
    parser.add_argument("--output", type=Path, required=True, help="a folder; it is emptied first")
    parser.add_argument("--serve", action="store_true", help="then show it on this computer")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    build(options.output, options.model, options.precision)
    told = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes(options.output).items())
    print(f"{options.output}: {told}")
    if options.serve:
        with make_server(options.output, options.port) as server:
            print(f"http://localhost:{server.server_port}/ (Ctrl-C ends it)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                sys.exit(130)


if __name__ == "__main__":
    main()
