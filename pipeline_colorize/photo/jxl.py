"""Lets Pillow open JPEG XL (ISO/IEC 18181): headers are read here, pixels by imagecodecs.

So the size is known before anything is decoded. The colours that a header names become an ICC
profile; one that the file has compressed among its pixels is out of reach.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile

from .boxes import boxes
from .limits import LARGEST_TEXT, check_bytes
from .profiles import GAMMAS, HDR_CURVES, HDR_NOTE, PRIMARIES, SRGB, WHITE, plain_profile
from .record import PhotoError

FORMAT = "JXL"
_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
_HEADER = 4096  # bytes that surely hold the part of a header that is read here
_MOST_EXTRA = 4  # channels beside colour

_ASPECT_RATIOS = {1: (1, 1), 2: (6, 5), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_GRAY, _XYB = 1, 2  # colour spaces
_CUSTOM = 2  # a white point or primaries that are written out
_WHITE_POINTS = {1: WHITE, 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {
    1: PRIMARIES,
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_ALPHA, _SPOT_COLOR, _COLOR_FILTER = 0, 2, 5  # extra channels


@dataclass
class Header:
    """What the header of a codestream says."""

    width: int  # upright, as the decoder gives the pixels
    height: int
    is_float: bool = False
    bits: int = 8
    is_animated: bool = False
    extra: int = 0  # channels beside colour
    is_gray: bool = False
    is_lossless: bool = False  # more exactly: colours are stored as they were, not as XYB
    icc_profile: bytes | None = None  # where colours are not sRGB
    note: str = ""  # what cannot be had of its colours


class _Bits:
    """Takes numbers from a header, whose bits come lowest first."""

    def __init__(self, data: bytes):
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise PhotoError("the file is cut off in its header")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        return value

    def flag(self) -> bool:
        return bool(self.take(1))

    def number(self, *forms: tuple[int, int]) -> int:
        """Read a number in one of four forms: what it starts from, and how many bits are added."""
        start, count = forms[self.take(2)]
        return start + self.take(count)

    def kind(self) -> int:
        return self.number((0, 0), (1, 0), (2, 4), (18, 6))

    def coordinate(self) -> float:
        value = self.number((0, 19), (524_288, 19), (1_048_576, 20), (2_097_152, 21))
        return (-(value + 1 >> 1) if value & 1 else value >> 1) / 1e6


def read_header(codestream: bytes) -> Header:
    """Read the start of a codestream, as far as it says what the pixels are.

    Raises:
        PhotoError: where it is cut off or has channels that no photograph has.
    """
    bits = _Bits(codestream[2:_HEADER])
    height, width = _size(bits)
    header = Header(width, height)
    if bits.flag():  # everything else is as usual
        return header
    orientation = 1
    if bits.flag():
        orientation += bits.take(3)
        if bits.flag():
            _size(bits)  # of a screen that it is meant for
        if bits.flag():
            _skip_preview(bits)
        header.is_animated = bits.flag()
        if header.is_animated:
            _skip_animation(bits)
    header.bits, header.is_float = _depth(bits)
    bits.flag()  # whether 16 bits suffice for the decoder's own numbers
    header.extra = bits.number((0, 0), (1, 0), (2, 4), (1, 12))
    if header.extra > _MOST_EXTRA:
        raise PhotoError(f"it has {header.extra} channels beside colour, which no photograph has")
    for _ in range(header.extra):
        _skip_channel(bits)
    header.is_lossless = not bits.flag()
    _read_colors(bits, header)
    if orientation > 4:
        header.width, header.height = header.height, header.width
    return header


def _size(bits: _Bits) -> tuple[int, int]:
    """Height and width."""
    forms = ((1, 9), (1, 13), (1, 18), (1, 30))
    in_eights = bits.flag()
    height = 8 * (1 + bits.take(5)) if in_eights else bits.number(*forms)
    ratio = bits.take(3)
    if ratio:
        across, down = _ASPECT_RATIOS[ratio]
        return height, height * across // down
    return height, 8 * (1 + bits.take(5)) if in_eights else bits.number(*forms)


def _skip_preview(bits: _Bits) -> None:
    in_eights = bits.flag()
    forms = ((1, 6), (65, 8), (321, 10), (1345, 12))
    if in_eights:
        forms = ((16, 0), (32, 0), (1, 5), (33, 9))
    bits.number(*forms)
    if not bits.take(3):
        bits.number(*forms)


def _skip_animation(bits: _Bits) -> None:
    bits.number((100, 0), (1000, 0), (1, 10), (1, 30))
    bits.number((1, 0), (1001, 0), (1, 8), (1, 10))
    bits.number((0, 0), (0, 3), (0, 16), (0, 32))
    bits.flag()


def _depth(bits: _Bits) -> tuple[int, bool]:
    """Bits of a sample, and whether it is in floating point."""
    if not bits.flag():
        return bits.number((8, 0), (10, 0), (12, 0), (1, 6)), False
    depth = bits.number((32, 0), (16, 0), (24, 0), (1, 6))
    bits.take(4)  # of them the exponent has
    return depth, True


def _skip_channel(bits: _Bits) -> None:
    if bits.flag():  # it is alpha, as usual
        return
    kind = bits.kind()
    _depth(bits)
    bits.number((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.number((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.take(8)
    if kind == _ALPHA:
        bits.flag()
    elif kind == _SPOT_COLOR:
        bits.take(4 * 16)
    elif kind == _COLOR_FILTER:
        bits.number((1, 0), (0, 2), (3, 4), (19, 8))


def _read_colors(bits: _Bits, header: Header) -> None:
    if bits.flag():  # sRGB
        return
    has_profile, space = bits.flag(), bits.kind()
    header.is_gray = space == _GRAY
    if has_profile and header.is_lossless:
        header.note = "its colour profile cannot be read; its colours were taken as sRGB"
    elif has_profile:
        # libjxl has no colour management of its own, so it gives such pixels in linear light.
        header.icc_profile = plain_profile(space == _GRAY, WHITE, PRIMARIES, 1.0)
    if has_profile or space == _XYB:
        return
    white = _from_table(bits, _WHITE_POINTS)
    primaries = PRIMARIES if space == _GRAY else _from_table(bits, _PRIMARIES)
    has_gamma = bits.flag()
    gamma = 1e7 / max(bits.take(24), 1) if has_gamma else None
    curve = SRGB if has_gamma else bits.kind()
    if curve in HDR_CURVES:
        header.note = HDR_NOTE
    gamma = gamma or GAMMAS.get(curve)
    if (white, primaries, gamma) != (WHITE, PRIMARIES, None):
        header.icc_profile = plain_profile(space == _GRAY, white, primaries, gamma)


def _from_table(bits: _Bits, table: Mapping[int, tuple[float, ...]]) -> tuple[float, ...]:
    """Return a white point or primaries: of a standard, or written out."""
    kind = bits.kind()
    if kind == _CUSTOM:
        return tuple(bits.coordinate() for _ in table[1])
    return table.get(kind, table[1])


class JpegXlFile(ImageFile.ImageFile):
    """A JPEG XL file as Pillow opens it, with 8 bits; `pixels` has all of them."""

    format = FORMAT
    format_description = "JPEG XL"
    header: Header

    def _open(self) -> None:
        file = self._file()
        file.seek(0)
        if file.read(2) == _CODESTREAM:
            file.seek(0)
            self.header = read_header(file.read(_HEADER))
        else:
            self.header = read_header(self._read_boxes(file))
        self._size = self.header.width, self.header.height
        self._mode = ("L" if self.header.is_gray else "RGB") + "A" * bool(self.header.extra)
        if self.header.icc_profile:
            self.info["icc_profile"] = self.header.icc_profile

    @property
    def is_animated(self) -> bool:
        """Whether the file has more than one frame."""
        return self.header.is_animated

    def _read_boxes(self, file: BinaryIO) -> bytes:
        """Take the metadata of a container; returns the start of its codestream."""
        start = b""
        for box in boxes(file):
            name, content = box.name, b""
            if name in (b"jxlc", b"jxlp") and len(start) < _HEADER:
                file.seek(box.start + 4 * (name == b"jxlp"))
                start += file.read(min(_HEADER, box.end - file.tell()))
            elif name in (b"Exif", b"xml ", b"brob"):
                content = box.content(file)
            if name == b"brob":
                name, content = content[:4], _unpacked(content[4:])
            if name == b"Exif" and len(content) > 4:
                self.info.setdefault("exif", content[4 + int.from_bytes(content[:4], "big") :])
            elif name == b"xml " and content:
                self.info.setdefault("xmp", content)
        return start

    def pixels(self, notes: list[str]) -> np.ndarray:
        """Decode (H, W) or (H, W, C) as the file has them: uint8, uint16 or floating point."""
        import imagecodecs

        if self.header.note:
            notes.append(self.header.note)
        samples = self.width * self.height * (3 + self.header.extra)
        check_bytes(samples * math.ceil(self.header.bits / 8))
        file = self._file()
        file.seek(0)
        return imagecodecs.jpegxl_decode(file.read(), index=0)

    def _file(self) -> BinaryIO:
        return cast(BinaryIO, self.fp)

    def load(self) -> Any:
        """Decode the pixels, at their first use."""
        if self._im is None:
            pixels = self.pixels([])
            if pixels.dtype != np.uint8:
                top = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else 1
                pixels = np.rint(pixels.clip(0, top) * (255 / top)).astype(np.uint8)
            self.im = Image.fromarray(pixels).im
            self._mode = self.im.mode
        return super().load()


def _unpacked(content: bytes) -> bytes:
    """Return what Brotli has compressed; nothing where it is damaged or too long."""
    import imagecodecs

    with contextlib.suppress(Exception):  # imagecodecs has its own error classes
        return bytes(imagecodecs.brotli_decode(content, out=bytearray(LARGEST_TEXT)))
    return b""


def register() -> None:
    """Let `Image.open` know JPEG XL."""
    Image.register_open(FORMAT, JpegXlFile, lambda head: head.startswith((_CODESTREAM, _CONTAINER)))
