"""The way from chroma on its grid to full-size colours, in NumPy, one part of a picture at a time.

It is what torch's image processor and the ONNX graph do. Here every pixel is computed by itself
with the same operations, whatever part of the picture is asked for: so parts equal the whole to
the last bit, which matrix products do not promise.
"""

from dataclasses import dataclass

import numpy as np

from pipeline_colorize.core.colorimetry import (
    GAMUT_BISECTIONS,
    GAMUT_TOLERANCE,
    LAB_CURVE_EPSILON,
    LAB_OFFSET,
    LAB_SLOPE,
    LINEAR_SRGB_BELOW,
    RGB_TO_XYZ,
    WHITE_D65,
)
from pipeline_colorize.core.finishing import EVEN_VARIANCE, GUIDE_DETAIL

_CUBIC = -0.75  # the parameter of torch's bicubic interpolation
_TO_RGB = (np.linalg.inv(RGB_TO_XYZ) * WHITE_D65).astype(np.float32)


@dataclass(frozen=True)
class Taps:
    """The four cells that each pixel is interpolated from, and their weights, both (n, 4)."""

    cells: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, cells: int, size: int, start: int, stop: int) -> "Taps":
        """Find the taps of pixels `start` to `stop` of `size` that lie over `cells` cells."""
        position = (np.arange(start, stop) + 0.5) * (cells / size) - 0.5
        first = np.floor(position)
        distance = np.abs(position[:, None] - first[:, None] - np.arange(-1, 3))
        near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
        far = _CUBIC * (((distance - 5) * distance + 8) * distance - 4)
        index = (first[:, None].astype(int) + np.arange(-1, 3)).clip(0, cells - 1)
        return cls(index, np.where(distance <= 1, near, far).astype(np.float32))


def interpolate(grid: np.ndarray, down: Taps, across: Taps) -> np.ndarray:
    """Bicubic interpolation of (C, h, w) to (C, rows, columns)."""
    first, last = down.cells.min(), down.cells.max() + 1
    part = grid[:, first:last]
    wide = sum(part[:, :, across.cells[:, k]] * across.weights[:, k] for k in range(4))
    rows = down.cells - first
    return sum(wide[:, rows[:, k]] * down.weights[:, k, None] for k in range(4))


def fit(chroma: np.ndarray, guide: np.ndarray) -> np.ndarray:
    """Fit chroma as a locally linear function of L*: chroma = slope * L* + offset.

    `fit_guided_upsampling` of torch's image processor says how, and from which papers.

    Args:
        chroma: (2, h, w).
        guide: (8 h, 8 w), L* of the picture at 8 pixels a cell.

    Returns:
        (4, h, w): slopes of a* and b*, then their offsets.
    """
    mean = _pool(guide[None])
    box_mean, box_chroma = _box(mean), _box(chroma)
    variance = _box(mean * mean) - box_mean * box_mean
    slope = (_box(mean * chroma) - box_mean * box_chroma) / (variance + np.float32(EVEN_VARIANCE))
    offset = _box(box_chroma - slope * box_mean)
    slope = _box(slope)
    rows, columns = chroma.shape[1:]
    down = Taps.of(rows, guide.shape[0], 0, guide.shape[0])
    across = Taps.of(columns, guide.shape[1], 0, guide.shape[1])
    missing = chroma - _pool(interpolate(slope, down, across) * guide)
    for _ in range(2):  # so that each cell has the chroma that it had
        offset = offset + missing - _pool(interpolate(offset, down, across))
    return np.concatenate([slope, offset])


def _box(x: np.ndarray) -> np.ndarray:
    """Mean over 3x3 cells, (C, h, w)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / np.float32(9)


def _pool(x: np.ndarray) -> np.ndarray:
    """Mean over the pixels of each cell, (C, 8 h, 8 w) to (C, h, w)."""
    channels, height, width = x.shape
    cells = (channels, height // GUIDE_DETAIL, GUIDE_DETAIL, width // GUIDE_DETAIL, GUIDE_DETAIL)
    return x.reshape(cells).mean(axis=(2, 4), dtype=np.float32)


def merge(luminance: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """Convert L* (R, W) and a*b* (2, R, W) to sRGB (R, W, 3), float32 in [0, 1].

    Colours beyond the gamut of sRGB lose chroma at constant lightness and hue.
    """
    light = (luminance + np.float32(16)) / np.float32(116)
    delta_x, delta_z = chroma[0] / np.float32(500), chroma[1] / np.float32(-200)
    rgb = _to_linear(light, delta_x, delta_z)
    outside = _excess(rgb) > 0
    if outside.any():
        fitted = _less_chroma(light[outside], delta_x[outside], delta_z[outside])
        for plane, values in zip(rgb, fitted, strict=True):
            plane[outside] = values
    return np.stack([_encode(plane) for plane in rgb], axis=-1)


def neutral(luminance: np.ndarray) -> np.ndarray:
    """Convert L* (R, W) to grey sRGB (R, W, 3), float32 in [0, 1]."""
    grey = _encode(_uncurved((luminance + np.float32(16)) / np.float32(116)))
    return np.repeat(grey[..., None], 3, axis=-1)


def _to_linear(light: np.ndarray, delta_x: np.ndarray, delta_z: np.ndarray) -> list[np.ndarray]:
    """f(Y), and what chroma adds to it for X and Z, to linear red, green and blue."""
    x, y, z = (_uncurved(curve) for curve in (light + delta_x, light, light + delta_z))
    return [x * row[0] + y * row[1] + z * row[2] for row in _TO_RGB]


def _uncurved(curve: np.ndarray) -> np.ndarray:
    line = (curve - np.float32(LAB_OFFSET)) / np.float32(LAB_SLOPE)
    return np.where(curve > np.float32(LAB_CURVE_EPSILON), curve * curve * curve, line)


def _excess(rgb: list[np.ndarray]) -> np.ndarray:
    """By how much linear colours miss the gamut; 0 and below is inside."""
    low = np.minimum(np.minimum(rgb[0], rgb[1]), rgb[2])
    high = np.maximum(np.maximum(rgb[0], rgb[1]), rgb[2])
    under = np.float32(-GAMUT_TOLERANCE / 12.92) - low
    return np.maximum(under, high - np.float32(1 + GAMUT_TOLERANCE))


def _less_chroma(light: np.ndarray, delta_x: np.ndarray, delta_z: np.ndarray) -> list[np.ndarray]:
    """Linear colours with the most chroma that is inside the gamut, by bisection."""
    low = np.zeros_like(light)
    for bit in range(1, GAMUT_BISECTIONS + 1):
        middle = low + np.float32(0.5**bit)
        fits = _excess(_to_linear(light, delta_x * middle, delta_z * middle)) <= 0
        low = np.where(fits, middle, low)
    return _to_linear(light, delta_x * low, delta_z * low)


def _encode(linear: np.ndarray) -> np.ndarray:
    """Return the transfer curve of sRGB, within [0, 1]."""
    low = np.float32(LINEAR_SRGB_BELOW)
    power = np.exp(np.log(np.maximum(linear, low)) * np.float32(1 / 2.4))
    curve = power * np.float32(1.055) - np.float32(0.055)
    return np.where(linear > low, curve, linear * np.float32(12.92)).clip(0, 1)
