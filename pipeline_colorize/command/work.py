"""The way of each photograph: decoded in threads, coloured by the model, encoded in threads.

Few photographs are on their way at any time, so ten thousand take hardly more memory than ten.
"""

import contextlib
import errno
import itertools
import math
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image

from pipeline_colorize import Hint, photo
from pipeline_colorize.core.finishing import heat_picture
from pipeline_colorize.photo.display import as_picture, side_by_side

from . import engine, parquet
from .discovery import Job
from .provenance import provenance
from .report import Bar, Report, one_line
from .settings import Settings
from .sharing import Share

THREADS = 2  # that decode, and as many that encode
# Colourings behind an uncertainty picture when fewer are asked for.
_UNCERTAINTY_SAMPLES = 4
_COMPARE_HEIGHT = 1200
_STRIP_FRAMES = 8
_FRAME_MILLISECONDS = 120
# Errors after which no other photograph can be written either.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


# --- decoding ------------------------------------------------------------------------------------


def contents(jobs: Iterable[Job]) -> Iterator[tuple[Job, bytes | Exception | None]]:
    """Jobs with what is to be decoded: `None` is the file itself. Few rows are held at a time."""
    for path, group in itertools.groupby(jobs, lambda job: job.row is not None and job.source):
        if path is False:
            yield from ((job, None) for job in group)
        else:
            yield from _row_contents(path, deque(group))


def _row_contents(path: Path, jobs: deque[Job]) -> Iterator[tuple[Job, bytes | Exception]]:
    """Of one data set; where it cannot be read on, the rest have the error."""
    try:
        for content in parquet.read_rows(path, [job.row for job in jobs]):
            yield jobs.popleft(), content or photo.PhotoError("this row has no picture in it")
    except Exception as error:  # pyarrow has many, on damaged files
        yield from ((job, error) for job in jobs)


def decode(job: Job, content: bytes | Exception | None) -> photo.Photo:
    """Decode a photograph."""
    if isinstance(content, Exception):
        raise content
    if content is None:
        return photo.read(job.source)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture"
        file.write_bytes(content)
        return photo.read(file)


class Ahead:
    """(job, future) in order, begun ahead of use; at most `limit` are begun and not yet taken.

    `items` are tuples of a job and of what else `function` takes.
    """

    def __init__(self, pool: ThreadPoolExecutor, function: Callable, items: Iterable, limit: int):
        self._begin = lambda item: (item[0], pool.submit(function, *item))
        self._items = iter(items)
        self._waiting = deque(map(self._begin, itertools.islice(self._items, limit)))

    def __iter__(self) -> Iterator[tuple[Job, Future]]:
        while self._waiting:
            yield self._waiting.popleft()
            self._waiting.extend(map(self._begin, itertools.islice(self._items, 1)))


def readable(reads: Ahead, report: Report) -> Iterator[tuple[Job, photo.Photo]]:
    """Photographs as they come out of the decoder, without those that cannot be used."""
    for job, future in reads:
        try:
            read = future.result()
            ours = bool(photo.read_mark(read.xmp))
        except Exception as error:  # whatever a file causes is its failure alone
            more = "; --max-pixels raises it" if isinstance(error, photo.TooLargeError) else ""
            report.fail(job.name, one_line(error) + more)
            continue
        if ours and report.total > 1:
            report.note(job.name, "left out; its colours are this program's own")
            report.advance()
            continue
        for warning in read.warnings:
            report.note(job.name, warning)
        yield job, read


# --- colouring -----------------------------------------------------------------------------------


@dataclass
class Coloring:
    """What the pipeline made of one photograph."""

    images: list[Image.Image | np.ndarray]  # a sample each
    uncertainty: np.ndarray | None
    films: list[list[Image.Image]]  # a sample each, a frame a step


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
        generator=[engine.make_generator(pipe, settings.seed) for _ in photos],
        processing_resolution=settings.processing_resolution,
        second_look=settings.second_look,
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


# --- encoding ------------------------------------------------------------------------------------


class Backlog:
    """Jobs of writing in threads, while a `with` block lasts; at most `limit` are on their way.

    `finish` gets each with its future, in order. Where the block is left by an exception, what has
    begun is finished and counted, and nothing more is begun.
    """

    def __init__(self, finish: Callable[[Job, Future], None], limit: int):
        self._pool = ThreadPoolExecutor(THREADS)
        self._finish, self._limit = finish, limit
        self._waiting: deque[tuple[Job, Future]] = deque()

    def add(self, job: Job, function: Callable, *arguments) -> None:
        """Begin `function(job, *arguments)`; waits for the oldest where there are too many."""
        while len(self._waiting) >= self._limit or self._is_oldest_done():
            self._finish(*self._waiting.popleft())
        self._waiting.append((job, self._pool.submit(function, job, *arguments)))

    def _is_oldest_done(self) -> bool:
        return bool(self._waiting) and self._waiting[0][1].done()

    def __enter__(self) -> "Backlog":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
        for job, future in self._waiting:
            if error is None or not (future.cancelled() or future.exception()):
                self._finish(job, future)


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


# --- all at once ---------------------------------------------------------------------------------


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that finish what they have begun, and begin nothing more, when this is left."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def colorize_jobs(jobs: list[Job], settings: Settings, report: Report, share: Share) -> None:
    """Decode, run the model and encode, all at the same time."""
    jobs = writable(jobs, report)
    limit = settings.batch_size + THREADS
    with Bar(len(jobs), share.rank) as bar, threads() as readers:
        report.advance = bar.advance
        reads = Ahead(readers, decode, contents(jobs), limit)
        pipe = engine.load_model(settings)
        bar.say("colorizing" if share.count == 1 else f"colorizing, one of {share.count} shares")
        with Backlog(lambda job, future: finish(job, future, report), THREADS) as backlog:
            for batch in batches(readable(reads, report), settings.batch_size):
                for job, read, coloring in colored(pipe, batch, settings, report):
                    backlog.add(job, write_all, read, coloring, pipe, settings)
