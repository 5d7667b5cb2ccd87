"""Make pictures look as old photographs do: early film, worn prints, margins around them.

Luminance is L*, (B, 1, H, W) in 0..100, and each picture has a generator. Each effect draws its
numbers in a fixed order, so that switching one off leaves those before it as they were.
"""

import numpy as np
import torch
from torch.nn import functional as F

from pipeline_colorize.core.color import lab_to_xyz, linear_to_luminance, xyz_to_linear
from pipeline_colorize.core.colorimetry import RGB_TO_XYZ

from .config import DataConfig
from .draws import normal, uniform

# Sensitivity to linear red, green and blue: the eye's, and roughly those of orthochromatic film and
# of plates that see hardly anything but blue, as nearly all did before the 1880s.
FILMS = torch.tensor([RGB_TO_XYZ[1], (0.02, 0.55, 0.43), (0.0, 0.1, 0.9)])


def film_luminance(
    lab: torch.Tensor, generators: list[np.random.Generator], probability: float
) -> torch.Tensor:
    """Return the luminance that early film gives L*a*b* pictures (B, 3, H, W).

    With `probability`, a picture is taken on something between what the eye sees, orthochromatic
    film (blind to red) and blue-sensitive plates (blind to green as well): red cloth and lips
    become black, skies white. Greys stay as they are.

    Returns:
        (B, 1, H, W) in 0..100.
    """
    chosen, place = uniform(generators, 2).unbind(1)
    chosen = chosen < probability
    result = lab[:, :1].clone()
    # Between the neighbours of three films, (B', 3).
    nearness = (1 - (2 * place[chosen, None] - torch.arange(3)).abs()).clamp(min=0)
    weights = (nearness @ FILMS)[:, :, None, None]
    linear = xyz_to_linear(lab_to_xyz(lab[chosen])).clamp(0, 1)
    result[chosen] = linear_to_luminance((linear * weights).sum(1, keepdim=True))
    return result


def degrade_luminance(
    luminance: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float = 0.3,
    scratches: int = 0,
    strength: float = 1.0,
) -> torch.Tensor:
    """Wear luminance (B, 1, H, W) in 0..100 as time wears prints.

    With `probability` a picture gets random amounts of another tone curve, fading (lifted blacks
    and dulled whites), blur and grain, and up to `scratches` bright or dark lines.

    Args:
        luminance: (B, 1, H, W) in 0..100.
        generators: one for each picture.
        probability: share of pictures that are worn.
        scratches: at most so many lines on a picture.
        strength: 1 to about 3; the largest amounts grow with it, and above 1 some prints are so
            steep that shadows and lights are lost.
    """
    numbers = uniform(generators, 6)
    steep = uniform(generators, 1) if strength > 1 else torch.zeros(len(luminance), 1)
    chosen = (numbers[:, 0] < probability).nonzero()[:, 0].tolist()
    if not chosen:
        return luminance
    generators = [generators[picture] for picture in chosen]
    curve, fade, dull, blur, grain = numbers[chosen, 1:, None, None, None].unbind(1)
    worn = luminance[chosen] / 100
    if strength > 1:
        slope = 1 + (strength - 1) * steep[chosen, :, None, None]
        worn = (0.5 + slope * (worn - 0.5)).clamp(max=1)
    black, white = (
        (20 * strength * fade**2).clamp(max=45),
        (100 - 25 * strength * dull**2).clamp(55),
    )
    gamma = torch.exp(0.6 * strength * (curve - 0.5))
    worn = black + (white - black) * worn.clamp(min=1e-4) ** gamma
    worn = torch.lerp(worn, _blurred(worn, round(strength)), blur)
    worn = worn + 6 * strength * grain**2 * normal(generators, tuple(worn.shape[1:]))
    if scratches:
        for picture, generator in zip(worn, generators, strict=True):
            scratch(picture, generator, scratches)
    result = luminance.clone()
    result[chosen] = worn.clamp(0, 100)
    return result


def _blurred(luminance: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        padded = F.pad(luminance, (1, 1, 1, 1), mode="replicate")
        luminance = F.avg_pool2d(padded, 3, stride=1)
    return luminance


def scratch(luminance: torch.Tensor, generator: np.random.Generator, most: int) -> None:
    """Draw up to `most` thin, nearly upright lines on (1, H, W) in 0..100, in place."""
    _, height, width = luminance.shape
    rows = torch.arange(height)
    for _ in range(generator.integers(most + 1)):
        start, lean, shade = generator.random(3)
        first, last = sorted(generator.integers(0, height + 1, 2))
        columns = (start * width + 0.3 * (lean - 0.5) * rows).long() % width
        luminance[0, rows[first:last], columns[first:last]] = 100.0 * round(shade)


def add_margins(
    lab: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float,
    most: float = 0.4,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lay pictures on black, white or grey, as prints lie on a scanner or in an album.

    Args:
        lab: L*a*b* (B, 3, H, W).
        generators: one for each picture.
        probability: share of pictures that get a margin.
        most: of a side, how much is margin at most.

    Returns:
        The pictures, whose margins have no chroma, and where the margins are, (B, 1, H, W).
    """
    numbers = uniform(generators, 6)
    chosen = numbers[:, 0] < probability
    outside = torch.zeros(len(lab), 1, *lab.shape[2:], dtype=torch.bool)
    if not chosen.any():
        return lab, outside
    size, place = 1 - most * numbers[chosen, 1], 2 * numbers[chosen, 2:4] - 1
    # x_in = (x_out - shift) / size, in the coordinates of grid_sample, where a side is -1..1.
    theta = torch.zeros(len(size), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / size
    theta[:, :, 2] = -place * (1 - size[:, None]) / size[:, None]
    grid = F.affine_grid(theta, list(lab[chosen].shape), align_corners=False)
    prints = F.grid_sample(lab[chosen], grid, padding_mode="border", align_corners=False)
    outside[chosen] = (grid.abs() > 1).any(-1)[:, None]
    kind, within = numbers[chosen, 4], numbers[chosen, 5]
    lowest = torch.tensor([0.0, 88.0, 25.0])[(3 * kind).long().clamp(max=2)]
    widest = torch.tensor([12.0, 12.0, 50.0])[(3 * kind).long().clamp(max=2)]
    ground = torch.zeros_like(prints)
    ground[:, 0] = (lowest + widest * within)[:, None, None]
    result = lab.clone()
    result[chosen] = torch.where(outside[chosen], ground, prints)
    return result, outside


def worn_luminance(
    lab: torch.Tensor,
    outside: torch.Tensor,
    generators: list[np.random.Generator],
    config: DataConfig,
) -> torch.Tensor:
    """Return the luminance (B, 1, H, W) of L*a*b* pictures as old photographs have it.

    Args:
        lab: (B, 3, H, W).
        outside: (B, 1, H, W), margins that are not worn.
        generators: one for each picture.
        config: what happens to them.
    """
    luminance = lab[:, :1]
    if config.film_probability:
        luminance = film_luminance(lab, generators, config.film_probability)
    wear = (config.degrade_probability, config.degrade_scratches, config.degrade_strength)
    luminance = degrade_luminance(luminance, generators, *wear)
    return torch.where(outside, lab[:, :1], luminance)
