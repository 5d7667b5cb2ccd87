"""Hints: colours that someone gives at places of a picture, drawn onto the chroma grid."""

import contextlib
import importlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .colorimetry import rgb_pixels_to_lab

# A network sees a hint of at least this confidence as certain: it never learned from one between.
NEARLY_CERTAIN = 0.95

# How much of the colour that the cell of a hint lacks is added to the cells around it, (17, 17): a
# Gaussian with a standard deviation of three cells.
HINT_FADE = np.exp(-(np.hypot(*np.mgrid[-8:9, -8:9]) ** 2) / (2 * 3**2)).astype(np.float32)


@dataclass
class Hint:
    """A colour that is given at one place of a picture.

    Args:
        x: pixels from the left edge of the input.
        y: pixels from its top edge.
        color: "#RRGGBB", or (red, green, blue) in 0..255; its lightness is not used.
        radius: in pixels of the input; `None` for the one cell of the chroma grid that holds it.
        confidence: the probability that the colour is right, above 0 and at most 1. From .95 on,
            the result has the colour there, and with 1, colour around it is not toned down or made
            stronger. Below .95, the network decides how far to follow it; one that was trained
            without doubtful colours (`doubtful_hints`) takes .5 and more for certain and leaves out
            the rest.

    >>> Hint(140, 95, "#7a1f2b").chroma().round(1).tolist()
    [39.8, 15.8]
    """

    x: float
    y: float
    color: str | tuple[int, int, int]
    radius: float | None = None
    confidence: float = 1.0

    def chroma(self) -> np.ndarray:
        """a* and b* of the colour, (2,).

        Raises:
            ValueError: if the colour is neither "#RRGGBB" nor three values in 0..255.
        """
        color: tuple[int, ...] = ()
        if not isinstance(self.color, str):
            color = self.color
        else:
            with contextlib.suppress(ValueError):
                color = tuple(bytes.fromhex(self.color.removeprefix("#")))
        if len(color) != 3 or not all(0 <= value <= 255 for value in color):
            raise ValueError(
                f"A hint's color is '#RRGGBB' or three values in 0..255, not {self.color!r}."
            )
        return rgb_pixels_to_lab(np.array(color) / 255)[1:]


def draw_hints(
    hints: list[Hint], size: tuple[int, int], grid: tuple[int, int], doubtful: bool = True
) -> np.ndarray:
    """Draw hints, whose places are in pixels of the input, onto the chroma grid.

    Args:
        hints: of one picture; a later hint covers an earlier one.
        size: height and width of the picture.
        grid: rows and columns of cells.
        doubtful: whether the network knows that hints may be wrong. For one that does, hints of a
            confidence of .95 and more are certain; for one that does not, hints below .5 are left
            out and all others are certain.

    Returns:
        (1, 3, rows, columns), float32: a*, b*, and a mask that has the confidence in the cells of a
        hint and 0 elsewhere.

    Raises:
        ValueError: if a hint lies outside the picture, its colour is not one, or its confidence
            does not lie above 0 and up to 1.
    """
    result = np.zeros((1, 3, *grid), np.float32)
    cell = [pixels / cells for pixels, cells in zip(size, grid, strict=True)]
    y = (np.arange(grid[0]) + 0.5)[:, None] * cell[0]
    x = (np.arange(grid[1]) + 0.5)[None, :] * cell[1]
    for hint in hints:
        if not (0 <= hint.x < size[1] and 0 <= hint.y < size[0]):
            raise ValueError(
                f"The hint at ({hint.x}, {hint.y}) lies outside the picture, which is "
                f"{size[1]} wide and {size[0]} high."
            )
        if not 0 < hint.confidence <= 1:
            raise ValueError(
                f"A hint's confidence lies above 0 and is at most 1, not {hint.confidence}."
            )
        if hint.confidence >= (NEARLY_CERTAIN if doubtful else 0.5):
            confidence = 1.0
        elif doubtful:
            confidence = hint.confidence
        else:
            continue
        place = (x - hint.x) ** 2 + (y - hint.y) ** 2 <= (hint.radius or 0) ** 2
        place[int(hint.y / cell[0]), int(hint.x / cell[1])] = True
        result[0, :2, place] = hint.chroma()
        result[0, 2, place] = confidence
    return result


def hint_influence(hints: np.ndarray) -> np.ndarray:
    """Return how far hints decide the colour of each cell: their confidence, and less around them.

    Args:
        hints: (1, 3, h, w), as from `draw_hints`.

    Returns:
        (h, w), float32 in [0, 1].
    """
    place = hints[0, 2]
    margin = len(HINT_FADE) // 2
    influence = np.zeros([side + 2 * margin for side in place.shape], np.float32)
    for row, column in np.argwhere(place):
        around = slice(row, row + len(HINT_FADE)), slice(column, column + len(HINT_FADE))
        influence[around] += place[row, column] * HINT_FADE
    return influence[margin:-margin, margin:-margin].clip(max=1)


def certain_influence(
    hints: list[Hint], size: tuple[int, int], grid: tuple[int, ...]
) -> np.ndarray:
    """Return how far hints of confidence 1 decide the colour of each cell, (rows, columns).

    Near these, colours are as strong as someone wants them. Between many hints that were found by
    matching, the network exaggerates them as it does its own where it is sure, so balance is needed
    there as well. Arguments are those of `draw_hints`.
    """
    certain = [hint for hint in hints if hint.confidence == 1]
    return hint_influence(draw_hints(certain, size, (grid[0], grid[1])))


def move_hints(hints: list[Hint], box: tuple[int, int, int, int]) -> list[Hint]:
    """Return the places of hints inside a part of a picture, `(top, bottom, left, right)`.

    Raises:
        ValueError: if a hint lies outside, where nothing is coloured.
    """
    top, bottom, left, right = box
    for hint in hints:
        if not (left <= hint.x < right and top <= hint.y < bottom):
            raise ValueError(
                f"The hint at ({hint.x}, {hint.y}) lies outside the photograph, which has its left "
                f"upper corner at ({left}, {top}) and is {right - left} wide and {bottom - top} "
                "high; margins are not coloured."
            )
    return [replace(hint, x=hint.x - left, y=hint.y - top) for hint in hints]


def hints_by_picture(hints: list | None, count: int) -> list[list[Hint]]:
    """Sort what a call gives as `hints` into one list for each picture.

    Args:
        hints: hints of the only picture, or one list of hints for each picture. A hint is a
            [`Hint`] or a tuple (x, y, color[, radius[, confidence]]).
        count: the number of pictures.

    Raises:
        ValueError: if there is not one list a picture, or something is no hint.
    """
    if hints is None:
        return [[] for _ in range(count)]
    if not isinstance(hints, list | tuple):
        raise ValueError(f"`hints` is a list of hints, not {hints!r}.")
    if len(hints) == 0:
        return [[] for _ in range(count)]
    if _is_hint(hints[0]):
        hints = [hints]
    if len(hints) != count:
        raise ValueError(f"`hints` needs one list a picture, so {count}, but it has {len(hints)}.")
    return [
        [_as_hint(hint) for hint in (one if isinstance(one, list | tuple) else [one])]
        for one in hints
    ]


def with_references(hints: list[list[Hint]], images: list, references: Any) -> list[list[Hint]]:
    """Put the hints that references give under those that are there already.

    Args:
        hints: a list for each picture.
        images: the pictures; only their luminance is used.
        references: pictures in colour for all of them, or a list of pictures for each; `None` for
            none.

    Raises:
        ValueError: if there is not one list a picture, or the package that matches is missing.
    """
    if references is None:
        return hints
    try:  # by name, since it does not travel with a release
        matching = importlib.import_module("pipeline_colorize.telling.references")
    except ImportError as error:
        raise ValueError(
            '`reference_images` needs pip install "pipeline-colorize[tell]".'
        ) from error
    found = matching.hints_by_picture(images, references)
    return [below + above for below, above in zip(found, hints, strict=True)]


def _is_hint(given) -> bool:
    return isinstance(given, Hint) or (
        isinstance(given, tuple) and len(given) > 2 and not isinstance(given[0], Hint | tuple)
    )


def _as_hint(given) -> Hint:
    hint = (
        Hint(*given) if _is_hint(given) and isinstance(given, tuple) and len(given) <= 5 else given
    )
    if not isinstance(hint, Hint) or not _is_place(hint):
        raise ValueError(
            f"A hint is Hint(x, y, color) or a tuple such as (140, 95, '#7a1f2b'), not {given!r}."
        )
    return hint


def _is_place(hint: Hint) -> bool:
    """Tell whether a hint's numbers of pixels, and its confidence, are numbers."""
    numbers = (hint.x, hint.y, hint.radius or 0, hint.confidence)
    return all(isinstance(one, int | float | np.number) for one in numbers)
