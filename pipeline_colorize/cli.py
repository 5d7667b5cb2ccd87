"""`colorize`: black-and-white photographs in, coloured photographs out.

Files are decoded and encoded in threads while the model runs. Few are on their way at any time, so
ten thousand photographs take hardly more memory than ten.
"""

import errno
import inspect
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import click
import numpy as np
from PIL import Image

from pipeline_colorize import Hint, __version__, photo
from pipeline_colorize.command.engine import choose_file
from pipeline_colorize.command.jobs import (
    THREADS,
    Ahead,
    Backlog,
    Job,
    Report,
    Settings,
    Share,
    Unheard,
    contents,
    decode,
    plan,
    threads,
)
from pipeline_colorize.core.finishing import heat_picture
from pipeline_colorize.onnx.runtime import Generator, OnnxPipeline

# diffusers schedulers that reproduce the model's noise schedule.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-single": "DPMSolverSinglestepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}

EPILOG = """\b
Examples:
  colorize grandma.jpg                         writes grandma-colorized.jpg
  colorize grandma.jpg -o color.png            another name and format
  colorize album/ -o album-color/ --recursive  a folder, with its sub-folders
  colorize "scans/*.tif" --compare             with before/after pictures
  colorize grandma.jpg --samples 4             four answers to choose from
  colorize grandma.jpg --hint "140,95,#7a1f2b" her dress was dark red there
  colorize faces.parquet -o faces/             the pictures of a data set

\b
Several GPUs or processes share the work, with the same results:
  accelerate launch --multi_gpu -m pipeline_colorize.cli album/ -o color/
  torchrun --nproc_per_node 2 -m pipeline_colorize.cli album/ -o color/

A folder run that was cut off is continued by the same command: what is there
already is skipped. Each result says in its metadata that its colours were
generated, by which model, settings and seed.
"""

# Colourings behind an uncertainty picture when fewer are asked for.
_UNCERTAINTY_SAMPLES = 4
_COMPARE_HEIGHT = 1200
_WIDEST = 65_000  # that surely fits a JPEG
_STRIP_FRAMES = 8
_FRAME_MILLISECONDS = 120
# Errors after which no other photograph can be written either.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass
class Coloring:
    """What the pipeline made of one photograph."""

    images: list[Image.Image | np.ndarray]  # a sample each
    uncertainty: np.ndarray | None
    films: list[list[Image.Image]]  # a sample each, a frame a step


# --- the model -----------------------------------------------------------------------------------


def load_model(settings: Settings):
    """The engine: onnxruntime's or torch's; ClickExceptions for people."""
    if not settings.model.endswith(".onnx"):
        _check_model(settings.model)

    def say(text: str) -> None:
        click.echo(f"colorize: {text}", err=True)

    file = choose_file(settings, say)
    if file is None:
        return _load_pipeline(settings)
    try:
        return OnnxPipeline(file)
    except Exception as error:  # onnxruntime has its own
        trouble = f"cannot load {file} ({one_line(error)})"
        if settings.runtime == "onnx" or settings.model == str(file):
            raise click.ClickException(trouble) from error
        say(f"{trouble}; torch goes on")
        return _load_pipeline(settings)


def _load_pipeline(settings: Settings):
    """The pipeline, on its device and with the scheduler asked for."""
    _silence()
    import torch

    from pipeline_colorize import ColorizationPipeline

    options = {} if settings.dtype == "auto" else {"dtype": getattr(torch, settings.dtype)}
    try:
        pipe = ColorizationPipeline.from_pretrained(settings.model, **options)
    except Exception as error:  # diffusers, safetensors and the Hub each have their own
        raise click.ClickException(_loading_trouble(settings.model, error)) from error
    device = _best_device() if settings.device == "auto" else settings.device
    try:
        pipe.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise click.ClickException(
            f"cannot use the device {device!r} ({one_line(error)}); --device cpu always works."
        ) from error
    pipe.set_progress_bar_config(disable=True)
    _swap_scheduler(pipe, settings)
    return pipe


def _silence() -> None:
    """Let diffusers, transformers and the Hub's client say nothing; this command does."""
    quiet = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY")
    for name in quiet:  # diffusers imports onnxruntime where it finds it
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    diffusers_logging.disable_progress_bar()


def _check_model(model: str) -> None:
    """A clear and quick word about a model that cannot be there, before the Hub is asked for it."""
    path, shipped = Path(model), model in _shipped_models()
    if path.is_dir() and not shipped and not (path / "model_index.json").is_file():
        raise click.ClickException(
            f"the folder {model} holds no model: it has no model_index.json."
        )
    if path.is_dir() or shipped:
        return
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):  # what a repository's name looks like
        raise click.ClickException(f"no model {model!r} here. {_known_models()}")


def _loading_trouble(model: str, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the Hub has no repository {model!r}, or it is private. {_known_models()}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"the model {model!r} is not on this machine, and the Hub cannot be reached."
    return f"cannot load the model {model!r} ({one_line(error)}). {_known_models()}"


def _shipped_models() -> list[str]:
    folder = Path(__file__).parent / "models"
    return sorted(path.parent.name for path in folder.glob("*/model_index.json"))


def _known_models() -> str:
    names = ", ".join(_shipped_models())
    shipped = f"one that ships ({names}), " if names else ""
    return f"--model takes {shipped}a folder, or a repository of the Hub."


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        local_rank = Share.from_environment().local_rank
        return f"cuda:{local_rank % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _swap_scheduler(pipe, settings: Settings) -> None:
    if settings.scheduler and pipe.scheduler is None:
        raise click.ClickException("this model works in one pass; it takes no --scheduler.")
    if settings.scheduler:
        import diffusers

        scheduler = getattr(diffusers, SCHEDULERS[settings.scheduler])
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    if settings.eta and not _takes_eta(pipe.scheduler):
        name = type(pipe.scheduler).__name__
        raise click.ClickException(f"the sampler {name} takes no --eta; --scheduler ddim does.")


def _takes_eta(scheduler) -> bool:
    return scheduler is not None and "eta" in inspect.signature(scheduler.step).parameters


def call_model(pipe, photos: list[photo.Photo], settings: Settings) -> list[Coloring]:
    """Colorize photographs of one depth; each has its own generator, so company changes nothing."""
    samples = drawn = settings.samples
    if settings.uncertainty:
        candidates = settings.candidates or pipe.config.default_num_candidates
        drawn = max(samples, math.ceil(_UNCERTAINTY_SAMPLES / candidates))
    output = pipe(
        [one.image for one in photos],
        num_inference_steps=settings.steps,
        num_samples=drawn,
        num_candidates=settings.candidates,
        eta=settings.eta,
        generator=[_generator(pipe, settings.seed) for _ in photos],
        processing_resolution=settings.processing_resolution,
        refinement=settings.refinement,
        hints=[[Hint(*hint) for hint in settings.hint] for _ in photos],
        saturation=settings.saturation,
        temperature=settings.temperature,
        output_type="np" if photos[0].depth == 16 else "pil",
        output_uncertainty=settings.uncertainty,
        output_intermediates=settings.intermediates,
    )
    firsts = range(0, len(photos) * drawn, drawn)
    return [
        Coloring(
            list(output.images[first : first + samples]),
            output.uncertainty[index] if settings.uncertainty else None,
            output.intermediates[first : first + samples] if settings.intermediates else [],
        )
        for index, first in enumerate(firsts)
    ]


def _generator(pipe, seed: int):
    """Random numbers for the engine; both draw the same ones."""
    if isinstance(pipe, OnnxPipeline):
        return Generator().manual_seed(seed)
    import torch

    return torch.Generator().manual_seed(seed)


def provenance(pipe, settings: Settings, sample: int) -> photo.Mark:
    """What a result says about itself."""
    path = Path(settings.model)
    told = {
        "model": path.resolve().name if path.exists() else settings.model,
        "seed": settings.seed,
        "sample": f"{sample + 1} of {settings.samples}" if settings.samples > 1 else None,
        "candidates": settings.candidates,
        "steps": settings.steps or pipe.config.default_num_inference_steps,
        "scheduler": type(pipe.scheduler).__name__ if pipe.scheduler else None,
        "eta": settings.eta,
        "processing_resolution": settings.processing_resolution,
        "refinement": settings.refinement,
        "saturation": settings.saturation if settings.saturation != 1 else None,
        "temperature": settings.temperature,
        "hints": " ".join(f"{x:g},{y:g},{color}" for x, y, color in settings.hint) or None,
    }
    return photo.Mark(__version__, {k: v for k, v in told.items() if v is not None})


# --- files on their way --------------------------------------------------------------------------


def readable(reads: Ahead, report: Report) -> Iterator[tuple[Job, photo.Photo]]:
    """Photographs as they come out of the decoder, without those that cannot be used."""
    for job, future in reads:
        try:
            read = future.result()
        except Exception as error:
            more = "; --max-pixels raises it" if isinstance(error, photo.TooLargeError) else ""
            report.fail(job.name, one_line(error) + more)
            continue
        if photo.read_mark(read.xmp) and report.total > 1:
            report.note(job.name, "left out; its colours are this program's own")
            report.advance()
            continue
        for warning in read.warnings:
            report.note(job.name, warning)
        yield job, read


def batches(photos: Iterable[tuple[Job, photo.Photo]], size: int) -> Iterator[list]:
    """Up to `size` photographs in a row that have the same depth."""
    batch: list[tuple[Job, photo.Photo]] = []
    for job, read in photos:
        if batch and batch[0][1].depth != read.depth:
            yield batch
            batch = []
        batch.append((job, read))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def colored(
    pipe, batch: list[tuple[Job, photo.Photo]], settings: Settings, report: Report
) -> Iterator[tuple[Job, photo.Photo, Coloring]]:
    """The batch with its colours; where the batch fails, its photographs are tried one by one."""
    try:
        colorings = call_model(pipe, [read for _, read in batch], settings)
    except Exception as error:
        if len(batch) > 1:
            for one in batch:
                yield from colored(pipe, [one], settings, report)
        else:
            report.fail(batch[0][0].name, _model_trouble(error))
        return
    for (job, read), coloring in zip(batch, colorings, strict=True):
        yield job, read, coloring


def _model_trouble(error: Exception) -> str:
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return (
            "not enough memory; a smaller --processing-resolution, --samples or --candidates "
            "needs less"
        )
    return one_line(error)


def write_all(
    job: Job, read: photo.Photo, coloring: Coloring, pipe, settings: Settings
) -> list[Path]:
    """Write what is missing, the results last: where they are, all is. Returns the results."""
    missing = job.missing(settings)
    job.target.parent.mkdir(parents=True, exist_ok=True)
    marks = [provenance(pipe, settings, sample) for sample in range(settings.samples)]
    if settings.compare and job.compare in missing:
        pictures = [as_picture(read.image), *map(as_picture, coloring.images)]
        photo.write_picture(job.compare, side_by_side(pictures, _COMPARE_HEIGHT), marks[0])
    if settings.uncertainty and job.uncertainty in missing:
        spread = Image.fromarray(heat_picture(coloring.uncertainty))
        photo.write_picture(job.uncertainty, spread, marks[0])
    for paths, film, mark in zip(job.films(settings), coloring.films, marks, strict=False):
        write_film(*paths, film, mark, missing)
    written = []
    for result, image, mark in zip(job.results(settings), coloring.images, marks, strict=True):
        if result in missing:
            photo.write(result, image, read, mark)
            written.append(result)
    return written


# --- pictures besides the result -----------------------------------------------------------------


def as_picture(image: Image.Image | np.ndarray) -> Image.Image:
    """Any of our pictures as 8-bit RGB."""
    if isinstance(image, np.ndarray):
        top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        image = Image.fromarray(np.rint(image * (255 / top)).astype(np.uint8))
    return image.convert("RGB")


def side_by_side(pictures: list[Image.Image], height: int) -> Image.Image:
    """Pictures in a row on white, all as high as the lowest of them, and at most `height`.

    Lower where the row would be too wide for a JPEG.
    """
    height = min(height, *(picture.height for picture in pictures))
    wide = sum(picture.width / picture.height for picture in pictures) + len(pictures) / 60
    height = max(1, min(height, int(_WIDEST / wide)))
    scaled = [
        picture.resize(
            (max(1, round(picture.width * height / picture.height)), height),
            Image.Resampling.LANCZOS,
        )
        for picture in pictures
    ]
    gap = max(2, height // 60)
    width = sum(picture.width for picture in scaled) + gap * (len(scaled) - 1)
    row = Image.new("RGB", (width, height), "white")
    left = 0
    for picture in scaled:
        row.paste(picture, (left, 0))
        left += picture.width + gap
    return row


def write_film(
    animation: Path, strip: Path, film: list[Image.Image], mark: photo.Mark, missing: set[Path]
) -> None:
    """The denoising as a GIF, and as a strip of some of its steps."""
    scale = max(1, round(256 / min(film[0].size)))
    frames = [
        frame.resize((frame.width * scale, frame.height * scale), Image.Resampling.BICUBIC)
        for frame in film
    ]
    if animation in missing:
        photo.write_animation(animation, frames, _FRAME_MILLISECONDS)
    if strip in missing:
        last = len(frames) - 1
        places = np.unique(np.linspace(0, last, min(_STRIP_FRAMES, len(frames))).round())
        chosen = [frames[int(place)] for place in places]
        photo.write_picture(strip, side_by_side(chosen, frames[0].height), mark)


# --- the command ---------------------------------------------------------------------------------


def one_line(error: Exception, length: int = 200) -> str:
    """An exception's message without line breaks, cut to `length`."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


class Bar:
    """A progress bar of the first process where stderr is a terminal, and nothing elsewhere."""

    def __init__(self, total: int, rank: int):
        shown = rank == 0 and _is_terminal(sys.stderr)
        self._progress = _rich_progress() if shown else None
        if self._progress:
            self._task = self._progress.add_task("loading the model", total=total)

    def __enter__(self) -> "Bar":
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        if self._progress:
            self._progress.stop()

    def say(self, text: str) -> None:
        """What is going on."""
        if self._progress:
            self._progress.update(self._task, description=text)

    def advance(self) -> None:
        """One photograph more is through."""
        if self._progress:
            self._progress.advance(self._task)


def _rich_progress():
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    return Progress(
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=_is_terminal(sys.stdout),
    )


def writable(jobs: list[Job], report: Report) -> list[Job]:
    """Jobs without those of a folder, among others, that takes nothing.

    Fails before the model is loaded, not after, where nothing can be written at all.
    """
    first = jobs[0].target.parent
    closed = {}
    for folder in {first: None} | {job.target.parent: None for job in jobs}:
        if (folder == first or folder.is_dir()) and (error := _probe(folder)):
            closed[folder] = error
    rest = [job for job in jobs if job.target.parent not in closed]
    if not rest:
        raise _cannot_write(first, closed[first]) from closed[first]
    for job in jobs:
        if error := closed.get(job.target.parent):
            report.fail(job.name, f"cannot write to {job.target.parent} ({error.strerror})")
    return rest


def _probe(folder: Path) -> OSError | None:
    """What keeps files from being written to a folder, which is made where it is missing."""
    probe = folder / f".colorize-{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return error
    return None


def _cannot_write(folder: Path, error: OSError) -> click.ClickException:
    return click.ClickException(
        f"cannot write to {folder} ({error.strerror}); make room there, or choose another folder "
        "with --output. What is written already is kept."
    )


def finish(job: Job, future: Future, report: Report) -> None:
    """Take note of a photograph that was written, or was not."""
    try:
        report.done(job.name, future.result())
    except OSError as error:
        if error.errno in _HOPELESS:
            raise _cannot_write(job.target.parent, error) from error
        report.fail(job.name, f"cannot be written ({one_line(error)})")
    except Exception as error:
        report.fail(job.name, one_line(error))


def colorize_jobs(jobs: list[Job], settings: Settings, report: Report, share: Share) -> None:
    """Decode, run the model and encode, all at the same time."""
    jobs = writable(jobs, report)
    limit = settings.batch_size + THREADS
    with Bar(len(jobs), share.rank) as bar, threads() as readers:
        report.advance = bar.advance
        reads = Ahead(readers, decode, contents(jobs), limit)
        pipe = load_model(settings)
        bar.say("colorizing" if share.count == 1 else f"colorizing, one of {share.count} shares")
        with Backlog(lambda job, future: finish(job, future, report), THREADS) as backlog:
            for batch in batches(readable(reads, report), settings.batch_size):
                for job, read, coloring in colored(pipe, batch, settings, report):
                    backlog.add(job, write_all, read, coloring, pipe, settings)


def run(settings: Settings) -> int:
    """The whole command, or this process' share of it; returns its exit code."""
    report = Report()
    code = 0
    try:
        share = Share.from_environment()
        jobs = plan(settings, Unheard() if share.local_rank else report)
        own = share.of(jobs, settings.batch_size)
        todo = [job for job in own if job.missing(settings)]
        report.total, report.skipped = len(jobs), len(own) - len(todo)
        if todo:
            colorize_jobs(todo, settings, report, share)
        code = 1 if report.failed else 0
        report = share.meet(report)
    except KeyboardInterrupt:
        click.echo("colorize: stopped; the same command goes on from here", err=True)
        code = 130
    except click.ClickException as error:
        click.echo(f"colorize: {error.format_message()}", err=True)
        code = error.exit_code
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        click.echo(f"colorize: {error.filename}: {error.strerror}", err=True)
        code = 1
    if report and (report.total > 1 or report.skipped or report.failed):
        click.echo(report.summary(), err=True)
    return code


class FiniteRange(click.FloatRange):
    """A range of numbers, which "nan" and "inf" are not."""

    def convert(self, value, param, ctx):
        """Called by click; `fail` ends the program with the message."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class HintType(click.ParamType):
    """X,Y,#RRGGBB as (x, y, "#rrggbb")."""

    name = "X,Y,#RRGGBB"

    def convert(self, value, param, ctx):
        """Called by click; `fail` ends the program with the message."""
        number = r"\s*(\d+(?:\.\d+)?)\s*"
        match = re.fullmatch(rf"{number},{number},\s*#?([0-9a-fA-F]{{6}})\s*", value)
        if match is None:
            self.fail(f"{value!r} is not X,Y,#RRGGBB, as in 140,95,#7a1f2b", param, ctx)
        return float(match[1]), float(match[2]), f"#{match[3].lower()}"


@click.command("colorize", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File or folder for the results. [default: NAME-colorized beside each photograph]",
)
@click.option("-r", "--recursive", is_flag=True, help="Search the sub-folders of folders, too.")
@click.option("--overwrite", is_flag=True, help="Do again what is there already.")
@click.option(
    "--model",
    metavar="MODEL",
    default="default",
    show_default=True,
    help="A model that ships, a folder, an ONNX file, or a repository of the Hub.",
)
@click.option(
    "--seed", metavar="N", default=0, show_default=True, help="Another seed, other colours."
)
@click.option(
    "--samples",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Colourings of each photograph: NAME-1, NAME-2, ...",
)
@click.option(
    "--candidates",
    metavar="N",
    type=click.IntRange(1),
    help="Colourings drawn for each sample, which has at each place what most of them agree on; 1 "
    "is quickest and liveliest, more leave out odd tints. [default: the model's]",
)
@click.option(
    "--hint",
    type=HintType(),
    multiple=True,
    help="A colour that is known at a place, in pixels from the top left of the photograph as "
    "shown; repeatable.",
)
@click.option(
    "--saturation",
    metavar="X",
    type=FiniteRange(0),
    default=1.0,
    show_default=True,
    help="Factor on the colours' strength.",
)
@click.option(
    "--temperature",
    metavar="X",
    type=FiniteRange(0),
    help="1: one possible colouring; 0: the expected one. [default: the model's]",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Denoising steps. [default: the model's]",
)
@click.option(
    "--scheduler", type=click.Choice(list(SCHEDULERS)), help="Sampler. [default: the model's]"
)
@click.option(
    "--eta",
    metavar="X",
    type=FiniteRange(0, 1),
    help="Fresh noise in each step, for samplers that know it; 0: none. [default: the model's]",
)
@click.option(
    "--processing-resolution",
    metavar="PIXELS",
    type=click.IntRange(0),
    help="Short side at which colours are invented; 0: its own. [default: the model's]",
)
@click.option(
    "--refinement",
    metavar="X",
    type=FiniteRange(1),
    help="Look a second time, so many times as closely, at photographs that have the pixels for "
    "it; 1: one look, which is quicker. [default: the model's]",
)
@click.option("--compare", is_flag=True, help="Also write NAME-compare: before and after.")
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Also write NAME-uncertainty: bright where the model is unsure.",
)
@click.option(
    "--intermediates",
    is_flag=True,
    help="Also write NAME-intermediates: the denoising as a GIF and as a strip.",
)
@click.option(
    "--batch-size",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Photographs through the model at a time; more is quicker on a GPU.",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "onnx", "torch"]),
    default="auto",
    show_default=True,
    help="Engine. onnx starts in a second; auto takes it where it is installed and the other "
    "options allow it.",
)
@click.option(
    "--device",
    metavar="NAME",
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:1, mps, ...",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Precision; auto: bfloat16 where the processor has it.",
)
@click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(1),
    default=100_000_000,
    show_default=True,
    help="Refuse larger photographs.",
)
@click.version_option(__version__, prog_name="colorize")
def main(**options) -> None:
    """Give black-and-white photographs their colours.

    INPUTS are photographs, folders, patterns or data sets (parquet). The light of each photograph
    is kept as it is, as are its size, format, orientation and metadata; only the colours are new.
    """
    settings = Settings(**options)
    with warnings.catch_warnings(), photo.pixel_limit(settings.max_pixels):
        warnings.simplefilter("ignore")
        logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its complaints are in ours
        code = run(settings)
    sys.exit(code)


if __name__ == "__main__":
    main()
