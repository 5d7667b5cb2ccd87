"""Makes a manual page for `man` out of a command's help."""

import itertools

import click

from .options import Command

# https://man7.org/linux/man-pages/man7/man.7.html
_HEAD = '.TH {title} 1 "" "{name} {version}" "User Commands"'


def manual_page(ctx: click.Context, version: str) -> str:
    """Return the manual page of a command, in the format of man(7).

    Args:
        ctx: of the command, which is a `Command`.
        version: of the program.
    """
    command, name = ctx.command, ctx.info_name or ""
    if not isinstance(command, Command):
        raise ValueError(f"{name} is not a Command with sections and examples.")
    usage = " ".join(command.collect_usage_pieces(ctx))
    purpose, *paragraphs = (command.help or "").split("\n\n")
    lines = [_HEAD.format(title=name.upper(), name=name, version=version)]
    lines += [".SH NAME", f"{name} \\- {_escaped(purpose.rstrip('.').lower())}"]
    lines += [".SH SYNOPSIS", f".B {name}", _escaped(usage), ".SH DESCRIPTION"]
    lines += _paragraphs([*paragraphs, *command.notes])
    lines.append(".SH OPTIONS")
    for title, records in command.sections(ctx).items():
        lines.append(f".SS {title}")
        lines += _list(records)
    lines.append(".SH EXAMPLES")
    lines += _list(command.examples)
    return "\n".join(lines) + "\n"


def _paragraphs(texts) -> list[str]:
    return [line for text in texts for line in (".PP", _escaped(" ".join(text.split())))]


def _list(records) -> list[str]:
    """Write terms in bold, each with its text indented below."""
    lines = [(".TP", f".B {_escaped(term)}", _escaped(text)) for term, text in records]
    return list(itertools.chain(*lines))


def _escaped(text: str) -> str:
    """Escape what man(7) takes as an instruction, and hyphens, so that they can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text
