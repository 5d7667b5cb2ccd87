"""Colours the films among the inputs of a `colorize` run."""

import contextlib
import glob
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline_colorize.video.names import is_film, is_numbered

from . import engine
from .film_references import read_references
from .job import Job, is_named_like_a_result
from .provenance import provenance
from .report import Report, is_terminal, one_line
from .settings import STREAM, Settings
from .sharing import Share

if TYPE_CHECKING:
    from pipeline_colorize.video import FilmOptions

# Options of photographs that films do not have.
_NOT_FOR_FILMS = (
    "keep_tints",
    "compare",
    "uncertainty",
    "intermediates",
    "hint",
    "colored",
    "mend",
    "consistent",
    "pages",
    "chroma_only",
    "chroma",
)
_CALL = (
    "num_inference_steps",
    "num_candidates",
    "eta",
    "processing_resolution",
    "second_look",
    "saturation",
    "temperature",
)


def run_films(settings: Settings, report: Report) -> Settings:
    """Colour the films among the inputs.

    Returns:
        The settings with the inputs that are left: photographs.

    Raises:
        click.ClickException: if the options do not fit films, or the extra `video` is missing.
    """
    films, others = _split(settings.inputs)
    if not films:
        return settings
    _check_extra()
    jobs = [Job(film, target) for film, target in _targets(films, settings, bool(others))]
    _check(settings)
    references = read_references(settings.reference)
    pipe = None
    for job in jobs:
        report.counts.total += 1
        if not _is_needed(job, settings, references):
            report.skip(job)
        elif settings.dry_run:
            report.announce(job)
        else:
            pipe = pipe or engine.load_model(settings)
            _run_film(job, pipe, settings, report, references)
    return replace(settings, inputs=tuple(others))


def _is_needed(job: Job, settings: Settings, references: tuple) -> bool:
    """Tell whether a film has to be coloured.

    Where work on it is kept, only that knows whether something has changed.
    """
    from pipeline_colorize.video.references import were_used
    from pipeline_colorize.video.work import WorkFolder

    if job.missing(replace(settings, reference=())):
        return True
    return WorkFolder.place(job.target).is_dir() or not were_used(job.target, references)


def _split(inputs: tuple[str, ...]) -> tuple[list[Path], list[str]]:
    """Part the inputs into films and others."""
    films: list[Path] = []
    others: list[str] = []
    for text in inputs:
        if text == STREAM or os.path.isdir(text) or not is_film(text):
            others.append(text)
        elif os.path.exists(text) or not (found := sorted(glob.glob(os.path.expanduser(text)))):
            films.append(Path(text))
        else:
            films += [Path(name) for name in found if not is_named_like_a_result(Path(name))]
    return films, others


def _check_extra() -> None:
    try:
        import_module("pipeline_colorize.video.film")
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f'films need the package {error.name}: pip install "pipeline-colorize[video]"'
        ) from error


def _targets(films: list[Path], settings: Settings, mixed: bool) -> Iterator[tuple[Path, Path]]:
    from pipeline_colorize.video.codecs import CONTAINERS, result_ending

    output = settings.output
    if output == STREAM:
        raise click.UsageError("a film cannot be written to standard output; give a file.")
    is_file = output is not None and (
        Path(output).suffix.lower() in CONTAINERS or is_numbered(output)
    )
    if is_file and (len(films) > 1 or mixed):
        raise click.UsageError(f"--output {output} is one file, but there are several inputs.")
    if output is None and any(is_numbered(film.name) for film in films):
        raise click.UsageError("numbered stills need a name for the result: --output.")
    for film in films:
        stem = "film" if is_numbered(film.name) else film.stem
        ending = result_ending(film.suffix)
        if is_file:
            yield film, Path(str(output))
        elif output:
            yield film, Path(output) / f"{stem}{ending}"
        else:
            yield film, film.with_name(f"{stem}-colorized{ending}")


def _check(settings: Settings) -> None:
    wrong = [name for name in _NOT_FOR_FILMS if getattr(settings, name)]
    if settings.samples != 1:
        wrong.append("samples")
    if wrong:
        name = wrong[0].replace("_", "-")
        raise click.UsageError(f"--{name} is for photographs; films do not have it.")
    if settings.end is not None and settings.end <= settings.begin:
        raise click.UsageError("--to must be later than --from.")


def film_options(settings: Settings, pipe: Any) -> "FilmOptions":
    """Say how a film is coloured and written, by what was asked for, and with which mark."""
    from pipeline_colorize.video import FilmOptions

    end = settings.end
    if settings.preview is not None:
        preview = settings.begin + settings.preview
        end = preview if end is None else min(end, preview)
    call = {
        "num_inference_steps": settings.steps,
        "num_candidates": settings.candidates,
        **{name: getattr(settings, name) for name in _CALL if hasattr(settings, name)},
    }
    share = Share.from_environment(settings.shard)
    lines = provenance(pipe, replace(settings, reference=()), 0).lines()
    mark = (
        f"Its colours were generated by {lines['AISystemUsed']} {lines['AISystemVersionUsed']} "
        f"({lines['AIPromptInformation']}). Digital source type: {lines['DigitalSourceType']}"
    )
    return FilmOptions(
        codec=settings.codec,
        quality=settings.quality,
        start=settings.begin,
        stop=end,
        shots=settings.shots,
        shard=(share.rank + 1, share.count),
        keep_work=settings.keep_work,
        max_pixels=settings.max_pixels,
        seed=settings.seed,
        call={name: value for name, value in call.items() if value is not None},
        mark={"comment": mark},
    )


def _run_film(job: Job, pipe: Any, settings: Settings, report: Report, references: tuple) -> None:
    """Colour one film; whatever it causes is its failure alone."""
    from pipeline_colorize.video import FilmError, colorize_film

    began = time.perf_counter()
    again = job.has_changed(settings)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with _bar(settings) as tell:
            options = replace(film_options(settings, pipe), references=references)
            result = colorize_film(job.source, job.target, pipe, options, tell)
    except (FilmError, OSError, ValueError, MemoryError) as error:
        report.fail(job, one_line(error))
        return
    for note in result.notes:
        report.note(job.name, note)
    if result.finished:
        report.done(job, [job.target], time.perf_counter() - began, again)
    else:
        report.leave_out(job, "this share is done; the last one to finish joins them")


@contextlib.contextmanager
def _bar(settings: Settings) -> Iterator:
    """Show a bar with frames a second and the time left, if stderr is a terminal."""
    if settings.quiet or not is_terminal(sys.stderr):
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("opening", total=None, rate="")
        state: dict[str, Any] = {"stage": "", "began": 0.0, "base": 0}

        def tell(stage: str, done: int, total: int) -> None:
            now = time.perf_counter()
            if stage != state["stage"]:
                state.update(stage=stage, began=now, base=done)
                progress.reset(task, description=stage, completed=done, total=total or None)
            seconds = now - state["began"]
            rate = (done - state["base"]) / seconds if seconds > 1 else 0
            shown = f"{rate:.1f} frames/s" if rate else ""
            progress.update(task, completed=done, total=total or None, rate=shown)

        yield tell
