"""Holds the options of a `colorize` run, and their defaults."""

import re
from dataclasses import dataclass
from typing import Any

from PIL import ImageColor

STREAM = "-"
"""Stands for standard input among the inputs, and for standard output as the output."""


@dataclass(frozen=True)
class Settings:
    """Holds the options of a run; `None` leaves a value to the model."""

    # Photographs and results.
    inputs: tuple[str, ...] = ()  # as typed: files, folders, patterns, or STREAM
    output: str | None = None  # as typed: a file, a folder, or STREAM; beside each photograph
    recursive: bool = False
    overwrite: bool = False
    keep_dates: bool = False
    recolor: bool = False
    keep_tints: bool = False
    pages: bool = False
    chroma_only: bool = False
    chroma: str | None = None  # as typed: a chroma file, or a folder of them
    shard: tuple[int, int] | None = None  # (which, of how many), the first one is 1
    dry_run: bool = False
    json: bool = False
    quiet: bool = False

    model: str = "default"
    seed: int = 0
    samples: int = 1
    candidates: int | None = None
    hint: tuple[tuple[Any, ...], ...] = ()  # what `Hint` takes
    colored: str | None = None  # as typed: the photograph in the colours that are kept
    mend: tuple[tuple[float, ...], ...] = ()  # (x, y) or (x, y, radius), in pixels
    strength: float = 1.0
    reference: tuple[str, ...] = ()  # as typed: pictures in colour, or folders of them
    consistent: bool = False
    saturation: float = 1.0
    temperature: float | None = None
    steps: int | None = None
    scheduler: str | None = None
    eta: float | None = None
    processing_resolution: int | None = None
    second_look: float | None = None
    find_margins: bool = True

    # Films.
    begin: float = 0.0  # in seconds
    end: float | None = None
    preview: float | None = None
    codec: str | None = None
    quality: int | None = None
    shots: str | None = None
    keep_work: bool = False

    compare: bool = False
    uncertainty: bool = False
    intermediates: bool = False

    batch_size: int = 1
    runtime: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    max_pixels: int = 100_000_000


def parse_hint(text: str) -> tuple[Any, ...]:
    """Read a hint such as "140,95,#7a1f2b", "140,95,darkred" or "140,95,darkred,0.6".

    Returns:
        What `Hint` takes: (x, y, "#rrggbb"), and with a confidence (x, y, "#rrggbb", None, 0.6).

    Raises:
        ValueError: where `text` is not two numbers of pixels and a colour, or the confidence does
            not lie above 0 and up to 1.
    """
    number = r"\s*(\d+(?:\.\d+)?)\s*"
    color = r"\s*(#?[0-9a-fA-F]{6}|[a-zA-Z]+)\s*"
    match = re.fullmatch(rf"{number},{number},{color}(?:,\s*(\d*\.?\d+)\s*)?", text)
    if match is None:
        raise ValueError(
            f"{text!r} is not X,Y,COLOR or X,Y,COLOR,CONFIDENCE, as in 140,95,#7a1f2b or "
            "140,95,darkred,0.6."
        )
    hint = float(match[1]), float(match[2]), _parse_color(match[3])
    confidence = float(match[4] or 1)
    if not 0 < confidence <= 1:
        raise ValueError(f"a confidence lies above 0 and is at most 1, not {match[4]}.")
    return hint if confidence == 1 else (*hint, None, confidence)


def parse_mend(text: str) -> tuple[float, ...]:
    """Read a place to mend such as "140,95" or "140,95,60" as (x, y) or (x, y, radius).

    Raises:
        ValueError: where `text` is not two or three numbers of pixels.
    """
    number = r"\s*(\d+(?:\.\d+)?)\s*"
    match = re.fullmatch(rf"{number},{number}(?:,{number})?", text)
    if match is None or (match[3] is not None and float(match[3]) == 0):
        raise ValueError(f"{text!r} is not X,Y or X,Y,RADIUS, as in 140,95 or 140,95,60.")
    return tuple(float(part) for part in match.groups() if part is not None)


def _parse_color(text: str) -> str:
    """Read "#rrggbb", "rrggbb" or a CSS name as "#rrggbb"; anything else is a ValueError."""
    if re.fullmatch("#?[0-9a-fA-F]{6}", text):
        return f"#{text.removeprefix('#').lower()}"
    if text.lower() not in ImageColor.colormap:
        raise ValueError(
            f"there is no colour named {text!r}; use a name of CSS, such as darkred or olive, "
            "or six digits, as in #7a1f2b."
        )
    red, green, blue = ImageColor.getrgb(text)[:3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def parse_shard(text: str) -> tuple[int, int]:
    """Read a share such as "2/8" as (2, 8).

    Raises:
        ValueError: where `text` is not I/N with I from 1 to N.
    """
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{text!r} is not I/N with I from 1 to N, as in 2/8.")
    return int(match[1]), int(match[2])


def parse_time(text: str) -> float:
    """Read a time such as "10s", "90", "2m", "1:30" or "0:01:30.5" in seconds.

    Raises:
        ValueError: where `text` is none of these.
    """
    number = r"\d+(?:\.\d+)?"
    if match := re.fullmatch(rf"\s*({number})\s*(s|m|h)?\s*", text):
        return float(match[1]) * {"m": 60, "h": 3600}.get(match[2] or "s", 1)
    if match := re.fullmatch(rf"\s*(?:(\d+):)?(\d+):({number})\s*", text):
        return int(match[1] or 0) * 3600 + int(match[2]) * 60 + float(match[3])
    raise ValueError(f"{text!r} is no time; write 90, 10s, 2m, 1:30 or 0:01:30.5.")
