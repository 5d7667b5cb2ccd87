"""The Space: a photograph in, its colours out, in the browser.

    python space/app.py

limits.py lists the environment variables. COLORIZE_MODEL names the model: one that ships, a folder,
or "user/name@revision" of the Hub. COLORIZE_MCP=1 serves the endpoints to agents, too.
"""

import contextlib
import html
import importlib.util
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # it would call home
# Whom to believe about where a visitor is: the Hub's proxy, and nobody where there is none.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "*" if "SPACE_ID" in os.environ else "")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # likewise onnxruntime, which diffusers imports

import coloring  # ZeroGPU's package, in there, has to come before others
import gradio as gr
from coloring import Invented, Refused, Result, Source
from guards import FairQueue, Fence, GuardedBlocks, Presence
from housekeeping import Sweeper
from limits import RESOLUTIONS, Limits, switched_on
from PIL import Image
from starlette.middleware import Middleware

from pipeline_colorize import photo
from pipeline_colorize.command.settings import Settings
from pipeline_colorize.registry import SAMPLERS

HERE = Path(__file__).resolve().parent
TITLE = "Colour for an old photograph"
INTRODUCTION = f"""# {TITLE}

Its light and its grain stay as they are. The colours are invented: ask for several, and keep the
one that you believe.
"""
HOW = """<ol class="how"><li><b>Drop in a photograph</b>, or take one of those below.</li>
<li><b>Colorize</b> it. That takes some seconds.</li>
<li><b>Choose, compare</b> and <b>download</b> it in full size.</li></ol>"""
ABOUT = """The colours are believable ones, not known ones: what was red or blue in the world cannot
be read from a grey picture. Every file says in its metadata that its colours were generated.
Photographs and results are deleted after {minutes:g} minutes. The weights that come with this are
for non-commercial research."""
POINTS_HELP = """Choose a colour, and click on the photograph where it belongs, while this is open.
The next result meets your points, and the rest follows them."""
UNSURE_HELP = """It glows where two colourings or more differ: there the model guesses."""
BATCH_HELP = """One colouring of each, with the settings of the other tab. You get a ZIP file."""
SCROLL = """() => { if (window.innerWidth < 700)
    document.querySelector("#results").scrollIntoView({behavior: "smooth"}); }"""
IS_OPEN = """(source, points, color) =>
    [source, points, color, !!document.querySelector("#hints .label-wrap.open")]"""
DICE = "() => Math.floor(Math.random() * 2 ** 31)"
# Another seed, unless colours are being made; and what makes them.
OTHERS = f"""(seed) => document.querySelector("#colorize").disabled ? seed : ({DICE})()"""
COLORIZE = '() => document.querySelector("#colorize").click()'
FIRST_POINT = "#8a3b2f"
SWATCHES = {
    "skin": "#d9a684",
    "dark skin": "#7a4b32",
    "fair hair": "#b08a4e",
    "brown": "#6b4a2f",
    "dark red": "#8a2f3b",
    "rose": "#c98a92",
    "sky": "#7fa8cf",
    "navy": "#2f3f66",
    "green": "#5f7a45",
    "grey": "#808080",
}
HIDDEN = {"api_visibility": "private"}  # events of the page, which nobody calls by name
QUICK = {"queue": False, "show_progress": "hidden", **HIDDEN}
LIVE_SECONDS = 0.15  # between pictures while the colours come about
SESSIONS = 64  # whose photographs and results are remembered


@contextlib.contextmanager
def for_people() -> Iterator[None]:
    """Refusals become messages on the page."""
    try:
        yield
    except Refused as refusal:
        text = html.escape(str(refusal), quote=False)  # the page takes messages as HTML
        raise gr.Error(text, title="Sorry", print_exception=False) from None


def chosen_model() -> str | None:
    """The model that this Space was asked to show: by the environment, or by a file beside this."""
    file = HERE / "model.txt"
    beside = file.read_text("utf-8").strip() if file.is_file() else None
    return os.environ.get("COLORIZE_MODEL") or beside


def examples() -> list[tuple[str, str]]:
    """(file, caption) of the photographs that SOURCES.md lists as black and white."""
    folder = HERE / "examples"
    rows = re.findall(r"^\| (\S+\.jpg) \| (.+?) \| (.+?) \| (.+?) \|", sources(folder), re.M)
    return [
        (str(folder / file), f"{author}, {date}: {title}")
        for file, title, author, date in rows
        if (folder / file).is_file()
    ]


def sources(folder: Path) -> str:
    """What is said about the examples; nothing where there are none."""
    file = folder / "SOURCES.md"
    return file.read_text("utf-8") if file.is_file() else ""


def hex_color(color: str) -> str:
    """#rrggbb of what the colour picker says, which can also be rgba(181.3, 83, 60, 1)."""
    if color.startswith("#"):
        return color[:7]
    parts = [min(255, round(float(part))) for part in re.findall(r"[\d.]+", color)[:3]]
    if len(parts) < 3:
        raise Refused("Choose a colour first.")
    return "#{:02x}{:02x}{:02x}".format(*parts)


def says(text: str) -> str:
    """A line that screen readers read out when it changes."""
    return f'<p role="status" aria-live="polite">{html.escape(text)}</p>'


class GivenNumber(gr.Number):
    """A number as it came, whatever it is: our own limits know more, and what to say."""

    is_template = True

    def preprocess(self, payload):
        return payload


class GivenSlider(gr.Slider):
    """As `GivenNumber`."""

    is_template = True

    def preprocess(self, payload):
        return payload


class Photograph(gr.Image):
    """The file as it came, whatever it is: our own reader knows more kinds, and what to say."""

    is_template = True  # to the page, it is an Image

    def preprocess(self, payload):
        return payload.path if payload else None

    def postprocess(self, value):
        """By way of a file: Gradio writes equal pictures over each other, even as one is sent."""
        if not isinstance(value, Image.Image):
            return super().postprocess(value)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photograph.webp"
            value.save(path, quality=92)
            return super().postprocess(self.move_resource_to_block_cache(path))


class Page:
    """The components of the page, and what happens between them."""

    def __init__(self, limits: Limits, models: list[str]):
        self.limits, self.models = limits, models
        self.first = coloring.load(models[0])
        self.stops: dict[tuple, threading.Event] = {}  # of jobs asked for, by session and kind
        self.queued = {"concurrency_id": "work", "concurrency_limit": limits.concurrency}
        keep = limits.keep_minutes * 60
        with GuardedBlocks(title=TITLE, analytics_enabled=False) as self.blocks:
            self.source = gr.State(None, time_to_live=keep)
            self.result = gr.State(None, time_to_live=keep)
            gr.Markdown(INTRODUCTION, elem_id="introduction")
            with gr.Tab("One photograph"), gr.Row(equal_height=False):
                with gr.Column(scale=4, min_width=320):
                    self.add_photograph()
                    self.add_points()
                    self.add_more()
                with gr.Column(scale=6, min_width=320, elem_id="results"):
                    self.add_results()
            with gr.Tab("Several"):
                self.add_several()
            gr.Markdown(ABOUT.format(minutes=limits.keep_minutes), elem_id="about")
            self.connect_photograph()
            self.connect_points()
            self.connect_jobs()
            self.add_endpoints()
        # Without `api_open`, no request goes past the queue.
        self.blocks.queue(max_size=limits.queue, api_open=False)
        self.presence = Presence()
        self.queue = FairQueue(self.blocks, self.presence, limits.max_jobs)

    def own_files(self) -> set[str]:
        """Files in Gradio's folder that belong to the page itself: the examples."""
        blocks = list(self.blocks.blocks.values())
        return set().union(*(getattr(block, "keep_in_cache", ()) for block in blocks))

    # --- components -----------------------------------------------------------------------------

    def add_photograph(self) -> None:
        """The photograph, the button, and the two settings that everybody needs."""
        self.photograph = Photograph(
            label="Photograph",
            type="filepath",
            image_mode=None,
            format="jpeg",
            sources=["upload", "clipboard", "webcam"],
            height=340,
            buttons=[],
            placeholder="Drop a photograph here, or click to choose one",
            alt_text="The photograph as taken",
            elem_id="photograph",
        )
        self.samples = GivenSlider(
            1, self.limits.max_samples, value=min(4, self.limits.max_samples), step=1,
            label="Colourings", info="Several answers to choose from", buttons=[],
            elem_id="samples",
        )  # fmt: skip
        with gr.Row():
            self.seed = GivenNumber(
                7, label="Seed", info="Another seed, other colours", precision=0, minimum=0,
                maximum=2**31, scale=3, min_width=120, elem_id="seed",
            )  # fmt: skip
            self.dice = gr.Button("⚄ Roll", scale=1, min_width=90, elem_id="dice")
        with gr.Row():
            self.colorize = gr.Button(
                "Colorize", variant="primary", size="lg", interactive=False, elem_id="colorize"
            )
            self.cancel = gr.Button("Cancel", size="lg", visible=False, elem_id="cancel")

    def add_points(self) -> None:
        """Colours that are known."""
        hints = coloring.takes_hints(self.first)
        self.hints = gr.Accordion(
            "Colours that you know", open=False, visible=hints, elem_id="hints"
        )
        with self.hints:
            self.placing = gr.Checkbox(visible=False)  # whether this is open: clicks count then
            gr.Markdown(POINTS_HELP)
            with gr.Row(elem_id="swatches"):
                self.swatches = [
                    gr.Button(name, min_width=0, elem_id=f"swatch-{index}")
                    for index, name in enumerate(SWATCHES)
                ]
            self.color = gr.ColorPicker(FIRST_POINT, label="Another colour", elem_id="color")
            with gr.Row():
                self.undo = gr.Button("Undo", min_width=80)
                self.clear = gr.Button("Clear", min_width=80)
            self.points = gr.Textbox(
                label="Points",
                info="x, y, colour: one a line, in pixels of the photograph",
                placeholder="140, 95, #7a1f2b",
                lines=2,
                max_lines=6,
                elem_id="points",
            )

    def add_more(self) -> None:
        """Settings that few need."""
        config = self.first.config
        samplers = [("the model's own", "")]
        samplers += [(name.upper(), name) for name in SAMPLERS]
        with gr.Accordion("More", open=False, elem_id="more"):
            self.model = gr.Dropdown(self.models, value=self.models[0], label="Model")
            self.steps = GivenSlider(
                1,
                self.limits.max_steps,
                value=config.default_num_inference_steps,
                step=1,
                label="Steps",
                elem_id="steps",
                info="More take longer and change little.",
            )
            self.sampler = gr.Dropdown(samplers, value="", label="Sampler")
            self.saturation = GivenSlider(0, 2, value=1, step=0.05, label="Saturation")
            self.resolution = GivenSlider(
                *RESOLUTIONS,
                value=config.default_processing_resolution,
                step=32,
                label="Working resolution",
                elem_id="resolution",
                info="Short side at which colours are invented. The download is always full size.",
            )

    def add_results(self) -> None:
        """What comes out."""
        with gr.Column() as self.welcome:
            gr.HTML(HOW)
            self.tray = gr.Gallery(
                examples(), label="Examples", show_label=False, columns=3, height="auto",
                allow_preview=False, object_fit="cover", buttons=[], elem_id="examples",
                visible=bool(examples()), interactive=False,
            )  # fmt: skip
        self.status = gr.HTML(says(""), elem_id="status")
        with gr.Column(visible=False) as self.outcome:
            with gr.Tabs():
                with gr.Tab("Compare"):
                    self.slider = gr.ImageSlider(
                        label="Before and after", show_label=False, type="filepath",
                        format="jpeg", max_height=560, interactive=False,
                        buttons=["fullscreen"], elem_id="slider",
                    )  # fmt: skip
                with gr.Tab("Unsure"):
                    self.unsure = self.picture(
                        "Where the colourings differ",
                        "The photograph, with a glow where the colourings differ",
                    )
                    gr.Markdown(UNSURE_HELP)
                with gr.Tab("Film"):
                    self.film = self.picture("Film", "The colours coming about, as an animation")
                    self.strip = self.picture("Strip", "The colours coming about, side by side")
            self.gallery = gr.Gallery(
                label="Choose one", show_label=False, columns=4, height="auto", allow_preview=False,
                object_fit="cover", buttons=[], interactive=False, visible=False,
                elem_id="gallery",
            )  # fmt: skip
            with gr.Row():
                self.others = gr.Button("⚄ Other colours", scale=1, elem_id="others")
                self.download = gr.DownloadButton(
                    "Download", variant="primary", visible=False, scale=3, elem_id="download"
                )

    @staticmethod
    def picture(label: str, alt: str) -> gr.Image:
        """A picture that is only looked at, or downloaded."""
        return gr.Image(
            label=label, type="filepath", interactive=False, alt_text=alt,
            buttons=["download", "fullscreen"], elem_classes="picture",
        )  # fmt: skip

    def add_several(self) -> None:
        """Many photographs, one ZIP file."""
        gr.Markdown(BATCH_HELP)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=320):
                self.files = gr.File(
                    label=f"Photographs, {self.limits.max_photographs} at most",
                    file_count="multiple",
                    elem_id="files",
                )
                with gr.Row():
                    self.colorize_all = gr.Button("Colorize all", variant="primary")
                    self.cancel_all = gr.Button("Cancel", visible=False)
            with gr.Column(scale=1, min_width=320):
                self.archive = gr.File(label="Results", interactive=False, elem_id="archive")
                self.report = gr.HTML(says(""), elem_id="report")

    def add_endpoints(self) -> None:
        """What programs call; the page itself does not show this."""
        with gr.Column(visible=False):
            one = gr.File(label="photograph")
            many = gr.File(label="photographs", file_count="multiple")
            settings = [
                GivenNumber(1, precision=0, label="samples"),
                GivenNumber(0, precision=0, label="seed"),
                GivenNumber(None, precision=0, label="steps"),
                gr.Textbox("", label="sampler"),
                GivenNumber(1.0, label="saturation"),
                GivenNumber(None, precision=0, label="resolution"),
                gr.Textbox("", label="points"),
                gr.Textbox(self.models[0], label="model"),
            ]
            results = gr.File(label="colourings", file_count="multiple")
            archive = gr.File(label="archive")
            gr.Button().click(
                self.colorize_one, [one, *settings], results, api_name="colorize", **self.queued
            )
            gr.Button().click(
                self.colorize_many, [many, settings[1], settings[-1]], archive,
                api_name="colorize_many", concurrency_id="batch",
            )  # fmt: skip

    # --- a photograph and its points --------------------------------------------------------------

    def connect_photograph(self) -> None:
        """Photographs come in by the component itself, or from the tray of examples."""
        fresh = [self.source, self.photograph, self.points, self.status, self.colorize]
        options = {"concurrency_id": "look", "concurrency_limit": 2, **HIDDEN}
        options |= {"show_progress_on": self.photograph}
        self.photograph.upload(lambda: gr.update(interactive=False), None, self.colorize, **QUICK)
        self.photograph.upload(self.take, self.photograph, fresh, **options)
        self.tray.select(self.take_example, None, fresh, **options)
        self.photograph.clear(self.take, None, fresh, **HIDDEN)

    def take(self, path: str | None = None) -> tuple:
        """A new photograph, or none."""
        nothing = None, None, ""
        off, on = gr.update(interactive=False), gr.update(interactive=True)
        if path is None:
            return *nothing, says(""), off
        try:
            with for_people():
                source = coloring.look(path, self.limits)
        except gr.Error as error:  # said in the page as well, where it stays
            return *nothing, self.refusal(error), off
        for note in source.notes:
            gr.Info(html.escape(f"{Path(path).name} {note}"))
        return source, source.shown, "", says(f"{source.width} x {source.height} pixels"), on

    def take_example(self, event: gr.SelectData) -> tuple:
        """A photograph of the tray."""
        return self.take(examples()[event.index][0])

    @staticmethod
    def refusal(error: gr.Error) -> str:
        """Say what is wrong, in a message that goes away and in a line that stays."""
        gr.Warning(error.message, title=error.title)
        return says(html.unescape(error.message))

    def connect_points(self) -> None:
        """The text holds the points; clicks and buttons edit it, and the picture shows it."""
        given = [self.source, self.points, self.color, self.placing]
        self.photograph.select(self.add_point, given, self.points, js=IS_OPEN, **QUICK)
        self.undo.click(
            lambda text: "\n".join(text.splitlines()[:-1]), self.points, self.points, **QUICK
        )
        self.clear.click(lambda: "", None, self.points, **QUICK)
        for swatch, color in zip(self.swatches, SWATCHES.values(), strict=True):
            swatch.click(None, None, self.color, js=f"() => '{color}'")
        self.points.change(self.draw, [self.source, self.points], self.photograph, **QUICK)

    @staticmethod
    def add_point(
        source: Source | None, text: str, color: str, placing: bool, event: gr.SelectData
    ) -> str:
        """A line more, for a click on the photograph."""
        if source is None or not placing:
            return text
        scale = source.width / source.shown.width
        x, y = (
            min(int(place * scale), side - 1)
            for place, side in zip(event.index, (source.width, source.height), strict=True)
        )
        with for_people():
            return "\n".join([*text.splitlines(), f"{x}, {y}, {hex_color(color)}"])

    @staticmethod
    def draw(source: Source | None, text: str):
        """The photograph with its points."""
        if source is None:
            return gr.skip()
        with for_people():
            return coloring.with_points(source, coloring.read_points(text, strict=False))

    # --- jobs -------------------------------------------------------------------------------------

    def connect_jobs(self) -> None:
        """Colorize, choose, cancel."""
        settings = [
            self.seed, self.steps, self.sampler, self.saturation, self.resolution, self.points,
            self.model,
        ]  # fmt: skip
        pictures = [
            self.slider, self.film, self.strip, self.unsure, self.download, self.status,
        ]  # fmt: skip
        made = [*pictures, self.gallery, self.result]
        buttons = [self.colorize, self.cancel]
        begun = self.colorize.click(self.begin, None, [*buttons, self.welcome], js=SCROLL, **QUICK)
        job = begun.then(
            self.run, [self.source, self.samples, *settings], [*made, self.outcome],
            show_progress_on=self.status, **self.queued, **HIDDEN,
        )  # fmt: skip
        job.then(self.end_one, self.source, buttons, **QUICK)
        stopped = self.cancel.click(self.stop, None, [*buttons, self.status], cancels=job, **QUICK)
        stopped.then(self.restore, self.result, pictures, **self.queued, **HIDDEN)
        rooms = [self.cancel, self.welcome, self.outcome, self.result]
        for new in (self.photograph.upload, self.tray.select, self.photograph.clear):
            new(self.make_way, None, rooms, cancels=job, **QUICK)
        self.gallery.select(
            self.choose, self.result, pictures, show_progress_on=self.download,
            trigger_mode="always_last", **self.queued, **HIDDEN,
        )  # fmt: skip
        self.dice.click(None, None, self.seed, js=DICE)
        rolled = self.others.click(None, self.seed, self.seed, js=OTHERS)
        rolled.then(None, None, None, js=COLORIZE)
        about_model = [self.steps, self.resolution, self.hints]
        self.model.input(self.adopt, self.model, about_model, **HIDDEN)

        buttons = [self.colorize_all, self.cancel_all]
        begun = self.colorize_all.click(self.begin_all, None, buttons, **QUICK)
        job = begun.then(
            self.run_all, [self.files, *settings], [self.archive, self.report],
            show_progress_on=self.report, concurrency_id="batch", **HIDDEN,
        )  # fmt: skip
        job.then(self.end, None, buttons, **QUICK)
        self.cancel_all.click(self.stop_all, None, [*buttons, self.report], cancels=job, **QUICK)

    def begin(self, request: gr.Request):
        """At once, before the job's turn comes: it can be stopped from now on."""
        self.stops[request.session_hash, "one"] = threading.Event()
        return gr.update(interactive=False), gr.update(visible=True), gr.update(visible=False)

    def begin_all(self, request: gr.Request):
        """As `begin`, for many."""
        self.stops[request.session_hash, "several"] = threading.Event()
        return gr.update(interactive=False), gr.update(visible=True)

    @staticmethod
    def end():
        """However it went."""
        return gr.update(interactive=True), gr.update(visible=False)

    @staticmethod
    def end_one(source: Source | None):
        """As `end`; the photograph may have been taken away."""
        return gr.update(interactive=source is not None), gr.update(visible=False)

    def stop(self, request: gr.Request):
        """Let the model stop after its step."""
        self.end_job(request, "one")
        return *self.end(), says("Cancelled.")

    def stop_all(self, request: gr.Request):
        """As `stop`, for many."""
        self.end_job(request, "several")
        return *self.end(), says("Cancelled.")

    def make_way(self, request: gr.Request):
        """Another photograph, or none: what belongs to the one before goes."""
        self.end_job(request, "one")
        hidden = gr.update(visible=False)
        return hidden, gr.update(visible=True), hidden, None

    def end_job(self, request: gr.Request, kind: str) -> None:
        """A tab stops its own jobs alone."""
        if stop := self.stops.get((request.session_hash, kind)):
            stop.set()

    @contextlib.contextmanager
    def job(self, request: gr.Request, kind: str) -> Iterator[tuple[Path, threading.Event]]:
        """A folder for its files, which are copied when they are shown, and its stop."""
        key = request.session_hash, kind
        stop = self.stops.setdefault(key, threading.Event())
        try:
            with for_people(), tempfile.TemporaryDirectory() as folder:
                yield Path(folder), stop
        finally:
            if self.stops.get(key) is stop:
                del self.stops[key]

    def settings(
        self, samples, seed, steps, sampler, saturation, resolution, points, model, photographs=1
    ) -> Settings:
        """What the controls say, as the command line has it; Refused where it is too much."""
        given = {
            "samples": samples, "seed": seed, "steps": steps, "sampler": sampler,
            "saturation": saturation, "resolution": resolution, "points": points, "model": model,
        }  # fmt: skip
        return coloring.read_settings(given, self.models, self.limits, photographs)

    def run(
        self, source: Source | None, samples, seed, steps, sampler, saturation, resolution, points,
        model, request: gr.Request, progress=gr.Progress(),
    ):  # fmt: skip
        """Invent colours, and show them as they come about."""
        with self.job(request, "one") as (folder, stop):
            if stop.is_set():
                yield {self.outcome: gr.skip()}  # to yield nothing would empty all outputs
                return
            if source is None:
                raise Refused("Drop in a photograph first, or take one of the examples.")
            controls = (samples, seed, steps, sampler, saturation, resolution, points, model)
            settings, wanted = self.settings(*controls), self.queue.wanted()
            read = coloring.open_photograph(source.path, self.limits)
            yield {
                self.outcome: gr.update(visible=True),
                self.download: gr.update(interactive=False),
            }
            small, shown = coloring.shrunk(source.shown, coloring.LIVE), 0.0
            before, after = folder / "before.webp", folder / "after.webp"
            small.save(before)
            for step, invented in enumerate(coloring.invent(read.image_with_alpha, settings), 1):
                if stop.is_set() or not wanted():
                    return
                if isinstance(invented, Invented):
                    break
                chroma, steps = invented
                progress((step, max(step, steps)), desc="Inventing colours")
                if time.monotonic() - shown > LIVE_SECONDS:
                    coloring.colored(coloring.load(model), small, chroma[0]).save(after)
                    yield {self.slider: (str(before), str(after))}
                    shown = time.monotonic()
            result = Result(source, settings, invented)
            yield self.overview(result, folder)
            yield from self.details(result, 0, folder, read)

    def overview(self, result: Result, folder: Path) -> dict:
        """All colourings, to choose from."""
        count = result.settings.samples
        thumbs = []
        for sample in range(count):
            thumb = coloring.shrunk(result.shown(sample), coloring.THUMB)
            path = folder / result.name(f"choice-{sample + 1}", ".jpg")
            thumbs.append((str(coloring.save_shown(result, sample, thumb, path)), str(sample + 1)))
        return {
            self.result: result,
            self.gallery: gr.update(value=thumbs, visible=count > 1, selected_index=0),
        }

    def doubt(self, result: Result, folder: Path) -> dict:
        """Where the colourings differ, if there are two or more."""
        if result.settings.samples == 1:
            return {self.unsure: None}
        path = folder / result.name("unsure", ".jpg")
        return {self.unsure: str(coloring.save_shown(result, 0, coloring.unsure(result), path))}

    def details(self, result: Result, sample: int, folder: Path, read: photo.Photo | None = None):
        """One colouring: to be compared, downloaded, and how it came about; the quickest first."""
        result.chosen = sample
        settings, before = result.settings, folder / "as-taken.jpg"
        after = folder / result.name(f"colorized-{sample + 1}", ".jpg")
        result.source.shown.save(before, quality=92)
        coloring.save_shown(result, sample, result.shown(sample), after)
        number = f" {sample + 1} of {settings.samples}" if settings.samples > 1 else ""
        yield {
            self.slider: (str(before), str(after)),
            self.status: says(f"Colouring{number}, seed {settings.seed}."),
            self.download: gr.update(interactive=False),
        }
        read = read or coloring.open_photograph(result.source.path, self.limits)
        name = coloring.result_name(result.source.path, sample, settings.samples)
        chroma = result.invented.chroma[sample]
        full = coloring.save_full(read, settings, chroma, sample, folder / name)
        size = f"{result.source.width} x {result.source.height}"
        label = f"Download{number} in full size, {size}"
        yield {
            self.download: gr.update(value=str(full), interactive=True, visible=True, label=label)
        }
        film, strip = coloring.save_film(result, sample, folder)
        # In the last message alone: what is sent earlier to a tab that nobody has opened gets lost.
        yield {self.film: str(film), self.strip: str(strip), **self.doubt(result, folder)}

    def choose(self, result: Result | None, request: gr.Request, event: gr.SelectData):
        """Show another colouring."""
        with self.job(request, "choice") as (folder, _):
            if result is None:
                raise Refused("That result is no longer on the server: colorize again.")
            yield from self.details(result, event.index, folder)

    def restore(self, result: Result | None, request: gr.Request):
        """After Cancel: what was there before."""
        with self.job(request, "choice") as (folder, _):
            if result is None:
                yield {self.status: gr.skip()}  # to yield nothing would empty all outputs
            else:
                yield from self.details(result, result.chosen, folder)

    def adopt(self, model: str):
        """What another model wants of the controls."""
        with for_people():
            pipe = coloring.load(model)
        return (
            gr.update(value=pipe.config.default_num_inference_steps),
            gr.update(value=pipe.config.default_processing_resolution),
            gr.update(visible=coloring.takes_hints(pipe)),
        )

    def run_all(
        self, paths: list[str] | None, seed, steps, sampler, saturation, resolution, points, model,
        request: gr.Request, progress=gr.Progress(),
    ):  # fmt: skip
        """Colorize several photographs into a ZIP file."""
        with self.job(request, "several") as (folder, stop):
            count = len(paths or ())
            controls = (1, seed, steps, sampler, saturation, resolution, "", model)
            settings, left_out = self.settings(*controls, photographs=count), []
            for done, name, why in self.pack(paths, settings, folder):
                if stop.is_set():
                    yield gr.skip(), gr.skip()
                    return
                progress((done, len(paths)), desc=name)
                left_out += [f"Left out: {why}"] if why else []
            lines = [f"{len(paths) - len(left_out)} of {len(paths)} colorized.", *left_out]
            text = "<br>".join(map(html.escape, lines))
            yield str(folder / "colorized.zip"), f'<p role="status">{text}</p>'

    def pack(self, paths: list[str] | None, settings: Settings, folder: Path):
        """(how many, name, reason if it was left out) of each; colorized.zip in the end."""
        if not paths:
            raise Refused("Choose some photographs first.")
        if len(paths) > self.limits.max_photographs:
            most = self.limits.max_photographs
            raise Refused(f"{len(paths)} photographs are too many; {most} can be done at a time.")
        archive, left_out = folder / "colorized.zip", []
        wanted = self.queue.wanted()
        packing = coloring.color_all(paths, settings, self.limits, archive, wanted)
        for done, (name, why) in enumerate(packing, 1):
            left_out += [why] if why else []
            yield done, name, why
        if len(left_out) == len(paths):
            raise Refused(" ".join(left_out))

    # --- endpoints --------------------------------------------------------------------------------

    def colorize_one(
        self, photograph: str, samples: int = 1, seed: int = 0, steps: int | None = None,
        sampler: str = "", saturation: float = 1.0, resolution: int | None = None,
        points: str = "", model: str = "",
    ):  # fmt: skip
        """Give a black-and-white photograph believable colours.

        Args:
            photograph: The photograph: JPEG, PNG, TIFF, WebP and others.
            samples: How many colourings.
            seed: Another seed, other colours; the same one, the same again.
            steps: Denoising steps; none for the model's own number.
            sampler: Such as ddim, unipc or euler; empty for the model's own.
            saturation: Factor on the strength of the colours.
            resolution: Short side at which colours are invented; none for the model's own.
            points: Colours that are known, one a line: x, y, #rrggbb in pixels.
            model: One of those that the page offers; empty for the first.

        Returns:
            The coloured photographs in full size, marked as such in their metadata.
        """
        with for_people(), tempfile.TemporaryDirectory() as folder:
            if photograph is None:
                raise Refused("There is no photograph.")
            model = model or self.models[0]
            controls = (samples, seed, steps, sampler, saturation, resolution, points, model)
            settings = self.settings(*controls)
            wanted = self.queue.wanted()
            paths = coloring.color_one(photograph, settings, self.limits, Path(folder), wanted)
            yield list(map(str, paths))

    def colorize_many(self, photographs: list[str], seed: int = 0, model: str = ""):
        """Give several black-and-white photographs believable colours, one colouring each.

        Args:
            photographs: The photographs.
            seed: Another seed, other colours.
            model: One of those that the page offers; empty for the first.

        Returns:
            A ZIP file with the coloured photographs. Files that cannot be used are left out.
        """
        with for_people(), tempfile.TemporaryDirectory() as folder:
            controls = (1, seed, None, "", 1, None, "", model or self.models[0])
            settings = self.settings(*controls, photographs=len(photographs or ()))
            for _ in self.pack(photographs, settings, Path(folder)):
                pass
            yield str(Path(folder, "colorized.zip"))


# --- the server ----------------------------------------------------------------------------------


def theme() -> gr.themes.Base:
    """Calm greys, the brown of old prints, and the fonts that the visitor has."""
    return gr.themes.Base(
        primary_hue="amber",
        secondary_hue="stone",
        neutral_hue="stone",
        radius_size="lg",
        font=["system-ui", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_800",
        button_primary_background_fill_hover="*primary_900",
        button_primary_text_color="white",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        body_text_color_subdued="*neutral_600",
        color_accent="*primary_700",
        slider_color="*primary_800",
        slider_color_dark="*primary_600",
    )


def serve(page: Page, limits: Limits) -> None:
    """Until it is stopped."""
    swatches = (
        f"#swatch-{index} {{ background: {color}; }}"
        for index, color in enumerate(SWATCHES.values())
    )
    page.blocks.launch(
        allowed_paths=[],
        app_kwargs={"middleware": [Middleware(Fence, presence=page.presence)]},
        css="\n".join(swatches),
        css_paths=HERE / "page.css",
        footer_links=["api", "settings"],
        head_paths=HERE / "page.html",
        max_file_size=limits.max_mb * 1_000_000,
        mcp_server=switched_on("COLORIZE_MCP"),
        run_history=False,
        share=False,
        ssr_mode=False,
        state_session_capacity=SESSIONS,
        theme=theme(),
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
            with photo.pixel_limit(limits.max_pixels):
                page = Page(limits, models)
                with Sweeper(Path(folder), limits.keep_minutes * 60, page.own_files):
                    serve(page, limits)
    except (Refused, ValueError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


if __name__ == "__main__":
    main()
