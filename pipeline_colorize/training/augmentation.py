"""What happens to pictures at random: tensors (B, ...) with one generator a picture."""

import numpy as np
import torch
from torch.nn import functional as F

from pipeline_colorize.core.color import RGB_TO_XYZ, lab_to_xyz, linear_to_luminance, xyz_to_linear

from .draws import normal, uniform

# Sensitivity to linear red, green and blue: the eye's, and roughly those of orthochromatic film and
# of plates that see hardly anything but blue, as nearly all did before the 1880s.
FILMS = torch.tensor([RGB_TO_XYZ[1], (0.02, 0.55, 0.43), (0.0, 0.1, 0.9)])


def cut_square(
    picture: torch.Tensor, size: int, generator: np.random.Generator | None = None
) -> torch.Tensor:
    """Cut a square from an 8-bit picture (3, H, W) and scale it to `size` pixels.

    With a generator, the square has a random side, from `size` to the short side, and a random
    place; without, it is the largest one in the middle.
    """
    height, width = picture.shape[1:]
    if (height, width) == (size, size):
        return picture
    short = min(height, width)
    side, top, left = short, 0.5, 0.5
    if generator is not None:
        scale, top, left = generator.random(3)
        side = size + round(scale * (short - size))
    top, left = int(top * (height - side + 1)), int(left * (width - side + 1))
    square = picture[:, top : top + side, left : left + side]
    if side == size:
        return square
    return F.interpolate(square[None], (size, size), mode="bilinear", antialias=True)[0]


def random_flip(pictures: torch.Tensor, generators: list[np.random.Generator]) -> torch.Tensor:
    """Mirror half of the pictures (B, C, H, W)."""
    flipped = uniform(generators, 1)[:, 0] < 0.5
    pictures = pictures.clone()
    pictures[flipped] = pictures[flipped].flip(-1)
    return pictures


def random_crop(
    lab: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float = 0.5,
    smallest: float = 0.7,
) -> torch.Tensor:
    """With `probability`, enlarge a crop of `smallest` to 1 of a side. Keeps (B, 3, H, W)."""
    numbers = uniform(generators, 4)
    cropped = numbers[:, 0] < probability
    if not cropped.any():
        return lab
    size, shift = numbers[cropped, 1], numbers[cropped, 2:]
    size = smallest + (1 - smallest) * size
    # x_in = size * x_out + shift, in the coordinates of grid_sample, where a side is -1..1.
    theta = torch.zeros(len(size), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = (2 * shift - 1) * (1 - size[:, None])
    chosen = lab[cropped]
    grid = F.affine_grid(theta, list(chosen.shape), align_corners=False)
    result = lab.clone()
    result[cropped] = F.grid_sample(
        chosen, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return result


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
) -> torch.Tensor:
    """Wear luminance (B, 1, H, W) in 0..100 as time wears prints.

    With `probability` a picture gets random amounts of another tone curve, fading (lifted blacks
    and dulled whites), blur and grain, and up to `scratches` bright or dark lines.
    """
    numbers = uniform(generators, 6)
    chosen = (numbers[:, 0] < probability).nonzero()[:, 0].tolist()
    if not chosen:
        return luminance
    generators = [generators[picture] for picture in chosen]
    worn = luminance[chosen]
    curve, fade, dull, blur, grain = numbers[chosen, 1:, None, None, None].unbind(1)
    black, white = 20 * fade**2, 100 - 25 * dull**2
    gamma = torch.exp(0.6 * (curve - 0.5))
    worn = black + (white - black) * (worn / 100).clamp(min=1e-4) ** gamma
    blurred = F.avg_pool2d(F.pad(worn, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    worn = torch.lerp(worn, blurred, blur)
    worn = worn + 6 * grain**2 * normal(generators, tuple(worn.shape[1:]))
    if scratches:
        for picture, generator in zip(worn, generators, strict=True):
            scratch(picture, generator, scratches)
    result = luminance.clone()
    result[chosen] = worn.clamp(0, 100)
    return result


def scratch(luminance: torch.Tensor, generator: np.random.Generator, most: int) -> None:
    """Draw up to `most` thin, nearly upright lines on (1, H, W) in 0..100, in place."""
    _, height, width = luminance.shape
    rows = torch.arange(height)
    for _ in range(generator.integers(most + 1)):
        start, lean, shade = generator.random(3)
        first, last = sorted(generator.integers(0, height + 1, 2))
        columns = (start * width + 0.3 * (lean - 0.5) * rows).long() % width
        luminance[0, rows[first:last], columns[first:last]] = 100.0 * round(shade)


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
        (B, 3, h, w): a*, b* and the mask. A hint is a square of 1 to 3 cells and has their mean
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
