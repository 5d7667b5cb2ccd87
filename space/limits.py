"""What the Space allows: environment variables, with defaults that are safe on a small machine."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Limits:
    """Each field is set by the environment variable COLORIZE_ and its name in capitals."""

    max_mb: int = 40  # megabytes (10^6 bytes) of a file
    max_pixels: int = 50_000_000  # of a photograph
    max_samples: int = 8  # colourings at a time
    max_steps: int = 100
    max_photographs: int = 40  # in one batch
    queue: int = 40  # jobs that may wait; more are turned away
    concurrency: int = 1  # jobs that run at the same time
    keep_minutes: float = 60  # until uploads and results are deleted

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Limits":
        """The settings of this machine; ValueError names a variable that cannot be understood."""
        values = {}
        for field in fields(cls):
            name = f"COLORIZE_{field.name.upper()}"
            if text := environment.get(name):
                values[field.name] = _positive(name, text, field.type)
        return cls(**values)


def _positive(name: str, text: str, kind: Callable[[str], Number]) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = 0
    if not value > 0:
        noun = "a whole number of at least 1" if kind is int else "a number above 0"
        raise ValueError(f"{name} is {noun}, not {text!r}.")
    return value


def switched_on(name: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a variable says yes."""
    return environment.get(name, "").strip().lower() in ("1", "true", "yes", "on")
