"""Colour pictures -> batches of luminance and colour for training and evaluation.

Pictures are held decoded, as 8-bit RGB in memory, and everything random about a batch (flip, crop,
degraded luminance, hints) is a function of the generator handed in.
"""

import torch
from torch.nn import functional as F

from .color import linear_to_xyz, srgb_to_linear, xyz_to_lab

_LINEAR_OF_BYTE = srgb_to_linear(torch.arange(256) / 255)


def bytes_to_lab(pictures: torch.Tensor) -> torch.Tensor:
    """8-bit sRGB (B, 3, H, W) to L*a*b*; a table takes the place of the sRGB curve."""
    linear = _LINEAR_OF_BYTE.to(pictures.device)[pictures.int()]
    return xyz_to_lab(linear_to_xyz(linear))


def flip_and_crop(
    lab: torch.Tensor, generator: torch.Generator, probability: float = 0.5, smallest: float = 0.7
) -> torch.Tensor:
    """Mirror half of the pictures; with `probability`, enlarge a crop of `smallest` to 1 of a side.

    (B, 3, H, W) to the same shape.
    """
    batch = len(lab)
    flipped = torch.rand(batch, generator=generator) < 0.5
    cropped = torch.rand(batch, generator=generator) < probability
    size = smallest + (1 - smallest) * torch.rand(batch, generator=generator)
    shift = (2 * torch.rand(batch, 2, generator=generator) - 1) * (1 - size[:, None])
    lab = torch.where(flipped[:, None, None, None].to(lab.device), lab.flip(-1), lab)
    if not cropped.any():
        return lab
    # x_in = size * x_out + shift, in the coordinates of grid_sample, where a side is -1..1.
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = shift
    chosen = lab[cropped]
    grid = F.affine_grid(theta[cropped].to(lab), list(chosen.shape), align_corners=False)
    lab[cropped] = F.grid_sample(
        chosen, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return lab


def degrade_luminance(
    luminance: torch.Tensor, generator: torch.Generator, probability: float = 0.3
) -> torch.Tensor:
    """What old prints suffer: another tone curve, fading, blur and grain. (B, 1, H, W) in 0..100.

    With `probability` a picture gets a random amount of each.
    """
    batch = len(luminance)

    def rand(*shape):
        return torch.rand(*shape, generator=generator).to(luminance)

    chosen = rand(batch, 1, 1, 1) < probability
    gamma = torch.exp(0.6 * (rand(batch, 1, 1, 1) - 0.5))
    black = 20 * rand(batch, 1, 1, 1) ** 2
    white = 100 - 25 * rand(batch, 1, 1, 1) ** 2
    worn = black + (white - black) * (luminance / 100).clamp(min=1e-4) ** gamma
    blurred = F.avg_pool2d(F.pad(worn, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    worn = torch.lerp(worn, blurred, rand(batch, 1, 1, 1))
    grain = torch.randn(luminance.shape, generator=generator).to(luminance)
    worn = worn + 6 * rand(batch, 1, 1, 1) ** 2 * grain
    return torch.where(chosen, worn.clamp(0, 100), luminance)


def random_hints(
    chroma: torch.Tensor, generator: torch.Generator, none: float = 0.5, most: int = 16
) -> torch.Tensor:
    """True colours at a few random places of the chroma grid, as a person would give them.

    Args:
        chroma: (B, 2, h, w), a*, b* in any scale.
        generator: for the number of hints, their places and sizes.
        none: share of pictures without any hint.
        most: of hints in a picture; few are more frequent than many.

    Returns:
        (B, 3, h, w): a*, b* (one colour a hint: the mean of 1 to 3 cells square) and the mask.
    """
    batch, _, height, width = chroma.shape
    hints = torch.zeros(batch, 3, height, width, device=chroma.device)
    has = torch.rand(batch, generator=generator) >= none
    counts = (most ** torch.rand(batch, generator=generator)).round().long() * has
    for picture, count in enumerate(counts.tolist()):
        for _ in range(count):
            size = int(torch.randint(1, 4, (1,), generator=generator))
            top = int(torch.randint(0, height - size + 1, (1,), generator=generator))
            left = int(torch.randint(0, width - size + 1, (1,), generator=generator))
            place = (slice(top, top + size), slice(left, left + size))
            hints[picture, :2, *place] = chroma[picture, :, *place].mean((1, 2))[:, None, None]
            hints[picture, 2, *place] = 1
    return hints


def luminance_to_input(luminance: torch.Tensor) -> torch.Tensor:
    """L* in [0, 100] to the network's [-1, 1]."""
    return luminance / 50 - 1


def with_hints(luminance: torch.Tensor, hints: torch.Tensor) -> torch.Tensor:
    """Condition (B, 4, H, W): the network's luminance (B, 1, H, W) and hints (B, 3, h, w)."""
    return torch.cat([luminance, F.interpolate(hints, luminance.shape[2:], mode="nearest")], dim=1)
