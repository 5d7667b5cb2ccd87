"""Describes in a result's metadata how its colours came to be, and tells whether it was so."""

import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline_colorize import __version__, photo

from .settings import Settings

_GIVEN = ("colored", "mend", "strength", "references", "consistent", "hints", "tints")


def provenance(pipe, settings: Settings, sample: int, sources: Sequence[str] = ()) -> photo.Mark:
    """Return the description of a result, with all settings that are needed to repeat it.

    Args:
        pipe: the pipeline.
        settings: of the run.
        sample: which answer, from 0.
        sources: the names of pictures whose colours were handed on to this one.
    """
    path = Path(settings.model)
    properties = {
        "model": path.resolve().name if path.exists() else settings.model,
        "seed": settings.seed,
        "sample": f"{sample + 1} of {settings.samples}" if settings.samples > 1 else None,
        "candidates": settings.candidates,
        "steps": settings.steps or pipe.config.default_num_inference_steps,
        "scheduler": _scheduler_name(pipe),
        "eta": settings.eta,
        "processing_resolution": settings.processing_resolution,
        "second_look": settings.second_look,
        "find_margins": None if settings.find_margins else False,
        "saturation": settings.saturation if settings.saturation != 1 else None,
        "temperature": settings.temperature,
        "colors_of": " ".join(sources).replace(";", ",") or None,
        **given_colors(settings),
    }
    return photo.Mark(__version__, {k: v for k, v in properties.items() if v is not None})


def given_colors(settings: Settings) -> dict[str, str]:
    """Return what the settings say about the colours of a photograph; empty if they say nothing.

    Files are named with the first digits of the SHA-256 of their content, by which the right ones
    can be found again.
    """
    properties = {
        "colored": _named(settings.colored) if settings.colored else None,
        "mend": " ".join(_numbers(place) for place in settings.mend),
        "strength": f"{settings.strength:g}" if settings.strength != 1 else None,
        "references": " ".join(_named(path) for path in settings.reference),
        "consistent": "yes" if settings.consistent else None,
        "hints": " ".join(_hint(*hint) for hint in settings.hint),
        "tints": "kept" if settings.keep_tints else None,
    }
    return {name: value for name, value in properties.items() if value}


def says_otherwise(mark: str, settings: Settings) -> bool:
    """Tell whether a result was made by other words about its colours than those of the settings.

    Settings that say nothing take every result: one that was mended is not lost to the next run
    over its folder.

    Args:
        mark: the settings in its metadata, as `photo.Mark` writes them; empty if there are none.
        settings: of the run.
    """
    wanted = given_colors(settings)
    found = dict(part.partition("=")[::2] for part in mark.split("; "))
    return bool(wanted) and any(found.get(name) != wanted.get(name) for name in _GIVEN)


def reference_files(path: str) -> list[Path]:
    """Return the pictures that --reference names: a file, or those in a folder."""
    if not os.path.isdir(path):
        return [Path(path)]
    inside = sorted(Path(path).iterdir())
    return [file for file in inside if file.suffix.lower() in photo.READABLE]


def _named(path: str) -> str:
    """Return the name of a file or folder of pictures, and the digits that tell its content."""
    digest = hashlib.sha256()
    for file in reference_files(path):
        state = os.stat(file)
        digest.update(_digest(str(file), state.st_size, state.st_mtime_ns))
    name = Path(path).resolve().name.replace(";", ",")
    return f"{name}#{digest.hexdigest()[:16]}"


@functools.lru_cache(maxsize=4096)
def _digest(path: str, size: int, changed: int) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _hint(x: float, y: float, color: str, _: None = None, confidence: float = 1.0) -> str:
    """Write a hint as it is typed."""
    return f"{x:g},{y:g},{color}" + (f",{confidence:g}" if confidence != 1 else "")


def _numbers(place: tuple[float, ...]) -> str:
    return ",".join(f"{part:g}" for part in place)


def _scheduler_name(pipe) -> str | None:
    """Return the class name of the scheduler, which onnxruntime replaces by a table."""
    if pipe.scheduler is None:
        return None
    return getattr(pipe, "scheduler_name", type(pipe.scheduler).__name__)
