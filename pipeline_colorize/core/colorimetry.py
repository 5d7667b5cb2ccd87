"""Colour science in NumPy: the constants of sRGB and CIE L*a*b*, and conversions by their formulas.

torch's conversions (`color.py`) and the ONNX graph take their constants from here.
"""

import numpy as np

# sRGB, with the matrix as rounded by ITU-R BT.709 users and scikit-image.
WHITE_D65 = (0.95047, 1.0, 1.08883)
RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)

# IEC 61966-2-1: below these values the transfer curve of sRGB is a straight line.
SRGB_LINEAR_BELOW = 0.04045
LINEAR_SRGB_BELOW = 0.0031308

# CIE 15:2004, section 8.2.1: below (6/29)^3 the cube root is replaced by its tangent, which on the
# way back begins at 6/29.
LAB_EPSILON = 0.008856
LAB_SLOPE = 7.787
LAB_OFFSET = 16.0 / 116.0
LAB_CURVE_EPSILON = 0.2068966

# A colour that exceeds [0, 1] by no more than this counts as inside the gamut: the excess is less
# than a tenth of an 8-bit step.
GAMUT_TOLERANCE = 1e-4
# Bisection steps that look for the chroma of a colour outside the gamut. After so many of them, a
# single step that rounding has turned the wrong way is not visible in a result.
GAMUT_BISECTIONS = 18


def decode_srgb(srgb: np.ndarray) -> np.ndarray:
    """Undo the sRGB transfer curve: any shape, [0, 1] to [0, 1] (IEC 61966-2-1)."""
    return np.where(srgb > SRGB_LINEAR_BELOW, ((srgb + 0.055) / 1.055) ** 2.4, srgb / 12.92)


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Apply the sRGB transfer curve: any shape, [0, 1] to [0, 1] (IEC 61966-2-1)."""
    curve = 1.055 * linear ** (1 / 2.4) - 0.055
    return np.where(linear > LINEAR_SRGB_BELOW, curve, linear * 12.92)


def lab_curve(ratio: np.ndarray) -> np.ndarray:
    """f(X/Xn), f(Y/Yn) or f(Z/Zn) of CIE L*a*b*, any shape (CIE 15:2004, eq. 8.6 to 8.11)."""
    return np.where(ratio > LAB_EPSILON, np.cbrt(ratio), LAB_SLOPE * ratio + LAB_OFFSET)


def y_to_lightness(y: np.ndarray) -> np.ndarray:
    """CIE Y relative to white, any shape, to L* in [0, 100], float32."""
    return np.clip(116 * lab_curve(y) - 16, 0, 100).astype(np.float32)


def lightness_to_y(lightness: np.ndarray) -> np.ndarray:
    """Convert L* in [0, 100], any shape, to CIE Y relative to white: the linear light of grey."""
    curve = (lightness + 16) / 116
    return np.where(
        curve > LAB_CURVE_EPSILON, curve**3, (curve - LAB_OFFSET).clip(min=0) / LAB_SLOPE
    )


def rgb_pixels_to_lab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB in [0, 1], shape (..., 3), to L*a*b* in float64.

    It is meant for a few colours, such as those of hints; `color.rgb_to_lab` converts pictures.

    >>> rgb_pixels_to_lab(np.array([1.0, 0.0, 0.0])).round(1).tolist()
    [53.2, 80.1, 67.2]
    """
    linear = decode_srgb(np.asarray(rgb, np.float64))
    x, y, z = np.moveaxis(lab_curve(linear @ np.array(RGB_TO_XYZ).T / WHITE_D65), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
