"""Chroma on its small grid, a*b*, to the Cb and Cr planes of a frame whose luma stays as it is."""

import cv2
import numpy as np

from pipeline_colorize.core.colorimetry import (
    LAB_CURVE_EPSILON,
    LAB_OFFSET,
    LAB_SLOPE,
    RGB_TO_XYZ,
    WHITE_D65,
    decode_srgb,
    encode_srgb,
    lab_curve,
    rgb_pixels_to_lab,
    y_to_lightness,
)
from pipeline_colorize.core.finishing import EVEN_VARIANCE

from .light import LUMA_WEIGHTS, Levels, resize

# Pixels of the guide along one side of a chroma cell while the filter is fitted.
_DETAIL = 4
# The variance under which a neighbourhood counts as even, of a signal in [0, 1] instead of L*.
_EVEN = EVEN_VARIANCE / 100**2
_XYZ_TO_RGB = np.linalg.inv(np.array(RGB_TO_XYZ))


def _lab_to_signal(lightness: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """Convert L* (h, w) and a*b* (2, h, w) to sRGB (3, h, w), out of gamut beyond [0, 1]."""
    fy = (lightness + 16) / 116
    curve = np.stack([fy + ab[0] / 500, fy, fy - ab[1] / 200])
    line = (curve - LAB_OFFSET) / LAB_SLOPE
    xyz = np.where(curve > LAB_CURVE_EPSILON, curve**3, line)
    linear = np.tensordot(_XYZ_TO_RGB, xyz * np.reshape(WHITE_D65, (3, 1, 1)), 1)
    return np.sign(linear) * encode_srgb(np.abs(linear))


def ab_to_chroma(signal: np.ndarray, ab: np.ndarray, matrix: str) -> np.ndarray:
    """Find the Cb and Cr that show a*b* at a luma that is given.

    Luma is not lightness: a colour and a grey of one lightness differ in it. So the lightness is
    sought at which the colour has this luma, in two steps.

    Args:
        signal: (h, w), luma in [0, 1].
        ab: (2, h, w), a*b*.
        matrix: a name of `LUMA_WEIGHTS`.

    Returns:
        (2, h, w), float32: Cb and Cr around 0, beyond the gamut where a*b* is.
    """
    red, blue = LUMA_WEIGHTS[matrix]
    weights = np.array([red, 1 - red - blue, blue])
    grey = signal.clip(0, 1)
    target, found = grey.copy(), grey
    for _ in range(3):
        rgb = _lab_to_signal(y_to_lightness(decode_srgb(found.clip(0, 1))), ab)
        luma = np.tensordot(weights, rgb, 1)
        found = found + (target - luma)
    cb, cr = (rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)
    return np.stack([cb, cr]).astype(np.float32)


def chroma_to_ab(signal: np.ndarray, chroma: np.ndarray, matrix: str) -> np.ndarray:
    """Return the a*b* (2, h, w) of luma (h, w) in [0, 1] with Cb and Cr (2, h, w) around 0."""
    rgb = chroma_to_rgb(signal, chroma, matrix).clip(0, 1)
    xyz = np.tensordot(np.array(RGB_TO_XYZ), decode_srgb(rgb), 1)
    x, y, z = lab_curve(xyz / np.reshape(WHITE_D65, (3, 1, 1)))
    return np.stack([500 * (x - y), 200 * (y - z)]).astype(np.float32)


def chroma_to_rgb(signal: np.ndarray, chroma: np.ndarray, matrix: str) -> np.ndarray:
    """Convert luma (h, w) in [0, 1] with Cb and Cr (2, h, w) around 0 to R'G'B' (3, h, w)."""
    red, blue = LUMA_WEIGHTS[matrix]
    r = signal + (2 - 2 * red) * chroma[1]
    b = signal + (2 - 2 * blue) * chroma[0]
    return np.stack([r, (signal - red * r - blue * b) / (1 - red - blue), b])


def fit_chroma(signal: np.ndarray, chroma: np.ndarray, matrix: str) -> np.ndarray:
    """Bring Cb and Cr into the gamut at their luma and hue, by less chroma.

    Args:
        signal: (h, w), luma in [0, 1], float32.
        chroma: (2, h, w), Cb and Cr around 0, float32; it is changed in place.
        matrix: a name of `LUMA_WEIGHTS`.

    Returns:
        `chroma`, so that red, green and blue lie in [0, 1] where luma does.
    """
    red, blue = LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    cb, cr = chroma
    above = np.maximum(1 - signal, 0)
    below = np.maximum(signal, 0)
    r, b = (2 - 2 * red) * cr, (2 - 2 * blue) * cb
    g = (-red / green) * r - (blue / green) * b
    most = np.maximum(np.maximum(r, b), g)
    least = np.maximum(np.maximum(-r, -b), -g)
    # The share of the chroma that fits: over what luma leaves above it and below it.
    room = np.minimum(above / (most + 1e-6), below / (least + 1e-6))
    share = np.minimum(room, 1)
    cb *= share
    cr *= share
    return chroma


def _box(x: np.ndarray) -> np.ndarray:
    return cv2.blur(x, (3, 3), borderType=cv2.BORDER_REPLICATE)


def _larger(x: np.ndarray, height: int, width: int) -> np.ndarray:
    return cv2.resize(x, (width, height), interpolation=cv2.INTER_CUBIC)


def guided_coefficients(signal: np.ndarray, ab: np.ndarray, matrix: str):
    """Fit Cb and Cr as locally linear functions of luma: chroma = slope * luma + offset.

    The fast guided filter (He and Sun 2015) and back-projection (Irani and Peleg 1991), as the
    pipeline has them for photographs.

    Args:
        signal: (H, W), luma in [0, 1] of the picture at full size.
        ab: (2, h, w), a*b* on the grid.
        matrix: a name of `LUMA_WEIGHTS`.

    Returns:
        Slope and offset, (2, h, w) each.
    """
    rows, columns = ab.shape[1:]
    detail = (rows * _DETAIL, columns * _DETAIL)
    guide = resize(signal, *detail)
    mean = cv2.resize(guide, (columns, rows), interpolation=cv2.INTER_AREA)
    square = cv2.resize(guide * guide, (columns, rows), interpolation=cv2.INTER_AREA)
    chroma = ab_to_chroma(mean, ab, matrix)
    variance = _box(square) - _box(mean) ** 2
    slopes, offsets = [], []
    for plane in chroma:
        slope = (_box(mean * plane) - _box(mean) * _box(plane)) / (variance + _EVEN)
        offset = _box(_box(plane) - slope * _box(mean))
        slope = _box(slope)
        varying = resize(_larger(slope, *detail) * guide, rows, columns)
        for _ in range(2):
            offset = offset + plane - varying - resize(_larger(offset, *detail), rows, columns)
        slopes.append(slope)
        offsets.append(offset)
    return np.stack(slopes), np.stack(offsets)


def chroma_planes(
    luma: np.ndarray,
    ab: np.ndarray,
    levels: Levels,
    size: tuple[int, int],
    interlaced: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the Cb and Cr planes of a frame.

    Args:
        luma: (H, W), its luma plane, whole numbers.
        ab: (2, h, w), a*b* on the grid.
        levels: what the numbers of the planes mean.
        size: height and width of the chroma planes.
        interlaced: whether the odd rows are another field, as of luma so of chroma.

    Returns:
        Two planes of `size`, in the type of `luma`.
    """
    signal = levels.signal(luma)
    guide = _chroma_guide(signal, size, interlaced)
    chroma = full_chroma(signal, ab, levels.matrix, guide)
    cb, cr = (levels.chroma_numbers(plane).astype(luma.dtype) for plane in chroma)
    return cb, cr


def full_chroma(
    signal: np.ndarray, ab: np.ndarray, matrix: str, guide: np.ndarray | None = None
) -> np.ndarray:
    """Bring Cb and Cr around 0 to the size of a guide, inside the gamut.

    Args:
        signal: (H, W), luma in [0, 1].
        ab: (2, h, w), a*b* on the grid.
        matrix: a name of `LUMA_WEIGHTS`.
        guide: (H', W'), luma at the size of the result; `None` for `signal`.

    Returns:
        (2, H', W'), float32.
    """
    guide = signal if guide is None else guide
    slope, offset = guided_coefficients(signal, ab, matrix)
    chroma = np.stack(
        [
            _larger(a, *guide.shape) * guide + _larger(b, *guide.shape)
            for a, b in zip(slope, offset, strict=True)
        ]
    )
    return fit_chroma(guide, chroma, matrix)


def _chroma_guide(signal: np.ndarray, size: tuple[int, int], interlaced: bool) -> np.ndarray:
    """Bring luma (H, W) to the size of the chroma planes, by field where there are two."""
    height, width = size
    if not interlaced or height == len(signal):
        return resize(signal, height, width)
    guide = np.empty(size, np.float32)
    for field in (0, 1):
        part = guide[field::2]
        part[:] = resize(np.ascontiguousarray(signal[field::2]), *part.shape)
    return guide


def grid_chroma(rgb: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Average a picture in RGB bytes (H, W, 3) to chroma a*b* by cell, (2, rows, columns)."""
    small = resize(rgb, rows * _DETAIL, columns * _DETAIL)
    ab = np.moveaxis(rgb_pixels_to_lab(small / 255)[..., 1:], -1, 0)
    return ab.reshape(2, rows, _DETAIL, columns, _DETAIL).mean((2, 4)).astype(np.float32)
