"""Pictures as they are shown: in 8 bits, and side by side."""

import numpy as np
from PIL import Image

_WIDEST = 65_000  # that surely fits a JPEG


def as_picture(image: Image.Image | np.ndarray) -> Image.Image:
    """Any of our pictures as 8-bit RGB."""
    if isinstance(image, np.ndarray):
        top = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
        image = Image.fromarray(np.rint(image * (255 / top)).astype(np.uint8))
    return image.convert("RGB")


def side_by_side(pictures: list[Image.Image], height: int) -> Image.Image:
    """Return pictures in a row on white, all as high as the lowest of them, and at most `height`.

    Lower where the row would be too wide for a JPEG.
    """
    height = min(height, *(picture.height for picture in pictures))
    wide = sum(picture.width / picture.height for picture in pictures) + len(pictures) / 60
    height = max(1, min(height, int(_WIDEST / wide)))
    scaled = [
        picture.resize(
            (max(1, round(picture.width * height / picture.height)), height),
            Image.Resampling.LANCZOS,
        )
        for picture in pictures
    ]
    gap = max(2, height // 60)
    width = sum(picture.width for picture in scaled) + gap * (len(scaled) - 1)
    row = Image.new("RGB", (width, height), "white")
    left = 0
    for picture in scaled:
        row.paste(picture, (left, 0))
        left += picture.width + gap
    return row
