"""Leaves out of a picture's colours what its transparency hides."""

import numpy as np

from ..core.transparency import hidden_rows


def without_hidden(color: np.ndarray, alpha: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return a picture as it is written, and as it is judged.

    Args:
        color: (H, W, C), uint8, uint16 or floating point.
        alpha: (H, W) in [0, 1], or of whole numbers up to their type's largest; `None` for a
            picture without transparency.

    Returns:
        Two arrays like `color`. The first has the colours of its surroundings where alpha is 0,
        and the second goes over to them by alpha.
    """
    if alpha is None:
        return color, color
    if alpha.min() == (np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1):
        return color, color
    written, seen = color.copy(), color.copy()
    for channel in range(color.shape[2]):
        for rows, *planes in hidden_rows(color[..., channel], alpha):
            for result, plane in zip((written, seen), planes, strict=True):
                result[rows, :, channel] = plane if color.dtype.kind == "f" else np.rint(plane)
    return written, seen
