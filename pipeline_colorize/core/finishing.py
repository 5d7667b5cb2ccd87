"""Constants of the way from chroma on the grid to a picture, and the picture of uncertainty.

torch's engine (`image_processor.py`) and the ONNX graph share the constants.
"""

import numpy as np

# Guided filter: the variance of L* below which a neighbourhood counts as even.
EVEN_VARIANCE = 20.0
# Guided filter: pixels of the guide along one side of a chroma cell while the filter is fitted.
GUIDE_DETAIL = 8
# Texture: a cell that differs from its neighbours by this much in a*b* has its difference raised
# by half the share that a very small difference gets.
TEXTURE_HALF_POINT = 1.25

# Anchors of a colour map like matplotlib's "inferno", with lightness that rises evenly.
_HEAT = np.array([[0, 0, 8], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])
# The spread of chroma, in units of a*b*, that gets the lightest colour.
_HEAT_TOP = 30


def heat_picture(uncertainty: np.ndarray) -> np.ndarray:
    """Draw the spread of the samples' chroma as a picture.

    Black means that the samples agree; the map goes through purple and orange to a pale yellow at
    a spread of 30 and above.

    Args:
        uncertainty: (H, W), in units of a*b*.

    Returns:
        RGB bytes (H, W, 3).
    """
    position = np.clip(uncertainty / _HEAT_TOP, 0, 1).astype(np.float32) * (len(_HEAT) - 1)
    stops = np.arange(len(_HEAT))
    rgb = [np.interp(position, stops, channel) for channel in _HEAT.T]
    return np.rint(np.stack(rgb, axis=-1)).astype(np.uint8)
