"""Chroma files: the colours of a photograph alone, a few kilobytes beside a master of any size.

A chroma file is a PNG of 16-bit grey, with the grid of a* above that of b*. A text in it says in
JSON which photograph the colours are for, and how they came to be.
"""

import base64
import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from pipeline_colorize.core.luminance import resize_plane
from pipeline_colorize.core.sizes import check_sides
from pipeline_colorize.photo import Mark, PhotoError, open_picture, write_bytes

SUFFIX = ".chroma.png"
"""How the names of chroma files end."""

FORMAT = 1
_KEY = "pipeline-colorize-chroma"
# Levels of a 16-bit number to one unit of a*b*, and the level of zero.
_SCALE, _ZERO = 16, 32768
_MOST_CELLS = 4096  # along a side
_SMALL = 16  # pixels to a side of the picture of the light
# Mean difference in L* over which a small picture of the light is that of another photograph.
_OTHER_LIGHT = 10.0
# By how much the shape of a master may differ from that of its photograph, and in pixels.
_OTHER_SHAPE, _SHAPE_PIXELS = 0.01, 1.5


@dataclass(frozen=True)
class Fingerprint:
    """Tells which photograph colours belong to, by its light.

    Args:
        digest: SHA-256 of L* in 8 bits, row by row: the same for the very same pixels alone.
        small: (16, 16), uint8, L* times 2.55 of the whole picture: alike in every size of it.
    """

    digest: str
    small: np.ndarray

    @classmethod
    def of(cls, luminance: np.ndarray) -> "Fingerprint":
        """Describe the light of a picture by its L* (H, W)."""
        levels = np.rint(luminance * 2.55).astype(np.uint8)
        return cls(hashlib.sha256(levels.tobytes()).hexdigest(), small_light(luminance))


def small_light(luminance: np.ndarray) -> np.ndarray:
    """Shrink L* (H, W) to the (16, 16) bytes that tell photographs apart."""
    small = resize_plane(luminance.astype(np.float32), _SMALL, _SMALL)
    return np.rint(small.clip(0, 100) * 2.55).astype(np.uint8)


@dataclass(frozen=True)
class Chroma:
    """Holds the colours of a photograph on their grid.

    Args:
        ab: (2, rows, columns), float32, a* and b*.
        size: height and width of the photograph that was coloured, in pixels.
        box: `(top, bottom, left, right)` in its pixels, over which the grid lies; what is outside
            is margin, and stays neutral.
        light: of the photograph.
        settings: how the colours came to be: model, seed and what else it takes to repeat them.
        version: of the package that made them.

    Example:
        >>> chroma = read_chroma("photograph.chroma.png")
        >>> chroma.ab.shape, chroma.settings["seed"]
        ((2, 64, 96), 7)
    """

    ab: np.ndarray
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    light: Fingerprint
    settings: dict[str, Any] = field(default_factory=dict)
    version: str = ""

    @property
    def mark(self) -> Mark:
        """What a result says about how its colours came to be."""
        return Mark(self.version, self.settings)

    def box_in(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return `box` in the pixels of the same picture at another size (height, width)."""
        down, across = (new / old for new, old in zip(size, self.size, strict=True))
        top, bottom, left, right = self.box
        rows, columns = (top * down, bottom * down), (left * across, right * across)
        return round(rows[0]), round(rows[1]), round(columns[0]), round(columns[1])

    def check(self, size: tuple[int, int], small: np.ndarray) -> None:
        """Refuse a picture that these colours do not belong to.

        Args:
            size: its height and width.
            small: of its light, from `small_light`.

        Raises:
            ValueError: where its shape or its light is that of another photograph.
        """
        (height, width), (down, across) = size, self.size
        slack = _OTHER_SHAPE * width + _SHAPE_PIXELS * max(1, width / across)
        if abs(width - height * across / down) > slack:
            raise ValueError(
                f"the colours are for a photograph of {across} x {down} pixels, which has another "
                f"shape than {width} x {height}"
            )
        difference = np.abs(small.astype(float) - self.light.small).mean() / 2.55
        if difference > _OTHER_LIGHT:
            raise ValueError(
                f"the colours are for another photograph: its light differs by {difference:.0f} "
                "L* in the mean"
            )


def encode_chroma(chroma: Chroma) -> bytes:
    """Return the bytes of a chroma file."""
    levels = np.rint(chroma.ab * _SCALE + _ZERO).clip(0, 65535).astype(np.uint16)
    info = PngImagePlugin.PngInfo()
    info.add_text(_KEY, json.dumps(_description(chroma)))
    buffer = io.BytesIO()
    stacked = np.concatenate(list(levels))  # a* above b*
    Image.fromarray(stacked).save(buffer, "PNG", pnginfo=info, optimize=True)
    return buffer.getvalue()


def _description(chroma: Chroma) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": chroma.version,
        "size": chroma.size,
        "box": chroma.box,
        "settings": chroma.settings,
        "light_sha256": chroma.light.digest,
        "light": base64.b64encode(chroma.light.small.tobytes()).decode(),
    }


def write_chroma(path: str | Path, chroma: Chroma) -> None:
    """Write a chroma file, which appears under its name only when it is complete."""
    write_bytes(Path(path), encode_chroma(chroma))


def read_chroma(path: str | Path) -> Chroma:
    """Read a chroma file.

    Raises:
        PhotoError: where it is another file, damaged, or of a later version.
        OSError: where it cannot be read.

    Example:
        >>> read_chroma("photograph.chroma.png").size
        (788, 1200)
    """
    try:
        with open_picture(path) as opened:
            text = opened.info.get(_KEY)
            if opened.format != "PNG" or text is None:
                raise PhotoError("it is no chroma file, as --chroma-only writes them")
            if max(opened.size) > 2 * _MOST_CELLS:
                raise PhotoError("its grid is larger than any of a chroma file")
            levels = np.asarray(opened)
        return _chroma(levels, json.loads(text))
    except PhotoError:
        raise
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise PhotoError(f"the chroma file is damaged ({error})") from error


def _chroma(levels: np.ndarray, said: dict[str, Any]) -> Chroma:
    if said["format"] != FORMAT:
        raise PhotoError(f"it is a chroma file of format {said['format']}, not {FORMAT}")
    height, width = map(int, said["size"])
    top, bottom, left, right = map(int, said["box"])
    size, box = (height, width), (top, bottom, left, right)
    check_sides(*size)
    if not (0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]):
        raise PhotoError(f"the chroma file is damaged: {box} does not lie in {size}")
    ab = np.stack(np.split(levels.astype(np.float32), 2)) - _ZERO
    small = np.frombuffer(base64.b64decode(said["light"]), np.uint8).reshape(_SMALL, _SMALL)
    light = Fingerprint(str(said["light_sha256"]), small)
    return Chroma(ab / _SCALE, size, box, light, dict(said["settings"]), str(said["version"]))
