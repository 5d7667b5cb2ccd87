"""What the Space allows: environment variables, with defaults that are safe on a small machine."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

RESOLUTIONS = (64, 1024)  # short side at which colours are invented, least and most
LONGEST_POINTS = 10_000  # characters
MOST_POINTS = 200


@dataclass(frozen=True)
class Range:
    """What a number that somebody sends may be."""

    what: str
    least: float
    most: float
    default: float | None  # where there is none
    whole: bool = True

    def read(self, value: object) -> float | None:
        """Return the number itself; a ValueError for people where it is not one of these."""
        if value is None:
            return self.default
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        if number is None or not self.least <= number <= self.most:  # NaN is neither
            raise ValueError(
                f"The {self.what} lies between {self.least} and {self.most}; "
                f"it cannot be {short(value)}."
            )
        if self.whole and number != math.floor(number):
            raise ValueError(f"The {self.what} is a whole number; it cannot be {short(value)}.")
        return int(number) if self.whole else float(number)


def work(samples: int, steps: int, candidates: int, resolution: float) -> float:
    """Count what a photograph costs: millions of working pixels, of which a cell has 4 x 4."""
    return samples * steps * candidates * resolution**2 / 1e6


def short(value: object) -> str:
    """Return what somebody sent, so that it can stand in a message."""
    try:
        text = " ".join(str(value).split())
    except ValueError:  # whole numbers of thousands of digits
        text = "so large a number"
    return text if 0 < len(text) <= 40 else f"{text[:40]!r}..." if text else "empty"


@dataclass(frozen=True)
class Limits:
    """Each field is set by the environment variable COLORIZE_ and its name in capitals."""

    max_mb: int = 40  # megabytes (10^6 bytes) of a file
    max_pixels: int = 50_000_000  # of a photograph
    max_samples: int = 8  # colourings at a time
    max_steps: int = 100
    max_photographs: int = 40  # in one batch
    max_references: int = 8  # pictures in colour that a photograph gets colours of
    max_film_seconds: float = 20
    max_film_frames: int = 600
    max_film_pixels: int = 2_100_000  # of a frame
    queue: int = 40  # jobs that may wait; more are turned away
    concurrency: int = 1  # jobs that run at the same time
    max_jobs: int = 8  # of one visitor, waiting and running
    max_work: int = 40  # of one job: see `work`
    keep_minutes: float = 60  # until uploads and results are deleted

    def ranges(self) -> dict[str, Range]:
        """Return the numbers that a job has, by name; all of them are read by this."""
        return {
            "samples": Range("number of colourings", 1, self.max_samples, 1),
            "seed": Range("seed", 0, 2**63 - 1, 0),
            "steps": Range("number of steps", 1, self.max_steps, None),
            "saturation": Range("saturation", 0, 3, 1.0, whole=False),
            "resolution": Range("working resolution", *RESOLUTIONS, None),
        }

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """Read the settings of this machine; ValueError names a variable that makes no sense."""
        kinds = get_type_hints(cls)
        values: dict[str, Any] = {}
        for field in fields(cls):
            name = f"COLORIZE_{field.name.upper()}"
            if text := environment.get(name):
                values[field.name] = _positive(name, text, kinds[field.name])
        return cls(**values)


def _positive(name: str, text: str, kind: Callable[[str], float]) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not value > 0:
        noun = "a whole number of at least 1" if kind is int else "a number above 0"
        raise ValueError(f"{name} is {noun}, not {text!r}.")
    return value


def switched_on(name: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether a variable says yes."""
    return environment.get(name, "").strip().lower() in ("1", "true", "yes", "on")
