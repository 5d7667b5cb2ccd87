"""Cut, mirror and enlarge pictures at random, with one generator for each picture."""

import numpy as np
import torch
from torch.nn import functional as F

from .draws import uniform


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
    """Enlarge a part of some of the pictures (B, 3, H, W), whose size stays the same.

    Args:
        lab: the pictures.
        generators: one for each picture.
        probability: share of pictures of which a part is enlarged.
        smallest: of a side; the part is between this and the whole.
    """
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
