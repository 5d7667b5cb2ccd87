"""Reads the pictures in colour that --reference gives for films."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from pipeline_colorize import photo
from pipeline_colorize.photo.display import as_picture

from .provenance import reference_files
from .report import one_line
from .settings import parse_time

if TYPE_CHECKING:
    from pipeline_colorize.video import Reference


def read_references(texts: tuple[str, ...]) -> "tuple[Reference, ...]":
    """Read pictures that are typed as PATH or PATH@TIME.

    Args:
        texts: each a picture, a folder of pictures, or a picture and when a film shows it.

    Raises:
        click.ClickException: if there is no such file, or it cannot be read.
    """
    from pipeline_colorize.video import Reference

    found = []
    for text in texts:
        path, time = _path_and_time(text)
        found += [Reference(_read(file), time, file.name) for file in reference_files(str(path))]
    return tuple(found)


def _path_and_time(text: str) -> tuple[Path, float | None]:
    """Return the file or folder, and the time behind an @, if there is one."""
    before, at, after = text.rpartition("@")
    if at and not Path(text).exists():
        with contextlib.suppress(ValueError):
            return Path(before), parse_time(after)
    return Path(text), None


def _read(file: Path) -> np.ndarray:
    try:
        return np.asarray(as_picture(photo.read(file).image))
    except (OSError, ValueError) as error:
        raise click.ClickException(f"--reference {file}: {one_line(error)}") from error
