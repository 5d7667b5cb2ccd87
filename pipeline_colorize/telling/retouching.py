"""Colours of one result in another, or less of them, within a mask; without the network.

Light is never touched: colours of one luminance are mixed.
"""

from dataclasses import replace

import numpy as np
import PIL.Image

from ..core.colorimetry import encode_srgb, lightness_to_y
from ..core.luminance import see
from ..core.mending import read_mend

# Cells to the short side of a picture over which the edge of a mask fades where light has no edge.
_CELLS = 64


def take_colors(
    image: PIL.Image.Image, other: PIL.Image.Image, mask: PIL.Image.Image | np.ndarray
) -> PIL.Image.Image:
    """Take the colours of another answer to the same photograph where a mask is white.

    Args:
        image: a result.
        other: another result of the same photograph, as large.
        mask: as large; black keeps the pixels of `image` to the bit. Its edges follow the light.

    Returns:
        A picture with the luminance of `image`.

    Raises:
        ValueError: if the three differ in size.
    """
    light = see(image).luminance
    base = read_mend(image, mask, light.shape)
    given = read_mend(other, None, light.shape)
    assert base is not None
    assert given is not None  # since there are pictures
    cell = min(light.shape) / _CELLS
    new = given.overlay(light, cell).old
    return PIL.Image.fromarray(base.overlay(light, cell).under(new))


def fade_colors(
    image: PIL.Image.Image, mask: PIL.Image.Image | np.ndarray, amount: float = 1.0
) -> PIL.Image.Image:
    """Leave less colour, or none, where a mask is white.

    Args:
        image: a result.
        mask: as large; black keeps pixels to the bit.
        amount: 1 leaves grey, 0 changes nothing.

    Raises:
        ValueError: if the mask has another size, or `amount` lies outside 0 to 1.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"`amount` must lie between 0 and 1, not at {amount}.")
    light = see(image).luminance
    base = read_mend(image, mask, light.shape)
    assert base is not None  # since there is a picture
    grey = np.rint(255 * encode_srgb(lightness_to_y(light))).astype(np.uint8)
    overlay = base.overlay(light, min(light.shape) / _CELLS)
    faded = replace(overlay, weight=(amount * overlay.weight).astype(np.float32))
    return PIL.Image.fromarray(faded.under(np.repeat(grey[..., None], 3, axis=2)))
