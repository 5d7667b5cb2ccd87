"""Draw grids of grey, colorized and true pictures, to look at while a model learns."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .decoding import grey_version


def draw_grid(pipeline, squares: list[torch.Tensor], file: Path) -> np.ndarray:
    """Draw a row for each picture (grey, colorized, truth) into `file`; return it as (H, W, 3).

    Args:
        pipeline: a `ColorizationPipeline`.
        squares: 8-bit pictures (3, S, S), all of one size.
        file: a PNG.
    """
    truth = [Image.fromarray(square.permute(1, 2, 0).numpy()) for square in squares]
    generators = [torch.Generator().manual_seed(index) for index in range(len(truth))]
    colorized = pipeline(truth, generator=generators).images
    rows = [
        np.concatenate([grey_version(square).expand(3, -1, -1).permute(1, 2, 0), image, true], 1)
        for square, image, true in zip(squares, colorized, truth, strict=True)
    ]
    grid = np.concatenate(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(file)
    return grid


def track_grid(tracker, grid: np.ndarray, file: Path, step: int) -> None:
    """Give a grid (H, W, 3), which is also in `file`, to one of Accelerate's trackers."""
    if tracker.name == "trackio":  # which Accelerate has no `log_images` for
        import trackio

        tracker.log({"grid": trackio.Image(str(file))}, step=step)
    elif tracker.name == "tensorboard":
        tracker.log_images({"grid": grid[None]}, step=step, dataformats="NHWC")
    else:
        tracker.log_images({"grid": grid[None]}, step=step)
