"""Tells photographs in colour from black-and-white ones, among which toned and yellowed prints are.

The colours of a print that was toned, or has yellowed, follow from its lightness, or change little
by little across the paper. What neither explains is the colour of things.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from ..core.colorimetry import rgb_pixels_to_lab

# Cells to the longer side of the coarse picture that is judged, and pixels to a cell's side that
# are looked at: grain and the compression of colours are smaller than a cell.
_CELLS = 64
_SAMPLES = 8
# The share of each side that is left out at both ends, where mounts and colour targets lie.
_BORDER = 0.15
# The distance in a*b* from which a cell counts less, so that things in colour do not bend the tone.
_ROBUST = 4.0
_ROUNDS = 5
# The area (product of two standard deviations) in a*b* that unexplained colours take at least.
# Real toned prints reach 0.6, and prints with drawn stains and mixed light stay below this in 39 of
# 40. Above are 74 of 78 early colour photographs, and three quarters of 40 faded slides.
_LEAST_AREA = 4.5
_LEAST_SIDE = 16  # pixels
_GRAY = 0.02  # difference of the channels below which no cell has a colour
# Distances in a*b* from the tone of the paper: a cell is tinted from the second one on, and is not
# below the first. Stains, and colours of a JPEG's blocks, are weaker.
_TINTED = 5.0, 9.0
_TINT_CELLS = 160  # to the longer side


def is_in_color(pixels: np.ndarray, to_srgb: Callable = lambda cells: cells) -> bool:
    """Tell whether a picture has colours that no toning, yellowing or uneven light explains.

    Args:
        pixels: (H, W, C), as uint8, uint16 or float in [0, 1].
        to_srgb: makes sRGB (h, w, 3) in [0, 1] of pixels (h, w, C) in [0, 1], where they are not.

    Returns:
        `False` for black-and-white and toned pictures, and where there are too few pixels to say.
    """
    if pixels.shape[2] == 1 or min(pixels.shape[:2]) < _LEAST_SIDE:
        return False
    cells = to_srgb(_coarse_center(pixels))
    if np.ptp(cells, axis=2).max() < _GRAY:
        return False
    lab = rgb_pixels_to_lab(cells)
    chroma = lab[..., 1:].reshape(-1, 2)
    unexplained = chroma - _explained(lab[..., 0], chroma)
    covariance = np.cov(unexplained.T)
    return bool(np.sqrt(max(0.0, np.linalg.det(covariance))) > _LEAST_AREA)


def tint_mask(pixels: np.ndarray) -> np.ndarray:
    """Find where a black-and-white photograph was tinted by hand.

    A tint is a colour that neither the lightness nor the place on the paper explains, so the tone
    of a print that was toned or has yellowed is none. A `mask_image` of `1 - tint_mask(pixels)`
    with the photograph itself as `color_image` keeps the tints and colours the rest.

    Args:
        pixels: (H, W) or (H, W, 1 or 3), sRGB as uint8, uint16 or float in [0, 1].

    Returns:
        (H, W), float32 in [0, 1]: 1 where there is a tint.
    """
    height, width = pixels.shape[:2]
    if pixels.ndim == 2 or pixels.shape[2] == 1 or min(height, width) < _LEAST_SIDE:
        return np.zeros((height, width), np.float32)
    cells = _coarse(pixels, _TINT_CELLS)
    lab = rgb_pixels_to_lab(cells)
    chroma = lab[..., 1:].reshape(-1, 2)
    distance = np.hypot(*(chroma - _explained(lab[..., 0], chroma)).T).reshape(cells.shape[:2])
    least, most = _TINTED
    tinted = ((_neighbours(distance).mean(0) - least) / (most - least)).clip(0, 1)
    if not tinted.any():
        return np.zeros((height, width), np.float32)
    grown = Image.fromarray(_neighbours(tinted).max(0).astype(np.float32))  # as far as its edges
    return np.asarray(grown.resize((width, height), Image.Resampling.BILINEAR))


def _neighbours(plane: np.ndarray) -> np.ndarray:
    """Return each cell with the eight around it, (9, h, w)."""
    height, width = plane.shape
    padded = np.pad(plane, 1, mode="edge")
    return np.stack([padded[y : y + height, x : x + width] for y in range(3) for x in range(3)])


def _coarse_center(pixels: np.ndarray) -> np.ndarray:
    """Average the middle of a picture (H, W, C) into few cells (h, w, C), in [0, 1]."""
    height, width = pixels.shape[:2]
    top, left = int(_BORDER * height), int(_BORDER * width)
    return _coarse(pixels[top : height - top, left : width - left], _CELLS)


def _coarse(middle: np.ndarray, cells: int) -> np.ndarray:
    """Average a picture (H, W, C) into at most about `cells` to the longer side, in [0, 1]."""
    channels = middle.shape[2]
    step = max(1, max(middle.shape[:2]) // (cells * _SAMPLES))
    middle = middle[::step, ::step]
    side = max(1, max(middle.shape[:2]) // cells)
    rows, columns = (max(1, length // side) for length in middle.shape[:2])
    middle = middle[: rows * side, : columns * side]
    top_value = np.iinfo(middle.dtype).max if middle.dtype.kind == "u" else 1
    blocks = middle.reshape(rows, min(side, len(middle)), columns, -1, channels)
    return blocks.mean(axis=(1, 3), dtype=np.float32) / top_value


def _explained(lightness: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Fit a*b* (N, 2) robustly by a cubic of L* (h, w) and one of the place."""
    tone = (lightness.ravel() - 50) / 50
    y, x = (line.ravel() for line in np.meshgrid(*map(_unit, lightness.shape), indexing="ij"))
    places = [x**i * y**j for i in range(4) for j in range(4 - i) if i + j]
    terms = np.stack([*(tone**power for power in range(4)), *places, tone * x, tone * y], axis=1)
    weights = np.ones((len(tone), 1))
    for _ in range(_ROUNDS):
        fit = np.linalg.lstsq(terms * weights, chroma * weights, rcond=None)[0]
        distance = np.hypot(*(chroma - terms @ fit).T)
        weights = 1 / np.sqrt(1 + (distance[:, None] / _ROBUST) ** 2)
    return terms @ fit


def _unit(count: int) -> np.ndarray:
    return np.linspace(-1, 1, count)
