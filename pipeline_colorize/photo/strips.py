"""Photographs too large to be held as a whole: read and written some rows at a time."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from PIL import TiffImagePlugin

from ..core.sizes import row_chunks
from .decode import check_kind, errors_for_people, photo_of, read
from .encode import fitted, with_alpha, write
from .limits import check_size, full_pages
from .metadata import orientation_of
from .opening import open_picture
from .profiles import CHANNELS, for_pipeline, read_profile
from .record import WRITABLE, Mark, Photo, PhotoError, one_line
from .sidecar import read_sidecar
from .tiff import check_page, strip_rows, write_tiff
from .xmp import marked_xmp

# Compressions of TIFF whose strips and tiles are plain pixels.
_PLAIN = frozenset([1, 5, 8, 32773, 32946, 34925, 50000])
_SPACES = {"MINISBLACK": "gray", "MINISWHITE": "gray", "RGB": "rgb"}
_UNASSOCIATED = 2


@dataclass
class Strip:
    """Holds some rows of a photograph, as `Photo` holds all of them."""

    image: np.ndarray  # (R, W) or (R, W, 3)
    alpha: np.ndarray | None = None  # (R, W)


class StripReader:
    """Reads the rows of a photograph from the top, as often as one likes.

    TIFF files of plain kinds are never held as a whole; other files are.

    Args:
        path: of the file.
        page: which page of a TIFF, from 0; the first one by default.

    Raises:
        PhotoError: with a line for people that says what is wrong with the file.
    """

    def __init__(self, path: str | Path, page: int | None = None):
        self._path, self._page = Path(path), page
        self._whole: Photo | None = None
        self._tiff_page = 0
        with errors_for_people():
            check_kind(self._path)
            found = self._open_tiff()
        if found is None:
            found = self._whole = read(path, page)
            self.size: tuple[int, int] = found.image.shape[:2]
        self.photo: Photo = found
        """Everything but the pixels; the picture in it may be empty."""

    def __iter__(self) -> Iterator[Strip]:
        """Yield all rows from the top, some at a time."""
        if self._whole is None:
            with errors_for_people():
                yield from self._tiff_strips()
            return
        image, alpha = self._whole.image, self._whole.alpha
        for rows in row_chunks(*self.size):
            yield Strip(image[rows], None if alpha is None else alpha[rows])

    def _open_tiff(self) -> Photo | None:
        """Read what a TIFF says of itself; `None` where its rows cannot be read by themselves."""
        notes: list[str] = []
        sidecar = read_sidecar(self._path, notes)
        with open(self._path, "rb") as file:
            try:
                opened = open_picture(file)
            except (OSError, PhotoError):  # which `read` explains, or mends
                return None
            with opened:
                if not isinstance(opened, TiffImagePlugin.TiffImageFile):
                    return None
                check_size(opened.size)
                pages = full_pages(file)
                if (self._page or 0) >= len(pages) or orientation_of(opened.tag_v2) != 1:
                    return None
                self._tiff_page = pages[self._page or 0]
                if self._tiff_page:
                    opened.seek(self._tiff_page)
                if not self._is_plain(file):
                    return None
                pixel = np.zeros((1, 1, self._channels), self._kind)
                photo = photo_of(opened, file, pixel, sidecar.xmp if sidecar else b"", notes)
                self._profile = read_profile(opened, self._space, [])
        photo.sidecar = sidecar.is_appended if sidecar else None
        photo.alpha = None
        return photo

    def _is_plain(self, file: IO[bytes]) -> bool:
        """Tell whether rows can be decoded by themselves, and note what they consist of."""
        import tifffile

        file.seek(0)
        with tifffile.TiffFile(cast("tifffile.FileHandle", file)) as tiff:
            page = tiff.pages[self._tiff_page]
            assert isinstance(page, tifffile.TiffPage)
            check_page(page)
            photometric = tifffile.PHOTOMETRIC(page.photometric).name
            channels, extra = page.samplesperpixel, tuple(page.extrasamples)
            self._space = _SPACES.get(photometric, "")
            self._is_inverted = photometric == "MINISWHITE"
            self._channels, self._kind = channels, page.dtype
            self.size = page.imagelength, page.imagewidth
            return bool(
                self._space
                and page.compression in _PLAIN
                and page.planarconfig == 1
                and page.dtype in (np.uint8, np.uint16)
                and page.bitspersample == 8 * page.dtype.itemsize
                and channels == CHANNELS[self._space] + len(extra)
                and extra in ((), (_UNASSOCIATED,))
            )

    def _tiff_strips(self) -> Iterator[Strip]:
        colors = CHANNELS[self._space]
        with open(self._path, "rb") as file:
            for pixels in strip_rows(file, self._tiff_page):
                if self._is_inverted:
                    pixels[..., :colors] = np.iinfo(pixels.dtype).max - pixels[..., :colors]
                image = for_pipeline(pixels[..., :colors], self._space, self._profile, [])
                alpha = pixels[..., colors] if pixels.shape[2] > colors else None
                yield Strip(image, alpha)


def write_strips(
    path: str | Path, reader: StripReader, strips: Iterator[Strip], mark: Mark
) -> list[str]:
    """Write a coloured photograph whose rows come some at a time; the ending decides the format.

    A TIFF is never held as a whole; other formats are. The file appears under its name only when
    it is complete.

    Args:
        path: one of the endings of `WRITABLE`.
        reader: of the photograph, whose metadata is kept.
        strips: of the result, RGB (R, W, 3) of uint8 or uint16 from the top, and alpha.
        mark: says how the colours came to be.

    Returns:
        A line for people about each part of the metadata that the format has no place for.
    """
    path = Path(path)
    if WRITABLE[path.suffix.lower()] != "TIFF":
        return _write_whole(path, reader, strips, mark)
    photo, notes = fitted(reader.photo, "TIFF")
    kind = np.dtype(np.uint8 if photo.depth == 8 else np.uint16)
    first = next(strips)
    channels = 3 if first.alpha is None else 4
    blocks = (with_alpha(strip.image, strip.alpha) for strip in _chained(first, strips))
    draft = path.with_name(f".colorize-{uuid.uuid4().hex[:12]}.part")
    try:
        with open(draft, "w+b") as file:
            shape = (*reader.size, channels)
            notes += write_tiff(file, blocks, shape, kind, photo, marked_xmp(photo.xmp, mark))
        os.replace(draft, path)
    except (ValueError, TypeError) as error:
        raise PhotoError(f"cannot be written as TIFF ({one_line(error)})") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()
    return notes


def _chained(first: Strip, rest: Iterator[Strip]) -> Iterator[Strip]:
    yield first
    yield from rest


def _write_whole(path: Path, reader: StripReader, strips: Iterator[Strip], mark: Mark) -> list[str]:
    """Collect all rows, and write them as any other result."""
    photo, row = reader.photo, 0
    kind = np.uint8 if photo.depth == 8 else np.uint16
    image = np.empty((*reader.size, 3), kind)
    alpha: np.ndarray | None = None
    for strip in strips:
        rows = slice(row, row + len(strip.image))
        image[rows] = strip.image
        if strip.alpha is not None:
            alpha = np.empty(reader.size, strip.alpha.dtype) if alpha is None else alpha
            alpha[rows] = strip.alpha
        row = rows.stop
    photo.alpha = alpha
    return write(path, image, photo, mark)
