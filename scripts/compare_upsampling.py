"""Compare ways of bringing chroma up to full size, on colour photographs.

The true chroma of each photograph is averaged down to a grid and brought back under the exact
luminance; what is lost is told in CIEDE2000, over the picture and next to luminance edges.

    python scripts/compare_upsampling.py space/examples/color
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000
from torch.nn import functional as F

from pipeline_colorize.core.color import bytes_to_linear, linear_to_xyz, xyz_to_lab
from pipeline_colorize.core.image_processor import ColorizationImageProcessor
from pipeline_colorize.photo import open_picture

EDGE = 8  # L* by which a pixel at an edge differs from the picture without detail


def load_lab(path: Path, longest: int) -> torch.Tensor:
    """The photograph as L*a*b* (3, H, W), `longest` pixels on its long side, in whole 16s."""
    image = open_picture(path).convert("RGB")
    scale = longest / max(image.size)
    width, height = (max(round(side * scale / 16), 1) * 16 for side in image.size)
    pixels = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.LANCZOS)))
    return xyz_to_lab(linear_to_xyz(bytes_to_linear(pixels.movedim(-1, 0))))


def plain(mode: str):
    def upsample(luminance: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return F.interpolate(grid[None], luminance.shape[1:], mode=mode)[0]

    return upsample


def errors(lab: torch.Tensor, cells: int, upsample) -> tuple[float, float]:
    """Mean CIEDE2000 over the picture, and over the pixels next to a luminance edge."""
    luminance = lab[:1]
    cell = min(luminance.shape[1:]) / cells
    size = [round(side / cell) for side in luminance.shape[1:]]
    down = F.interpolate(lab[None], size, mode="area")[0]
    result = torch.cat([luminance, upsample(luminance, down[1:])])
    difference = deltaE_ciede2000(lab.movedim(0, -1).numpy(), result.movedim(0, -1).numpy())
    detail = luminance - plain("bicubic")(luminance, down[:1])
    return difference.mean(), difference[(detail.abs() > EDGE)[0].numpy()].mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="colour photographs")
    parser.add_argument("--longest", type=int, default=768, help="pixels on the long side")
    options = parser.parse_args()
    files = sorted(p for p in options.folder.iterdir() if p.suffix in (".jpg", ".png"))
    pictures = [load_lab(path, options.longest) for path in files]
    methods = {
        "nearest neighbour": plain("nearest"),
        "bicubic": plain("bicubic"),
        "guided + back-projection": ColorizationImageProcessor(4, 32).upsample_chroma,
    }
    print(f"{len(pictures)} photographs, {options.longest} px; mean CIEDE2000 (at edges)")
    print(f"{'cells on the short side':26}{32:>16}{64:>16}")
    for name, method in methods.items():
        columns = [np.mean([errors(lab, n, method) for lab in pictures], 0) for n in (32, 64)]
        print(f"{name:26}" + "".join(f"{a:>8.2f} ({b:5.2f})" for a, b in columns))


if __name__ == "__main__":
    main()
