"""Finds shots that show again what an earlier one has shown, by one working light of each."""

from collections import deque
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from ..telling.references import match_reference

# The frame of a shot by which it is compared, unless the shot is shorter than twice that.
_PLACE = 8
# Frames after a cut by which it is known at the latest, and some more.
_LAG = 4
# Rows and columns of the light by which likely shots are chosen, how alike it has to be (its
# correlation), and how many of them are looked at closely.
_SMALL, _LIKE, _MOST = (12, 16), 0.4, 3


def scene_place(frames: int) -> int:
    """Return the frame of a shot of so many frames by which it is compared with others.

    >>> scene_place(5), scene_place(500)
    (2, 8)
    """
    return min(_PLACE, (frames - 1) // 2)


class ShotLights:
    """Keeps one working light a shot while frames come in."""

    def __init__(self) -> None:
        self._packed: list[np.ndarray] = []
        self._recent: deque[np.ndarray] = deque(maxlen=2 * _PLACE + _LAG)
        self._length = 0
        self._chosen: np.ndarray | None = None

    def add(self, light: np.ndarray, new: int | None = None) -> None:
        """Take the working light (h, w) of the next frame.

        Args:
            light: of the frame.
            new: how many frames, with this one, belong to a new shot; `None` if none do.
        """
        self._recent.append(light)
        self._length += 1
        if new is not None and new < self._length:
            self._end(self._length - new)
            self._length, self._chosen = new, None
        if self._length == _PLACE + 1:
            self._chosen = light

    def _end(self, length: int) -> None:
        light = self._chosen
        if light is None or length <= 2 * _PLACE:
            light = self._recent[scene_place(length) - self._length]
        self._packed.append(cv2.imencode(".jpg", light)[1])

    def finished(self) -> list[np.ndarray]:
        """Return the packed lights of all shots, in order; no frame comes after this."""
        if self._length:
            self._end(self._length)
            self._length = 0
        return self._packed


def find_scenes(
    packed: Sequence[np.ndarray], tell: Callable[[int], None] | None = None
) -> list[int | None]:
    """Find for each shot the earlier one that it shows again.

    Args:
        packed: the light of each shot, from `ShotLights`.
        tell: is called with how many shots have been looked at.

    Returns:
        The places of the earlier shots among `packed`; `None` for a shot that shows something new.
    """
    small = np.zeros((len(packed), _SMALL[0] * _SMALL[1]))
    scenes: list[int | None] = []
    for number, one in enumerate(packed):
        light = _unpacked(one)
        small[number] = _outline(light)
        likeness = small[:number] @ small[number]
        likely = [int(other) for other in np.argsort(-likeness, kind="stable")[:_MOST]]
        matches = {
            other: len(match_reference(light, _in_color(_unpacked(packed[other]))))
            for other in likely
            if likeness[other] > _LIKE
        }
        best = max(matches, key=lambda other: matches[other], default=None)
        scenes.append(best if best is not None and matches[best] else None)
        if tell:
            tell(number + 1)
    return scenes


def roots(scenes: Sequence[int | None]) -> list[int]:
    """Find for each shot the first shot of those that show the same.

    >>> roots([None, None, 0, 2, 1])
    [0, 1, 0, 0, 1]
    """
    first: list[int] = []
    for number, earlier in enumerate(scenes):
        first.append(number if earlier is None else first[earlier])
    return first


def _unpacked(one: np.ndarray) -> np.ndarray:
    light = cv2.imdecode(one, cv2.IMREAD_GRAYSCALE)
    assert light is not None  # since it was packed here
    return light


def _in_color(light: np.ndarray) -> np.ndarray:
    return np.repeat(light[..., None], 3, axis=2)


def _outline(light: np.ndarray) -> np.ndarray:
    """Reduce the light to a unit vector: very small, without its brightness and contrast."""
    rows, columns = _SMALL
    plane = cv2.resize(light, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float64)
    plane -= plane.mean()
    return plane.ravel() / max(float(np.linalg.norm(plane)), 1e-6)
