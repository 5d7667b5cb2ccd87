"""Keeps what is hidden under alpha from deciding colours.

The values of transparent pixels are left over from whatever made the file. The network sees in
their place what lies around them, and a half transparent pixel counts half. The file needs numpy
and Pillow alone, and it travels to the Hub.
"""

from dataclasses import dataclass

import numpy as np
import PIL.Image

# Cells to the longer side of the grid on which the surroundings of hidden pixels are averaged.
CELLS = 64
# The L* of a picture of which nothing is visible.
NOTHING = 50.0

_BOX, _BILINEAR = PIL.Image.Resampling.BOX, PIL.Image.Resampling.BILINEAR


def alpha_of_array(pixels: np.ndarray) -> np.ndarray | None:
    """The alpha of a picture array (H, W[, C]) as (H, W) in [0, 1]; `None` where it has none.

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
    return Light(*leave_out_hidden(luminance, alpha, NOTHING), _visible_box(alpha > 0))


def leave_out_hidden(
    values: np.ndarray, alpha: np.ndarray, nothing: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A plane (H, W) as it is written, and as it decides colours.

    Args:
        values: of any range.
        alpha: (H, W) in [0, 1].
        nothing: the value of a plane of which nothing is visible.

    Returns:
        Two planes in float32. The first has the surroundings' values where alpha is 0, and the
        second goes over to them by alpha.
    """
    weight = alpha / max(float(alpha.max()), 1e-6)  # a picture that is faint all over is one
    fill = _surroundings(values, weight, nothing)
    own = np.where(alpha > 0, values, fill)
    return own, fill + weight * (own - fill)


def _surroundings(values: np.ndarray, weight: np.ndarray, nothing: float) -> np.ndarray:
    """The smooth mean of what is visible around each place of a plane, (H, W) float32.

    Means over cells are taken from coarse to fine, and a cell has of its own mean as much as is
    visible of it (pull and push, Gortler et al. 1996).
    """
    height, width = values.shape
    scale = min(1, CELLS / max(height, width))
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    seen = weight * np.where(weight > 0, values, 0)
    pyramid = [[_resized_plane(plane, rows, columns, _BOX) for plane in (seen, weight)]]
    while max(pyramid[-1][0].shape) > 1:
        rows, columns = ((side + 1) // 2 for side in pyramid[-1][0].shape)
        pyramid.append([_resized_plane(plane, rows, columns, _BOX) for plane in pyramid[-1]])
    total, share = pyramid.pop()
    if share[0, 0] == 0:
        return np.full(values.shape, nothing, np.float32)
    mean = total / share
    for total, share in reversed(pyramid):
        rows, columns = total.shape
        mean = total + (1 - share) * _resized_plane(mean, rows, columns, _BILINEAR)
    return _resized_plane(mean, height, width, _BILINEAR)


def _resized_plane(
    plane: np.ndarray, rows: int, columns: int, method: PIL.Image.Resampling
) -> np.ndarray:
    image = PIL.Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((columns, rows), method))


def _visible_box(visible: np.ndarray) -> tuple[int, int, int, int]:
    """The rows and columns that hold all visible pixels; the whole where there are none."""
    rows, columns = (np.flatnonzero(visible.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0, visible.shape[0], 0, visible.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
