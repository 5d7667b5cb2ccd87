"""What the Space does, without its page: photographs in; colours, pictures and files out.

Colours are small (a*, b* on the network's grid), so all samples of a result are kept, and the
full-size picture is made for one of them at a time: memory does not grow with the samples.
"""

try:
    import spaces  # ZeroGPU, where it has to come before torch

    on_gpu = spaces.GPU
except ImportError:

    def on_gpu(function):
        """Elsewhere, functions run as they are."""
        return function


import contextlib
import copy
import functools
import queue
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from limits import LONGEST_POINTS, MOST_POINTS, RESOLUTIONS, Limits, Range, short, work
from PIL import Image
from places import Touch, on_grid

import pipeline_colorize
from pipeline_colorize import ColorizationPipeline, photo
from pipeline_colorize.command.provenance import given_colors, provenance
from pipeline_colorize.command.report import one_line
from pipeline_colorize.command.settings import Settings, parse_hint
from pipeline_colorize.core.options import LEAST_CANDIDATES, share_candidates
from pipeline_colorize.photo.display import as_picture
from pipeline_colorize.registry import SAMPLERS, sampler_class, shipped_models
from pipeline_colorize.telling.references import reference_album

SHOWN = 1600  # pixels of the long side of what the page shows
FILM = 400
LEAST_SIDE = 16  # pixels; smaller pictures show nothing that could have a colour
_FRAMES = 24  # of a film
_MILLISECONDS = 150  # for one of them
# A place glows if its spread of a*b* is above this, and above that of so many per cent of all; in
# full from another percentile on, that much above at least. As in browser/src/glow.ts.
_SURE, _SURE_SHARE, _UNSURE_SHARE, _GLOW_RANGE = 6.0, 70, 98, 3.0
_GLOW, _GLOW_COVER = (255, 150, 30), 190
WARMTH = (3.0, 12.0)  # a*, b* that are added at most; as in browser/src/engine.ts


class Refused(Exception):
    """Something cannot be done; the message is for people."""


# --- models --------------------------------------------------------------------------------------


def installed_models(named: str | None) -> list[str]:
    """Return the model that was asked for, if any, and those that came with the package."""
    found = shipped_models()
    first = [named] if named else ["default"] if "default" in found else []
    return list(dict.fromkeys([*first, *found]))


@functools.cache
def load(model: str) -> ColorizationPipeline:
    """Load a model by name, folder, or "user/name@revision"; Refused says what is wrong."""
    name, _, revision = (model, "", "") if Path(model).is_dir() else model.partition("@")
    try:
        pipe = ColorizationPipeline.from_pretrained(name, revision=revision or None)
    except (OSError, ValueError) as error:  # the Hub's, diffusers' and safetensors' are among them
        raise Refused(f"cannot load the model {model!r}: {one_line(error)}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")


def model_facts(model: str) -> dict[str, object]:
    """Return what the page must know of a model."""
    pipe = load(model)
    return {
        "model": model,
        "steps": pipe.config.default_num_inference_steps,
        "resolution": pipe.config.default_processing_resolution,
        "hints": takes_hints(pipe),
        "in_one_pass": pipe.scheduler is None,
    }


def takes_hints(pipe: ColorizationPipeline) -> bool:
    """Tell whether the model knows what to do with points of colour."""
    return bool(getattr(pipe.unet.config, "hint_channels", 0))


def own_copy(settings: Settings) -> ColorizationPipeline:
    """Return a pipeline with the shared network and a scheduler for one job alone."""
    pipe = copy.copy(load(settings.model))
    if pipe.scheduler is not None:
        kind = type(pipe.scheduler)
        if settings.scheduler:
            kind = sampler_class(settings.scheduler)
        pipe.scheduler = kind.from_config(pipe.scheduler.config)
    return pipe


# --- photographs ---------------------------------------------------------------------------------


@dataclass
class Source:
    """A photograph on the server."""

    path: str
    width: int
    height: int
    shown: Image.Image  # as taken, upright, at most SHOWN pixels a side
    notes: list[str]


def look(path: str, limits: Limits) -> tuple[Source, photo.Photo]:
    """Return a photograph as the page shows it, and as it was read."""
    read = open_photograph(path, limits)
    height, width = read.image.shape[:2]
    return Source(path, width, height, as_shown(read), read.warnings), read


def open_photograph(path: str, limits: Limits) -> photo.Photo:
    """Decode a file, within the limits; Refused names it and says what is wrong.

    The limit of pixels is that of `photo.pixel_limit`, which the server sets once.
    """
    name = Path(path).name
    if not Path(path).is_file():
        raise Refused("That photograph is no longer on the server: give it again.")
    if Path(path).stat().st_size > limits.max_mb * 1_000_000:
        raise Refused(f"{name} cannot be used: it has more than {limits.max_mb} MB, the limit.")
    try:
        read = photo.read(path)
    except photo.PhotoError as error:
        raise Refused(f"{name} cannot be used: {error}.") from error
    height, width = read.image.shape[:2]
    if min(height, width) < LEAST_SIDE:
        raise Refused(
            f"{name} cannot be used: {width} x {height} pixels are too few to show anything; "
            f"each side needs {LEAST_SIDE} at least."
        )
    return read


def as_shown(read: photo.Photo) -> Image.Image:
    """Return a photograph in 8 bits at the page's size."""
    stride = max(1, max(read.image.shape[:2]) // (4 * SHOWN))  # first, for the memory of the rest
    return shrunk(as_picture(np.ascontiguousarray(read.image[::stride, ::stride])), SHOWN)


def shrunk(picture: Image.Image, side: int) -> Image.Image:
    """Return a copy whose long side has at most `side` pixels."""
    smaller = picture.copy()
    smaller.thumbnail((side, side), Image.Resampling.LANCZOS)
    return smaller


# --- points of colour ----------------------------------------------------------------------------

Point = tuple[Any, ...]  # what `Hint` takes


def read_points(text: object) -> tuple[Point, ...]:
    """Lines of "x, y, #rrggbb[, confidence]", in pixels; Refused where one is not so."""
    points = []
    for line in read_lines(text, "Points of colour"):
        try:
            points.append(parse_hint(line))
        except ValueError:
            raise Refused(
                f"A point of colour is x, y, #rrggbb, as in 140, 95, #7a1f2b; not {short(line)}"
            ) from None
    return tuple(points)


def read_touches(text: str, settings: Settings, limits: Limits) -> tuple[Touch, ...]:
    """Lines as `Touch.parse` takes them; Refused where one is not so, or it is too much."""
    lines = read_lines(text, "Places that are mended")
    try:
        touches = tuple(Touch.parse(line, settings.samples) for line in lines)
    except ValueError as error:
        raise Refused(str(error)) from error
    things = sum(touch.is_color and touch.is_thing for touch in touches)
    fresh = sum(touch.what == "anew" for touch in touches) + things * settings.samples
    if fresh:  # each is as long as a photograph
        check_work(replace(settings, samples=1), limits, settings.samples + fresh)
    return touches


def read_lines(text: object, what: str) -> list[str]:
    """Return the lines of a text that somebody sent; Refused where it is none, or too long."""
    if text is not None and not isinstance(text, str):
        raise Refused(f"{what} are lines of text; they cannot be {short(text)}.")
    lines = list(filter(None, map(str.strip, (text or "")[: LONGEST_POINTS + 1].splitlines())))
    if len(text or "") > LONGEST_POINTS or len(lines) > MOST_POINTS:
        raise Refused(f"{what} are too many: there are too many points; {MOST_POINTS} can be met.")
    return lines


# --- pictures in colour --------------------------------------------------------------------------


@dataclass(frozen=True)
class References:
    """What pictures in colour of the same give a photograph."""

    points: tuple[Point, ...] = ()
    names: str = ""  # of the files, with the digits that tell their content; for the mark

    @classmethod
    def read(
        cls, paths: object, read: photo.Photo, settings: Settings, limits: Limits
    ) -> "References":
        """Look at pictures that somebody sent; Refused where one is none, or they are too many."""
        if not paths:
            return cls()
        if not isinstance(paths, list) or len(paths) > limits.max_references:
            raise Refused(f"At most {limits.max_references} pictures in colour can be followed.")
        if not takes_hints(load(settings.model)):
            raise Refused("This model follows no pictures in colour.")
        album = reference_album(_colors_of(path, limits) for path in paths)
        points = map(astuple, album.hints_of(read.image_with_alpha))
        named = given_colors(replace(settings, reference=tuple(paths)))["references"]
        return cls(tuple(points), named)


def _colors_of(path: str, limits: Limits) -> np.ndarray:
    """Return the pixels of a picture in colour; Refused where it has none."""
    given = open_photograph(path, limits)
    if not given.in_color:
        raise Refused(f"{Path(path).name} cannot be followed: it has no colours of its own.")
    return given.image


# --- colours -------------------------------------------------------------------------------------


@dataclass
class Invented:
    """The colours of a photograph."""

    chroma: torch.Tensor  # (samples, 2, h, w), a*b* on the network's grid
    spread: np.ndarray | None  # (h, w), how much the samples differ, of two and more


def read_settings(
    given: dict[str, object], models: list[str], limits: Limits, photographs: int = 1
) -> Settings:
    """Read what somebody asks for as options of a call; Refused where it is too much or nonsense.

    Args:
        given: `model`, `sampler`, `points` and the numbers of `Limits.ranges`; what is missing, or
            None, is the model's own. It may come from anywhere, and be of any type.
        models: those that may be asked for, the default first.
        limits: of this Space.
        photographs: how many are to be coloured like this.
    """
    model, sampler = given.get("model") or models[0], given.get("sampler") or None
    if model not in models:
        raise Refused(f"There is no model {short(model)} here; {', '.join(models)} are.")
    try:
        numbers: dict[str, Any] = {
            name: one.read(given.get(name)) for name, one in limits.ranges().items()
        }
    except ValueError as error:
        raise Refused(str(error)) from error
    if sampler is not None and (not isinstance(sampler, str) or sampler not in SAMPLERS):
        raise Refused(f"There is no sampler {short(sampler)}; {', '.join(SAMPLERS)} are.")
    pipe = load(model)
    if sampler and pipe.scheduler is None:
        raise Refused("This model works in one pass; it takes no sampler.")
    resolution = numbers.pop("resolution")
    if resolution == pipe.config.default_processing_resolution:
        resolution = None
    points = read_points(given.get("points"))
    settings = Settings(
        model=model, scheduler=sampler, processing_resolution=resolution, hint=points, **numbers
    )
    check_work(settings, limits, photographs)
    return settings


def check_work(settings: Settings, limits: Limits, photographs: int) -> None:
    """Refused, where a job would hold up all others for too long."""
    pipe = load(settings.model)
    own = pipe.config
    steps = settings.steps or own.default_num_inference_steps if pipe.scheduler else 1
    candidates = settings.candidates or own.default_num_candidates
    candidates = share_candidates(candidates, settings.samples)
    resolution = settings.processing_resolution or own.default_processing_resolution
    # A step costs what its cells cost; more luminance in each of them is read only once.
    resolution = (resolution or RESOLUTIONS[1]) * min(1, 4 / pipe.image_processor.chroma_stride)
    each = work(settings.samples, steps, candidates, resolution)
    if photographs * each > limits.max_work:
        raise Refused(
            f"That is too much for one job: photographs, colourings, {steps} steps and "
            f"{candidates} candidates make {photographs * each:.0f} million working pixels, "
            f"and at most {limits.max_work} million are allowed. Ask for fewer, or for a smaller "
            "resolution."
        )


@on_gpu
def invent(image: np.ndarray, settings: Settings) -> Iterator[tuple[torch.Tensor, int] | Invented]:
    """Yield the colours (samples, 2, h, w) after each step, of how many; at the end the output.

    Leaving it early stops the model after the step that it is in.
    """
    pipe = own_copy(settings)
    news: queue.SimpleQueue[tuple[torch.Tensor, int] | None] = queue.SimpleQueue()
    stopped = threading.Event()

    def report(running, step, timestep, tensors):
        running.interrupt = stopped.is_set()
        news.put((tensors["chroma"], running.num_timesteps))
        return {}

    def work():
        try:
            return call(pipe, image, settings, report)
        finally:
            news.put(None)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            while (progress := news.get()) is not None:
                yield progress
        finally:
            stopped.set()
    output = future.result()
    spread = output.uncertainty[0] if output.uncertainty else None
    yield Invented(output.images, spread)


def call(pipe: ColorizationPipeline, image: np.ndarray, settings: Settings, report, **options):
    """Return the pipeline's output, as chroma; Refused, where it cannot be had."""
    try:
        return pipe(
            image,
            num_inference_steps=settings.steps,
            num_samples=settings.samples,
            num_candidates=settings.candidates,
            generator=torch.Generator().manual_seed(settings.seed),
            processing_resolution=settings.processing_resolution,
            match_input_resolution=False,
            hints=[pipeline_colorize.Hint(*point) for point in settings.hint],
            saturation=settings.saturation,
            output_type="latent",
            output_uncertainty=settings.samples > 1,
            callback_on_step_end=report,
            callback_on_step_end_tensor_inputs=["chroma"],
            **options,
        )
    except ValueError as error:
        raise Refused(str(error)) from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise Refused("There is not enough memory for this: ask for fewer colourings.") from error


def with_given_colors(
    settings: Settings, touches: tuple[Touch, ...], references: References
) -> Settings:
    """Add all colours that the whole picture follows to the settings; the last ones count most."""
    given = [hint for touch in touches if touch.is_hint for hint in touch.hints()]
    points = references.points + settings.hint + tuple(map(astuple, given))
    return replace(settings, hint=points)


def mend(image: np.ndarray, invented: Invented, touches: tuple[Touch, ...], settings: Settings):
    """Change the colours of `invented` in some places, one after the other."""
    for number, touch in enumerate((one for one in touches if not one.is_hint), 1):
        try:
            mask = touch.mask(image, invented.chroma.shape[2:])
            given = tuple(map(astuple, touch.hints(mask))) if touch.is_color else ()
        except ValueError as error:
            raise Refused(str(error)) from error
        now = replace(settings, seed=settings.seed + number, hint=settings.hint + given)
        for answer in range(len(invented.chroma)) if touch.is_color else [touch.answer]:
            old = invented.chroma[answer]
            if touch.is_color or touch.what == "anew":
                new = invent_anew(image, old, mask, now)
            else:
                new = 0 if touch.what == "grey" else invented.chroma[int(touch.what) - 1]
            cover = torch.from_numpy(on_grid(mask, old.shape[1:]))
            invented.chroma[answer] = old + cover * (new - old)


@on_gpu
def invent_anew(image: np.ndarray, old: torch.Tensor, mask: np.ndarray, settings: Settings):
    """Other colours (2, h, w) in a place, in agreement with those around it.

    The colours around it leave less to disagree on, so fewer candidates do.
    """
    pipe, options = own_copy(settings), {"color_image": old.numpy(), "mask_image": mask}
    few = settings.candidates or min(pipe.config.default_num_candidates, LEAST_CANDIDATES)
    settings = replace(settings, samples=1, candidates=few)
    return call(pipe, image, settings, None, **options).images[0]


def colored(pipe: ColorizationPipeline, shown: Image.Image, chroma: torch.Tensor) -> Image.Image:
    """Return a small picture with colours (2, h, w)."""
    luminance = pipe.image_processor.to_luminance(shown)
    return Image.fromarray(pipe.image_processor.colorize(luminance, chroma).numpy())


# --- results -------------------------------------------------------------------------------------


@dataclass
class Result:
    """All colourings of a photograph, from the first step on."""

    source: Source
    settings: Settings
    film: list[torch.Tensor] = field(default_factory=list)  # (samples, 2, h, w), after each step
    invented: Invented | None = None
    touches: tuple[Touch, ...] = ()
    references: str = ""  # their names, for the mark
    stopped: threading.Event = field(default_factory=threading.Event)

    def chroma(self, wish: "Wish") -> torch.Tensor:
        """Return what is to be seen of it: (2, h, w)."""
        if self.invented is not None and wish.step is None:
            chroma = self.invented.chroma[wish.sample]
        elif not self.film:
            raise Refused("There are no colours yet.")
        else:
            step = min(wish.step or len(self.film), len(self.film))
            chroma = self.film[step - 1][wish.sample].float()
        offset = wish.warmth * torch.tensor(WARMTH).view(2, 1, 1)
        return (chroma + offset) * wish.saturation if wish.is_toned else chroma

    def mark(self, wish: "Wish") -> photo.Mark:
        """Return what a file of it says about how its colours came to be."""
        return mark(self.settings, wish, self.touches, self.references)


@dataclass
class Wish:
    """How a result is to be seen."""

    sample: int = 0  # which of the answers
    step: int | None = None  # after how many steps; none: when all was done
    saturation: float = 1.0
    warmth: float = 0.0  # -1 to 1
    size: int = SHOWN  # of the long side
    ending: str = ""  # of a file at full size; empty: as the photograph's

    @property
    def is_toned(self) -> bool:
        """Whether the colours are not as they were invented."""
        return self.saturation != 1 or self.warmth != 0


def read_wish(given: Mapping[str, str], result: Result) -> Wish:
    """Return a wish as it comes in the query of an address; Refused says what is wrong with it."""
    ranges = {
        "sample": Range("answer", 0, result.settings.samples - 1, 0),
        "step": Range("step", 1, 10_000, None),
        "saturation": Range("saturation", 0, 3, 1.0, whole=False),
        "warmth": Range("warmth", -1, 1, 0.0, whole=False),
        "size": Range("size", 16, SHOWN, SHOWN),
    }
    try:
        numbers: dict[str, Any] = {
            name: one.read(float(given[name]) if name in given else None)
            for name, one in ranges.items()
        }
    except ValueError as error:
        raise Refused(one_line(error)) from error
    ending = given.get("ending", "")
    if ending and ending not in photo.WRITABLE:
        raise Refused(f"Files are written as {', '.join(photo.WRITABLE)}; not {short(ending)}.")
    return Wish(**numbers, ending=ending)


def run(
    path: str,
    settings: Settings,
    limits: Limits,
    wanted: Callable[[], bool],
    made: Callable[[Result], None],
    touches: tuple[Touch, ...] = (),
    references: object = None,
) -> Iterator[tuple[int, int] | dict]:
    """Yield which step of how many is done, and in the end what the page must know.

    `made` is given the result as soon as there is one, to look at while it comes about.
    """
    source, read = look(path, limits)
    found = References.read(references, read, settings, limits)
    result = Result(source, settings, references=found.names)
    made(result)
    settings = with_given_colors(settings, touches, found)
    with contextlib.closing(invent(read.image_with_alpha, settings)) as steps:
        for step in steps:
            if result.stopped.is_set() or not wanted():
                raise Refused("Nobody waits for this any more.")
            if isinstance(step, tuple):
                result.film.append(step[0].half())
                yield len(result.film), step[1]
            else:
                mend(read.image_with_alpha, step, touches, settings)
                result.invented, result.touches = step, touches
    result.film = thinned(result.film)
    size = {"width": source.width, "height": source.height}
    facts = {"notes": source.notes, "frames": len(result.film), "references": len(found.points)}
    yield size | facts


def thinned(film: list) -> list:
    """At most _FRAMES of them, the last among these."""
    count = min(_FRAMES, len(film))
    return [film[place] for place in np.linspace(0, len(film) - 1, count).round().astype(int)]


def write(result: Result, kind: str, wish: Wish, folder: Path, limits: Limits) -> Path:
    """Write a picture or file of a result to `folder`, of one of the kinds that the page knows."""
    if kind == "before":
        path = folder / "before.jpg"
        result.source.shown.save(path, quality=92)
        return path
    if kind == "picture":
        shown = shrunk(result.source.shown, wish.size)
        picture = colored(load(result.settings.model), shown, result.chroma(wish))
        return save_shown(result, wish, picture, folder / "picture.jpg")
    if result.invented is None or kind not in ("unsure", "film", "file"):
        raise Refused("There is nothing of that kind.")
    if kind == "unsure":
        return save_shown(result, wish, unsure(result), folder / "unsure.jpg")
    if kind == "film":
        return save_film(result, wish, folder)
    read = open_photograph(result.source.path, limits)
    name = result_name(result.source.path, wish.sample, result.settings.samples)
    path = (folder / name).with_suffix(wish.ending or Path(name).suffix)
    made = result.mark(wish)
    return save_full(read, result.settings, result.chroma(wish), made, path)


def mark(
    settings: Settings, wish: Wish, touches: tuple[Touch, ...] = (), references: str = ""
) -> photo.Mark:
    """Return what a file says about how its colours came to be, as in those of `colorize`."""
    if wish.saturation != 1:
        settings = replace(settings, saturation=wish.saturation)
    made = provenance(own_copy(settings), settings, wish.sample)
    mends = [one for one in touches if one.answer == wish.sample or one.is_color]
    changes: dict[str, float | str] = {}
    if wish.warmth:
        changes["warmth"] = wish.warmth
    if references:
        changes["references"] = references
    if mends:
        changes["mended"] = " ".join(map(str, mends))
    return replace(made, settings=made.settings | changes)


def save_shown(result: Result, wish: Wish, picture: Image.Image, path: Path) -> Path:
    """Return a picture of the page as a file, marked like a result."""
    photo.write_picture(path, picture, result.mark(wish))
    return path


def save_full(
    read: photo.Photo, settings: Settings, chroma: torch.Tensor, made: photo.Mark, path: Path
) -> Path:
    """Return the photograph in colour as `colorize` writes it: size, depth, metadata, mark."""
    processor = load(settings.model).image_processor
    luminance = processor.to_luminance(read.image)
    image: np.ndarray | Image.Image
    if read.depth == 16:
        image = processor.colorize_float(luminance, chroma).movedim(0, -1).numpy()
    else:
        image = Image.fromarray(processor.colorize(luminance, chroma).numpy())
    try:
        photo.write(path, image, read, made)
    except photo.PhotoError as error:
        raise Refused(f"{path.name} {error}.") from error
    return path


def result_name(path: str, sample: int, samples: int) -> str:
    """grandma-colorized-2.jpg, as `colorize` has it."""
    ending = Path(path).suffix
    ending = ending if ending.lower() in photo.WRITABLE else ".png"
    return f"{Path(path).stem}-colorized{f'-{sample + 1}' if samples > 1 else ''}{ending}"


def save_film(result: Result, wish: Wish, folder: Path) -> Path:
    """Return how the colours of a sample came about, as a GIF."""
    pipe, small = load(result.settings.model), shrunk(result.source.shown, FILM)
    frames = [
        colored(pipe, small, result.chroma(replace(wish, step=step + 1)))
        for step in range(len(result.film))
    ]
    path = folder / f"{Path(result.source.path).stem}-film.gif"
    photo.write_animation(path, [in_256_colors(frame) for frame in frames], _MILLISECONDS)
    return path


def in_256_colors(frame: Image.Image) -> Image.Image:
    """Return a picture as a GIF holds it; what Pillow does by itself takes twenty times as long."""
    return frame.quantize(palette=frame.quantize(method=Image.Quantize.FASTOCTREE))


def unsure(result: Result) -> Image.Image:
    """Return the photograph, with a glow where the samples disagree."""
    if result.invented is None or result.invented.spread is None:
        raise Refused("One answer alone has nothing to differ from.")
    grey = result.source.shown.convert("L").convert("RGB")
    glow = Image.new("RGB", grey.size, _GLOW)
    cover = Image.fromarray(glow_cover(np.asarray(result.invented.spread, np.float32)))
    return Image.composite(glow, grey, cover.resize(grey.size, Image.Resampling.BICUBIC))


def glow_cover(spread: np.ndarray) -> np.ndarray:
    """Return how much a glow covers each place, uint8: only those that are less sure than most."""
    start = max(np.percentile(spread, _SURE_SHARE), _SURE)
    full = max(np.percentile(spread, _UNSURE_SHARE), start + _GLOW_RANGE)
    return (((spread - start) / (full - start)).clip(0, 1) * _GLOW_COVER).astype(np.uint8)


# --- several photographs -------------------------------------------------------------------------


def waited_for() -> bool:
    """Tell whether there is still somebody who wants this, as far as is known."""
    return True


def color_all(
    paths: list[str],
    settings: Settings,
    limits: Limits,
    archive: Path,
    wanted: Callable[[], bool] = waited_for,
) -> Iterator[tuple[str, str | None]]:
    """Colorize photographs into a ZIP file, one after the other.

    Yields the name of each and why it was left out, if it was.
    """
    taken: set[str] = set()
    with zipfile.ZipFile(archive, "w") as file:
        for path in paths:
            name = Path(path).name
            if not wanted():
                break
            try:
                written = color_one(path, settings, limits, archive.parent, wanted)[0]
                file.write(written, free_name(written.name, taken))
                written.unlink()
            except Refused as refusal:
                yield name, str(refusal)
            except Exception as error:  # whatever a photograph causes is its failure alone
                yield name, f"{name} cannot be used: {one_line(error)}."
            else:
                yield name, None


def color_one(
    path: str,
    settings: Settings,
    limits: Limits,
    folder: Path,
    wanted: Callable[[], bool] = waited_for,
    references: object = None,
) -> list[Path]:
    """Write all colourings of one photograph; Refused where nobody wants them any more."""
    read = open_photograph(path, limits)
    found = References.read(references, read, settings, limits)
    given = with_given_colors(settings, (), found)
    with contextlib.closing(invent(read.image_with_alpha, given)) as steps:
        for step in steps:
            if not wanted():
                raise Refused("Nobody waits for this any more.")
            invented = step
    names = [result_name(path, sample, settings.samples) for sample in range(settings.samples)]
    marks = [mark(settings, Wish(sample), references=found.names) for sample in range(len(names))]
    return [
        save_full(read, settings, chroma, made, folder / name)
        for chroma, made, name in zip(invented.chroma, marks, names, strict=False)
    ]


def free_name(name: str, taken: set[str]) -> str:
    """Return a name that is not in `taken`, and is from now on."""
    path, number = Path(name), 1
    while name.lower() in taken:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    taken.add(name.lower())
    return name
