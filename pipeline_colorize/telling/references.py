"""Colours from other pictures of the same thing: another print, another frame, another crop.

Light is matched with light, so colour does not decide; where nothing matches, nothing is given.
It needs the extra `tell` (OpenCV).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from ..core.colorimetry import rgb_pixels_to_lab
from ..core.hints import Hint
from ..core.luminance import see
from ..core.margins import Frame
from ..core.mending import read_mend

# Short side at which features of light are looked for.
_DETAIL = 480
# A match counts if the second best is this much farther (Lowe 2004, section 7.1).
_RATIO = 0.75
# How far a matched place may lie from where the others put it, as a share of the short side.
_TOLERANCE = 0.02
# The least number of matches that agree, and their least share of all.
_LEAST, _LEAST_SHARE = 12, 0.25
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
    ours, theirs = _features(see(image).luminance), _features(see(reference).luminance)
    pairs = _mutual_pairs(ours[1], theirs[1])
    if len(pairs) < _LEAST:
        return []
    first, second, confidence = (np.array(column) for column in zip(*pairs, strict=True))
    places, other = ours[0][first], theirs[0][second]
    agreed = _agreeing(places, other, see(image).luminance.shape)
    if agreed.sum() < max(_LEAST, _LEAST_SHARE * len(pairs)):
        return []
    chroma = _chroma_at(reference, other[agreed])
    kept = zip(places[agreed], chroma, confidence[agreed], strict=True)
    found = [Match(float(x), float(y), ab, float(sure)) for (x, y), ab, sure in kept]
    return sorted(found, key=lambda match: -match.confidence)


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
    light = see(image)
    top, bottom, left, right = Frame.find(light, find_margins=True).box  # margins take no hints
    spacing = _SPACING * min(light.luminance.shape)
    hints: list[Hint] = []
    for match in sorted(matches, key=lambda match: -match.confidence):
        near = (np.hypot(match.x - hint.x, match.y - hint.y) < spacing for hint in hints)
        inside = left <= match.x < right and top <= match.y < bottom
        if len(hints) < most and inside and not any(near):
            hints.append(Hint(match.x, match.y, _as_color(match.chroma)))
    return hints


def _features(luminance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (N, 2) as x, y in pixels, and descriptions (N, 128) of features of light."""
    import cv2

    scale = min(_DETAIL / min(luminance.shape), 1)
    size = tuple(max(round(side * scale), 1) for side in reversed(luminance.shape))
    small = PIL.Image.fromarray(luminance).resize(size, PIL.Image.Resampling.BILINEAR)
    light: Any = np.rint(np.asarray(small) * 2.55).astype(np.uint8)
    light = cv2.createCLAHE(2.0, (8, 8)).apply(light)  # prints differ in contrast
    search: Any = cv2.SIFT.create(2000)
    points, described = search.detectAndCompute(light, None)
    if described is None:
        return np.empty((0, 2)), np.empty((0, 128), np.float32)
    return np.array([point.pt for point in points]) / scale, described


def _mutual_pairs(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[int, int, float]]:
    """Pairs of features that are each other's nearest by far, with how much nearer, 0 to 1."""
    import cv2

    if min(len(ours), len(theirs)) < 2:
        return []
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    back = {match.queryIdx: match.trainIdx for match in matcher.match(theirs, ours)}
    return [
        (best.queryIdx, best.trainIdx, 1 - best.distance / max(second.distance, 1e-6))
        for best, second in matcher.knnMatch(ours, theirs, 2)
        if best.distance < _RATIO * second.distance and back[best.trainIdx] == best.queryIdx
    ]


def _agreeing(places: np.ndarray, other: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Which pairs (N,) one perspective map agrees on."""
    import cv2

    cv2.setRNGSeed(0)
    tolerance = _TOLERANCE * min(size)
    found, inside = cv2.findHomography(other, places, cv2.RANSAC, tolerance, maxIters=5000)
    if found is None or not 0.1 < abs(np.linalg.det(found[:2, :2])) ** 0.5 < 10:
        return np.zeros(len(places), bool)
    return inside[:, 0].astype(bool)


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

    best, least = (128, 128, 128), math.inf
    for lightness in (60, 50, 70, 40, 80, 30, 90):
        rgb = np.rint(255 * lab2rgb([lightness, *chroma]).clip(0, 1)).astype(int)
        off = float(np.linalg.norm(rgb_pixels_to_lab(rgb / 255)[1:] - chroma))
        if off < least - 0.5:
            best, least = (int(rgb[0]), int(rgb[1]), int(rgb[2])), off
    return best
