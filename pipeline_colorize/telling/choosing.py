"""From places with colours to hints of a picture: the surest first, apart from one another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.colorimetry import rgb_pixels_to_lab
from ..core.hints import Hint
from ..core.margins import Box

# The most hints of a picture, and the share of the short side that they keep between each other.
MOST_HINTS = 200
_SPACING = 0.06
# No match is as certain as a colour that someone sets: with this confidence the result keeps to it,
# and is toned down between matches.
_SUREST = 0.999


@dataclass(frozen=True)
class Match:
    """A place that a picture shares with a reference.

    Args:
        x: pixels from the left edge of the picture.
        y: pixels from its top edge.
        chroma: (2,), a*b* of the reference there.
        confidence: the probability that this is the picture's colour, too.
    """

    x: float
    y: float
    chroma: np.ndarray
    confidence: float


def choose_hints(
    matches: Sequence[Match],
    size: tuple[int, int],
    box: Box,
    most: int = MOST_HINTS,
) -> list[Hint]:
    """Make hints of matches, the first ones first, apart from one another and inside margins.

    Args:
        matches: places in pixels of the picture.
        size: height and width of the picture.
        box: `(top, bottom, left, right)` of what lies inside its margins, which take no hints.
        most: the largest number of hints.
    """
    top, bottom, left, right = box
    kept: list[Match] = []
    places = np.empty((0, 2))
    for match in matches:
        place = np.array([match.x, match.y])
        near = (np.hypot(*(places - place).T) < _SPACING * min(size)).any()
        inside = left <= match.x < right and top <= match.y < bottom
        if len(kept) < most and inside and not near:
            kept.append(match)
            places = np.vstack([places, place])
    return [_as_hint(one) for one in kept]


def _as_hint(match: Match) -> Hint:
    """Return a match as a hint."""
    confidence = min(match.confidence, _SUREST)
    return Hint(match.x, match.y, _as_color(match.chroma), confidence=confidence)


def _as_color(chroma: np.ndarray) -> tuple[int, int, int]:
    """Return a colour of sRGB, in 0..255, whose a*b* is as near as possible to `chroma` (2,)."""
    from skimage.color import lab2rgb

    tried = np.array([[lightness, *chroma] for lightness in (60, 50, 70, 40, 80, 30, 90)])
    colors = np.rint(255 * lab2rgb(tried).clip(0, 1)).astype(int)
    off = np.linalg.norm(rgb_pixels_to_lab(colors / 255)[:, 1:] - chroma, axis=1)
    red, green, blue = colors[int((off - off.min() < 0.5).argmax())].tolist()
    return red, green, blue
