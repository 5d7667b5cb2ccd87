"""What a `colorize` run prints: a line a photograph, a progress bar, and a summary at the end."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import click

_SCREEN = 20  # photographs after which failures have scrolled away and are listed again


def one_line(error: Exception, length: int = 200) -> str:
    """An exception's message without line breaks, cut to `length`."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."


def _tell(line: str) -> None:
    """A line to stdout; what stands there is no reason to say that a photograph failed."""
    try:
        click.echo(line)
    except UnicodeEncodeError:  # a name that is not text, or not in the terminal's encoding
        click.echo(line.encode("utf-8", "surrogateescape"))
    except OSError:  # the reader has gone, as `head` does, or its disk is full
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


@dataclass
class Report:
    """What became of the photographs."""

    total: int = 0
    colorized: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    advance: Callable[[], None] = lambda: None  # the progress bar, by one photograph

    def done(self, name: str, results: list[Path]) -> None:
        """A photograph is through; each result that was written goes to stdout."""
        self.colorized += 1
        for result in results:
            _tell(f"{name} -> {result}")
        self.advance()

    def fail(self, name: str | Path, reason: object) -> None:
        """Something was not colorized, for a reason of one line."""
        self.failed.append(f"{name}: {reason}")
        self.note(name, reason)
        self.advance()

    def note(self, name: str | Path, text: object) -> None:
        """A word about a photograph, to stderr."""
        click.echo(f"colorize: {name}: {text}", err=True)

    def summary(self) -> str:
        """How many of what; failures once more by name, where they have scrolled away."""
        parts = [f"{self.colorized} colorized"]
        if self.skipped:
            parts.append(f"{self.skipped} done already (--overwrite does them again)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        lines = [", ".join(parts)]
        if self.failed and self.total > _SCREEN:
            lines += [f"  {line}" for line in self.failed]
        return "\n".join(lines)


class Unheard(Report):
    """Of a process beside one on the same machine that finds and says the same."""

    def note(self, name: str | Path, text: object) -> None:
        """Nothing."""


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
