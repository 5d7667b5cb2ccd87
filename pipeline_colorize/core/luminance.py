"""The luminance of pictures in NumPy, for the engine without torch and for colours over masters.

Every pixel is computed by itself, so a part of a picture has the very numbers of the whole.
"""

import numpy as np
import PIL.Image

from .colorimetry import RGB_TO_XYZ, decode_srgb, y_to_lightness
from .pictures import normalise_array, pil_to_array, upright_alpha, upright_srgb
from .sizes import row_chunks
from .transparency import Light, alpha_of_array, see_light


def to_luminance(image: PIL.Image.Image | np.ndarray) -> np.ndarray:
    """Compute the L* of a picture, (H, W), float32 in [0, 100]; colour is taken as its luminance.

    Args:
        image: PIL, which is turned upright and brought to sRGB by its profile; or an array (H, W)
            or (H, W, 1 to 4) of bool, uint8, uint16 or floating point in [0, 1]. Alpha is left out.

    Raises:
        ValueError: if it is an array of another kind.
    """
    if isinstance(image, PIL.Image.Image):
        image = pil_to_array(upright_srgb(image))
    if image.dtype == np.uint16 and image.ndim == 2:  # as below, but quicker
        return y_to_lightness(_linear_levels(65536))[image]
    return _pixels_to_luminance(normalise_array(image))


def see(image: PIL.Image.Image | np.ndarray) -> Light:
    """Compute the luminance of a picture as it is written, and as it decides the colours."""
    alpha = upright_alpha(image) if isinstance(image, PIL.Image.Image) else alpha_of_array(image)
    return see_light(to_luminance(image), alpha)


def _linear_levels(count: int) -> np.ndarray:
    """Return the linear light of each level of whole numbers, float32."""
    return decode_srgb((np.arange(count) / (count - 1)).astype(np.float32))


def _pixels_to_luminance(pixels: np.ndarray) -> np.ndarray:
    """Convert (H, W, 1 or 3) uint8 or float sRGB in [0, 1] to L* (H, W) by chunks."""
    curve = _linear_levels(256)
    is_grey, is_coarse = pixels.shape[2] == 1, pixels.dtype == np.uint8
    if is_grey and is_coarse:
        return y_to_lightness(curve)[pixels[..., 0]]
    weights = [np.float32(weight) for weight in ((1.0,) if is_grey else RGB_TO_XYZ[1])]
    result = np.empty(pixels.shape[:2], np.float32)
    for rows in row_chunks(*pixels.shape[:2]):
        linear = curve[pixels[rows]] if is_coarse else decode_srgb(pixels[rows])
        # Not a matrix product, whose last bit depends on how many pixels there are.
        y = np.zeros(linear.shape[:2], np.float32)
        for channel, weight in enumerate(weights):
            y += linear[..., channel] * weight
        result[rows] = y_to_lightness(y)
    return result


def resize_plane(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (H, W), float32, by the antialiased bilinear filter that Pillow and torch share."""
    image = PIL.Image.fromarray(plane).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image)
