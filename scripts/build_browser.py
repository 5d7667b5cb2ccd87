"""Build the page that colorizes inside the browser: a folder that any web server can give out.

    python scripts/build_browser.py --output page
    python scripts/build_browser.py --output page --serve

The first build fetches onnxruntime-web and Vite from the npm registry (node and npm are needed);
later ones work offline. docs/browser.md describes the page.
"""

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

import click

from pipeline_colorize import __version__

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "space" / "browser"
MARK = ".page"  # the file that tells a folder of an earlier page
HEADERS = json.loads((SOURCE / "headers.json").read_text("utf-8"))


def export(model: str, precision: str, file: Path) -> None:
    """Write a model as the ONNX file `file`; one that is an ONNX file already is copied."""
    if Path(model).suffix == ".onnx":
        shutil.copyfile(model, file)
        return
    from pipeline_colorize.onnx.graph import write_model
    from pipeline_colorize.registry import model_folder

    write_model(model_folder(model), file, precision)


def add_model(folder: Path, model: str, precision: str) -> None:
    """Put the ONNX file into `folder`, and model.json with what the page needs to know about it.

    The file has its checksum in its name, so that no browser takes an old one for a new one.
    """
    import onnx

    file = folder / "model.onnx"
    export(model, precision, file)
    properties = {one.key: json.loads(one.value) for one in onnx.load(file).metadata_props}
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    file = file.rename(folder / f"{properties['model']}-{checksum}.onnx")
    properties |= {"version": __version__, "file": file.name, "bytes": file.stat().st_size}
    (folder / "model.json").write_text(json.dumps(properties), "utf-8")


def npm(*arguments: str, **variables: str) -> None:
    """Run npm in the page's folder; its output is shown only where it fails."""
    program = shutil.which("npm")
    if program is None:
        raise RuntimeError("npm is needed to build the page; it comes with Node.js (20 or newer).")
    command = [program, "--no-audit", "--no-fund", "--no-update-notifier", *arguments]
    environment = os.environ | variables
    done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`npm {arguments[0]}` failed:\n{done.stdout}{done.stderr}")


def install() -> None:
    """Put the packages of the lock file in place, unless they are there."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    stamp = SOURCE / "node_modules" / ".installed"
    if not stamp.is_file() or stamp.read_bytes() != lock:
        npm("ci", "--ignore-scripts")
        stamp.write_bytes(lock)


def check_output(output: Path) -> None:
    """Refuse to empty a folder that holds anything but an earlier page.

    Raises:
        ValueError: which names the folder.
    """
    if output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file():
        raise ValueError(
            f"{output} holds files that are no earlier page, and would be emptied; choose a new or "
            "empty folder."
        )


def build(output: Path, model: str, precision: str) -> None:
    """Build the page with `model` into the folder `output`, from which an earlier page is removed.

    Raises:
        ValueError: if the folder holds anything else.
    """
    check_output(output)
    install()
    with tempfile.TemporaryDirectory() as folder:
        add_model(Path(folder), model, precision)
        target = ["--outDir", str(output.resolve()), "--emptyOutDir"]
        npm("run", "build", "--", *target, COLORIZE_MODEL=folder)
    (output / MARK).write_text("Built by scripts/build_browser.py, which replaces all of it.\n")
    shutil.copyfile(SOURCE / "README.md", output / "README.md")


def build_for_server(output: Path) -> None:
    """Build the page that `space/app.py` gives out into the folder `output`."""
    install()
    npm("run", "server", "--", "--outDir", str(output.resolve()), "--emptyOutDir")


class Handler(SimpleHTTPRequestHandler):
    """Gives out files with the headers that threads and the content security policy need."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def end_headers(self) -> None:
        """Add the headers of the page."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *arguments) -> None:
        """Say nothing."""


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Make a server for `folder` on the loopback interface; port 0 stands for any free port."""
    handler = functools.partial(Handler, directory=str(folder))
    return ThreadingHTTPServer(("127.0.0.1", port), handler)


def sizes(folder: Path) -> dict[str, int]:
    """Count the bytes that a visitor loads: model, runtime (without a graphics card), and page."""
    properties = json.loads((folder / "model" / "model.json").read_text("utf-8"))
    runtime = [file for file in folder.glob("assets/*.wasm") if "threaded-" in file.name]
    page = [*folder.glob("assets/*s"), *folder.glob("*.*")]  # scripts and styles; the rest

    def weigh(files: list[Path]) -> int:
        return sum(file.stat().st_size for file in files)

    return {"model": properties["bytes"], "runtime": weigh(runtime), "page": weigh(page)}


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
@click.option(
    "--model",
    default="default",
    show_default=True,
    help="Name of a model that ships, a folder or an ONNX file.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp16",
    show_default=True,
    help="Precision of the weights.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the page: a new or empty one, or that of an earlier page, which is replaced.",
)
@click.option("--serve", is_flag=True, help="Then show the page on this computer.")
@click.option("--port", default=8000, show_default=True, help="Port to show it on.")
def main(model, precision, output, serve, port):
    try:
        build(output, model, precision)
    except (OSError, RuntimeError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes(output).items())
    click.echo(f"{output}: {parts}")
    if serve:
        with make_server(output, port) as server:
            click.echo(f"http://localhost:{server.server_port}/ (Ctrl-C ends it)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                sys.exit(130)


if __name__ == "__main__":
    main()
