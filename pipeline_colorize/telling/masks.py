"""Masks of things: from a click or a stroke to the part of a picture that it means.

It needs the extra `tell` (scikit-image).
"""

import numpy as np
import PIL.Image

from ..core.hints import Hint
from ..core.luminance import see

# Pixels along the side of the part of a picture in which a thing is looked for.
_DETAIL = 128
# The share of the radius within which all belongs to the thing that is clicked on.
_CORE = 0.2
# How much light's edges hinder the walk from the click (Grady 2006, beta).
_EDGES = 400.0


def thing_mask(
    image: PIL.Image.Image | np.ndarray,
    x: float,
    y: float,
    radius: float | None = None,
    grow: float = 0,
) -> np.ndarray:
    """Find the thing at a place: a soft mask that ends where the light has edges.

    A random walker (Grady 2006) starts at each pixel around the place. The mask says how likely it
    meets the place before it meets the circle around it; it seldom crosses an edge in the light.

    Args:
        image: the photograph; only its luminance is used.
        x: pixels from the left edge.
        y: pixels from the top edge.
        radius: how far the thing may reach, in pixels; `None` for a sixth of the short side.
        grow: pixels by which the mask is grown, or shrunk where it is negative.

    Returns:
        (H, W), float32 in [0, 1], for `mask_image`; 0 beyond `radius`, apart from what it is grown.

    Raises:
        ValueError: if the place lies outside the picture, or the radius is not positive.
    """
    from skimage.segmentation import random_walker

    luminance = see(image).luminance
    height, width = luminance.shape
    radius = min(height, width) / 6 if radius is None else radius
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"({x}, {y}) lies outside the picture, which is {width} x {height}.")
    if not radius > 0:
        raise ValueError(f"`radius` must be positive, not {radius}.")
    reach = radius * 1.15 + 2
    rows, columns = (
        slice(max(int(place - reach), 0), min(int(place + reach) + 2, side))
        for place, side in ((y, height), (x, width))
    )
    size = rows.stop - rows.start, columns.stop - columns.start
    scale = min(_DETAIL / max(size), 1)
    small = tuple(max(round(side * scale), 3) for side in size)
    light = _resized(luminance[rows, columns], small)
    down, across = (
        (np.arange(count) + 0.5) * side / count + part.start - place
        for count, side, part, place in zip(small, size, (rows, columns), (y, x), strict=True)
    )
    distance = np.hypot(down[:, None], across[None, :])
    labels = np.zeros(small, np.int32)
    labels[distance >= radius] = 2
    labels[distance <= max(_CORE * radius, distance.min())] = 1
    if not (labels == 2).any():  # the circle holds the whole picture
        return np.ones((height, width), np.float32)
    walk = random_walker(_even(light), labels, beta=_EDGES, mode="cg_j", return_full_prob=True)
    part = _grown(((walk[0] - 0.15) / 0.25).clip(0, 1), grow * scale)
    mask = np.zeros((height, width), np.float32)
    mask[rows, columns] = _resized(part, size).clip(0, 1)
    return mask


def region_hints(mask: np.ndarray, color: str | tuple[int, int, int], most: int = 12) -> list[Hint]:
    """Give a region one colour: hints that lie within a mask and fill most of it.

    Args:
        mask: (H, W), in [0, 1].
        color: as in [`Hint`].
        most: the largest number of hints.

    Returns:
        Hints, the largest first, for a call that has the same `mask_image`.

    Raises:
        ValueError: if the mask is empty.
    """
    from scipy.ndimage import distance_transform_edt

    inside = np.pad(np.asarray(mask) > 0.5, 1)
    if not inside.any():
        raise ValueError("The mask is empty, so no colour can be set there.")
    y, x = np.ogrid[: inside.shape[0], : inside.shape[1]]
    hints: list[Hint] = []
    largest = None
    while len(hints) < most:
        depth = distance_transform_edt(inside)
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        radius = float(depth[row, column])
        largest = largest or radius
        if radius < max(largest / 5, 1):
            break
        hints.append(Hint(int(column) - 1, int(row) - 1, color, max(0.8 * radius - 1, 0)))
        inside = inside & (np.hypot(y - row, x - column) > radius)
    return hints


def _resized(plane: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    image = PIL.Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((size[1], size[0]), PIL.Image.Resampling.BILINEAR))


def _even(light: np.ndarray) -> np.ndarray:
    """Smooth light (h, w): the walker would take each speck of grain for an edge."""
    from scipy.ndimage import gaussian_filter, median_filter

    return gaussian_filter(median_filter(light.astype(np.float64), 3), 0.7) / 100


def _grown(mask: np.ndarray, pixels: float) -> np.ndarray:
    """Return a soft mask that is grown by so many pixels, or shrunk."""
    from skimage.morphology import dilation, disk, erosion

    if round(abs(pixels)) == 0:
        return mask
    return (dilation if pixels > 0 else erosion)(mask, disk(round(abs(pixels))))
