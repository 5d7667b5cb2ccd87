"""Keeps what is hidden under alpha from deciding colours.

The values of transparent pixels are left over from whatever made the file. The network sees in
their place what lies around them, and a half transparent pixel counts half. The file needs numpy
and Pillow alone, and it travels to the Hub.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import PIL.Image

from .sizes import row_chunks

# Cells to the longer side of the grid on which the surroundings of hidden pixels are averaged.
CELLS = 64
# The L* of a picture of which nothing is visible.
NOTHING = 50.0

_BOX, _BILINEAR = PIL.Image.Resampling.BOX, PIL.Image.Resampling.BILINEAR


def alpha_of_array(pixels: np.ndarray) -> np.ndarray | None:
    """Read the alpha of an array (H, W[, C]) as (H, W) in [0, 1]; `None` where it has none.

    It is the last of two or four channels, of uint8, uint16, bool or floating point in [0, 1].
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (2, 4):
        return None
    alpha = pixels[..., -1]
    if alpha.dtype.kind == "u":
        return alpha.astype(np.float32) / np.iinfo(alpha.dtype).max
    return alpha.astype(np.float32)


@dataclass(frozen=True)
class Light:
    """The luminance of a picture as it is written, and as it decides the colours.

    Args:
        luminance: (H, W), L* in [0, 100]: the picture's own, and where it is fully transparent
            what lies around.
        seen: (H, W), L* in [0, 100], without what alpha hides; the same array where there is no
            alpha.
        visible: `(top, bottom, left, right)`, outside of which all is fully transparent.
    """

    luminance: np.ndarray
    seen: np.ndarray
    visible: tuple[int, int, int, int]


def see_light(luminance: np.ndarray, alpha: np.ndarray | None) -> Light:
    """Leave out of a picture's luminance what its alpha hides.

    Args:
        luminance: (H, W), L* in [0, 100], float32.
        alpha: (H, W) in [0, 1], from 0 for a hidden to 1 for a visible pixel; `None` for a picture
            without transparency.

    Example:
        >>> luminance, alpha = np.float32([[20, 20, 99]]), np.float32([[1, 1, 0]])
        >>> see_light(luminance, alpha).seen.round(3).tolist()
        [[20.0, 20.0, 20.0]]
    """
    height, width = luminance.shape
    if alpha is None or alpha.min() == 1:
        return Light(luminance, luminance, (0, height, 0, width))
    own, seen = luminance.copy(), luminance.copy()
    for rows, *planes in hidden_rows(luminance, alpha, NOTHING):
        own[rows], seen[rows] = planes
    return Light(own, seen, _visible_box(alpha > 0))


def hidden_rows(
    values: np.ndarray, alpha: np.ndarray, nothing: float = 0
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield the rows of a plane with hidden parts, as they are written and as they decide.

    A few rows come at a time, so that large pictures take little memory.

    Args:
        values: (H, W), of any range and type.
        alpha: (H, W), of any type; 0 hides a pixel, and the largest that there is shows it.
        nothing: the value of a plane of which nothing is visible.

    Yields:
        A slice of rows, and two planes of them in float32. The first has the surroundings' values
        where alpha is 0, and the second goes over to them by alpha.
    """
    top = float(alpha.max())  # a picture that is faint all over is one
    mean = _surroundings(values, alpha, top) if top else np.full((1, 1), nothing, np.float32)
    down, across = (_interpolation(*sides) for sides in zip(mean.shape, values.shape, strict=True))
    columns = mean @ across.T
    for rows in row_chunks(*values.shape):
        weight = alpha[rows].astype(np.float32) / (top or 1)
        if weight.min() < 1:
            fill = down[rows] @ columns
            own = np.where(weight > 0, values[rows], fill).astype(np.float32)
            yield rows, own, fill + weight * (own - fill)


def _surroundings(values: np.ndarray, alpha: np.ndarray, top: float) -> np.ndarray:
    """Return the mean of what is visible around each cell of a grid over a plane, float32.

    Means over cells are taken from coarse to fine, and a cell has of its own mean as much as is
    visible of it (pull and push, Gortler et al. 1996).
    """
    pyramid = [_cells(values, alpha, top)]
    while max(pyramid[-1][0].shape) > 1:
        rows, columns = ((side + 1) // 2 for side in pyramid[-1][0].shape)
        total, share = (_resized_plane(one, rows, columns, _BOX) for one in pyramid[-1])
        pyramid.append((total, share))
    total, share = pyramid.pop()
    mean = total / share
    for total, share in reversed(pyramid):
        rows, columns = total.shape
        mean = total + (1 - share) * _resized_plane(mean, rows, columns, _BILINEAR)
    return mean


def _cells(values: np.ndarray, alpha: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over cells of what is visible and of how visible it is, on a coarse grid."""
    size = max(values.shape)
    rows, columns = (
        np.linspace(0, side, max(1, round(side * min(1, CELLS / size))) + 1).astype(int)
        for side in values.shape
    )
    widths = np.diff(columns)
    total, share = (np.empty((len(rows) - 1, len(columns) - 1), np.float32) for _ in range(2))
    for index, (start, end) in enumerate(pairwise(rows)):
        weight = alpha[start:end].astype(np.float32) / top
        seen = weight * np.where(weight > 0, values[start:end], 0)
        for cells, plane in ((total, seen), (share, weight)):
            cells[index] = np.add.reduceat(plane.mean(0), columns[:-1]) / widths
    return total, share


def _interpolation(cells: int, size: int) -> np.ndarray:
    """Linear interpolation from the centres of cells to those of pixels, as a matrix."""
    place = ((np.arange(size) + 0.5) * cells / size - 0.5).clip(0, cells - 1)
    return (1 - np.abs(place[:, None] - np.arange(cells))).clip(min=0).astype(np.float32)


def _resized_plane(plane: np.ndarray, rows: int, columns: int, method: int) -> np.ndarray:
    image = PIL.Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((columns, rows), method))


def _visible_box(visible: np.ndarray) -> tuple[int, int, int, int]:
    """Return the rows and columns that hold all visible pixels; the whole where there are none."""
    rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0, visible.shape[0], 0, visible.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
