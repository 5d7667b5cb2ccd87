"""Prints the progress of a `colorize` run: a line for each photograph, a bar, and a summary."""

import json
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import click

from pipeline_colorize.core.margins import Box

from .job import STDIN, STDOUT, Job
from .settings import STREAM, Settings

# Line breaks, what steers a terminal, and what turns the direction of a text.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SCREEN = 20  # photographs after which failures have scrolled away and are listed again


def one_line(error: Exception, length: int = 200) -> str:
    """Return an exception's message without line breaks, cut to `length`."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."


def harmless(text: str) -> str:
    r"""Write control characters, which a file's name may hold, as escapes.

    >>> print(harmless("a\nb.jpg"))
    a\nb.jpg
    """
    return _CONTROL.sub(lambda one: one[0].encode("unicode_escape").decode(), text)


def say(text: str) -> None:
    """Print a line of this command to stderr."""
    click.echo(f"colorize: {harmless(text)}", err=True)


def _print(line: str) -> None:
    """Print a line to stdout; if nobody reads it, no photograph fails for that."""
    line = harmless(line)
    try:
        click.echo(line)
    except UnicodeEncodeError:  # a name that is not text, or not in the terminal's encoding
        click.echo(line.encode("utf-8", "surrogateescape"))
    except OSError:  # the reader has gone, as `head` does, or its disk is full
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _as_rectangle(box: Box) -> dict[str, int]:
    top, bottom, left, right = box
    return {"left": left, "top": top, "width": right - left, "height": bottom - top}


def _margins_text(box: Box) -> str:
    place = _as_rectangle(box)
    return (
        f"has margins, which stay neutral; the photograph inside is {place['width']} x "
        f"{place['height']} at ({place['left']}, {place['top']}) (--no-find-margins colours all)"
    )


@dataclass
class Counts:
    """Counts photographs by what became of them."""

    total: int = 0
    colorized: int = 0
    changed: int = 0  # those of them that had been colorized before they were changed
    framed: int = 0  # those of them that had margins
    skipped: int = 0
    failed: list[str] = field(default_factory=list)  # the photograph and the reason

    def __add__(self, other: "Counts") -> "Counts":
        """Return the counts of two processes that share the photographs of one run."""
        return Counts(
            max(self.total, other.total),
            self.colorized + other.colorized,
            self.changed + other.changed,
            self.framed + other.framed,
            self.skipped + other.skipped,
            self.failed + other.failed,
        )

    def summary(self) -> str:
        """Summarize the counts; failures are named again if they may have scrolled away."""
        parts = [f"{self.colorized} colorized"]
        if self.changed:
            parts[0] += f" ({self.changed} of them had changed since the last run)"
        if self.framed and self.total > 1:
            parts.append(f"{self.framed} had margins, which stay neutral (--no-find-margins)")
        if self.skipped:
            parts.append(f"{self.skipped} done already (--overwrite does them again)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        lines = [", ".join(parts)]
        if self.failed and self.total > _SCREEN:
            lines += [f"  {line}" for line in self.failed]
        return "\n".join(lines)


class Report:
    """Prints and counts what becomes of each photograph.

    Results go to stdout, a line for each; messages go to stderr. With --json, stdout gets an
    object for each photograph instead. With --quiet, only failures and --json's objects are said.

    Args:
        settings: of the run.
        silent: for a process beside another one that finds and says the same.
    """

    def __init__(self, settings: Settings, silent: bool = False):
        self.counts = Counts()
        self.advance: Callable[[], None] = lambda: None  # the progress bar, by one photograph
        self.shown: Callable[[Path], str] = str  # how results are named
        self._settings, self._silent = settings, silent
        self._notes: dict[str, list[str]] = defaultdict(list)  # of photographs under way

    def done(
        self,
        job: Job,
        written: list[Path],
        seconds: float,
        again: bool = False,
        settings: Mapping[str, object] | None = None,
        box: Box | None = None,
    ) -> None:
        """Report a photograph that was coloured.

        Args:
            job: of the photograph.
            written: all files that were written for it.
            seconds: that it took.
            again: whether it had been colorized before, and has changed since.
            settings: its model and seed, where they are not those of the run.
            box: `(top, bottom, left, right)` of what lies inside margins, where it has some.
        """
        self.counts.colorized += 1
        self.counts.changed += again
        self.counts.framed += box is not None
        if box and self.counts.total == 1:
            self.note(job.name, _margins_text(box))
        results = [path for path in job.results(self._settings) if path in written]
        if not self._settings.json and not self._settings.quiet and job.target != STDOUT:
            for path in results:
                _print(f"{job.name} -> {self.shown(path)}")
        own = {name: settings.get(name) for name in ("model", "seed")} if settings else {}
        place = {"photograph": _as_rectangle(box)} if box else {}
        self._finish(job, "colorized", written, **own, seconds=round(seconds, 3), **place)

    def skip(self, job: Job) -> None:
        """Report a photograph whose results are there already."""
        self.counts.skipped += 1
        self._finish(job, "done already", job.results(self._settings))

    def leave_out(self, job: Job, reason: str) -> None:
        """Report a photograph that is not to be colorized."""
        self.note(job.name, f"left out; {reason}")
        self._finish(job, "left out", [])

    def announce(self, job: Job) -> None:
        """Print what would be written for a photograph."""
        results = job.results(self._settings)
        if not self._settings.json and not self._settings.quiet:
            for path in results:
                _print(f"{job.name} -> {self.shown(path)}")
        self._finish(job, "to do", results)

    def fail(self, photograph: Job | str | Path, reason: object) -> None:
        """Report something that was not coloured, with a reason of one line."""
        name = photograph.name if isinstance(photograph, Job) else str(photograph)
        self.counts.failed.append(harmless(f"{name}: {reason}"))
        if not self._silent:
            say(f"{name}: {reason}")
        self._finish(photograph, "failed", [], error=str(reason))

    def note(self, name: str | Path, text: object) -> None:
        """Print a remark about a photograph, by its name, or about the run."""
        if self._settings.json:
            self._notes[str(name)].append(str(text))
        if not self._silent and not self._settings.quiet:
            say(f"{name}: {text}")

    def summarize(self, text: str) -> None:
        """Print the last line."""
        if not self._settings.quiet:
            click.echo(text, err=True)

    def _finish(
        self, photograph: Job | str | Path, status: str, files: list[Path], /, **more: object
    ) -> None:
        self.advance()
        if not self._settings.json or self._silent:
            return
        job = photograph if isinstance(photograph, Job) else None
        source = job.source if job else photograph
        names = [STREAM if path == STDOUT else self.shown(path) for path in files]
        record = {
            "input": STREAM if source == STDIN else str(source),
            **({"row": job.row} if job and job.row is not None else {}),
            **({"member": job.member} if job and job.member is not None else {}),
            **({"page": job.page + 1} if job and job.page is not None else {}),
            "status": status,
            "output": names[0] if names else None,
            "outputs": names,
            "model": self._settings.model,
            "seed": self._settings.seed,
            **more,
            "warnings": self._notes.pop(job.name if job else str(photograph), []),
        }
        _print(json.dumps(record))


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is shown on a screen."""
    return stream.isatty()


class Bar:
    """Shows a progress bar if it is `shown` and stderr is a terminal."""

    def __init__(self, total: int, shown: bool):
        self._progress = _rich_progress() if shown and is_terminal(sys.stderr) else None
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
        """Show what is going on."""
        if self._progress:
            self._progress.update(self._task, description=text)

    def advance(self) -> None:
        """Count one more photograph."""
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
        redirect_stdout=is_terminal(sys.stdout),
    )
