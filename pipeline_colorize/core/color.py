"""Colour spaces in torch: sRGB <-> linear RGB <-> CIE XYZ <-> CIE L*a*b* (D65, 2 degrees).

Every function is batched, differentiable and works on tensors of shape (..., 3, H, W); luminance
has shape (..., 1, H, W) and chroma (..., 2, H, W). sRGB and linear RGB lie in [0, 1], XYZ is
relative to a white of Y = 1, L* lies in [0, 100] and a*, b* within about -110..110 for colours of
the sRGB gamut.

Sources: IEC 61966-2-1 for sRGB (with the matrix as rounded by ITU-R BT.709 users and scikit-image),
CIE 15:2004 for L*a*b*.
"""

import torch

from .colorimetry import (
    GAMUT_BISECTIONS,
    GAMUT_TOLERANCE,
    LAB_CURVE_EPSILON,
    LAB_EPSILON,
    LAB_OFFSET,
    LAB_SLOPE,
    LINEAR_SRGB_BELOW,
    RGB_TO_XYZ,
    SRGB_LINEAR_BELOW,
    WHITE_D65,
)


def _matmul(matrix: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ij,...jhw->...ihw", matrix.to(channels), channels)


def _rgb_to_xyz_matrix() -> torch.Tensor:
    return torch.tensor(RGB_TO_XYZ, dtype=torch.float64)


def _white(like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(WHITE_D65, dtype=like.dtype, device=like.device).view(3, 1, 1)


def srgb_to_linear(rgb: torch.Tensor) -> torch.Tensor:
    """Undo the sRGB transfer curve; any shape, [0, 1] to [0, 1]."""
    curve = ((rgb.clamp(min=SRGB_LINEAR_BELOW) + 0.055) / 1.055) ** 2.4
    return torch.where(rgb > SRGB_LINEAR_BELOW, curve, rgb / 12.92)


def bytes_to_linear(pixels: torch.Tensor) -> torch.Tensor:
    """Convert 8-bit sRGB, any shape, to linear RGB in [0, 1] by a table: exact, and quicker."""
    table = srgb_to_linear(torch.arange(256, device=pixels.device) / 255)
    return table.index_select(0, pixels.flatten().int()).view(pixels.shape)


def linear_to_srgb(linear: torch.Tensor) -> torch.Tensor:
    """Apply the sRGB transfer curve; any shape, [0, 1] to [0, 1] (values outside are kept)."""
    # The clamp keeps the gradient of the branch that `where` throws away finite.
    curve = 1.055 * linear.clamp(min=LINEAR_SRGB_BELOW) ** (1 / 2.4) - 0.055
    return torch.where(linear > LINEAR_SRGB_BELOW, curve, linear * 12.92)


def linear_to_xyz(linear: torch.Tensor) -> torch.Tensor:
    """Linear RGB (..., 3, H, W) to CIE XYZ."""
    return _matmul(_rgb_to_xyz_matrix(), linear)


def xyz_to_linear(xyz: torch.Tensor) -> torch.Tensor:
    """CIE XYZ (..., 3, H, W) to linear RGB, which lies outside [0, 1] for colours out of gamut."""
    return _matmul(torch.linalg.inv(_rgb_to_xyz_matrix()), xyz)


def _lab_curve(ratio: torch.Tensor) -> torch.Tensor:
    return torch.where(
        ratio > LAB_EPSILON, ratio.clamp(min=LAB_EPSILON) ** (1 / 3), LAB_SLOPE * ratio + LAB_OFFSET
    )


def _lab_curve_inverse(value: torch.Tensor) -> torch.Tensor:
    return torch.where(value > LAB_CURVE_EPSILON, value**3, (value - LAB_OFFSET) / LAB_SLOPE)


def xyz_to_lab(xyz: torch.Tensor) -> torch.Tensor:
    """CIE XYZ (..., 3, H, W) to L* in [0, 100], a*, b* (CIE 15:2004, eq. 8.3 to 8.5)."""
    fx, fy, fz = _lab_curve(xyz / _white(xyz)).unbind(-3)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], dim=-3)


def lab_to_xyz(lab: torch.Tensor) -> torch.Tensor:
    """Convert L*a*b* (..., 3, H, W) to CIE XYZ."""
    lightness, a, b = lab.unbind(-3)
    fy = (lightness + 16) / 116
    curve = torch.stack([fy + a / 500, fy, fy - b / 200], dim=-3)
    return _lab_curve_inverse(curve) * _white(lab)


def rgb_to_lab(rgb: torch.Tensor) -> torch.Tensor:
    """sRGB in [0, 1] (..., 3, H, W) to L*a*b*."""
    return xyz_to_lab(linear_to_xyz(srgb_to_linear(rgb)))


def lab_to_rgb(lab: torch.Tensor) -> torch.Tensor:
    """Convert L*a*b* (..., 3, H, W) to sRGB, outside [0, 1] where the colour is out of gamut."""
    return linear_to_srgb(xyz_to_linear(lab_to_xyz(lab)))


def linear_to_luminance(linear: torch.Tensor) -> torch.Tensor:
    """Linear RGB in [0, 1] (..., 3, H, W), or grey (..., 1, H, W), to L* (..., 1, H, W)."""
    if linear.shape[-3] == 3:
        weights = linear.new_tensor(RGB_TO_XYZ[1]).view(3, 1, 1)
        linear = (linear * weights).sum(-3, keepdim=True)
    return 116 * _lab_curve(linear) - 16


def rgb_to_luminance(rgb: torch.Tensor) -> torch.Tensor:
    """sRGB in [0, 1] (..., 3, H, W), or grey (..., 1, H, W), to L* in [0, 100] (..., 1, H, W)."""
    return linear_to_luminance(srgb_to_linear(rgb))


def _inside(linear: torch.Tensor) -> torch.Tensor:
    """Tell which colours of linear RGB (..., 3, H, W) a screen can show, (..., H, W)."""
    inside = (linear >= -GAMUT_TOLERANCE / 12.92) & (linear <= 1 + GAMUT_TOLERANCE)
    return inside.all(dim=-3)


def _less_chroma(lab: torch.Tensor, iterations: int = GAMUT_BISECTIONS) -> torch.Tensor:
    """Scale a*, b* of out-of-gamut colours (3, N, 1) down until they fit, by bisection."""
    low, high = torch.zeros_like(lab[:1]), torch.ones_like(lab[:1])
    for _ in range(iterations):
        middle = (low + high) / 2
        fits = _inside(xyz_to_linear(lab_to_xyz(torch.cat([lab[:1], lab[1:] * middle]))))
        low, high = torch.where(fits, middle, low), torch.where(fits, high, middle)
    return torch.cat([lab[:1], lab[1:] * low])


def fit_gamut(lab: torch.Tensor) -> torch.Tensor:
    """Bring out-of-gamut colours into sRGB along constant L* and hue, by less chroma.

    `lab` is (..., 3, H, W); colours inside the gamut are returned as they are, the others at most
    1 part in 262,144 of their chroma inside its border. Grey of any L* in [0, 100] is inside, so
    there is always a solution. (Clipping each RGB channel instead would change lightness and hue.)
    """
    outside = ~_inside(xyz_to_linear(lab_to_xyz(lab)))
    if not outside.any():
        return lab
    # (..., 3, H, W) -> (3, N, 1): the out-of-gamut pixels only, which are few.
    fitted = lab.movedim(-3, 0).clone()
    fitted[:, outside] = _less_chroma(fitted[:, outside].unsqueeze(-1)).squeeze(-1)
    return fitted.movedim(0, -3)


def merge_luminance(luminance: torch.Tensor, chroma: torch.Tensor) -> torch.Tensor:
    """Join L* (..., 1, H, W) and a*b* (..., 2, H, W) to sRGB in [0, 1] with that luminance."""
    lab = torch.cat([luminance, chroma], dim=-3)
    return lab_to_rgb(fit_gamut(lab)).clamp(0, 1)


def core_chroma(chroma: torch.Tensor, coring: float) -> torch.Tensor:
    """Take faint colour back and leave strong colour: C* times C*^2 / (C*^2 + coring^2).

    Soft coring, as video processors have it against noise: a faint tint is mostly chance. Half of
    the chroma is left where it is as large as `coring`, nine tenths at three times that.

    Args:
        chroma: (..., 2, h, w), a*b*.
        coring: in the same units; 0 leaves all as it is.
    """
    power = chroma.square().sum(-3, keepdim=True)
    return chroma * (power / (power + coring**2).clamp(min=1e-12))


def undo_coring(chroma: torch.Tensor, coring: float) -> torch.Tensor:
    """Find what `core_chroma` turns into `chroma`: the real root of a cubic, as Cardano did."""
    wanted = chroma.square().sum(-3, keepdim=True).sqrt()
    cube, rest = (wanted / 3) ** 3, wanted * coring**2 / 2
    root = cube + rest + (rest * (2 * cube + rest)).sqrt()
    root = root.clamp(min=1e-12) ** (1 / 3)
    needed = wanted / 3 + root + wanted.square() / 9 / root
    return chroma * (needed / wanted.clamp(min=1e-12))
