"""Colours from other pictures of the same thing: another print, another frame, another crop.

Light is matched with light, so colour does not decide; where nothing matches, nothing is given.
It needs the extra `tell` (OpenCV).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.colorimetry import rgb_pixels_to_lab
from ..core.hints import Hint
from ..core.luminance import see
from ..core.margins import Box, Frame
from ..core.mending import read_mend
from .matching import find_features, match_features

# Colours are the mean over this share of the short side around a place.
_PATCH = 0.015
# Hints keep this share of the short side between each other.
_SPACING = 0.09


@dataclass(frozen=True)
class Match:
    """A place that a picture shares with a reference.

    Args:
        x: pixels from the left edge of the picture.
        y: pixels from its top edge.
        chroma: (2,), a*b* of the reference there.
        confidence: 0 to 1, how much more alike the place is than the second best.
    """

    x: float
    y: float
    chroma: np.ndarray
    confidence: float


def match_reference(image: Any, reference: Any) -> list[Match]:
    """Find the places of a picture that a reference in colour shows as well.

    Features of light (SIFT, Lowe 2004) are matched by mutual nearest neighbours with a ratio test.
    Only matches on which one perspective map agrees are kept, and only if they are many: a
    reference of something else gives none.

    Args:
        image: a picture (PIL or array); only its luminance is used.
        reference: a picture in colour (PIL or array), of any size.

    Returns:
        The matches, the surest first; an empty list if the two show different things.
    """
    seen = [find_features(see(one).luminance) for one in (image, reference)]
    found = match_features(*seen)
    if len(found) == 0:
        return []
    chroma = _chroma_at(reference, found.theirs)
    kept = zip(found.ours, chroma, found.confidence, strict=True)
    matches = [Match(float(x), float(y), ab, float(sure)) for (x, y), ab, sure in kept]
    return sorted(matches, key=lambda match: -match.confidence)


def reference_hints(image: Any, references: Sequence[Any], most: int = 24) -> list[Hint]:
    """Give a picture the colours of references, as hints where they show the same.

    Args:
        image: a picture (PIL or array); only its luminance is used.
        references: pictures in colour.
        most: the largest number of hints; the surest matches are taken, apart from one another.

    Returns:
        Hints for a call of the pipeline; an empty list where nothing matches.
    """
    matches = [match for one in references for match in match_reference(image, one)]
    frame = Frame.find(see(image), find_margins=True)
    matches.sort(key=lambda match: -match.confidence)
    return choose_hints(matches, frame.size, frame.box, most)


def choose_hints(
    matches: Sequence[Match],
    size: tuple[int, int],
    box: Box,
    most: int,
    spacing: float = _SPACING,
) -> list[Hint]:
    """Make hints of matches, the first ones first, apart from one another and inside margins.

    Args:
        matches: places in pixels of the picture.
        size: height and width of the picture.
        box: `(top, bottom, left, right)` of what lies inside its margins, which take no hints.
        most: the largest number of hints.
        spacing: how far they are from each other at least, as a share of the short side.
    """
    top, bottom, left, right = box
    kept: list[Match] = []
    places = np.empty((0, 2))
    for match in matches:
        place = np.array([match.x, match.y])
        near = (np.hypot(*(places - place).T) < spacing * min(size)).any()
        inside = left <= match.x < right and top <= match.y < bottom
        if len(kept) < most and inside and not near:
            kept.append(match)
            places = np.vstack([places, place])
    return [Hint(one.x, one.y, _as_color(one.chroma)) for one in kept]


def _chroma_at(reference: Any, places: np.ndarray) -> np.ndarray:
    """The mean a*b* of a picture around places (N, 2), (N, 2)."""
    mend = read_mend(reference, None, see(reference).luminance.shape)
    assert mend is not None  # since there is a picture
    height, width = mend.mask.shape
    reach = max(round(_PATCH * min(height, width)), 1)
    result = []
    for x, y in places.round().astype(int):
        rows = slice(max(y - reach, 0), max(y + reach + 1, 1))
        columns = slice(max(x - reach, 0), max(x + reach + 1, 1))
        patch = mend.colors[rows, columns]
        patch = patch / 255 if patch.dtype == np.uint8 else patch
        result.append(rgb_pixels_to_lab(patch)[..., 1:].mean((0, 1)))
    return np.array(result)


def _as_color(chroma: np.ndarray) -> tuple[int, int, int]:
    """A colour of sRGB, in 0..255, whose a*b* is as near as possible to `chroma` (2,)."""
    from skimage.color import lab2rgb

    tried = np.array([[lightness, *chroma] for lightness in (60, 50, 70, 40, 80, 30, 90)])
    colors = np.rint(255 * lab2rgb(tried).clip(0, 1)).astype(int)
    off = np.linalg.norm(rgb_pixels_to_lab(colors / 255)[:, 1:] - chroma, axis=1)
    red, green, blue = colors[int((off - off.min() < 0.5).argmax())].tolist()
    return red, green, blue
