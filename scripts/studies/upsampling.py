"""Compare ways of bringing chroma up to full size, on colour photographs.

The true chroma of each photograph is averaged down to a grid and brought back under the exact
luminance. What is lost is measured in CIEDE2000, over the picture and next to luminance edges.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000
from torch.nn import functional as F

from pipeline_colorize.core.color import bytes_to_linear, linear_to_xyz, xyz_to_lab
from pipeline_colorize.core.image_processor import ColorizationImageProcessor
from pipeline_colorize.photo import READABLE, open_picture, to_srgb

EDGE = 8  # least difference in L* between a pixel at an edge and the picture without detail
CELLS = (32, 64)  # on the short side of the grid


def load_lab(path: Path, longest: int) -> torch.Tensor:
    """Load a photograph as L*a*b* (3, H, W), about `longest` pixels long, in multiples of 16."""
    image = to_srgb(open_picture(path))
    scale = longest / max(image.size)
    width, height = (max(round(side * scale / 16), 1) * 16 for side in image.size)
    pixels = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.LANCZOS)))
    return xyz_to_lab(linear_to_xyz(bytes_to_linear(pixels.movedim(-1, 0))))


def plain(mode: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Make a function that interpolates a grid without regard to the luminance."""

    def upsample(luminance: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return F.interpolate(grid[None], luminance.shape[1:], mode=mode)[0]

    return upsample


def errors(lab: torch.Tensor, cells: int, upsample) -> tuple[float, float]:
    """Measure mean CIEDE2000 over the picture, and over the pixels next to a luminance edge."""
    luminance = lab[:1]
    cell = min(luminance.shape[1:]) / cells
    size = [round(side / cell) for side in luminance.shape[1:]]
    down = F.interpolate(lab[None], size, mode="area")[0]
    result = torch.cat([luminance, upsample(luminance, down[1:])])
    difference = deltaE_ciede2000(lab.movedim(0, -1).numpy(), result.movedim(0, -1).numpy())
    detail = luminance - plain("bicubic")(luminance, down[:1])
    return difference.mean(), difference[(detail.abs() > EDGE)[0].numpy()].mean()


def compare(folder: Path, longest: int) -> str:
    """Write a table of the methods on the photographs of a folder.

    Raises:
        ValueError: if there are no photographs.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in READABLE)
    if not files:
        raise ValueError(f"There are no photographs in {folder}.")
    pictures = [load_lab(path, longest) for path in files]
    methods = {
        "nearest neighbour": plain("nearest"),
        "bicubic": plain("bicubic"),
        "guided + back-projection": ColorizationImageProcessor(4, 32).upsample_chroma,
    }
    heads = [f"{count} cells on the short side" for count in CELLS]
    lines = [f"{len(pictures)} photographs, {longest} px; mean CIEDE2000 (at edges of L*)", ""]
    lines += [" | ".join(["| method", *heads]) + " |", "|---" * (1 + len(CELLS)) + "|"]
    for name, method in methods.items():
        columns = [np.mean([errors(lab, n, method) for lab in pictures], 0) for n in CELLS]
        cells = [f"{whole:.2f} ({edges:.2f})" for whole, edges in columns]
        lines.append(" | ".join([f"| {name}", *cells]) + " |")
    return "\n".join(lines)
