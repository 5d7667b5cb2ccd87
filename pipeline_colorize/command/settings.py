"""What a `colorize` run is asked for, and the defaults of every option."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The options of a run, as the command line has them; `None` leaves a value to the model."""

    inputs: tuple[str, ...] = ()
    output: Path | None = None
    model: str = "default"
    steps: int | None = None
    samples: int = 1
    candidates: int | None = None
    seed: int = 0
    scheduler: str | None = None
    eta: float | None = None
    processing_resolution: int | None = None
    second_look: float | None = None
    batch_size: int = 1
    runtime: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    saturation: float = 1.0
    temperature: float | None = None
    hint: tuple[tuple[float, float, str], ...] = ()
    compare: bool = False
    uncertainty: bool = False
    intermediates: bool = False
    overwrite: bool = False
    recursive: bool = False
    max_pixels: int = 100_000_000


def parse_hint(text: str) -> tuple[float, float, str]:
    """Read "X,Y,#RRGGBB" as (x, y, "#rrggbb").

    Raises:
        ValueError: where `text` is anything else.
    """
    number = r"\s*(\d+(?:\.\d+)?)\s*"
    match = re.fullmatch(rf"{number},{number},\s*#?([0-9a-fA-F]{{6}})\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is not X,Y,#RRGGBB, as in 140,95,#7a1f2b")
    return float(match[1]), float(match[2]), f"#{match[3].lower()}"
