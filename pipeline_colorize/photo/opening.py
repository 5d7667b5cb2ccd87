"""Opens files as pictures by named formats only, and refuses by its headers what costs too much."""

import re
import struct
from pathlib import Path
from typing import BinaryIO, cast

import pillow_heif
from PIL import Image, ImageFile, TiffImagePlugin

from . import jxl
from .boxes import boxes
from .limits import check_bytes, check_directories, check_shape, check_size
from .record import PICTURE_FORMATS, PhotoError

_MOST_SCANS = 200  # of a progressive JPEG, of which each goes over the whole picture
_TILE_TAGS = (322, 323)
_SIZ_BYTES = 43

jxl.register()
# Of a HEIF file only the pictures are of use, not what it has beside them of depth and brightness.
pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)


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
    assert isinstance(opened, ImageFile.ImageFile)
    try:
        _check_structure(opened)
    except Exception:
        opened.close()
        raise
    return opened


def _check_structure(opened: ImageFile.ImageFile) -> None:
    """Refuse what its format says about it that no photograph has; nothing is decoded for it."""
    check_shape(opened.size)
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        across, down = (opened.tag_v2.get(tag) or 1 for tag in _TILE_TAGS)
        width, height = -(-opened.width // across) * across, -(-opened.height // down) * down
        check_size((width, height))
        check_bytes(len(opened.getbands()) * width * height)
    file = cast(BinaryIO, opened.fp)
    if opened.format == "JPEG2000" and _codestream_size(file) != opened.size:
        raise PhotoError("the file is damaged: two places in it tell of different sizes")
    if opened.info.get("progressive") and _count_scans(file) > _MOST_SCANS:
        raise PhotoError(f"a JPEG of more than {_MOST_SCANS} scans, which take too long to decode")


def _codestream_size(file: BinaryIO) -> tuple[int, int] | None:
    """Width and height of a JPEG 2000 as its decoder will take them, which a box repeats."""
    if len(head := _codestream_head(file)) < _SIZ_BYTES:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", head, 8)
    return right - left, bottom - top


def jpeg2000_bits(file: BinaryIO) -> int:
    """Bits of a sample of a JPEG 2000; 0 where they are not known."""
    head = _codestream_head(file)
    return 1 + (head[_SIZ_BYTES - 1] & 0x7F) if len(head) == _SIZ_BYTES else 0


def _codestream_head(file: BinaryIO) -> bytes:
    """Return the start of a codestream of JPEG 2000, up to the depth of its first component."""
    for start in (0, *(box.start for box in boxes(file) if box.name == b"jp2c")):
        file.seek(start)
        head = file.read(_SIZ_BYTES)
        if head.startswith(b"\xff\x4f\xff\x51"):
            return head
    return b""


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
