"""The Space: a photograph in, its colours out, on a page that Gradio's server gives out.

    python space/app.py

The page itself is TypeScript (`browser/`); built for this server, it lies in `page/`. It talks to
the endpoints below, as programs do. limits.py lists the environment variables. COLORIZE_MODEL names
the model: one that ships, a folder, or "user/name@revision" of the Hub. COLORIZE_MCP=1 serves the
endpoints to agents, too.
"""

import asyncio
import contextlib
import dataclasses
import html
import importlib.util
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it would call home
# Whom to believe about where a visitor is: the Hub's proxy, and nobody where there is none.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "*" if "SPACE_ID" in os.environ else "")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # likewise onnxruntime, which diffusers imports

import coloring  # ZeroGPU's package, in there, has to come before others
import film
import gradio as gr
from coloring import Refused
from controls import Controls, control_inputs, with_controls
from guards import FairQueue, Fence, GuardedBlocks, Presence
from housekeeping import Sweeper
from limits import RESOLUTIONS, Limits, switched_on
from results import Gone, Results
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import pipeline_colorize
from pipeline_colorize import photo
from pipeline_colorize.command.settings import Settings
from pipeline_colorize.registry import SAMPLERS

HERE = Path(__file__).resolve().parent
TITLE = "Colours for old photographs"


@contextlib.contextmanager
def for_people() -> Iterator[None]:
    """Refusals become messages on the page."""
    try:
        yield
    except Refused as refusal:
        text = html.escape(str(refusal), quote=False)  # Gradio's pages take messages as HTML
        raise gr.Error(text, title="Sorry", print_exception=False) from None


def chosen_model() -> str | None:
    """Find the model that this Space is to show: by the environment, or by a file beside this."""
    file = HERE / "model.txt"
    beside = file.read_text("utf-8").strip() if file.is_file() else None
    return os.environ.get("COLORIZE_MODEL") or beside


def examples() -> list[dict[str, str]]:
    """Return the photographs that SOURCES.md lists as black and white."""
    folder = HERE / "examples"
    file = folder / "SOURCES.md"
    text = file.read_text("utf-8") if file.is_file() else ""
    rows = re.findall(r"^\| (\S+\.jpg) \| (.+?) \| (.+?) \| (.+?) \|", text, re.M)
    names = ("file", "title", "author", "date")
    return [dict(zip(names, row, strict=True)) for row in rows if (folder / row[0]).is_file()]


def answered(make: Callable[[], Response]) -> Response:
    """Return what is made, or why it cannot be."""
    try:
        return make()
    except Refused as refusal:
        status = 404 if isinstance(refusal, Gone) else 400
        return JSONResponse({"error": str(refusal)}, status)


def file_endpoint(file: Path) -> Callable[[Request], Response]:
    """Gives out a file of the page; browsers ask each time whether it has changed."""
    return lambda _: FileResponse(file, headers={"Cache-Control": "no-cache"})


class Space:
    """The endpoints, and what the page asks of them besides."""

    def __init__(self, limits: Limits, models: list[str]):
        self.limits, self.models = limits, models
        coloring.load(models[0])
        self.results = Results(limits.keep_minutes * 60)
        with GuardedBlocks(title=TITLE, analytics_enabled=False) as self.blocks:
            self.add_endpoints()
        # Without `api_open`, no request goes past the queue.
        self.blocks.queue(max_size=limits.queue, api_open=False)
        self.presence = Presence()
        self.queue = FairQueue(self.blocks, self.presence, limits.max_jobs)
        # Pictures that are made at the same time: of the size of a screen, and of the full size.
        self.shown, self.full = asyncio.Semaphore(2), asyncio.Semaphore(1)

    # --- endpoints --------------------------------------------------------------------------------

    def add_endpoints(self) -> None:
        """Return what programs and agents call, and the one that the page calls."""
        one = gr.File(label="photograph")
        many = gr.File(label="photographs", file_count="multiple")
        inputs = control_inputs(self.models[0])
        references = gr.File(label="references", file_count="multiple")
        results = gr.File(label="colourings", file_count="multiple")
        archive = gr.File(label="archive")
        queued: dict[str, Any] = {
            "concurrency_id": "work",
            "concurrency_limit": self.limits.concurrency,
        }
        gr.Button().click(
            self.colorize_one,
            [one, *inputs.values(), references],
            results,
            api_name="colorize",
            **queued,
        )
        gr.Button().click(
            self.colorize_many,
            [many, inputs["seed"], inputs["model"]],
            archive,
            api_name="colorize_many",
            concurrency_id="batch",
        )
        gr.Button().click(
            self.film,
            [gr.File(label="clip"), inputs["seed"], inputs["model"]],
            gr.File(label="film"),
            api_name="film",
            concurrency_id="film",
        )
        touches, name = gr.Textbox("", label="touches"), gr.Textbox("", label="name")
        made = gr.JSON(label="result")
        for_the_page = [one, *inputs.values(), touches, name, references]
        gr.Button().click(self.invent, for_the_page, made, api_visibility="private", **queued)
        functions = {one.fn: key for key, one in self.blocks.fns.items()}
        self.function, self.film_function = functions[self.invent], functions[self.film]

    def settings(self, controls: Controls, photographs: int = 1) -> Settings:
        """Return what was asked for, as the command line has it; Refused where it is too much."""
        given = dataclasses.asdict(controls)
        return coloring.read_settings(given, self.models, self.limits, photographs)

    @with_controls
    def colorize_one(
        self, photograph: str, controls: Controls, references: list[str] | None = None
    ) -> Iterator[list[str]]:
        """Give a black-and-white photograph believable colours.

        Args:
            photograph: The photograph: JPEG, PNG, TIFF, WebP and others.
            samples: How many colourings.
            seed: Another seed, other colours; the same one, the same again.
            steps: Denoising steps; none for the model's own number.
            sampler: Such as ddim, unipc or euler; empty for the model's own.
            saturation: Factor on the strength of the colours.
            resolution: Short side at which colours are invented; none for the model's own.
            points: Colours that are given, one a line: x, y, #rrggbb in pixels, and where a colour
                is not certain the probability that it is right, as in 140, 95, #7a1f2b, 0.8.
            model: One of those that the page offers; empty for the first.
            references: Pictures in colour that show the same, such as another print or another
                photograph from the same place; their colours are taken where the light matches.

        Returns:
            The coloured photographs in full size, marked as such in their metadata.
        """
        with for_people(), tempfile.TemporaryDirectory() as folder:
            if photograph is None:
                raise Refused("There is no photograph.")
            settings, wanted = self.settings(controls), self.queue.wanted()
            paths = coloring.color_one(
                photograph, settings, self.limits, Path(folder), wanted, references
            )
            yield list(map(str, paths))

    def colorize_many(
        self, photographs: list[str], seed: int = 0, model: str = ""
    ) -> Iterator[str]:
        """Give several black-and-white photographs believable colours, one colouring each.

        Args:
            photographs: The photographs.
            seed: Another seed, other colours.
            model: One of those that the page offers; empty for the first.

        Returns:
            A ZIP file with the coloured photographs. Files that cannot be used are left out.
        """
        with for_people(), tempfile.TemporaryDirectory() as folder:
            count, most = len(photographs or ()), self.limits.max_photographs
            settings = self.settings(Controls(seed=seed, model=model), photographs=count)
            if not photographs:
                raise Refused("Choose some photographs first.")
            if count > most:
                raise Refused(f"{count} photographs are too many; {most} can be done at a time.")
            archive, wanted = Path(folder, "colorized.zip"), self.queue.wanted()
            done = coloring.color_all(photographs, settings, self.limits, archive, wanted)
            left_out = [why for _, why in done if why]
            if len(left_out) == count:
                raise Refused(" ".join(left_out))
            yield str(archive)

    def film(
        self, clip: str, seed: int = 0, model: str = "", progress: gr.Progress = gr.Progress()
    ) -> Iterator[str]:
        """Give a short black-and-white film believable, steady colours.

        Args:
            clip: The film: MP4, MKV, MOV, AVI, WebM and others.
            seed: Another seed, other colours; the same one, the same again.
            model: One of those that the page offers; empty for the first.

        Returns:
            An MP4 file with the film in colour, and with its own sound and timing.
        """

        def tell(stage: str, done: int, total: int) -> None:
            progress((done, total or None), desc=stage)

        with for_people(), tempfile.TemporaryDirectory() as folder:
            if clip is None:
                raise Refused("There is no film.")
            settings, wanted = self.settings(Controls(seed=seed, model=model)), self.queue.wanted()
            yield str(film.color_clip(clip, settings, self.limits, Path(folder), wanted, tell))

    @with_controls
    def invent(
        self,
        photograph: str,
        controls: Controls,
        touches: str = "",
        name: str = "",
        references: list[str] | None = None,
        progress: gr.Progress = gr.Progress(),
    ) -> dict:
        """Invent the colours of a result that the page then asks pictures of, by its `name`."""
        result: dict = {}
        with for_people():
            settings, wanted = self.settings(controls), self.queue.wanted()
            if photograph is None:
                raise Refused("There is no photograph.")
            places = coloring.read_touches(touches, settings, self.limits)
            with self.results.making(name) as made:
                given = settings, self.limits, wanted, made, places, references
                for news in coloring.run(photograph, *given):
                    if isinstance(news, dict):
                        result = news
                    else:
                        step, steps = news
                        progress((step, max(step, steps)))
        return result

    # --- what the page asks for besides -----------------------------------------------------------

    def routes(self) -> list:
        """List the routes of the page, examples and results, which come before Gradio's own."""
        files = sorted((HERE / "page").iterdir())
        own = [
            Route("/", file_endpoint(HERE / "page" / "index.html")),
            *(Route(f"/{file.name}", file_endpoint(file)) for file in files),
            Route("/examples/examples.json", lambda _: JSONResponse(examples())),
            Route("/facts", self.show_facts),
            Route("/results/{name}", self.forget, methods=["DELETE"]),
            Route("/results/{name}/{kind}", self.show),
        ]
        folder = HERE / "examples"
        return own + (
            [Mount("/examples", StaticFiles(directory=folder))] if folder.is_dir() else []
        )

    async def show_facts(self, request: Request) -> Response:
        """What the page must know of the Space, and of one of its models."""
        return await run_in_threadpool(answered, lambda: JSONResponse(self.facts(request)))

    def facts(self, request: Request) -> dict:
        """Return what `show_facts` shows; Refused where there is no such model."""
        limits, named = self.limits, request.query_params.get("model") or self.models[0]
        if named not in self.models:
            raise Refused("There is no such model here.")
        return coloring.model_facts(named) | {
            "version": pipeline_colorize.__version__,
            "function": self.function,
            "film_function": self.film_function,
            "film_seconds": limits.max_film_seconds,
            "film_frames": limits.max_film_frames,
            "models": self.models,
            "samplers": list(SAMPLERS),
            "samples": limits.max_samples,
            "most_steps": limits.max_steps,
            "resolutions": RESOLUTIONS,
            "photographs": limits.max_photographs,
            "references": limits.max_references,
            "megabytes": limits.max_mb,
            "minutes": limits.keep_minutes,
        }

    async def show(self, request: Request) -> Response:
        """A picture or file of a result, as its visitor asks for it."""
        kind = request.path_params["kind"]
        async with self.full if kind == "file" else self.shown:
            return await run_in_threadpool(answered, lambda: self.picture(request, kind))

    def picture(self, request: Request, kind: str) -> Response:
        """Make what `show` gives out; Refused where there is nothing of that kind."""
        result = self.results.get(request.path_params["name"])
        wish = coloring.read_wish(request.query_params, result)
        folder = tempfile.TemporaryDirectory(
            dir=os.environ.get("GRADIO_TEMP_DIR"), ignore_cleanup_errors=True
        )
        path = coloring.write(result, kind, wish, Path(folder.name), self.limits)
        name = path.name if kind in ("file", "film") else None
        return FileResponse(path, filename=name, background=BackgroundTask(folder.cleanup))

    async def forget(self, request: Request) -> Response:
        """Stop a job, or forget its result."""
        self.results.forget(request.path_params["name"])
        return Response(status_code=204)


# --- the server ----------------------------------------------------------------------------------


def serve(space: Space, limits: Limits) -> None:
    """Until it is stopped."""
    middleware = [Middleware(Fence, presence=space.presence)]
    space.blocks.launch(
        allowed_paths=[],
        app_kwargs={"middleware": middleware, "routes": space.routes()},
        max_file_size=limits.max_mb * 1_000_000,
        mcp_server=switched_on("COLORIZE_MCP"),
        run_history=False,
        share=False,
        ssr_mode=False,
    )


def main() -> None:
    """Start, or say why not."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that its folder goes, too
    try:
        limits = Limits.from_environment()
        if switched_on("COLORIZE_MCP") and not importlib.util.find_spec("mcp"):
            raise ValueError("COLORIZE_MCP needs an extra: pip install 'gradio[mcp]'.")
        models = coloring.installed_models(chosen_model())
        if not models:
            raise ValueError("There is no model: set COLORIZE_MODEL.")
        above = os.environ.get("GRADIO_TEMP_DIR")  # others may have files there
        if above:
            os.makedirs(above, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="colorize-", dir=above) as folder:
            os.environ["GRADIO_TEMP_DIR"] = folder
            with (
                photo.pixel_limit(limits.max_pixels),
                Sweeper(Path(folder), limits.keep_minutes * 60),
            ):
                serve(Space(limits, models), limits)
    except (Refused, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


if __name__ == "__main__":
    main()
