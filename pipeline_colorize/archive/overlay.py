"""Lays the colours of a chroma file over a picture of any size, or over one part of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline_colorize.core.finishing import GUIDE_DETAIL
from pipeline_colorize.core.luminance import resize_plane, to_luminance
from pipeline_colorize.core.sizes import row_chunks

from .chroma import Chroma, read_chroma
from .upsampling import Taps, fit, interpolate, merge, neutral

_SMALL = 16  # as in chroma.Fingerprint


def apply_chroma(
    image: Image.Image | np.ndarray,
    chroma: Chroma | str | Path,
    box: tuple[int, int, int, int] | None = None,
    size: tuple[int, int] | None = None,
    guide: Image.Image | np.ndarray | None = None,
) -> Image.Image | np.ndarray:
    """Lay the colours of a chroma file over a picture, or over one tile of it.

    Tiles equal the same parts of the whole to the last bit. A server that has only the pixels of a
    tile gives the `size` of the whole and a small `guide`; tiles that are made with one guide agree
    with one another in the same way.

    Args:
        image: the whole picture, in any size; or the tile at `box` alone where `guide` is given.
            PIL, or an array (H, W) or (H, W, 3) of uint8, uint16 or floating point in [0, 1].
        chroma: the colours, or the file that holds them.
        box: `(left, top, right, bottom)` of the tile in pixels of the whole; all of it by default.
        size: `(width, height)` of the whole, where `image` is only a tile.
        guide: the whole picture at a small size, such as 1024 pixels, where `image` is only a tile.

    Returns:
        The colours at full size: PIL for PIL, otherwise an array (H, W, 3) of the type of `image`.

    Raises:
        ValueError: where the colours belong to another picture, or the box does not lie in it.

    Example:
        >>> master = Image.open("photograph.jpg")
        >>> apply_chroma(master, "photograph.chroma.png", box=(0, 0, 256, 128)).size
        (256, 128)
    """
    colors = chroma if isinstance(chroma, Chroma) else read_chroma(chroma)
    luminance = to_luminance(image)
    if (size is None) != (guide is None):
        raise ValueError("`size` and `guide` describe the whole beside a tile, so give both.")
    if guide is None:
        whole = luminance.shape
        overlay = Overlay.fit(colors, whole, [luminance])
    else:
        assert size is not None
        whole, small = (size[1], size[0]), to_luminance(guide)
        overlay = Overlay.fit(colors, small.shape, [small]).at(whole)
    left, top, right, bottom = box or (0, 0, whole[1], whole[0])
    if not (0 <= left < right <= whole[1] and 0 <= top < bottom <= whole[0]):
        raise ValueError(f"`box` {box} does not lie in a picture of {whole[1]} x {whole[0]}.")
    if guide is None:
        luminance = luminance[top:bottom, left:right]
    elif luminance.shape != (bottom - top, right - left):
        raise ValueError(
            f"`image` has {luminance.shape[1]} x {luminance.shape[0]} pixels, and `box` "
            f"{right - left} x {bottom - top}; with a guide, they are the same tile."
        )
    kind = image.dtype if isinstance(image, np.ndarray) else np.dtype(np.uint8)
    colored = overlay.color(luminance, (top, left), kind)
    return colored if isinstance(image, np.ndarray) else Image.fromarray(colored)


@dataclass(frozen=True)
class Overlay:
    """Holds colours that are fitted to the light of a whole picture, ready for each part of it.

    Args:
        chroma: the colours.
        size: height and width of the whole, in pixels.
        planes: (4, rows, columns), slopes and offsets from `upsampling.fit`.
    """

    chroma: Chroma
    size: tuple[int, int]
    planes: np.ndarray

    @classmethod
    def fit(cls, chroma: Chroma, size: tuple[int, int], strips: Iterable[np.ndarray]) -> "Overlay":
        """Fit colours to a picture whose L* comes in strips of rows from the top, (R, W) each.

        Raises:
            ValueError: where the colours belong to another picture.
        """
        top, bottom, left, right = chroma.box_in(size)
        cells = chroma.ab.shape[1:]
        light = _Shrinker(size[0], _SMALL)
        guide = _Shrinker(bottom - top, cells[1] * GUIDE_DETAIL)
        row = 0
        for strip in strips:
            light.add(row, strip)
            first, last = max(row, top), min(row + len(strip), bottom)
            if first < last:
                inside = np.ascontiguousarray(strip[first - row : last - row, left:right])
                guide.add(first - top, inside)
            row += len(strip)
        chroma.check(size, np.rint(light.result(_SMALL).clip(0, 100) * 2.55).astype(np.uint8))
        return cls(chroma, size, fit(chroma.ab, guide.result(cells[0] * GUIDE_DETAIL)))

    def at(self, size: tuple[int, int]) -> "Overlay":
        """Return the same fit for the picture at another size (height, width)."""
        self.chroma.check(size, self.chroma.light.small)
        return Overlay(self.chroma, size, self.planes)

    def color(self, luminance: np.ndarray, place: tuple[int, int], kind: np.dtype) -> np.ndarray:
        """Colour a part of the picture.

        Args:
            luminance: (R, W), L* of the part.
            place: row and column of its first pixel in the whole.
            kind: of the result: uint8, uint16, or floating point for float32 in [0, 1].

        Returns:
            sRGB (R, W, 3).
        """
        is_float = kind.kind == "f"
        result = np.empty((*luminance.shape, 3), np.float32 if is_float else kind)
        for rows in row_chunks(*luminance.shape):
            rgb = self._color(luminance[rows], (place[0] + rows.start, place[1]))
            result[rows] = rgb if is_float else np.rint(rgb * np.float32(np.iinfo(kind).max))
        return result

    def _color(self, luminance: np.ndarray, place: tuple[int, int]) -> np.ndarray:
        """sRGB (R, W, 3) of a part in [0, 1], neutral in the margins."""
        rgb = neutral(luminance)
        top, bottom, left, right = self.chroma.box_in(self.size)
        taps, inside = [], []
        for axis, (start, stop) in enumerate(((top, bottom), (left, right))):
            first = max(place[axis], start)
            last = min(place[axis] + luminance.shape[axis], stop)
            if first >= last:
                return rgb
            cells = self.planes.shape[1 + axis]
            taps.append(Taps.of(cells, stop - start, first - start, last - start))
            inside.append(slice(first - place[axis], last - place[axis]))
        light = luminance[inside[0], inside[1]]
        planes = interpolate(self.planes, *taps)
        rgb[inside[0], inside[1]] = merge(light, planes[:2] * light + planes[2:])
        return rgb


class _Shrinker:
    """Shrinks a picture that comes in strips, to the very numbers of shrinking it as a whole."""

    def __init__(self, height: int, width: int):
        self._narrow = np.empty((height, width), np.float32)

    def add(self, row: int, strip: np.ndarray) -> None:
        """Add the rows of a strip (R, W), of which the first is `row`."""
        rows = slice(row, row + len(strip))
        self._narrow[rows] = resize_plane(strip, len(strip), self._narrow.shape[1])

    def result(self, height: int) -> np.ndarray:
        """Return the picture at its new size, (height, width)."""
        return resize_plane(self._narrow, height, self._narrow.shape[1])
