"""Finds the shots of a film on its working light, and keeps them as a table."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

# A cut's difference in light is this many times that of the frames around it, and at least the
# second number (the mean over the frame, of 255).
_RATIO, _LEAST = 3.0, 15.0
# Frames that a shot has at least.
SHORTEST = 4


class ShotFinder:
    """Finds cuts while frames come in, with PySceneDetect's detector of sudden changes."""

    lag = 3
    """A cut is known at the latest this many frames after it."""

    def __init__(self) -> None:
        from scenedetect.detectors import AdaptiveDetector

        self._detector = AdaptiveDetector(_RATIO, SHORTEST, 2, _LEAST, luma_only=True)
        self._count = 0

    def add(self, light: np.ndarray) -> int | None:
        """Take the next working light (h, w).

        Returns:
            `None`, or after a cut how many of the frames so far belong to the new shot.
        """
        from scenedetect import FrameTimecode

        small = cv2.resize(light, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        place = FrameTimecode(self._count, Fraction(25))
        cuts = self._detector.process_frame(place, cv2.cvtColor(small, cv2.COLOR_GRAY2BGR))
        self._count += 1
        return self._count - cuts[-1].frame_num if cuts else None


def find_shots(lights: Iterable[np.ndarray]) -> list[int]:
    """Return the first frame of each shot among working lights, beginning with 0."""
    finder, starts = ShotFinder(), [0]
    for count, light in enumerate(lights, 1):
        if (new := finder.add(light)) is not None:
            starts.append(count - new)
    return starts


@dataclass(frozen=True)
class Shot:
    """The frames of a shot: from `start` up to and without `stop`."""

    start: int
    stop: int


def shots_between(starts: list[int], frames: int) -> list[Shot]:
    """Return the shots that begin at `starts` in a film of so many frames."""
    inside = sorted({0, *(start for start in starts if start < frames)})
    return [Shot(*pair) for pair in zip(inside, [*inside[1:], frames], strict=True)]


def write_shots(path: Path, shots: list[Shot], times: list[float]) -> None:
    """Write a table of shots: number, first frame, last frame, and when it begins in seconds."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["shot", "first_frame", "last_frame", "begins"])
        for number, shot in enumerate(shots, 1):
            begins = f"{times[shot.start]:.3f}"
            writer.writerow([number, shot.start, shot.stop - 1, begins])


def read_starts(path: Path) -> list[int]:
    """Read the first frame of each shot from a table, of which the column `first_frame` counts.

    Raises:
        ValueError: if there is no such column, or a value is no number.
    """
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return [int(row["first_frame"]) for row in rows]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path} needs a column first_frame with the number of each shot's first frame."
        ) from None


def read_shots(path: Path, frames: int) -> list[Shot]:
    """Read a table of the shots of a film that has so many frames.

    Raises:
        ValueError: if it is no such table, or a value is no frame of the film.
    """
    starts = read_starts(path)
    wrong = [start for start in starts if not 0 <= start < frames]
    if wrong:
        raise ValueError(f"{path}: there is no frame {wrong[0]}; the film has {frames}.")
    return shots_between(starts, frames)
