"""Reads and writes TIFF by tifffile, which can do what Pillow cannot.

That is more than 8 bits in several channels.
"""

import contextlib
import io
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from ..core.sizes import row_chunks
from .limits import MOST_SAMPLES, check_bytes, check_shape, check_size
from .mending import CUT_OFF, check_enough
from .metadata import IPTC_TIFF_TAG, WINDOWS_TAGS, keep_texts
from .opening import open_picture
from .profiles import srgb_profile
from .record import Photo, PhotoError

if TYPE_CHECKING:
    import tifffile

_JPEG_IN_TIFF = frozenset([6, 7, 33007, 34892])
_BIG = b"\x2b\0"  # the version of BigTIFF, for files of more than 4 GB
_LAB = frozenset(["CIELAB", "ICCLAB", "ITULAB"])

# Compressions of TIFF whose strips and tiles are JPEG, JPEG 2000, PNG or WebP files.
_PICTURES_IN_TIFF = frozenset([6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 34933, 50001])


def with_channels(pixels: np.ndarray) -> np.ndarray:
    """Give (H, W) an axis of channels, (H, W, 1), and leave (H, W, C) as it is."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


@dataclass(frozen=True)
class _Stored:
    """Pixels as a page has them, and what they mean."""

    pixels: np.ndarray  # (H, W, C)
    photometric: str
    bits: int
    extra: tuple[int, ...]  # kinds of the channels beside colour


def tiff_pixels(file: BinaryIO, index: int, notes: list[str]) -> tuple[np.ndarray, str]:
    """Decode the page whose directory has the number `index`.

    Returns:
        Pixels (H, W, C) as stored, and their space: "gray", "rgb" or "cmyk"; alpha comes last.
    """
    stored = _stored(file, index, notes)
    pixels, extra = stored.pixels, stored.extra
    if pixels.ndim != 3 or pixels.shape[2] > MOST_SAMPLES:
        raise PhotoError(f"its pixels have the shape {pixels.shape}, which is not a photograph's")
    if stored.photometric in _LAB:
        raise PhotoError(
            f"its colours are {stored.photometric}, which is not read here; save it as RGB"
        )
    if extra and extra[0] == 0:  # not alpha, but such as what a scanner sees in infrared
        pixels = pixels[..., : -len(extra)]
    if pixels.dtype.kind == "f":
        pixels = unit_range(pixels, notes)
    else:
        pixels = full_range(pixels, stored.bits)
    if stored.photometric == "MINISWHITE":
        pixels = _top(pixels) - pixels
    if stored.photometric == "YCBCR":
        pixels = _from_ycbcr(pixels)
    if extra and extra[0] == 1:
        pixels = _unmultiplied(pixels, len(extra))
    if stored.photometric == "SEPARATED":
        return pixels, "cmyk"
    return pixels, "gray" if pixels.shape[2] < 3 else "rgb"


def _stored(file: BinaryIO, index: int, notes: list[str]) -> _Stored:
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[index]
        assert isinstance(page, tifffile.TiffPage)
        check_page(page)
        try:
            _check_ends(page)
            pixels = page.asarray()
        except Exception:  # decoders raise nearly anything on damaged files
            pixels = _salvaged(page)
            notes.insert(0, CUT_OFF)
        photometric, bits = tifffile.PHOTOMETRIC(page.photometric).name, page.bitspersample
        if photometric == "PALETTE" and page.colormap is not None:
            pixels, bits = np.moveaxis(page.colormap[:, pixels], 0, -1), 16
        elif page.axes == "SYX":
            pixels = pixels.transpose(1, 2, 0)
        if photometric == "YCBCR" and page.compression in _JPEG_IN_TIFF:
            photometric = "RGB"  # as the decoder of JPEG gives it
        return _Stored(with_channels(pixels), photometric, bits, page.extrasamples)


def _top(pixels: np.ndarray) -> int:
    """Return the value of white."""
    return 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max


def _from_ycbcr(pixels: np.ndarray) -> np.ndarray:
    """YCbCr of the full range (ITU-T T.871) as RGB, (H, W, 3), uint8."""
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise PhotoError("its colours are YCbCr, which is not read here; save it as RGB")
    return np.asarray(
        Image.frombytes("YCbCr", pixels.shape[1::-1], pixels.tobytes()).convert("RGB")
    )


def check_page(page) -> None:
    """Refuse a page of tifffile's that would cost far more than a photograph of its size does."""
    import tifffile

    size = page.imagewidth, page.imagelength
    check_size(size)
    check_shape(size)
    samples = page.samplesperpixel * page.imagedepth
    if samples > MOST_SAMPLES:
        raise PhotoError(f"it has {samples} samples a pixel, which no photograph has")
    if page.dtype is None or page.dtype.kind not in "ubf":
        raise PhotoError(f"pixels of type {page.dtype} are not known; save it with 16 bits")
    parts = (page.tilewidth, page.tilelength) if page.is_tiled else (size[0], 1)
    whole = [-(-side // part) * part for side, part in zip(size, parts, strict=True)]
    check_bytes(whole[0] * whole[1] * samples * page.dtype.itemsize)
    if page.compression in _PICTURES_IN_TIFF and page.jpegheader is None:
        _check_parts(page, whole)
    elif page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS or page.compression >= 65000:
        raise PhotoError(f"its compression, {page.compression}, is not read here")


def _check_parts(page, whole: list[int]) -> None:
    """Refuse a page with a strip or tile that is a picture larger than the page itself."""
    file = page.parent.filehandle
    for place, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if not count or place + count > file.size:  # no decoder is given what is cut off
            continue
        file.seek(place)
        with open_picture(io.BytesIO(file.read(count))) as part:
            if part.width > whole[0] or part.height > whole[1]:
                raise PhotoError("the file is damaged: a part of it is larger than the whole")


def _check_ends(page) -> None:
    """Raise an EOFError where a strip or tile ends behind the end of the file."""
    ends = (sum(part) for part in zip(page.dataoffsets, page.databytecounts, strict=False))
    if max(ends, default=0) > page.parent.filehandle.size:
        raise EOFError


def _salvaged(page: "tifffile.TiffPage") -> np.ndarray:
    """Return the strips or tiles of a damaged page that can be decoded; the others are zeros."""
    pixels = np.zeros(page.shaped, page.dtype)
    file = page.parent.filehandle
    for index, (place, count) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=False)
    ):
        if page.compression in _PICTURES_IN_TIFF and place + count > file.size:
            continue
        file.seek(place)
        data = file.read(count)
        if page.compression == 1:
            data += bytes(min(count, pixels.nbytes) - len(data))
        with contextlib.suppress(Exception):  # each codec has its own errors
            part, (sample, layer, top, left, _), shape = page.decode(data, index)
            assert part is not None
            into = pixels[sample, layer:, top:, left:][: shape[0], : shape[1], : shape[2]]
            into[...] = part[: into.shape[0], : into.shape[1], : into.shape[2]]
    check_enough(pixels[0, 0])
    return pixels.reshape(page.shape)


def _unmultiplied(pixels: np.ndarray, extra: int) -> np.ndarray:
    """Return colours that a TIFF has multiplied by alpha, as they were."""
    color, alpha = pixels[..., :-extra], pixels[..., -extra, None]
    top = _top(pixels)
    full = (color * (np.float32(top) / np.maximum(alpha, 1e-6 * top))).clip(0, top)
    full = full if pixels.dtype.kind == "f" else np.rint(full)
    return np.concatenate([full.astype(pixels.dtype), pixels[..., -extra:]], axis=2)


def full_range(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Bring whole numbers of any number of bits to uint8, or uint16 where they have more than 8."""
    if pixels.dtype.kind not in "ub":
        raise PhotoError(f"pixels of type {pixels.dtype} are not known; save it with 16 bits")
    kind = np.uint8 if bits <= 8 else np.uint16
    if bits == np.iinfo(kind).bits:
        return pixels
    return np.rint(pixels * (np.iinfo(kind).max / (2**bits - 1))).astype(kind)


def unit_range(pixels: np.ndarray, notes: list[str]) -> np.ndarray:
    """Floating-point pixels in [0, 1]; what is brighter than 1 is taken as a scale."""
    pixels = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(pixels.max(initial=0.0))
    if top > 1:
        notes.append(f"its values reach {top:g}; they were divided by that")
        pixels = pixels / top
    return pixels.clip(0, 1)


def strip_rows(file: BinaryIO, index: int) -> Iterator[np.ndarray]:
    """Yield the pixels of a plain page from the top, some rows (R, W, C) at a time.

    Args:
        file: the TIFF.
        index: of the page among its directories; it has plain strips or tiles, with the samples
            of a pixel beside one another.
    """
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[index]
        assert isinstance(page, tifffile.TiffPage)
        if page.is_contiguous and not page.is_tiled and page.compression == 1:
            blocks = _raw_rows(page)
        else:
            blocks = _segment_rows(page)
        for block in blocks:
            for rows in row_chunks(*block.shape[:2]):
                yield block[rows]


def _raw_rows(page: "tifffile.TiffPage") -> Iterator[np.ndarray]:
    """Rows of pixels that lie in the file one after the other, without compression."""
    file, samples = page.parent.filehandle, page.samplesperpixel
    assert page.dtype is not None
    kind = page.dtype.newbyteorder(page.parent.byteorder)
    file.seek(page.dataoffsets[0])
    for rows in row_chunks(page.imagelength, page.imagewidth):
        shape = rows.stop - rows.start, page.imagewidth, samples
        data = file.read(int(np.prod(shape)) * kind.itemsize)
        yield np.frombuffer(data, kind).reshape(shape).astype(page.dtype)


def _segment_rows(page: "tifffile.TiffPage") -> Iterator[np.ndarray]:
    """Rows of strips, or of tiles beside one another."""
    file = page.parent.filehandle
    assert page.dtype is not None
    across = -(-page.imagewidth // page.tilewidth) if page.is_tiled else 1
    down = page.tilelength if page.is_tiled else page.rowsperstrip
    places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    for row, first in enumerate(range(0, len(places), across)):
        rows = min(down, page.imagelength - row * down)
        if rows <= 0:
            return
        block = np.zeros((rows, page.imagewidth, page.samplesperpixel), page.dtype)
        for index, (place, count) in enumerate(places[first : first + across], first):
            file.seek(place)
            part, (_, _, _, left, _), shape = page.decode(file.read(count), index)
            if part is not None:  # tiles that are left out are black
                into = block[:, left : left + shape[2]]
                into[...] = part[0, : into.shape[0], : into.shape[1]]
        yield block


def encoded_tiff(pixels: np.ndarray, photo: Photo, xmp: bytes) -> bytes:
    """Write RGB or RGBA (H, W, C), uint8 or uint16, as a TIFF with the photograph's metadata."""
    file = io.BytesIO()
    write_tiff(file, pixels, pixels.shape, pixels.dtype, photo, xmp)
    return file.getvalue()


def write_tiff(
    file: BinaryIO,
    pixels: np.ndarray | Iterable[np.ndarray],
    shape: tuple[int, ...],
    kind: np.dtype,
    photo: Photo,
    xmp: bytes,
) -> list[str]:
    """Write a TIFF of RGB or RGBA pixels with the photograph's metadata.

    Args:
        file: open for reading and writing.
        pixels: (H, W, C), or blocks of its rows from the top, (R, W, C).
        shape: of all pixels, (H, W, C).
        kind: their type, uint8 or uint16.
        photo: whose metadata is written.
        xmp: to be written in place of the photograph's own.

    Returns:
        A line for people about each part of the metadata that was left out.
    """
    import tifffile

    rows = max(1, 2**20 // (shape[1] * shape[2] * kind.itemsize))
    tifffile.imwrite(
        file,
        pixels if isinstance(pixels, np.ndarray) else _encoded_strips(pixels, rows, shape[0], kind),
        shape=shape,
        dtype=kind,
        byteorder="<",
        photometric="rgb",
        extrasamples=["unassalpha"] if shape[2] == 4 else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=rows,
        resolution=photo.dpi,
        resolutionunit=2 if photo.dpi else None,
        iccprofile=srgb_profile(),
        software=False,
        metadata=None,
        extratags=_tags(photo, xmp),
    )
    exif = Image.Exif()
    exif.load(photo.exif)
    directories = {
        int(tag): exif.get_ifd(tag)
        for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
        if exif.get_ifd(tag)
    }
    if not directories:
        return []
    file.seek(2)
    if file.read(2) == _BIG:
        return ["a TIFF of this size has no place for its EXIF"]
    _append_directories(file, directories)
    return []


def _tags(photo: Photo, xmp: bytes) -> list[tuple[int, int, int, Any, bool]]:
    """Return the metadata that tifffile writes as it is."""
    exif = Image.Exif()
    exif.load(photo.exif)
    tags: list[tuple[int, int, int, Any, bool]] = [(274, 3, 1, 1, True)]
    tags.append((700, 1, len(xmp), xmp, True))
    if photo.iptc:
        tags.append((IPTC_TIFF_TAG, 7, len(photo.iptc), photo.iptc, True))
    tags += [
        (int(tag), 2, 0, value.encode("latin-1") + b"\0", True)
        for tag, value in exif.items()
        if isinstance(value, str)
    ]
    for tag in WINDOWS_TAGS.intersection(exif):
        value = exif[tag]
        if isinstance(value, bytes):
            tags.append((tag, 1, len(value), value, True))
        elif isinstance(value, int):
            tags.append((tag, 3, 1, value, True))
    return tags


def _encoded_strips(
    blocks: Iterable[np.ndarray], rows: int, height: int, kind: np.dtype
) -> Iterator[bytes]:
    """Strips of `rows` rows as zlib and the horizontal predictor encode them."""
    import imagecodecs

    left: np.ndarray | None = None
    done = 0
    for block in blocks:
        left = block if left is None else np.concatenate([left, block])
        is_last = done + len(left) == height
        end = len(left) if is_last else len(left) // rows * rows
        for top in range(0, end, rows):
            part = np.ascontiguousarray(left[top : min(top + rows, end)], kind.newbyteorder("<"))
            differences = imagecodecs.delta_encode(part, axis=1).tobytes()
            yield bytes(imagecodecs.zlib_encode(differences, level=6))
        left, done = left[end:], done + end


def _append_directories(file: BinaryIO, directories: dict[int, dict]) -> None:
    """Give a little-endian TIFF the EXIF and GPS directories that tifffile will not write.

    They are put at the end of the file, followed by a new first directory that points at them.
    """
    file.seek(0)
    (start,) = struct.unpack_from("<I", file.read(8), 4)
    file.seek(start)
    (count,) = struct.unpack("<H", file.read(2))
    entries = [file.read(12) for _ in range(count)]
    for tag, values in directories.items():
        offset = _even_end(file)
        directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II", group=tag)
        keep_texts(values)
        for name, value in values.items():
            directory[name] = value
        file.write(directory.tobytes(offset))
        entries.append(struct.pack("<HHII", tag, 4, 1, offset))
    start = _even_end(file)
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    file.write(struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4))
    file.seek(4)
    file.write(struct.pack("<I", start))


def _even_end(file: BinaryIO) -> int:
    """Go to the end of a file, which is made even, as TIFF asks of a directory's place."""
    end = file.seek(0, os.SEEK_END)
    file.write(bytes(end % 2))
    return file.tell()
