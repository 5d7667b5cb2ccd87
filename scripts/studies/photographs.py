"""Photographs in colour that the studies look at."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from pipeline_colorize.evaluation.protocol import spread_indices
from pipeline_colorize.photo import READABLE, open_picture, to_srgb


def read_some(folder: Path, count: int) -> Iterator[Image.Image]:
    """Read photographs as sRGB pictures, evenly spaced over those of a folder.

    Raises:
        ValueError: if there are none.
    """
    files = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in READABLE]
    if not files:
        raise ValueError(f"No photographs in {folder}.")
    for index in spread_indices(len(files), count):
        yield to_srgb(open_picture(files[index])).convert("RGB")


def resized(picture: Image.Image, scale: float) -> Image.Image:
    """Bring a picture to `scale` times its size, in whole pixels."""
    size = [round(scale * length) for length in picture.size]
    return picture.resize(size, Image.Resampling.LANCZOS)
