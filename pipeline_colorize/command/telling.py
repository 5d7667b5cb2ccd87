"""Reads what people say about colours: those a photograph has, places to mend, references."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from pipeline_colorize import Hint, photo

from .job import Job, real_path
from .provenance import given_colors, reference_files
from .settings import Settings

_NEEDS_EXTRA = 'needs scikit-image and OpenCV, which pip install "pipeline-colorize[tell]" brings'


def check_colored(settings: Settings, count: int) -> None:
    """Raise a UsageError where --hint, --colored, --mend, --strength and --reference do not fit."""
    for name, given in (("--hint", settings.hint), ("--colored", settings.colored)):
        if given and count > 1:
            raise click.UsageError(f"{name} is for one photograph, but there are {count}.")
    if (settings.mend or settings.strength != 1) and not settings.colored:
        name = "--mend" if settings.mend else "--strength"
        raise click.UsageError(f"{name} changes the colours of a result; name it by --colored.")
    if settings.chroma_only and settings.colored:
        raise click.UsageError("--chroma-only does not mend; write the result whole.")
    if settings.keep_tints and (settings.chroma_only or settings.colored):
        name = "--colored" if settings.colored else "--chroma-only"
        raise click.UsageError(f"--keep-tints takes the colours of each photograph; omit {name}.")
    if settings.consistent and (settings.samples > 1 or settings.colored):
        name = "--samples" if settings.samples > 1 else "--colored"
        raise click.UsageError(f"--consistent gives each photograph one answer, without {name}.")
    for path in (settings.colored, *settings.reference):
        if path and not Path(path).exists():
            raise click.UsageError(f"{path}: no such file or folder.")


def color_options(settings: Settings, one: photo.Photo) -> dict[str, Any]:
    """Return the options of a call that keep colours, and that say where others are invented."""
    if settings.keep_tints:
        tints = photo.tint_mask(one.image)
        return {"color_image": [one.image], "mask_image": [1 - tints]} if tints.any() else {}
    if not settings.colored:
        return {}
    inputs: dict[str, Any] = {
        "color_image": [photo.read(settings.colored).image],
        "strength": settings.strength,
    }
    if settings.mend:
        masks = _from_extra("masks", "--mend")
        found = [masks.thing_mask(one.image, *place) for place in settings.mend]
        inputs["mask_image"] = [np.max(found, axis=0)]
    return inputs


def all_hints(settings: Settings, one: photo.Photo) -> list[Hint]:
    """Return the hints that are typed, and before them those that references give."""
    hints = [Hint(*hint) for hint in settings.hint]
    if settings.reference:
        album = _reference_album(settings, given_colors(settings)["references"])
        hints = album.hints_of(one.image_with_alpha) + hints
    return hints


def new_album():
    """Make an album for --consistent, which needs packages that may not be there."""
    return _from_extra("albums", "--consistent").Album()


def reference_pictures(settings: Settings) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the references of a run by name, each when it is asked for."""
    for path in settings.reference:
        for file in reference_files(path):
            yield file.name, photo.read(file).image


def without_references(jobs: list[Job], settings: Settings) -> list[Job]:
    """Leave out jobs whose results are references, and so have the colours that they should."""
    files = {real_path(file) for path in settings.reference for file in reference_files(path)}
    if not files:
        return jobs
    return [
        job for job in jobs if not any(real_path(path) in files for path in job.results(settings))
    ]


def _from_extra(name: str, option: str):
    """Import a module of the room `telling`, which needs packages that may not be there."""
    try:
        import cv2  # noqa: F401
        import skimage  # noqa: F401
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{option} {_NEEDS_EXTRA}.") from error
    from pipeline_colorize.telling import albums, masks, references

    return {"albums": albums, "masks": masks, "references": references}[name]


@functools.lru_cache(maxsize=1)
def _reference_album(settings: Settings, content: str):
    """Make the album of the references that all photographs share, once for each content."""
    references = _from_extra("references", "--reference")
    return references.reference_album(image for _, image in reference_pictures(settings))
