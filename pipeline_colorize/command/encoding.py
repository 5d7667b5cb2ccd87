"""Writes results, and the extra pictures that are asked for."""

import errno
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
from PIL import Image

from pipeline_colorize import photo
from pipeline_colorize.archive.chroma import Chroma, encode_chroma
from pipeline_colorize.core.finishing import heat_picture
from pipeline_colorize.photo.display import as_picture, side_by_side

from . import places
from .coloring import Coloring
from .decoding import Decoded
from .job import STDOUT, Job
from .provenance import provenance
from .report import Report
from .settings import Settings

_COMPARE_HEIGHT = 1200
_STRIP_FRAMES = 8
_FRAME_MILLISECONDS = 120
# Errors after which no other photograph can be written either.
_FULL = {errno.ENOSPC, errno.EDQUOT}
HOPELESS = _FULL | {errno.EROFS, errno.EACCES, errno.EPERM}


def write_all(one: Decoded, coloring: Coloring, pipe, settings: Settings) -> list[Path]:
    """Write the files that are missing, and return their paths, results first.

    Results are written last: where they are, all is.
    """
    began, missing = time.perf_counter(), one.job.missing(settings)
    if places.is_remote(one.job.target):
        written = _write_remote(one, coloring, pipe, settings, missing)
    else:
        written = _write(one, one.job, coloring, pipe, settings, missing)
    one.seconds += time.perf_counter() - began
    return written


def _write_remote(
    one: Decoded, coloring: Coloring, pipe, settings: Settings, missing: set[Path]
) -> list[Path]:
    """Write files here, and send them to their address; the results last."""
    with tempfile.TemporaryDirectory() as name:
        folder, target = Path(name), one.job.target
        job = replace(one.job, target=folder / target.name)
        wanted = {folder / path.name for path in missing}
        results = _write(one, job, coloring, pipe, settings, wanted)
        others = [path for path in sorted(folder.iterdir()) if path not in results]
        for path in [*others, *reversed(results)]:
            places.send(path, target.with_name(path.name))
        return [target.with_name(path.name) for path in results]


def _write(
    one: Decoded,
    job: Job,
    coloring: Coloring,
    pipe,
    settings: Settings,
    missing: set[Path],
) -> list[Path]:
    """Write the files of a job that are missing; returns results, then extra pictures."""
    samples = range(settings.samples)
    marks = [provenance(pipe, settings, sample, one.sources) for sample in samples]
    files = [_encoded(chroma, mark) for chroma, mark in zip(coloring.chroma, marks, strict=False)]
    if job.target == STDOUT:
        _write_stream(one, coloring, marks[0], files)
        written = [STDOUT]
    else:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        write_extras(job, one, coloring, marks, settings, missing)
        written = [path for path in job.results(settings) if path in missing]
        for result, image, mark in zip(job.results(settings), coloring.images, marks, strict=False):
            if result in missing:
                one.notes = photo.write(result, image, one.photo, mark)
        for result, data in zip(job.results(settings), files, strict=False):
            if result in missing:
                photo.write_bytes(result, data)
        written += [path for path in job.extras(settings) if path in missing]
        if settings.keep_dates and job.is_plain_file:
            for path in written:
                photo.copy_dates(job.source, path)
    return written


def _encoded(chroma: Chroma, mark: photo.Mark) -> bytes:
    """Encode a chroma file that says how its colours came to be."""
    return encode_chroma(replace(chroma, settings=mark.settings, version=mark.version))


def _write_stream(one: Decoded, coloring: Coloring, mark: photo.Mark, files: list[bytes]) -> None:
    """Write a result to standard output: a chroma file, or the format of its photograph."""
    if files:
        sys.stdout.buffer.write(files[0])
        sys.stdout.buffer.flush()
        return
    ending = one.ending if one.ending.lower() in photo.WRITABLE else ".png"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"result{ending}"
        one.notes = photo.write(file, coloring.images[0], one.photo, mark)
        sys.stdout.buffer.write(file.read_bytes())
        sys.stdout.buffer.flush()


def write_extras(
    job: Job,
    one: Decoded,
    coloring: Coloring,
    marks: list[photo.Mark],
    settings: Settings,
    missing: set,
) -> None:
    """Write the extra pictures that are asked for and missing."""
    if settings.compare and job.compare in missing:
        pictures = [as_picture(one.photo.image), *map(as_picture, coloring.images)]
        photo.write_picture(job.compare, side_by_side(pictures, _COMPARE_HEIGHT), marks[0])
    if coloring.uncertainty is not None and job.uncertainty in missing:
        spread = Image.fromarray(heat_picture(coloring.uncertainty))
        photo.write_picture(job.uncertainty, spread, marks[0])
    for paths, film, mark in zip(job.films(settings), coloring.films, marks, strict=False):
        write_film(*paths, film, mark, missing)


def write_film(
    animation: Path, strip: Path, film: list[Image.Image], mark: photo.Mark, missing: set[Path]
) -> None:
    """Write the denoising as an animation, and some of its steps side by side as a strip."""
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
    """Return the jobs whose folders can be written to, and report the others.

    Fails before the model is loaded, not after, where nothing can be written at all.
    """
    places.warm([job.target for job in jobs])
    here = [job for job in jobs if job.target != STDOUT and not places.is_remote(job.target)]
    folders = {job.target.parent: None for job in here}
    closed = {}
    for number, folder in enumerate(folders):
        if (number == 0 or folder.is_dir()) and (error := _probe(folder)):
            closed[folder] = error
    rest = [job for job in jobs if job.target == STDOUT or job.target.parent not in closed]
    if jobs and not rest:
        folder, error = next(iter(closed.items()))
        raise cannot_write(folder, error) from error
    for job in jobs:
        if error := closed.get(job.target.parent):
            report.fail(job, f"cannot write to {job.target.parent} ({error.strerror})")
    return rest


def _probe(folder: Path) -> OSError | None:
    """Return the error that keeps files from being written to a folder, which is made first."""
    probe = folder / f".colorize-{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return error
    return None


def cannot_write(folder: Path, error: OSError) -> click.ClickException:
    """Make the error that ends a run whose results cannot be written anywhere."""
    room = "make room there, or " if error.errno in _FULL else ""
    return click.ClickException(
        f"cannot write to {folder} ({error.strerror}); {room}choose another folder with --output. "
        "What is written already is kept."
    )
