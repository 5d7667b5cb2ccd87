"""Measure how colourful pictures are, and which colours they have; numpy is all that it needs."""

import math

import numpy as np

HISTOGRAM_BINS = 24  # along a* and along b*
HISTOGRAM_RANGE = 100.0  # of a* and b*, to both sides


def opponent_channels(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return red minus green and yellow minus blue of an 8-bit picture (H, W, 3)."""
    red, green, blue = np.moveaxis(picture.astype(np.float64), -1, 0)
    return red - green, (red + green) / 2 - blue


def colorfulness(picture: np.ndarray) -> float:
    """Measure how colourful a picture looks, 0 for grey (Hasler and Suesstrunk 2003, M3)."""
    return _colorfulness(*opponent_channels(picture))


def colorfulness_absolute(picture: np.ndarray) -> float:
    """Measure colourfulness as DDColor's code does, whose opponent channels first lose their sign.

    It gives lower figures; papers mix the two.
    """
    red_green, yellow_blue = opponent_channels(picture)
    return _colorfulness(np.abs(red_green), np.abs(yellow_blue))


def _colorfulness(red_green: np.ndarray, yellow_blue: np.ndarray) -> float:
    spread = math.hypot(red_green.std(), yellow_blue.std())
    return spread + 0.3 * math.hypot(red_green.mean(), yellow_blue.mean())


def count_chroma(chroma: np.ndarray) -> np.ndarray:
    """Count pixels by a* and b*.

    Args:
        chroma: (..., 2), a*, b*; what lies beyond -100..100 is counted at the border.

    Returns:
        (24, 24) counts.
    """
    limit = np.nextafter(HISTOGRAM_RANGE, 0)
    a, b = chroma.reshape(-1, 2).clip(-limit, limit).T
    span = [[-HISTOGRAM_RANGE, HISTOGRAM_RANGE]] * 2
    return np.histogram2d(a, b, bins=HISTOGRAM_BINS, range=span)[0].astype(np.int64)


def histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the total variation of two histograms: 0 where equal, 1 where nothing is shared."""
    return float(np.abs(first / first.sum() - second / second.sum()).sum() / 2)
