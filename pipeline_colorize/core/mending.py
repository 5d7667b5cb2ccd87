"""Colours that are there already, and the part of a picture in which they are invented anew.

torch's engine and the one without torch share it; it needs NumPy and Pillow alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL.Image

from .agreement import window_mean
from .colorimetry import (
    RGB_TO_XYZ,
    decode_srgb,
    encode_srgb,
    lightness_to_y,
    rgb_pixels_to_lab,
)
from .finishing import TEXTURE_HALF_POINT
from .margins import Box, Frame
from .options import per_picture
from .pictures import upright_srgb
from .sizes import row_chunks

# Cells of which at least this share is in the mask are invented anew.
FREE_SHARE = 0.15
# Pixels to a side of a cell from which the colours of the cell are taken.
CELL_DETAIL = 4
# The edge of a mask follows the light within windows of this many cells; where L* varies by less
# than the root of the second number there, it fades instead.
FEATHER_CELLS = 1.0
FEATHER_VARIANCE = 4.0
# By how much linear light may differ, as a share of it and of white, and count as the same after
# rounding to 8 bits.
SAME_LIGHT = (0.02, 0.002)

# Steps in which the texture of colours that are there is found.
TEXTURE_STEPS = 16

Pixels = np.ndarray  # (H, W, 3), uint8, or float32 in [0, 1]


@dataclass(frozen=True)
class Mend:
    """The colours that are given for a picture, and where they are invented anew.

    Args:
        colors: pixels (H, W, 3) of the whole picture in colour, uint8 or float32 in [0, 1]; or
            chroma a*b* (2, h, w), float32, on a grid over the whole picture.
        mask: (H, W), float32 in [0, 1]: 0 keeps the colours of a pixel, 1 gives it new ones.
    """

    colors: np.ndarray
    mask: np.ndarray

    @property
    def is_everywhere(self) -> bool:
        """Whether all colours are invented anew."""
        return bool(self.mask.min() == 1)

    @property
    def is_chroma(self) -> bool:
        """Whether the colours are chroma on a grid, and not a picture."""
        return self.colors.shape[0] == 2

    def chroma_on(self, grid: Sequence[int], frame: Frame) -> np.ndarray:
        """Average chroma by cell of a grid over the photograph, (2, rows, columns), in a*b*."""
        if self.is_chroma:
            return np.stack([_resize(plane, grid, frame) for plane in self.colors])
        pixels = np.ascontiguousarray(self.colors[frame.inside])
        if pixels.dtype != np.uint8:
            pixels = _converted(pixels, np.dtype(np.uint8))
        size = (grid[1] * CELL_DETAIL, grid[0] * CELL_DETAIL)
        small = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BOX)
        chroma = rgb_pixels_to_lab(np.asarray(small) / 255)[..., 1:]
        cells = chroma.reshape(grid[0], CELL_DETAIL, grid[1], CELL_DETAIL, 2).mean((1, 3))
        return np.moveaxis(cells, -1, 0).astype(np.float32)

    def free_cells(self, grid: Sequence[int], frame: Frame) -> np.ndarray:
        """Mark the cells of a grid over the photograph that get new colours: (rows, columns)."""
        mask = np.ascontiguousarray(self.mask[frame.inside])
        size = (grid[1], grid[0])
        share = np.asarray(PIL.Image.fromarray(mask).resize(size, PIL.Image.Resampling.BOX))
        return (share >= min(FREE_SHARE, max(share.max(), 1e-6))).astype(np.float32)

    def resized(self, size: tuple[int, int]) -> "Mend":
        """Bring the mend to another size (height, width) of the picture; chroma stays as it is."""
        if self.mask.shape == size:
            return self
        new = (size[1], size[0])
        mask = np.asarray(PIL.Image.fromarray(self.mask).resize(new, PIL.Image.Resampling.BOX))
        if self.is_chroma:
            return Mend(self.colors, mask)
        pixels = PIL.Image.fromarray(_converted(self.colors, np.dtype(np.uint8)))
        return Mend(np.asarray(pixels.resize(new, PIL.Image.Resampling.BOX)), mask)

    def box(self, cell: float) -> Box:
        """Find what gets new colours: `(top, bottom, left, right)`, with two cells around it.

        Args:
            cell: pixels along the side of a cell of the chroma grid.
        """
        sides: list[int] = []
        for axis in (1, 0):
            found = np.flatnonzero(self.mask.any(axis))
            least, most = (found[0], found[-1] + 1) if len(found) else (0, 0)
            around = math.ceil(2 * cell) if len(found) else 0
            sides += [max(least - around, 0), min(most + around, self.mask.shape[1 - axis])]
        return sides[0], sides[1], sides[2], sides[3]

    def overlay(self, luminance: np.ndarray, cell: float, old: Pixels | None = None) -> "Overlay":
        """Return the pixels that are there, and how far new ones count where there are some.

        New ones count for nothing where the mask is 0, and never for more than it says. Towards its
        edge they fade over about a cell, but for edges that the light has as well (He and Sun
        2015).

        Args:
            luminance: (H, W), L* of the whole picture.
            cell: pixels along the side of a cell of the chroma grid.
            old: the pixels, if they have the light of the photograph already.
        """
        if old is None:
            old = with_light_of(self.colors, luminance)
        top, bottom, left, right = self.box(cell)
        inside = slice(top, bottom), slice(left, right)
        return Overlay(old, inside, _weight(self.mask[inside], luminance[inside], cell))


def _weight(mask: np.ndarray, luminance: np.ndarray, cell: float) -> np.ndarray:
    """Fade a mask (H, W) towards its edges, but for those that the light has as well."""
    if mask.size == 0 or mask.min() == 1:
        return mask
    slope, offset = _fit_mask(mask > 0, luminance, cell)
    weight = np.empty_like(mask)
    for rows in row_chunks(*luminance.shape):
        near = _rows_of(slope, rows, luminance.shape) * luminance[rows]
        near += _rows_of(offset, rows, luminance.shape)
        weight[rows] = np.minimum(mask[rows], (2 * near - 1).clip(0, 1))
    return weight


def _resize(plane: np.ndarray, grid: Sequence[int], frame: Frame) -> np.ndarray:
    """Return a plane over the whole picture on a grid over the photograph, antialiased."""
    scale = [cells / pixels for cells, pixels in zip(plane.shape, frame.size, strict=True)]
    top, bottom, left, right = frame.box
    box = (left * scale[1], top * scale[0], right * scale[1], bottom * scale[0])
    image = PIL.Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((grid[1], grid[0]), PIL.Image.Resampling.BILINEAR, box))


def _fit_mask(
    inside: np.ndarray, luminance: np.ndarray, cell: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the slope and offset of a guided filter of a mask, at `CELL_DETAIL` pixels a cell."""
    shrink = max(cell / CELL_DETAIL, 1)
    size = [max(round(side / shrink), 1) for side in inside.shape]
    mask, light = (
        np.asarray(
            PIL.Image.fromarray(plane.astype(np.float32)).resize(
                (size[1], size[0]), PIL.Image.Resampling.BOX
            ),
            np.float64,
        )
        for plane in (inside, luminance)
    )
    reach = max(round(FEATHER_CELLS * CELL_DETAIL / 2), 1)
    mean_mask, mean = window_mean(mask, reach), window_mean(light, reach)
    covariance = window_mean(mask * light, reach) - mean_mask * mean
    variance = window_mean(light * light, reach) - mean * mean
    slope = covariance / (variance + FEATHER_VARIANCE)
    offset = mean_mask - slope * mean
    return window_mean(slope, reach), window_mean(offset, reach)


def _rows_of(plane: np.ndarray, rows: slice, size: tuple[int, ...]) -> np.ndarray:
    """Return some rows of a plane that is interpolated to another size, (rows, W)."""
    scale = plane.shape[0] / size[0]
    box = (0, rows.start * scale, plane.shape[1], rows.stop * scale)
    image = PIL.Image.fromarray(plane.astype(np.float32))
    new = (size[1], rows.stop - rows.start)
    return np.array(image.resize(new, PIL.Image.Resampling.BILINEAR, box))


@dataclass(frozen=True)
class Overlay:
    """The pixels that a picture had before, and how far new ones count.

    Args:
        old: (H, W, 3), of the whole picture.
        inside: the rows and columns in which there are new ones.
        weight: (rows, columns), how far these count, float32 in [0, 1].
    """

    old: Pixels
    inside: tuple[slice, slice]
    weight: np.ndarray

    def under(self, new: Pixels) -> Pixels:
        """Return the picture with new colours where they count, of the kind of `new`."""
        result = _converted(self.old, new.dtype).copy()
        result[self.inside] = blend(result[self.inside], new[self.inside], self.weight)
        return result


def _converted(pixels: Pixels, kind: np.dtype) -> Pixels:
    if pixels.dtype == kind:
        return pixels
    if kind == np.uint8:
        return _as_kind(pixels, kind)
    return (pixels / 255).astype(kind) if pixels.dtype == np.uint8 else pixels.astype(kind)


# --- back through the dials -----------------------------------------------------------------------


def undo_dials(chroma: np.ndarray, saturation: float, coring: float, texture: float) -> np.ndarray:
    """Return the network's chroma that is shown as `chroma`.

    Args:
        chroma: (2, h, w), a*b* on the grid, as it is shown.
        saturation: factor that chroma gets last.
        coring: see `core_chroma`.
        texture: see `lift_texture`.

    Returns:
        (2, h, w), float32, in a*b*.
    """
    return _without_texture(_without_coring(chroma / saturation, coring), texture)


def _without_coring(chroma: np.ndarray, coring: float) -> np.ndarray:
    """Return the chroma (2, h, w) that coring turns into `chroma`; see `undo_coring` for torch."""
    wanted = np.sqrt(np.square(chroma).sum(0, keepdims=True))
    cube, rest = (wanted / 3) ** 3, wanted * coring**2 / 2
    root = cube + rest + np.sqrt(rest * (2 * cube + rest))
    root = np.cbrt(root.clip(min=1e-12))
    needed = wanted / 3 + root + np.square(wanted) / 9 / root
    return chroma * (needed / wanted.clip(min=1e-12))


def _without_texture(chroma: np.ndarray, texture: float) -> np.ndarray:
    """Return the chroma (2, h, w) whose fine variation `lift_texture` raises to that of `chroma`.

    The lift has a slope of 1 to `texture`, so each of the steps comes nearer.
    """
    found = chroma
    for _ in range(TEXTURE_STEPS if texture > 1 else 0):
        fine = found - _box_mean(_box_mean(found))
        power = np.square(fine).sum(0, keepdims=True)
        share = (texture - 1) * TEXTURE_HALF_POINT**2 / (TEXTURE_HALF_POINT**2 + power)
        found = found + (chroma - found - fine * share) / texture
    return found.astype(np.float32)


def _box_mean(x: np.ndarray) -> np.ndarray:
    """Mean over 3x3 cells, (2, h, w), with the cells at the border repeated beyond it."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
    x = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    return (x[..., :-2] + x[..., 1:-1] + x[..., 2:]) / 9


# --- pixels ---------------------------------------------------------------------------------------


def blend(old: Pixels, new: Pixels, weight: np.ndarray) -> Pixels:
    """Put new colours over old ones of the same light, as far as a weight says.

    Colours of one luminance are mixed in linear light, so their mixture has that luminance, too,
    and lies within the gamut.

    Args:
        old: (H, W, 3), uint8 or float32 in [0, 1].
        new: of the same size and kind.
        weight: (H, W), float32 in [0, 1]. Where it is 0 or 1, pixels are copied.

    Returns:
        Pixels of the same kind.
    """
    result = np.where(weight[..., None] > 0, new, old)
    place = (weight > 0) & (weight < 1)
    share = weight[place][:, None]
    mixed = (1 - share) * linear_light(old[place]) + share * linear_light(new[place])
    result[place] = _as_kind(encode_srgb(mixed), old.dtype)
    return result


def with_light_of(colors: Pixels, luminance: np.ndarray) -> Pixels:
    """Give a picture in colour the luminance of a photograph, where the two differ.

    Args:
        colors: (H, W, 3), uint8 or float32 in [0, 1].
        luminance: (H, W), the L* that is wanted.

    Returns:
        Pixels of the kind of `colors`; those whose luminance is right already are not touched.
    """
    result = colors.copy()
    weights = np.array(RGB_TO_XYZ[1], np.float32)
    for rows in row_chunks(*colors.shape[:2]):
        linear = linear_light(colors[rows])
        light, wanted = linear @ weights, lightness_to_y(luminance[rows])
        share, least = SAME_LIGHT
        place = np.abs(light - wanted) > share * wanted + least
        if place.any():
            moved = _moved(linear[place], light[place][:, None], wanted[place][:, None])
            result[rows][place] = _as_kind(encode_srgb(moved), colors.dtype)
    return result


def _moved(linear: np.ndarray, light: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Linear colours (N, 3) at another luminance (N, 1); with less chroma where they must."""
    scaled = np.where(light > 1e-4, linear * wanted / np.maximum(light, 1e-4), wanted)
    excess = scaled.max(1, keepdims=True) - wanted
    share = np.where(excess > 1 - wanted, (1 - wanted) / np.maximum(excess, 1e-6), 1)
    return wanted + share * (scaled - wanted)


def linear_light(pixels: Pixels) -> np.ndarray:
    """Linear RGB in [0, 1], float32, of pixels of any shape."""
    if pixels.dtype == np.uint8:
        return decode_srgb(np.arange(256) / 255).astype(np.float32)[pixels]
    return decode_srgb(pixels).astype(np.float32)


def _as_kind(srgb: np.ndarray, kind: np.dtype) -> np.ndarray:
    if kind == np.uint8:
        return np.rint(255 * srgb.clip(0, 1)).astype(np.uint8)
    return srgb.clip(0, 1).astype(kind)


# --- what a call gives ----------------------------------------------------------------------------


def colors_by_picture(color_image: Any, mask_image: Any, count: int) -> list[tuple[Any, Any]]:
    """Sort what a call gives as `color_image` and `mask_image` into one pair for each picture.

    Args:
        color_image: a picture in colour or chroma (2, h, w), or a list of them; `None` for none.
        mask_image: a picture whose white parts are invented anew, or a list of them; `None` for
            all of each picture.
        count: the number of pictures.

    Raises:
        ValueError: if there is a mask without colours, or a wrong number of either.
    """
    if color_image is None and mask_image is not None:
        raise ValueError("`mask_image` says where to mend `color_image`, which is missing.")
    colors = per_picture("color_image", _listed(color_image), count)
    masks = per_picture("mask_image", _listed(mask_image, dimensions=3), count)
    return list(zip(colors, masks, strict=True))


def read_mend(color: Any, mask: Any, size: tuple[int, int]) -> Mend | None:
    """Read the colours that are given for one picture; `None` if there are none.

    Args:
        color: a picture (PIL, array or tensor) or chroma (2, h, w), or `None`.
        mask: a picture or `None`.
        size: height and width of the picture, upright.

    Raises:
        ValueError: if one of them has another size, or is no picture.
    """
    return None if color is None else Mend(_as_colors(color, size), _as_mask(mask, size))


def _listed(given: Any, dimensions: int = 4) -> Any:
    """Return a batch as a list; one picture as it is. A channel of one is no picture of a batch."""
    if not hasattr(given, "shape"):
        return given
    shape = given.shape
    is_batch = len(shape) == 4 or (len(shape) == dimensions and 1 not in (shape[0], shape[-1]))
    return list(given) if is_batch else given


def _as_array(given: Any, name: str) -> np.ndarray:
    """Return a PIL picture, array or tensor as an array whose channels, if any, come last."""
    if isinstance(given, PIL.Image.Image):
        return np.asarray(upright_srgb(given).convert("L" if name == "mask_image" else "RGB"))
    if isinstance(given, np.ndarray):
        return given
    if hasattr(given, "detach"):  # a tensor
        array = given.detach().float().cpu().numpy()
        is_pixels = array.ndim == 3 and array.shape[0] in (1, 3)
        return np.moveaxis(array, 0, -1) if is_pixels else array
    raise ValueError(f"`{name}` is PIL pictures, arrays or tensors, not {type(given).__name__}.")


def _as_colors(given: Any, size: tuple[int, int]) -> np.ndarray:
    array = _as_array(given, "color_image")
    if array.ndim == 3 and array.shape[0] == 2 and array.shape[2] not in (3, 4):
        return array.astype(np.float32)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.shape[:2] != size:
        raise ValueError(
            f"`color_image` is a picture as large as `image`, {size[1]} x {size[0]} pixels, or "
            f"chroma (2, h, w), not an array of the shape {array.shape}."
        )
    array = array[..., :3] if array.shape[2] > 1 else np.repeat(array, 3, axis=2)
    return array if array.dtype == np.uint8 else _in_unit_range(array, "color_image")


def _as_mask(given: Any, size: tuple[int, int]) -> np.ndarray:
    if given is None:
        return np.ones(size, np.float32)
    array = _as_array(given, "mask_image")
    array = array.max(-1) if array.ndim == 3 else array
    if array.shape != size:
        raise ValueError(
            f"`mask_image` is as large as `image`, {size[1]} x {size[0]} pixels, but this one has "
            f"the shape {array.shape}."
        )
    return _in_unit_range(array, "mask_image")


def _in_unit_range(array: np.ndarray, name: str) -> np.ndarray:
    """Whole numbers to float32 in [0, 1] by their type; floats are checked."""
    if array.dtype.kind == "u":
        return (array / np.iinfo(array.dtype).max).astype(np.float32)
    array = array.astype(np.float32)
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"`{name}` lies in [0, 1] where it is floating point, but this one in "
            f"[{array.min()}, {array.max()}]."
        )
    return array
