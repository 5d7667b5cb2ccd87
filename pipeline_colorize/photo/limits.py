"""What a file may cost: it is refused by its headers, before anything is decoded."""

import contextlib
import os
import re
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import ExifTags, Image, PngImagePlugin

from ..core.sizes import check_sides
from .record import PICTURE_FORMATS, PhotoError, TooLargeError

# What a small file may cost. Captions, histories of edits and profiles are smaller than these.
LARGEST_TEXT = 1_000_000  # bytes of XMP, or characters of a text

LARGEST_PROFILE = 10_000_000  # bytes

MOST_SAMPLES = 5  # of a pixel: CMYK and alpha

_BYTES_A_PIXEL = 8  # of the largest picture allowed; RGB and alpha with 16 bits each take so many

_MOST_SCANS = 200  # of a progressive JPEG, of which each goes over the whole picture

_MOST_ITEMS = 1_000_000  # numbers in a TIFF tag, which become Python's

_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
               16: 8, 17: 8, 18: 8}  # by a TIFF tag's type  # fmt: skip

_TEXT_TYPES = frozenset([1, 2, 7])  # of TIFF tags: they stay bytes, however many

_TILE_TAGS = (322, 323)


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


def open_picture(source: str | Path | BinaryIO) -> Image.Image:
    """Open a picture that comes from elsewhere, as one of `PICTURE_FORMATS` or not at all.

    What a file is follows from its bytes and not from its name, so this is the only safe way to
    open one. Pixels are decoded later, at their first use.

    Raises:
        PIL.UnidentifiedImageError: where it is none of these formats; an OSError.
        PhotoError: where to decode it would cost far more than a photograph of its size does.
    """
    if isinstance(source, str | Path):
        with open(source, "rb") as file:
            check_directories(file)
    else:
        check_directories(source)
        source.seek(0)
    opened = Image.open(source, formats=PICTURE_FORMATS)
    try:
        _check_structure(opened)
    except Exception:
        opened.close()
        raise
    return opened


def _check_structure(opened: Image.Image) -> None:
    """Refuse what its format says about it that no photograph has; nothing is decoded for it."""
    check_shape(opened.size)
    if opened.format == "TIFF":
        tile = [opened.tag_v2.get(tag, 1) for tag in _TILE_TAGS]
        whole = [-(-side // part) * part for side, part in zip(opened.size, tile, strict=True)]
        check_size(whole)
        check_bytes(len(opened.getbands()) * whole[0] * whole[1])
    if opened.format == "JPEG2000" and _codestream_size(opened.fp) != opened.size:
        raise PhotoError("the file is damaged: two places in it tell of different sizes")
    if opened.info.get("progressive") and _count_scans(opened.fp) > _MOST_SCANS:
        raise PhotoError(f"a JPEG of more than {_MOST_SCANS} scans, which take too long to decode")


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
    for kind, count, place in _entries(file, start):
        size = _ITEM_BYTES.get(kind, 1) * count
        total += min(size, max(end - place, 0))
        if total > 2 * end or (count > _MOST_ITEMS and kind not in _TEXT_TYPES):
            raise PhotoError("the file is damaged: its tags hold more than the file does")


def _entries(file: BinaryIO, start: int) -> Iterator[tuple[int, int, int]]:
    """(type, count, place) of each entry in the first directory of a TIFF, EXIF's and GPS's."""
    file.seek(start)
    head = file.read(8)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        return
    big = 43 in head[2:4]
    number, entry = (order + "Q", order + "HHQQ") if big else (order + "H", order + "HHII")
    places = [*struct.unpack(order + "Q", file.read(8).ljust(8, b"\0"))] if big else []
    places = places or [*struct.unpack(order + "I", head[4:])]
    for place in places[:3]:  # those of EXIF and GPS are added on the way
        file.seek(start + min(place, 1 << 62))
        count = file.read(struct.calcsize(number))
        if len(count) < struct.calcsize(number):
            continue
        table = file.read(min(struct.unpack(number, count)[0], 1 << 16) * struct.calcsize(entry))
        for at in range(0, len(table) - struct.calcsize(entry) + 1, struct.calcsize(entry)):
            tag, kind, count, value = struct.unpack_from(entry, table, at)
            yield kind, count, value
            if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) and len(places) < 3:
                places.append(value)


def _codestream_size(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height of a JPEG 2000 as its decoder will take them, which a box repeats."""
    end, place = file.seek(0, os.SEEK_END), 0
    while place + 12 < end:
        file.seek(place)
        head = file.read(48)
        if head.startswith(b"\xff\x4f\xff\x51"):
            right, bottom, left, top = struct.unpack_from(">4I", head, 8)
            return right - left, bottom - top
        length, name = struct.unpack_from(">I4s", head)
        length = struct.unpack_from(">Q", head, 8)[0] if length == 1 else length
        place += (16 if length == 1 else 8) if name == b"jp2c" else max(length, 8)
    return None


def _count_scans(file: BinaryIO) -> int:
    """Scans of a JPEG, at most one more than `_MOST_SCANS`."""
    file.seek(0)
    content, place, scans = file.read(), 2, 0
    # Of what may stand between scans, all but stuffed bytes and restarts has a length of its own.
    marker = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
    while scans <= _MOST_SCANS and (found := marker.search(content, place)):
        kind, place = found[0][1], found.end()
        if kind == 0xD9:
            break
        scans += kind == 0xDA
        place += int.from_bytes(content[place : place + 2], "big")
    return scans


def check_size(size: tuple[int, int]) -> None:
    """Refuse a (width, height) of more pixels than `Image.MAX_IMAGE_PIXELS`."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit and size[0] * size[1] > limit:
        raise TooLargeError(f"{size[0]} x {size[1]} is more than {limit:,} pixels, the limit")
