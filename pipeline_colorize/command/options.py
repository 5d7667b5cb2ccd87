"""Extends click: kinds of options, and a command whose help has sections and examples."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from pipeline_colorize.registry import shipped_models

from .settings import parse_hint, parse_mend, parse_shard, parse_time

_REST = "Help"  # the section of what click adds


class FiniteRange(click.FloatRange):
    """Accepts numbers in a range, but neither "nan" nor "inf"."""

    def convert(self, value, param, ctx):
        """Convert the text of an option; `fail` ends the program with a message."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Parsed(click.ParamType):
    """Accepts a text that a function can read; the function raises a ValueError otherwise.

    Args:
        name: shown in the help as the option's value.
        parse: the function.
    """

    def __init__(self, name: str, parse: Callable[[str], Any]):
        self.name, self._parse = name, parse

    def convert(self, value, param, ctx):
        """Convert the text of an option; `fail` ends the program with a message."""
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


HINT = Parsed("X,Y,COLOR[,CONFIDENCE]", parse_hint)
MEND = Parsed("X,Y[,RADIUS]", parse_mend)
SHARD = Parsed("I/N", parse_shard)
TIME = Parsed("TIME", parse_time)


class PathText(click.ParamType):
    """Accepts a file, a folder, a pattern or "-" as typed; shells complete file names."""

    name = "path"

    def convert(self, value, param, ctx):
        """Refuse an empty text, such as that of a variable that is not set."""
        return value or self.fail("a path cannot be empty.", param, ctx)

    def shell_complete(self, ctx, param, incomplete):
        """Return completions for a shell while the command line is typed."""
        return [CompletionItem(incomplete, type="file")]


class ModelText(click.ParamType):
    """Accepts the name of a model; shells complete shipped names and folders."""

    name = "model"

    def shell_complete(self, ctx, param, incomplete):
        """Return completions for a shell while the command line is typed."""
        names = [name for name in shipped_models() if name.startswith(incomplete)]
        shipped = [CompletionItem(name) for name in names]
        return [CompletionItem(incomplete, type="dir"), *shipped]


class _Option(click.Option):
    """Stands in a section of the help."""

    def __init__(self, *args, section: str, **others):
        super().__init__(*args, **others)
        self.section = section

    def get_help_extra(self, ctx: click.Context):
        """Return default and range in words, for the help."""
        extra = super().get_help_extra(ctx)
        if "default" in extra:
            extra["default"] = extra["default"].strip("()")
        if "range" in extra and isinstance(self.type, click.IntRange | click.FloatRange):
            del extra["range"]
            if self.type.max is not None:  # that a number is positive goes without saying
                extra["range"] = f"{self.type.min} to {self.type.max}"
        return extra


def section(title: str) -> Callable:
    """Return a decorator like `click.option` for the options of one section of the help."""
    return functools.partial(click.option, cls=_Option, section=title)


class Command(click.Command):
    """Shows its options in sections of the help, and examples below them.

    Args:
        examples: command lines, each with what it does.
        notes: paragraphs at the end of the help.
    """

    def __init__(
        self, *args, examples: Sequence[tuple[str, str]] = (), notes: Sequence[str] = (), **others
    ):
        super().__init__(*args, **others)
        self.examples, self.notes = examples, notes

    def sections(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """Return the sections by title, each as pairs of an option and its help."""
        found: dict[str, list[tuple[str, str]]] = {}
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        for option in options:
            title = option.section if isinstance(option, _Option) else _REST
            if record := option.get_help_record(ctx):
                found.setdefault(title, []).append(record)
        return {**found, _REST: found.pop(_REST, [])}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options to the help."""
        for title, records in self.sections(ctx).items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=20)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write examples and notes to the help."""
        with formatter.section("Examples"):
            formatter.write_dl(self.examples, col_max=46)
        for note in self.notes:
            formatter.write_paragraph()
            formatter.write_text(note)
