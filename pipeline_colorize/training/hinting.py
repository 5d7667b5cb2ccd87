"""Choose the colours that a network is given: exact points, exact regions, and doubtful colours.

Hints are (B, 3, h, w) on the chroma grid: a*, b* in the network's scale, and a confidence, which is
0 where nothing is said, 1 where the colour is exact, and between them where it may be wrong.
"""

import math

import numpy as np
import torch
from torch.nn import functional as F

from .config import DataConfig
from .draws import normal, uniform


def random_hints(
    chroma: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float = 0.5,
    most: int = 16,
) -> torch.Tensor:
    """Choose true colours at a few random places of the chroma grid, as a person would give them.

    Args:
        chroma: (B, 2, h, w), a*, b* in any scale.
        generators: one for each picture, for the number of hints, their places and sizes.
        probability: share of pictures with hints.
        most: hints in a picture; few are more frequent than many.

    Returns:
        Hints (B, 3, h, w) with a confidence of 1. Each is a square of 1 to 3 cells in their mean
        colour.
    """
    _, _, height, width = chroma.shape
    hints = torch.zeros(len(chroma), 3, height, width)
    for true, given, generator in zip(chroma, hints, generators, strict=True):
        has, amount = generator.random(2)
        count = round(most**amount) if has < probability else 0
        for size in generator.integers(1, 4, count).clip(max=min(height, width)).tolist():
            top = generator.integers(height - size + 1)
            left = generator.integers(width - size + 1)
            rows, columns = slice(top, top + size), slice(left, left + size)
            given[:2, rows, columns] = true[:, rows, columns].mean((1, 2), keepdim=True)
            given[2, rows, columns] = 1
    return hints


def known_regions(
    chroma: torch.Tensor, generators: list[np.random.Generator], probability: float
) -> torch.Tensor:
    """Give all colours outside a place to mend, as when a part of a picture is coloured anew.

    Args:
        chroma: (B, 2, h, w), a*, b* in any scale.
        generators: one for each picture.
        probability: share of pictures with known regions.

    Returns:
        Hints (B, 3, h, w), exact everywhere but in an ellipse or a rectangle of a tenth to seven
        tenths of each side.
    """
    numbers = uniform(generators, 6)
    _, _, height, width = chroma.shape
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    sides = 0.1 + 0.6 * numbers[:, 1:3, None, None]
    centre = numbers[:, 3:5, None, None]
    down, across = (y - centre[:, 0]) / sides[:, 0] * 2, (x - centre[:, 1]) / sides[:, 1] * 2
    ellipse = down**2 + across**2 > 1
    rectangle = torch.maximum(down.abs(), across.abs()) > 1
    inside = torch.where(numbers[:, 5, None, None] < 0.5, ellipse, rectangle)
    inside &= numbers[:, 0, None, None] < probability
    mask = inside[:, None].float()
    return torch.cat([chroma * mask, mask], dim=1)


def doubtful_colors(
    chroma: torch.Tensor,
    others: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float,
    wrong: float,
) -> torch.Tensor:
    """Give colours as a reference picture gives them: displaced, of another light, or wrong.

    Right ones are the picture's own, turned, scaled and shifted as in another photograph of the
    same things; wrong ones are those of another picture, which the network has to learn to leave.
    The confidence tells the two apart only in part, as a match of features does.

    Args:
        chroma: (B, 2, h, w), a*, b* in any scale.
        others: (B, 2, h, w), those of other pictures.
        generators: one for each picture.
        probability: share of pictures with doubtful colours.
        wrong: share of those whose colours are another picture's.

    Returns:
        Hints (B, 3, h, w) on some of the cells, with confidences of .05 to .95.
    """
    numbers = uniform(generators, 10)
    chosen, is_wrong = numbers[:, 0] < probability, numbers[:, 1] < wrong
    source = torch.where(is_wrong[:, None, None, None], others, chroma)
    given = _other_light(_displaced(source, numbers[:, 2:6]), numbers[:, 6:8])
    certain = torch.where(is_wrong, 0.05 + 0.65 * numbers[:, 8], 0.3 + 0.65 * numbers[:, 8])
    jitter = 0.1 * normal(generators, (1, *chroma.shape[2:]))
    confidence = (certain[:, None, None, None] + jitter).clamp(0.05, 0.95)
    mask = _patches(generators, chroma.shape[2:], numbers[:, 9]) & chosen[:, None, None, None]
    return torch.cat([given, confidence], dim=1) * mask


def _displaced(chroma: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Turn by up to 20 degrees, scale by up to 1.4, shift by up to a fifth; numbers (B, 4)."""
    angle, scale, right, down = (2 * numbers - 1).unbind(1)
    angle, scale = angle * math.radians(20), 1.4**scale
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    theta = torch.stack([cosine, -sine, 0.4 * right, sine, cosine, 0.4 * down], 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(chroma.shape), align_corners=False)
    return F.grid_sample(chroma, grid, padding_mode="reflection", align_corners=False)


def _other_light(chroma: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Scale chroma by up to 1.5 and turn its hue by up to .25 radians; numbers (B, 2)."""
    scale, turn = (2 * numbers - 1).unbind(1)
    scale, turn = 1.5**scale, 0.25 * turn
    cosine, sine = scale * torch.cos(turn), scale * torch.sin(turn)
    matrix = torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)
    return torch.einsum("bij,bjhw->bihw", matrix, chroma)


def _patches(
    generators: list[np.random.Generator], size: torch.Size, share: torch.Tensor
) -> torch.Tensor:
    """Choose cells in connected patches, (B, 1, h, w); `share` (B,) of the cells in the mean."""
    coarse = F.interpolate(normal(generators, (1, 6, 6)), size, mode="bicubic")
    field = coarse + 0.5 * normal(generators, (1, *size))
    return field > field.flatten(1).sort(1).values.gather(
        1, ((1 - share) * (field[0].numel() - 1)).long()[:, None]
    ).view(-1, 1, 1, 1)


def draw_hints(
    chroma: torch.Tensor,
    others: torch.Tensor | None,
    generators: list[np.random.Generator],
    config: DataConfig,
) -> torch.Tensor:
    """Draw all kinds of hints for a batch; exact ones lie over doubtful ones.

    Args:
        chroma: (B, 2, h, w), the true a*, b* in the network's scale.
        others: those of other pictures, where there are to be doubtful colours.
        generators: one for each picture.
        config: how many pictures get hints of each kind.

    Returns:
        (B, 3, h, w).
    """
    hints = random_hints(chroma, generators, config.hint_probability, config.hint_most)
    if config.region_probability:
        regions = known_regions(chroma, generators, config.region_probability)
        hints = torch.where(hints[:, 2:] > 0, hints, regions)
    if config.doubtful_probability and others is not None:
        kinds = (config.doubtful_probability, config.doubtful_wrong)
        doubtful = doubtful_colors(chroma, others, generators, *kinds)
        hints = torch.where(hints[:, 2:] > 0, hints, doubtful)
    return hints
