"""Makes whole what is left of a damaged file, so that Pillow can read it.

What is missing becomes grey or black, and a note says so; nothing is guessed.
"""

import contextlib
import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from .limits import check_bytes, check_shape, check_size
from .record import PhotoError

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF = (b"GIF87a", b"GIF89a")
_HEIF_BRANDS = frozenset(
    [b"avif", b"avis", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"]
)
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_JPEG = b"\xff\xd8\xff"
_END_OF_JPEG = b"\xff\xd9"
_JP2, _CODESTREAM, _TILE_PART = b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51", b"\xff\x90"
_SCAN = b"\xff\xda"
# Among the pixels of a JPEG, bytes that look like the markers that are reserved (T.81, table B.1).
_NO_MARKER = re.compile(rb"\xff(?=[\x02-\xbf])")
_CRITICAL = frozenset([b"IHDR", b"PLTE", b"IDAT", b"IEND"])
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG, by its kind of colour
# Where Adam7 begins, and in what steps it goes on: left, top, across, down.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_PLAIN = ("BMP", "PPM", "PCX", "TGA")
_STEP = 256  # bytes that are unpacked at a time
_LEAST_SHARE = 0.2  # of a picture that must be there
_LEAST_OF_JPEG2000 = 0.5  # of its bytes, which refine all of the picture again and again

CUT_OFF = "the file is damaged or cut off; what is there was colorized"
NOTHING_LEFT = (
    "the file is damaged or cut off; of HEIC, AVIF and JPEG XL nothing can be decoded then"
)
NO_PALETTE = "the file is damaged or cut off; the list of its colours, at its end, is missing"
SOUND_PICTURE = "the file has damaged metadata, which was left out; its picture is whole"


def mended(file: BinaryIO) -> tuple[BinaryIO, str] | None:
    """Make a damaged file readable, with a note about it; `None` where there is no way."""
    file.seek(0)
    data = file.read()
    if data.startswith(_PNG):
        return _mended_png(data)
    if data.startswith(_JPEG):
        start = max(0, data.find(_SCAN))
        pixels = _NO_MARKER.sub(b"\0", data[start:].rstrip(b"\0"))
        # A decoder stops at the end that it meets, and paints what it has not met by then.
        return io.BytesIO(data[:start] + pixels + _END_OF_JPEG), CUT_OFF
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _filled(data, 8 + int.from_bytes(data[4:8], "little"), _LEAST_SHARE)
    if data.startswith((_JP2, _CODESTREAM)):
        return _filled(data, _end_of_jpeg2000(data), _LEAST_OF_JPEG2000, _END_OF_JPEG)
    if data.startswith(_GIF):
        return _mended_gif(data)
    return _with_zeros(data)


def needs_all(file: BinaryIO) -> bool:
    """Tell whether nothing of a file can be decoded if a part is missing, by its format."""
    file.seek(0)
    start = file.read(12)
    is_heif = start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS
    return is_heif or start.startswith(_JXL)


def check_enough(image: np.ndarray) -> None:
    """Refuse a cut-off picture (H, W) or (H, W, C) of which nearly everything is missing."""
    sides = (image, image[::-1], image.swapaxes(0, 1), image.swapaxes(0, 1)[::-1])
    there = min(_share_there(side) for side in sides)
    if there < _LEAST_SHARE:
        raise PhotoError(f"the file is cut off: only {there:.0%} of the picture is there")


def _share_there(lines: np.ndarray) -> float:
    """Measure the share of lines that is left without those of one colour at the end."""
    lines = lines.reshape(len(lines), lines.shape[1], -1)
    painted = (lines == lines[-1, -1]).all((1, 2))[::-1]
    return 0.0 if painted.all() else 1 - int(np.argmin(painted)) / len(lines)


def _filled(
    data: bytes, length: int, least: float, end: bytes = b""
) -> tuple[BinaryIO, str] | None:
    """Return a cut-off file with zeros up to its length, and the marker that it ends with.

    Decoders read zeros as pixels like those before, or as none. `None` for a file that is not cut
    off, or has less than a share of `least` of its bytes.
    """
    missing = length - len(data)
    if missing <= 0 or len(data) < least * length:
        return None
    return io.BytesIO((data + bytes(missing))[: length - len(end)] + end), CUT_OFF


def _mended_gif(data: bytes) -> tuple[BinaryIO, str] | None:
    """Return a GIF that is cut off in its first picture, with zeros for the missing codes.

    A code of zero is a pixel of the palette's first colour. `None` where nothing is cut off there.
    """
    if len(data) < 13:
        return None
    at = 13 + _bytes_of_palette(data[10])
    while data[at : at + 1] == b"!":  # an extension
        at = _end_of_blocks(data, at + 2) + 1
    if data[at : at + 1] != b"," or at + 11 > len(data):
        return None
    width, height = struct.unpack_from("<HH", data, at + 5)
    end = _end_of_blocks(data, at + 11 + _bytes_of_palette(data[at + 9]))
    if end < len(data):
        return None
    check_size((width, height))
    blocks = (b"\xff" + bytes(255)) * (2 * width * height // 255 + 1)  # codes have up to 12 bits
    return io.BytesIO(data + bytes(end - len(data)) + blocks + b"\0;"), CUT_OFF


def _bytes_of_palette(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    """Tell where a GIF's blocks end, of which each begins with its length; the last one has none.

    A place behind the end of the file stands for blocks that are cut off.
    """
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at


def _end_of_jpeg2000(data: bytes) -> int:
    """Tell where a JPEG 2000 file says that it ends: by its box, or by the parts of its tiles."""
    start = data.find(b"jp2c") - 4
    length = int.from_bytes(data[start : start + 4], "big") if start >= 0 else 0
    if length > 1:
        return start + length
    at = data.find(_TILE_PART)
    while 0 < at < len(data) - 10 and data.startswith(_TILE_PART, at):
        length = int.from_bytes(data[at + 6 : at + 10], "big")
        if not length:
            break
        at += length
    return at + len(_END_OF_JPEG)


def _with_zeros(data: bytes) -> tuple[BinaryIO, str] | None:
    """Return a BMP, PNM, PCX or TGA with zeros for its missing pixels, which are black then.

    Packed or not, six bytes are enough for a pixel. `None` for any other format.
    """
    try:
        opened = Image.open(io.BytesIO(data), formats=_PLAIN)
    except Image.UnidentifiedImageError:
        return None
    with opened:
        check_size(opened.size)
        if opened.format == "PCX" and opened.mode == "L":
            raise PhotoError(NO_PALETTE)
        width, height = opened.size
    return io.BytesIO(data + bytes(6 * width * height)), CUT_OFF


def _mended_png(data: bytes) -> tuple[BinaryIO, str] | None:
    """Leave out the chunks of a PNG whose checksums are wrong, and fill it to its last row."""
    chunks = list(_png_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return None
    header = chunks[0][1]
    needed = _bytes_of_rows(header)
    packed = b"".join(content for name, content, _ in chunks if name == b"IDAT")
    rows = _inflated(packed, needed)
    note = SOUND_PICTURE
    if len(rows) < needed:
        rows, note = rows + bytes(needed - len(rows)), CUT_OFF
    kept = [
        (name, content)
        for name, content, is_sound in chunks
        if name not in (b"IDAT", b"IEND") and (is_sound or name in _CRITICAL)
    ]
    kept += [(b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return io.BytesIO(_PNG + b"".join(png_chunk(*chunk) for chunk in kept)), note


def _inflated(packed: bytes, needed: int) -> bytes:
    """Return what comes before the place at which compressed bytes are damaged or end."""
    decoder, rows = zlib.decompressobj(), bytearray()
    with contextlib.suppress(zlib.error):
        for start in range(0, len(packed), _STEP):
            rows += decoder.decompress(packed[start : start + _STEP], needed - len(rows) + 1)
            if len(rows) >= needed:
                break
    return bytes(rows[:needed])


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Name and content of each chunk, and whether its checksum is right."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        checksum = data[at + 8 + length : at + 12 + length]
        yield name, content, checksum == struct.pack(">I", zlib.crc32(name + content))
        at += 12 + length


def _bytes_of_rows(header: bytes) -> int:
    """Return how many bytes the rows of a PNG have, each with the number of its filter."""
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if color not in _CHANNELS:
        raise PhotoError("the file is damaged in its header")
    check_size((width, height))
    check_shape((width, height))
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * depth * _CHANNELS[color] // 8))
    check_bytes(total)
    return total


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG with its length and checksum."""
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
