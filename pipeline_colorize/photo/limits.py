"""What a file may cost: it is refused by its headers, before anything is decoded."""

import contextlib
import os
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

from ..core.sizes import check_sides
from .record import PhotoError, TooLargeError

# What a small file may cost. Captions, histories of edits and profiles are smaller than these.
LARGEST_TEXT = 1_000_000  # bytes of XMP, or characters of a text
LARGEST_PROFILE = 10_000_000  # bytes
MOST_SAMPLES = 5  # of a pixel: CMYK and alpha
MOST_PAGES = 10_000  # of a TIFF
_BYTES_A_PIXEL = 8  # of the largest picture allowed; RGB and alpha with 16 bits each take so many
_MOST_ITEMS = 1_000_000  # numbers in a TIFF tag, which become Python's
_ITEM_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
    18: 8,
}  # fmt: skip
"""By a TIFF tag's type."""
_TAG_BYTES = 12
_TEXT_TYPES = frozenset([1, 2, 7])  # of TIFF tags: they stay bytes, however many
_KIND_TAG = 254  # of a page: what it is beside a picture
_REDUCED_OR_MASK = 1 | 4


@contextlib.contextmanager
def pixel_limit(pixels: int) -> Iterator[None]:
    """Let `read` refuse files of more than `pixels` pixels, process-wide, while this is open."""
    before = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = pixels
        # A history of edits, or a profile, can be larger than Pillow expects.
        PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = before


def check_shape(size: tuple[int, int]) -> None:
    """Refuse a (width, height) that is too long, or too long for its short side."""
    try:
        check_sides(size[1], size[0])
    except ValueError as error:
        raise PhotoError(str(error).rstrip(".")) from None


def check_bytes(decoded: int) -> None:
    """Refuse a picture that takes more bytes than the largest one allowed would."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and decoded > limit * _BYTES_A_PIXEL:
        raise TooLargeError(
            f"it would take {decoded:,} bytes, more than {limit:,} pixels of 16 bits, the limit"
        )


def check_directories(file: BinaryIO, start: int = 0) -> None:
    """Refuse a TIFF, or EXIF, whose tags hold far more in all than the file itself.

    They may all point at the same place, and every reader makes a copy for each.
    """
    end = file.seek(0, os.SEEK_END) - start
    total = 0
    for directory in _directories(file, start):
        total += _TAG_BYTES * len(directory.tags)
        for tag in directory.tags:
            size = _ITEM_BYTES.get(tag.kind, 1) * tag.count
            total += min(size, max(end - tag.value, 0))
            if total > 2 * end or (tag.count > _MOST_ITEMS and tag.kind not in _TEXT_TYPES):
                raise PhotoError("the file is damaged: its tags hold more than the file does")


def full_pages(file: BinaryIO) -> list[int]:
    """Tell which directories of a TIFF, counted from 0, hold pages and no thumbnails or masks.

    All of them where each calls itself one.
    """
    pages = [page for page in _directories(file, 0) if page.is_page]
    kinds = [next((tag.short for tag in page.tags if tag.number == _KIND_TAG), 0) for page in pages]
    full = [index for index, kind in enumerate(kinds) if not kind & _REDUCED_OR_MASK]
    return full or [*range(len(kinds))]


@dataclass(frozen=True)
class _Tag:
    number: int
    kind: int
    count: int
    value: int  # or the place of it
    short: int  # the value where it has two bytes


@dataclass(frozen=True)
class _Directory:
    tags: list[_Tag]
    is_page: bool  # otherwise it is EXIF's or GPS's, of a page


def _directories(file: BinaryIO, start: int) -> Iterator[_Directory]:
    """Walk the directories of a TIFF or EXIF block from `start`, each page's own after it."""
    file.seek(start)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return
    big = len(head) == 16 and 43 in head[2:4]
    number, entry, pointer = ("Q", "HHQQ", "Q") if big else ("H", "HHII", "I")
    (place,) = struct.unpack_from(order + pointer, head, 8 if big else 4)
    number, entry = order + number, order + entry
    seen: set[int] = set()
    while place and place not in seen and len(seen) < MOST_PAGES:
        seen.add(place)
        tags, place = _directory(file, start + place, number, entry)
        yield _Directory(tags, True)
        for tag in tags:
            if tag.number in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
                yield _Directory(_directory(file, start + tag.value, number, entry)[0], False)


def _directory(file: BinaryIO, place: int, number: str, entry: str) -> tuple[list[_Tag], int]:
    """Return the tags of one directory, and the place of the next; nothing where it is cut off."""
    file.seek(min(place, 1 << 62))
    head = file.read(struct.calcsize(number))
    if len(head) < struct.calcsize(number):
        return [], 0
    (count,) = struct.unpack(number, head)
    table = file.read(min(count, 1 << 16) * struct.calcsize(entry))
    size = struct.calcsize(entry)
    tags = []
    for at in range(0, len(table) - size + 1, size):
        fields = struct.unpack_from(entry, table, at)
        short = struct.unpack_from(entry[0] + "H", table, at + size - (8 if size > 12 else 4))
        tags.append(_Tag(*fields, *short))
    after = file.read(struct.calcsize(entry[0] + entry[-1]))
    complete = len(after) == struct.calcsize(entry[0] + entry[-1])
    return tags, struct.unpack(entry[0] + entry[-1], after)[0] if complete else 0


def check_size(size: tuple[int, int]) -> None:
    """Refuse a (width, height) of more pixels than `Image.MAX_IMAGE_PIXELS`."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and size[0] * size[1] > limit:
        raise TooLargeError(f"{size[0]} x {size[1]} is more than {limit:,} pixels, the limit")
