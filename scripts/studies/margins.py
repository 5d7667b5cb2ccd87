"""Whether margins around photographs change the colours inside."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline_colorize import photo
from pipeline_colorize.core.colorimetry import rgb_pixels_to_lab
from pipeline_colorize.core.luminance import to_luminance
from pipeline_colorize.core.margins import picture_box
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline

LEVELS = {"black": 3, "grey": 128, "white": 250}
SHARES = (0.03, 0.06, 0.1, 0.2, 0.3, 0.45, 0.6)  # of each side, on each side
ALLOWED = 0.15  # change of the mean C*


def in_margins(gray: np.ndarray, share: float, level: int) -> tuple[np.ndarray, tuple]:
    """Return a grey photograph (H, W) on a ground, and its box (top, bottom, left, right) there."""
    rows, columns = (round(share * side) for side in gray.shape)
    height, width = gray.shape
    page = np.pad(gray, ((rows, rows), (columns, columns)), constant_values=level)
    return page, (rows, rows + height, columns, columns + width)


def mean_chroma(pipe, page: np.ndarray, box: tuple, seed: int = 0) -> float:
    """Return the mean C* of a page (H, W) inside a box, as coloured."""
    generator = TorchGenerator().manual_seed(seed)
    pixels = np.asarray(pipe(page, generator=generator).images[0])
    top, bottom, left, right = box
    lab = rgb_pixels_to_lab(pixels[top:bottom, left:right].astype(np.float32) / 255)
    return float(np.hypot(lab[..., 1], lab[..., 2]).mean())


def ratios(gray: np.ndarray, chroma: Callable) -> dict[tuple[str, float], float]:
    """Measure the mean C* by the name and share of the margins, as a ratio to the bare.

    Args:
        gray: (H, W), uint8.
        chroma: from a page and a box to the mean C* inside.
    """
    height, width = gray.shape
    bare, found = None, {}
    for name, level in LEVELS.items():
        for share in SHARES:
            page, box = in_margins(gray, share, level)
            if picture_box(to_luminance(page)) == box:
                found[name, share] = 1.0
                continue
            bare = bare or chroma(gray, (0, height, 0, width))
            found[name, share] = chroma(page, box) / bare
    return found


def run(folder: Path, model: str, longest: int) -> str:
    """Measure the photographs of a folder; returns a table as Markdown.

    Args:
        folder: of photographs, each of which is put on black, grey and white margins of several
            widths.
        model: a name that ships, or a folder.
        longest: long side to which the photographs are scaled down, in pixels.

    Raises:
        ValueError: if there is no photograph in the folder, or no such model.
    """
    pipe = ORTColorizationPipeline.from_pretrained(model)
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in photo.READABLE)
    if not paths:
        raise ValueError(f"{folder} holds no photographs.")
    lines = ["| photograph | " + " | ".join(LEVELS) + " |", "|---" * (len(LEVELS) + 1) + "|"]
    worst = []
    for path in paths:
        with photo.open_picture(path) as opened:
            small = opened.convert("L")
        small.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        found = ratios(np.asarray(small), lambda *page: mean_chroma(pipe, *page))
        groups = [[r for (name, _), r in found.items() if name == level] for level in LEVELS]
        cells = [f"{min(group):.2f} to {max(group):.2f}" for group in groups]
        lines.append(f"| {path.stem} | " + " | ".join(cells) + " |")
        worst.append(max(abs(ratio - 1) for ratio in found.values()))
    kept = sum(one <= ALLOWED for one in worst)
    lines += ["", f"{kept} of {len(worst)} photographs keep their mean C* to {ALLOWED:.0%}."]
    return "\n".join(lines)
