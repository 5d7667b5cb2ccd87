"""Finds places that two pictures share, by their light alone; needs the extra `tell` (OpenCV)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

# Short side at which features of light are looked for, and the most features of a picture.
_DETAIL = 480
_MOST = 2000
# A match counts if the second best is this much farther (Lowe 2004, section 7.1).
_RATIO = 0.75
# The probability that a match has the right colour, if the second best is as alike, and if it is
# nothing like it; measured on frames of films (docs/notebook/2026-11-30-confidence.md).
_CONFIDENCE = 0.95, 1.0
# How far a matched place may lie from where the others put it, as a share of the short side.
_TOLERANCE = 0.02
# The least number of matches that agree, and their least share of all.
_LEAST, _LEAST_SHARE = 12, 0.25
# Cells along the short side of the small light by which places between matches are checked; how
# far L* may differ there, after a straight fit; how far from three matches a place may lie, and how
# far places lie from one another, as shares of the short side.
_CELLS = 64
_SAME_LIGHT = 6.0
_REACH = 0.15
_STEP = 0.05
# The least spread of the matches, as a share of the short side: a stamp or a scratch that two
# pictures share is smaller than a thing that they show.
_LEAST_SPREAD = 0.05


@dataclass(frozen=True)
class Features:
    """What is remembered of a picture's light in order to find it again.

    Args:
        size: height and width of the picture, in pixels.
        places: (N, 2), float32, x and y in pixels.
        described: (N, 128), uint8, what the light around each place is like.
        light: (h, w), float16, L* on a grid of `_CELLS` cells along the short side.
    """

    size: tuple[int, int]
    places: np.ndarray
    described: np.ndarray
    light: np.ndarray


@dataclass(frozen=True)
class Matches:
    """Places that two pictures share.

    Args:
        ours: (N, 2), x and y in the first picture, in pixels.
        theirs: (N, 2), the same in the second.
        confidence: (N,), the probability that the two have the same colour.
    """

    ours: np.ndarray
    theirs: np.ndarray
    confidence: np.ndarray

    def __len__(self) -> int:
        return len(self.confidence)

    def reversed(self) -> "Matches":
        """Return the same, seen from the second picture."""
        return Matches(self.theirs, self.ours, self.confidence)


NO_MATCHES = Matches(np.empty((0, 2)), np.empty((0, 2)), np.empty(0))


def find_features(luminance: np.ndarray, most: int = _MOST) -> Features:
    """Describe the light of a picture at places that are easy to find again (SIFT, Lowe 2004).

    Args:
        luminance: (H, W), L* in [0, 100].
        most: the largest number of places.
    """
    import cv2

    scale = min(_DETAIL / min(luminance.shape), 1)
    size = tuple(max(round(side * scale), 1) for side in reversed(luminance.shape))
    small = PIL.Image.fromarray(luminance).resize(size, PIL.Image.Resampling.BILINEAR)
    light: Any = np.rint(np.asarray(small) * 2.55).astype(np.uint8)
    light = cv2.createCLAHE(2.0, (8, 8)).apply(light)  # prints differ in contrast
    search: Any = cv2.SIFT.create(most)
    points, described = search.detectAndCompute(light, None)
    height, width = luminance.shape
    grid = [max(round(side * _CELLS / min(height, width)), 1) for side in (width, height)]
    coarse = PIL.Image.fromarray(luminance).resize((grid[0], grid[1]), PIL.Image.Resampling.BOX)
    places = np.array([point.pt for point in points], np.float32).reshape(-1, 2)
    described = np.empty((0, 128)) if described is None else described
    return Features(
        (height, width),
        places / np.float32(scale),
        described.astype(np.uint8),
        np.asarray(coarse).astype(np.float16),
    )


def match_features(ours: Features, theirs: Features) -> Matches:
    """Find the places that two pictures share.

    Features are matched by mutual nearest neighbours with a ratio test. Only matches on which one
    perspective map agrees are kept, and only if they are many: pictures of different things share
    none.
    """
    pairs = _mutual_pairs(ours.described, theirs.described)
    if len(pairs) < _LEAST:
        return NO_MATCHES
    first, second, confidence = (np.array(column) for column in zip(*pairs, strict=True))
    places, other = ours.places[first], theirs.places[second]
    agreed = _agreeing(places, other, ours.size)
    if agreed.sum() < max(_LEAST, _LEAST_SHARE * len(pairs)):
        return NO_MATCHES
    found = Matches(places[agreed], other[agreed], confidence[agreed])
    spread = [np.sqrt(np.prod(each.std(0))) for each in (found.ours, found.theirs)]
    shares = [one / min(seen.size) for one, seen in zip(spread, (ours, theirs), strict=True)]
    return found if max(shares) >= _LEAST_SPREAD else NO_MATCHES


def fill_between(ours: Features, theirs: Features, matches: Matches) -> Matches:
    """Add places between matches, such as those on a plain coat, to which no feature belongs.

    The map on which the matches agree says where they lie in the other picture. Only places near
    several matches are added, and only where the light of both is the same but for its strength
    and contrast. Their confidence is that of the least sure match.

    Returns:
        The matches, then the places that are added.
    """
    import cv2
    from scipy.spatial import cKDTree

    found, _ = cv2.findHomography(matches.ours, matches.theirs)
    step = _STEP * min(ours.size)
    x, y = np.meshgrid(*(np.arange(step / 2, side, step) for side in ours.size[::-1]))
    places = np.stack([x.ravel(), y.ravel()], 1)
    far = cKDTree(matches.ours).query(places, 3)[0][:, 2] > _REACH * min(ours.size)
    places = places[~far]
    if found is None or len(places) == 0:
        return matches
    other = cv2.perspectiveTransform(places[None], found)[0]
    inside = ((other >= 0) & (other < theirs.size[::-1])).all(1)
    places, other = places[inside], other[inside]
    known = sample_grid(ours.light, ours.size, matches.ours)
    line = np.polyfit(sample_grid(theirs.light, theirs.size, matches.theirs), known, 1)
    expected = np.polyval(line, sample_grid(theirs.light, theirs.size, other))
    same = np.abs(expected - sample_grid(ours.light, ours.size, places)) < _SAME_LIGHT
    return Matches(
        np.concatenate([matches.ours, places[same]]),
        np.concatenate([matches.theirs, other[same]]),
        np.concatenate([matches.confidence, np.full(same.sum(), _CONFIDENCE[0])]),
    )


def sample_grid(plane: np.ndarray, size: tuple[int, int], places: np.ndarray) -> np.ndarray:
    """Read a coarse plane (h, w) over a picture of `size` at places (N, 2) in pixels, (N,)."""
    from scipy.ndimage import map_coordinates

    cells = [count / side for count, side in zip(plane.shape, size, strict=True)]
    rows, columns = places[:, 1] * cells[0] - 0.5, places[:, 0] * cells[1] - 0.5
    return map_coordinates(plane.astype(np.float32), [rows, columns], order=1, mode="nearest")


def _mutual_pairs(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[int, int, float]]:
    """Return pairs of features that are each other's nearest by far, with their confidence."""
    import cv2

    if min(len(ours), len(theirs)) < 2:
        return []
    first, second = ours.astype(np.float32), theirs.astype(np.float32)
    matcher = cv2.BFMatcher(cv2.NORM_L2)
    back = {match.queryIdx: match.trainIdx for match in matcher.match(second, first)}
    return [
        (best.queryIdx, best.trainIdx, _confidence(best.distance / max(other.distance, 1e-6)))
        for best, other in matcher.knnMatch(first, second, 2)
        if best.distance < _RATIO * other.distance and back[best.trainIdx] == best.queryIdx
    ]


def _confidence(ratio: float) -> float:
    """Estimate how likely a match has the right colour, by its distance and the second best's."""
    least, most = _CONFIDENCE
    return most - (most - least) * ratio


def _agreeing(places: np.ndarray, other: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Tell which pairs (N,) one perspective map agrees on."""
    import cv2

    cv2.setRNGSeed(0)
    tolerance = _TOLERANCE * min(size)
    found, inside = cv2.findHomography(other, places, cv2.RANSAC, tolerance, maxIters=5000)
    if found is None or not 0.1 < abs(np.linalg.det(found[:2, :2])) ** 0.5 < 10:
        return np.zeros(len(places), bool)
    return inside[:, 0].astype(bool)
