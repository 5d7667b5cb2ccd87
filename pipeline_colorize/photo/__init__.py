"""Photographs as files: pixels out of them for the pipeline, and the coloured result back.

Reading gives upright pixels whose luminance is that of the sRGB picture, whatever profile, depth or
colour model the file has. Writing keeps size, depth, transparency and metadata, embeds an sRGB
profile, and marks the file as one whose colours were generated (IPTC DigitalSourceType).

Pillow reads and writes; imagecodecs (PNG) and tifffile (TIFF) do what Pillow cannot, which is more
than 8 bits in several channels; littleCMS, inside imagecodecs, does the colour management.
"""

import contextlib
import functools
import io
import os
import re
import stat
import struct
import uuid
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from xml.dom import minidom

import numpy as np
from defusedxml import minidom as hardened
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, TiffImagePlugin

from pipeline_colorize.core.sizes import check_sides

WRITABLE = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
"""File name endings that `write` knows, with Pillow's name of the format."""

READABLE = frozenset(WRITABLE) | {
    ".bmp", ".gif", ".jp2", ".j2k", ".pbm", ".pgm", ".pnm", ".ppm", ".tga",
}  # fmt: skip
"""File name endings that count as photographs when a folder is searched."""

PICTURE_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TIFF", "WEBP", "TGA",
)  # fmt: skip
"""Pillow's names of the formats that are opened; TGA comes last because it has no signature.

Pillow knows more, and some of those run what a file says: EPS goes through Ghostscript, IPTC opens
the picture inside it as whatever that claims to be, and WMF is drawn by Windows.
"""

# https://cv.iptc.org/newscodes/digitalsourcetype/: a real capture with parts that a model made.
DIGITAL_SOURCE_TYPE = (
    "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)
SYSTEM = "pipeline-colorize"

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_TIFF = "http://ns.adobe.com/tiff/1.0/"
_EMPTY_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>
<?xpacket end="w"?>"""

# TIFF tags that say where and how the pixels lie, or hold what is written anew; in an EXIF block
# of another format they are meaningless. Everything else describes the photograph and is kept.
_LAYOUT_TAGS = frozenset(
    [*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294)]
    + [301, *range(317, 326), *range(330, 348), *range(512, 533), 700, 33723, 34377, 34675]
)
# Rating, and title, comment, author, keywords and subject as the Explorer of Windows has them.
_WINDOWS_TAGS = frozenset([0x4746, 0x4749, *range(0x9C9B, 0x9CA0)])
_LAB = frozenset(["CIELAB", "ICCLAB", "ITULAB"])
_CHANNELS = {"gray": 1, "rgb": 3, "cmyk": 4}
_IPTC_RESOURCE = 0x0404  # in Photoshop's blocks
_IPTC_TIFF_TAG = 33723
_PNG_XMP = "XML:com.adobe.xmp"
_JPEG_BLOCK = 65_000  # bytes of metadata that surely fit a segment; more is left out
_STRIP_ROWS = 256

# What a small file may cost. Captions, histories of edits and profiles are smaller than these.
_LARGEST_TEXT = 1_000_000  # bytes of XMP, or characters of a text
_LARGEST_PROFILE = 10_000_000  # bytes
_DEEPEST_XML = 64  # elements inside one another
_MOST_TAGS = 50_000  # of XML, opening and closing
_MOST_SAMPLES = 5  # of a pixel: CMYK and alpha
_BYTES_A_PIXEL = 8  # of the largest picture allowed; RGB and alpha with 16 bits each take so many
_MOST_SCANS = 200  # of a progressive JPEG, of which each goes over the whole picture
_MOST_ITEMS = 1_000_000  # numbers in a TIFF tag, which become Python's
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
               16: 8, 17: 8, 18: 8}  # by a TIFF tag's type  # fmt: skip
_TEXT_TYPES = frozenset([1, 2, 7])  # of TIFF tags: they stay bytes, however many
_TILE_TAGS = (322, 323)
# Compressions of TIFF whose strips and tiles are JPEG, JPEG 2000, PNG or WebP files.
_PICTURES_IN_TIFF = frozenset([6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 34933, 50001])
_WIDE_GAMMA = 1.8


class PhotoError(ValueError):
    """A file cannot be read or written as a photograph; the message is one line for people."""


class TooLargeError(PhotoError):
    """A file has more pixels than the limit (see `pixel_limit`)."""


@dataclass
class Photo:
    """A decoded photograph, upright."""

    image: np.ndarray  # (H, W) or (H, W, 3), sRGB-encoded; uint8, uint16, or float32 in [0, 1]
    depth: int  # bits a channel of the file: 8 or 16
    alpha: np.ndarray | None = None  # (H, W), uint8 or uint16
    lossless: bool = True  # the file's compression
    exif: bytes = b""  # orientation set to upright
    xmp: bytes = b""
    iptc: bytes = b""  # captions and credits in the older form that archives use (IPTC-IIM)
    texts: dict[str, str] = field(default_factory=dict)  # a PNG's, or a comment
    dpi: tuple[float, float] | None = None
    warnings: list[str] = field(default_factory=list)  # one line each, for people


@dataclass(frozen=True)
class Mark:
    """What is written into a result about how its colours came to be."""

    version: str  # of this package
    settings: dict[str, object]  # model, seed and whatever else it takes to get the same again

    def lines(self) -> dict[str, str]:
        """The IPTC properties (Photo Metadata Standard 2025.1, Extension schema)."""
        return {
            "DigitalSourceType": DIGITAL_SOURCE_TYPE,
            "AISystemUsed": SYSTEM,
            "AISystemVersionUsed": self.version,
            "AIPromptInformation": "; ".join(f"{k}={v}" for k, v in self.settings.items()),
        }


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


# --- reading -------------------------------------------------------------------------------------


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
            _check_directories(file)
    else:
        _check_directories(source)
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
    _check_shape(opened.size)
    if opened.format == "TIFF":
        tile = [opened.tag_v2.get(tag, 1) for tag in _TILE_TAGS]
        whole = [-(-side // part) * part for side, part in zip(opened.size, tile, strict=True)]
        _check_size(whole)
        _check_bytes(len(opened.getbands()) * whole[0] * whole[1])
    if opened.format == "JPEG2000" and _codestream_size(opened.fp) != opened.size:
        raise PhotoError("the file is damaged: two places in it tell of different sizes")
    if opened.info.get("progressive") and _count_scans(opened.fp) > _MOST_SCANS:
        raise PhotoError(f"a JPEG of more than {_MOST_SCANS} scans, which take too long to decode")


def _check_shape(size: tuple[int, int]) -> None:
    try:
        check_sides(size[1], size[0])
    except ValueError as error:
        raise PhotoError(str(error).rstrip(".")) from None


def _check_bytes(decoded: int) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit and decoded > limit * _BYTES_A_PIXEL:
        raise TooLargeError(
            f"it would take {decoded:,} bytes, more than {limit:,} pixels of 16 bits, the limit"
        )


def _check_directories(file: BinaryIO, start: int = 0) -> None:
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


def read(path: str | Path) -> Photo:
    """Decode the photograph at `path`.

    The size is checked before any pixel is decoded, against Pillow's `Image.MAX_IMAGE_PIXELS`
    (see `pixel_limit`). Raises PhotoError with a line that says what is wrong with the file.
    """
    path = Path(path)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            raise PhotoError("not a file but a pipe or device; save it as a file first")
        if found.st_size == 0:
            raise PhotoError("the file is empty (0 bytes)")
        return _read(path)
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, the limit") from None
    except PermissionError:
        raise PhotoError("no permission to read the file") from None
    except (FileNotFoundError, IsADirectoryError) as error:
        raise PhotoError(error.strerror.lower()) from None
    except MemoryError:
        raise PhotoError("not enough memory to decode it") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise PhotoError(f"the file is damaged or cut off ({_one_line(error)})") from error


def _read(path: Path) -> Photo:
    try:
        with open_picture(path) as opened:
            _check_size(opened.size)
            return _decode(opened, path)
    except Image.UnidentifiedImageError:
        return _read_rare_tiff(path)


def _read_rare_tiff(path: Path) -> Photo:
    """A TIFF of a kind that Pillow does not know, such as RGB in floating point."""
    import tifffile

    notes = ["of this kind of TIFF only pixels and colour profile are kept"]
    try:
        pixels, space = _tiff_pixels(path, notes)
        with tifffile.TiffFile(path) as tiff:
            tags = tiff.pages[0].tags
            orientation, profile = tags.valueof(274), tags.valueof(34675)
    except tifffile.TiffFileError:
        raise PhotoError("not a picture, or of a kind that cannot be read") from None
    color, alpha = _split_alpha(_upright(pixels, orientation), space)
    image = _for_pipeline(color, space, profile, notes)
    return Photo(image, 8 if pixels.dtype == np.uint8 else 16, alpha, warnings=notes)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _check_size(size: tuple[int, int]) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit and size[0] * size[1] > limit:
        raise TooLargeError(f"{size[0]} x {size[1]} is more than {limit:,} pixels, the limit")


def _decode(opened: Image.Image, path: Path) -> Photo:
    notes = []
    # They are not counted, since there may be millions.
    if getattr(opened, "is_animated", False) and opened.format != "MPO":
        notes.append("has more than one frame or page; only the first one is colorized")
    if not _is_for_tifffile(opened):
        # Only this reads the late chunks of a PNG. It also turns a TIFF and drops its orientation.
        opened.load()
    _drop_large_parts(opened, notes)
    pixels, space = _pixels(opened, path, notes)
    exif = _exif(opened, notes)
    pixels = _upright(pixels, exif.get(ExifTags.Base.Orientation, 1))
    color, alpha = _split_alpha(pixels, space)
    return Photo(
        image=_for_pipeline(color, space, _profile(opened, space), notes),
        depth=8 if pixels.dtype == np.uint8 else 16,
        alpha=alpha,
        lossless=_is_lossless(opened, path),
        exif=_exif_bytes(exif, color.shape, notes),
        xmp=_xmp(opened),
        iptc=_iptc(opened),
        texts=_texts(opened),
        dpi=_dpi(opened),
        warnings=notes,
    )


def _pixels(opened: Image.Image, path: Path, notes: list[str]) -> tuple[np.ndarray, str]:
    """Pixels (H, W, C) as stored, and their space: "gray", "rgb" or "cmyk"; alpha comes last."""
    if opened.format == "PNG" and _png_depth(path) == 16:
        import imagecodecs

        pixels = imagecodecs.png_decode(path.read_bytes())
    elif _is_for_tifffile(opened):
        return _tiff_pixels(path, notes)
    elif opened.mode.startswith("I;16"):
        pixels = np.asarray(opened).astype(np.uint16)
    elif opened.mode == "I":  # what Pillow makes of 16-bit PGM and JPEG 2000
        pixels = np.asarray(opened).clip(0, 65535).astype(np.uint16)
    elif opened.mode == "F":
        pixels = _unit_range(np.asarray(opened), notes)
    else:
        pixels = np.asarray(_plain_mode(opened))
    if opened.mode == "CMYK":
        return pixels, "cmyk"
    return _with_channels(pixels), "gray" if pixels.ndim == 2 or pixels.shape[2] == 2 else "rgb"


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _plain_mode(opened: Image.Image) -> Image.Image:
    """One of Pillow's many 8-bit modes as L, LA, RGB, RGBA or CMYK."""
    clear = opened.has_transparency_data
    if opened.mode in ("1", "L", "LA", "La"):
        return opened.convert("LA" if clear else "L")
    if opened.mode == "CMYK":
        return opened
    return opened.convert("RGBA" if clear else "RGB")


def _png_depth(path: Path) -> int:
    with open(path, "rb") as file:  # the byte after width and height in IHDR
        return file.read(25)[24]


def _is_for_tifffile(opened: Image.Image) -> bool:
    if opened.format != "TIFF":
        return False
    deep = max(opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    # Pillow 12.3 reads the rows of these at their turned length, and so garbles them.
    turned = opened.tag_v2.get(ExifTags.Base.Orientation, 1) > 4
    return deep or (turned and opened.info.get("compression") == "raw")


def _tiff_pixels(path: Path, notes: list[str]) -> tuple[np.ndarray, str]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        _check_page(page)
        pixels = page.asarray()
        photometric, bits, extra = page.photometric.name, page.bitspersample, page.extrasamples
        if photometric == "PALETTE":
            pixels, bits = np.moveaxis(page.colormap[:, pixels], 0, -1), 16
        elif page.axes == "SYX":
            pixels = pixels.transpose(1, 2, 0)
    pixels = _with_channels(pixels)
    if pixels.ndim != 3 or pixels.shape[2] > 5:
        raise PhotoError(f"its pixels have the shape {pixels.shape}, which is not a photograph's")
    if photometric in _LAB:
        raise PhotoError(f"its colours are {photometric}, which is not read here; save it as RGB")
    if extra and extra[0] == 0:  # not alpha, but such as what a scanner sees in infrared
        pixels = pixels[..., : -len(extra)]
    pixels = _unit_range(pixels, notes) if pixels.dtype.kind == "f" else _full_range(pixels, bits)
    if photometric == "MINISWHITE":
        pixels = (1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max) - pixels
    if extra and extra[0] == 1:
        pixels = _unmultiplied(pixels, len(extra))
    if photometric == "SEPARATED":
        return pixels, "cmyk"
    return pixels, "gray" if pixels.shape[2] < 3 else "rgb"


def _check_page(page) -> None:
    """Refuse a page of tifffile's that would cost far more than a photograph of its size does."""
    import tifffile

    size = page.imagewidth, page.imagelength
    _check_size(size)
    _check_shape(size)
    samples = page.samplesperpixel * page.imagedepth
    if samples > _MOST_SAMPLES:
        raise PhotoError(f"it has {samples} samples a pixel, which no photograph has")
    if page.dtype is None or page.dtype.kind not in "ubf":
        raise PhotoError(f"pixels of type {page.dtype} are not known; save it with 16 bits")
    parts = (page.tilewidth, page.tilelength) if page.is_tiled else (size[0], 1)
    whole = [-(-side // part) * part for side, part in zip(size, parts, strict=True)]
    _check_bytes(whole[0] * whole[1] * samples * page.dtype.itemsize)
    if page.compression in _PICTURES_IN_TIFF and page.jpegheader is None:
        _check_parts(page, whole)
    elif page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS or page.compression >= 65000:
        raise PhotoError(f"its compression, {page.compression}, is not read here")


def _check_parts(page, whole: list[int]) -> None:
    """Refuse a page with a strip or tile that is a picture larger than the page itself."""
    file = page.parent.filehandle
    for place, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if not count:
            continue
        file.seek(place)
        with open_picture(io.BytesIO(file.read(count))) as part:
            if part.width > whole[0] or part.height > whole[1]:
                raise PhotoError("the file is damaged: a part of it is larger than the whole")


def _unmultiplied(pixels: np.ndarray, extra: int) -> np.ndarray:
    """Colours that a TIFF has multiplied by alpha, as they were."""
    color, alpha = pixels[..., :-extra], pixels[..., -extra, None]
    top = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    full = (color * (np.float32(top) / np.maximum(alpha, 1e-6 * top))).clip(0, top)
    full = full if pixels.dtype.kind == "f" else np.rint(full)
    return np.concatenate([full.astype(pixels.dtype), pixels[..., -extra:]], axis=2)


def _full_range(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Whole numbers of any number of bits to uint8, or uint16 where they have more than 8."""
    if pixels.dtype.kind not in "ub":
        raise PhotoError(f"pixels of type {pixels.dtype} are not known; save it with 16 bits")
    kind = np.uint8 if bits <= 8 else np.uint16
    if bits == np.iinfo(kind).bits:
        return pixels
    return np.rint(pixels * (np.iinfo(kind).max / (2**bits - 1))).astype(kind)


def _unit_range(pixels: np.ndarray, notes: list[str]) -> np.ndarray:
    """Floating-point pixels in [0, 1]; what is brighter than 1 is taken as a scale."""
    pixels = np.nan_to_num(pixels.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(pixels.max(initial=0.0))
    if top > 1:
        notes.append(f"its values reach {top:g}; they were divided by that")
        pixels = pixels / top
    return pixels.clip(0, 1)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (2 to 8; anything else is upright)."""
    turned = {
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p),
    }
    return np.ascontiguousarray(turned.get(orientation, lambda p: p)(pixels))


def _split_alpha(pixels: np.ndarray, space: str) -> tuple[np.ndarray, np.ndarray | None]:
    channels = _CHANNELS[space]
    color = pixels[..., :channels]
    if pixels.shape[2] == channels:
        return color, None
    alpha = pixels[..., channels]
    if alpha.dtype == np.float32:
        alpha = np.rint(alpha * 65535).astype(np.uint16)
    return np.ascontiguousarray(color), np.ascontiguousarray(alpha)


def _is_lossless(opened: Image.Image, path: Path) -> bool:
    if opened.format == "WEBP":
        with open(path, "rb") as file:
            return b"VP8L" in file.read(4096)
    return opened.format not in ("JPEG", "MPO", "AVIF", "JPEG2000")


def _dpi(opened: Image.Image) -> tuple[float, float] | None:
    dpi = opened.info.get("dpi")
    return (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None


# --- colour management ---------------------------------------------------------------------------


@functools.cache
def srgb_profile() -> bytes:
    """An sRGB ICC profile, the same bytes every time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = struct.pack(">6H", 1999, 10, 1, 0, 0, 0)  # littleCMS writes the time of day
    return bytes(profile)


def to_srgb(image: Image.Image) -> Image.Image:
    """A picture in 8-bit sRGB, by way of its ICC profile where it has a sound one for RGB."""
    profile, image = image.info.get("icc_profile"), image.convert("RGB")
    try:
        if not profile or _profile_space(profile) != "rgb" or _is_srgb(profile):
            return image
        return Image.fromarray(_transform(np.asarray(image), profile, srgb_profile(), "uint8"))
    except Exception:  # imagecodecs has its own error classes
        return image


def _profile(opened: Image.Image, space: str) -> bytes | None:
    """The file's ICC profile, or one for the gamma that a PNG without profile may state."""
    profile, gamma = opened.info.get("icc_profile"), opened.info.get("gamma")
    if profile or not gamma or "srgb" in opened.info or abs(gamma - 1 / 2.2) < 0.01:
        return profile
    import imagecodecs

    primaries = [0.64, 0.33, 1.0, 0.3, 0.6, 1.0, 0.15, 0.06, 1.0] if space == "rgb" else None
    return imagecodecs.cms_profile(
        space, whitepoint=[0.3127, 0.3290, 1.0], primaries=primaries, gamma=1 / gamma
    )


def _for_pipeline(
    color: np.ndarray, space: str, profile: bytes | None, notes: list[str]
) -> np.ndarray:
    """Stored colours (H, W, C) as what the pipeline takes: (H, W) grey or (H, W, 3), sRGB."""
    profile = profile if profile and _profile_fits(profile, space, notes) else None
    if profile is not None:
        try:
            if not _is_srgb(profile):
                return _gray_through_profile(color, space, profile)
        except Exception:  # imagecodecs has its own error classes
            notes.append("its colour profile is damaged and was left out")
    if space == "cmyk":
        color = _naive_rgb(color)
    return color[..., 0] if color.shape[2] == 1 else color


def _profile_space(profile: bytes) -> str:
    return {b"GRAY": "gray", b"RGB ": "rgb", b"CMYK": "cmyk"}.get(profile[16:20], "unknown")


def _profile_fits(profile: bytes, space: str, notes: list[str]) -> bool:
    found = _profile_space(profile)
    if found == space or (space, found) == ("gray", "rgb"):
        return True
    notes.append(f"its colour profile is for {found} and its pixels are {space}; it was left out")
    return False


def _transform(pixels: np.ndarray, source: bytes, target: bytes, dtype: str) -> np.ndarray:
    """Pixels (H, W, C) of a profile to RGB (H, W, 3) of another, relative colorimetric."""
    import imagecodecs

    return imagecodecs.cms_transform(
        np.ascontiguousarray(pixels if pixels.shape[2] > 1 else pixels[..., 0]),
        source,
        target,
        colorspace=_profile_space(source),
        outcolorspace="rgb",
        outdtype=dtype,
        intent=1,
    )


@functools.lru_cache(maxsize=8)
def _is_srgb(profile: bytes) -> bool:
    """Whether a profile leaves 8-bit sRGB as it is, but for the rounding between makers' profiles.

    Those differ by up to 1.4 levels; wide gamuts and other curves by many more.
    """
    channels = _CHANNELS[_profile_space(profile)]
    if channels == 4:
        return False
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    cube = np.stack(np.meshgrid(*[levels] * channels, indexing="ij"), axis=-1)
    cube = cube.reshape(-1, 1, channels)
    found = _transform(cube, profile, srgb_profile(), "float32") * 255
    return bool(np.abs(found - cube).max() < 2)


def _gray_through_profile(color: np.ndarray, space: str, profile: bytes) -> np.ndarray:
    """Stored colours (H, W, C) to the sRGB-encoded grey (H, W) of their luminance, float32."""
    if color.dtype == np.float32:
        color = np.rint(color * 65535).astype(np.uint16)
    if space == "gray":
        levels = np.arange(np.iinfo(color.dtype).max + 1, dtype=color.dtype).reshape(-1, 1, 1)
        levels = levels.repeat(_CHANNELS[_profile_space(profile)], axis=2)
        # A grey profile's curve is coarse near black in littleCMS's whole numbers.
        wide = _transform(levels, profile, _wide_profile(), "float32").clip(0, 1)
        return _gray_of(np.rint(wide * 65535).astype(np.uint16))[:, 0][color[..., 0]]
    gray = np.empty(color.shape[:2], dtype=np.float32)
    for top in range(0, len(gray), _STRIP_ROWS):  # strips bound the memory of large scans
        rows = slice(top, top + _STRIP_ROWS)
        gray[rows] = _gray_of(_transform(color[rows], profile, _wide_profile(), "uint16"))
    return gray


def _gray_of(wide: np.ndarray) -> np.ndarray:
    """16-bit RGB (..., 3) of `_wide_profile` to the sRGB-encoded grey of the same luminance.

    Going to sRGB itself would clip the colours outside it, and with them their luminance.
    """
    y_of_red, y_of_green, y_of_blue = _wide_luminance()
    y = y_of_red[wide[..., 0]] + y_of_green[wide[..., 1]] + y_of_blue[wide[..., 2]]
    root = np.sqrt(y.clip(0, 1))
    return _gray_of_root()[np.rint(root * 65535).astype(np.uint16)]


@functools.cache
def _wide_profile() -> bytes:
    """RGB of the primaries of ROMM (ISO 22028-2), which hold all surface colours."""
    import imagecodecs

    return imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.34567, 0.35850, 1.0],
        primaries=[0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0],
        gamma=_WIDE_GAMMA,
    )


@functools.cache
def _wide_luminance() -> np.ndarray:
    """(3, 65536): what each level of each channel of the wide RGB adds to sRGB's Y."""
    from pipeline_colorize.core.colorimetry import RGB_TO_XYZ

    primaries = np.eye(3, dtype=np.float32).reshape(3, 1, 3)
    # In floating point littleCMS does not clip; below zero it goes on in a straight line.
    srgb = _transform(primaries, _wide_profile(), srgb_profile(), "float32")[:, 0]
    linear = np.where(srgb > 0.04045, ((srgb.clip(0) + 0.055) / 1.055) ** 2.4, srgb / 12.92)
    weights = linear @ np.array(RGB_TO_XYZ[1])
    curve = np.linspace(0, 1, 65536) ** _WIDE_GAMMA
    return (weights[:, None] * curve).astype(np.float32)


@functools.cache
def _gray_of_root() -> np.ndarray:
    """(65536,): sRGB-encoded grey by the square root of Y, which is even enough for a table."""
    y = np.linspace(0, 1, 65536) ** 2
    curve = 1.055 * y.clip(0.0031308) ** (1 / 2.4) - 0.055
    return np.where(y > 0.0031308, curve, y * 12.92).astype(np.float32)


def _naive_rgb(cmyk: np.ndarray) -> np.ndarray:
    """CMYK (H, W, 4) without a profile to RGB (H, W, 3) of the same type."""
    top = 1.0 if cmyk.dtype == np.float32 else float(np.iinfo(cmyk.dtype).max)
    light = 1 - cmyk.astype(np.float32) / top
    rgb = light[..., :3] * light[..., 3:] * top
    return rgb if cmyk.dtype == np.float32 else np.rint(rgb).astype(cmyk.dtype)


# --- metadata ------------------------------------------------------------------------------------


def _drop_large_parts(opened: Image.Image, notes: list[str]) -> None:
    """Leave out metadata that is larger than any photograph's, before anything works on it."""
    limits = {"xmp": _LARGEST_TEXT, "icc_profile": _LARGEST_PROFILE, "comment": _LARGEST_TEXT}
    names = {"xmp": "XMP", "icc_profile": "colour profile", "comment": "comment"}
    for key, limit in limits.items():
        if len(opened.info.get(key) or b"") > limit:
            del opened.info[key]
            notes.append(f"its {names[key]} of more than {limit:,} bytes was left out")


def _exif(opened: Image.Image, notes: list[str]) -> Image.Exif:
    try:
        _check_exif(opened)
        exif = opened.getexif()
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            exif.get_ifd(directory)
        exif.bigtiff = False  # of the file that it came from, not of the block that is made of it
        return exif
    except Exception:  # damaged blocks raise struct.error, SyntaxError, KeyError and more
        notes.append("its EXIF data is damaged and was left out")
        return Image.Exif()


def _check_exif(opened: Image.Image) -> None:
    block = opened.info.get("exif") or b""
    if opened.format != "TIFF" and isinstance(block, bytes):
        _check_directories(io.BytesIO(block), 6 if block.startswith(b"Exif\0\0") else 0)


class _Latin1(str):
    """Text of EXIF: Pillow reads it as Latin-1, but would write ASCII, and "?" for the rest.

    Written as it was read, text keeps its bytes, in whatever encoding they are.
    """

    def encode(self, *_) -> bytes:
        return super().encode("latin-1", "replace")


def _keep_texts(directory: Image.Exif | dict) -> None:
    for tag, value in list(directory.items()):
        if isinstance(value, str):
            directory[tag] = _Latin1(value)


def _exif_block(exif: Image.Exif) -> bytes:
    for directory in (exif, *map(exif.get_ifd, (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))):
        _keep_texts(directory)
    return exif.tobytes()


def _exif_bytes(exif: Image.Exif, shape: tuple[int, ...], notes: list[str]) -> bytes:
    """EXIF that describes the upright sRGB result, without what described the old file's layout."""
    if not len(exif):
        return b""
    for tag in _LAYOUT_TAGS.intersection(exif):
        del exif[tag]
    exif[ExifTags.Base.Orientation] = 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details.pop(ExifTags.IFD.Interop, None)  # an offset into the old file
    for tag, value in (
        (ExifTags.Base.ExifImageWidth, shape[1]),
        (ExifTags.Base.ExifImageHeight, shape[0]),
        (ExifTags.Base.ColorSpace, 1),
    ):
        if tag in details:
            details[tag] = value
    try:
        return _exif_block(exif)
    except Exception:  # a tag whose value does not fit its type
        notes.append("its EXIF data is damaged and was left out")
        return b""


def _xmp(opened: Image.Image) -> bytes:
    xmp = opened.info.get("xmp", b"")
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp)


def _iptc(opened: Image.Image) -> bytes:
    if opened.format == "TIFF":
        # Its bytes, whatever type the tag has: many programs say that they are whole numbers.
        found = opened.tag_v2._tagdata.get(_IPTC_TIFF_TAG, b"")
    else:
        found = opened.info.get("photoshop", {}).get(_IPTC_RESOURCE, b"")
    return found if isinstance(found, bytes) else b""


def _texts(opened: Image.Image) -> dict[str, str]:
    if opened.format == "PNG":
        texts = {key: str(value) for key, value in opened.text.items()}
        return {
            key: text
            for key, text in texts.items()
            if key != _PNG_XMP and not key.startswith("Raw profile") and len(text) <= _LARGEST_TEXT
        }
    comment = opened.info.get("comment", b"")
    comment = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else comment
    return {"Comment": comment.strip("\0 ")} if comment.strip("\0 ") else {}


def marked_xmp(xmp: bytes, mark: Mark) -> bytes:
    """An XMP packet with the mark added; what else it says is kept, unless it is damaged."""
    if (document := _parsed_xmp(xmp)) is not None:
        # What is well-formed may be odd all the same, and is no reason to lose a picture.
        with contextlib.suppress(Exception):
            return _with_mark(document, mark)
    return _with_mark(minidom.parseString(_EMPTY_XMP.encode()), mark)


def _with_mark(document: minidom.Document, mark: Mark) -> bytes:
    rdf = document.getElementsByTagNameNS(_RDF, "RDF")[0]
    properties = mark.lines()
    for description in list(rdf.getElementsByTagNameNS(_RDF, "Description")):
        for name in properties:
            _remove_property(description, _IPTC, name)
    _set_upright(rdf)
    rdf.appendChild(_description(document, properties, _about(rdf)))
    return "".join(node.toxml() for node in document.childNodes).encode()


def _parsed_xmp(xmp: bytes) -> minidom.Document | None:
    """The document of a packet; `None` where it is damaged, too large, or not plain XML.

    A packet has no document type; one that has is refused, since entities can grow without end.
    """
    if not 0 < len(xmp) <= _LARGEST_TEXT or xmp.count(b"<") > _MOST_TAGS:
        return None
    try:
        document = hardened.parseString(xmp.strip(b"\0 \r\n\t"), forbid_dtd=True)
    except Exception:  # expat's errors, and bad encodings
        return None
    if _depth(document) > _DEEPEST_XML:
        return None
    return document if document.getElementsByTagNameNS(_RDF, "RDF") else None


def _depth(document: minidom.Document) -> int:
    """How many elements lie inside one another; what works on a document calls itself for each."""
    depth, nodes = 0, [document]
    while nodes := [child for node in nodes for child in node.childNodes]:
        depth += 1
    return depth


def _remove_property(description: minidom.Element, namespace: str, name: str) -> None:
    if description.hasAttributeNS(namespace, name):
        description.removeAttributeNS(namespace, name)
    for child in list(description.childNodes):
        if child.namespaceURI == namespace and child.localName == name:
            description.removeChild(child)


def _set_upright(rdf: minidom.Element) -> None:
    for description in rdf.getElementsByTagNameNS(_RDF, "Description"):
        if description.hasAttributeNS(_TIFF, "Orientation"):
            description.getAttributeNodeNS(_TIFF, "Orientation").value = "1"
    for element in rdf.getElementsByTagNameNS(_TIFF, "Orientation"):
        for child in list(element.childNodes):
            element.removeChild(child)
        element.appendChild(element.ownerDocument.createTextNode("1"))


def _about(rdf: minidom.Element) -> str:
    """The name that a packet gives to its photograph; all its descriptions must give the same."""
    descriptions = rdf.getElementsByTagNameNS(_RDF, "Description")
    return descriptions[0].getAttributeNS(_RDF, "about") if descriptions else ""


def _description(
    document: minidom.Document, properties: dict[str, str], about: str
) -> minidom.Element:
    description = document.createElementNS(_RDF, "rdf:Description")
    description.setAttribute("xmlns:rdf", _RDF)
    description.setAttribute("xmlns:Iptc4xmpExt", _IPTC)
    description.setAttributeNS(_RDF, "rdf:about", about)
    for name, value in properties.items():
        element = document.createElementNS(_IPTC, f"Iptc4xmpExt:{name}")
        element.appendChild(document.createTextNode(value))
        description.appendChild(element)
    return description


def read_mark(xmp: bytes) -> dict[str, str]:
    """The marked properties of an XMP packet, by IPTC name; empty where colours are not ours."""
    document = _parsed_xmp(xmp)
    if document is None:
        return {}
    found = {}
    for name in Mark("", {}).lines():
        for element in document.getElementsByTagNameNS(_IPTC, name):
            texts = [node.data for node in element.childNodes if hasattr(node, "data")]
            found[name] = "".join(texts)
    return found if found.get("AISystemUsed") == SYSTEM else {}


# --- writing -------------------------------------------------------------------------------------


def write(path: str | Path, image: Image.Image | np.ndarray, photo: Photo, mark: Mark) -> None:
    """Write a coloured `photo`; the ending of `path` decides the format.

    `image` is RGB at the photograph's size, a Pillow picture or an array (H, W, 3) in [0, 1]. PNG
    and TIFF get the photograph's depth, other formats 8 bits. The file appears under its name
    only when it is complete. Raises PhotoError for what the format cannot hold, OSError for what
    the file system cannot.
    """
    path = Path(path)
    kind = WRITABLE[path.suffix.lower()]
    xmp = marked_xmp(photo.xmp, mark)
    if kind == "JPEG" and len(xmp) > _JPEG_BLOCK:
        xmp = marked_xmp(b"", mark)
    if photo.depth == 16 and kind in ("PNG", "TIFF"):
        pixels = _with_alpha16(np.asarray(image), photo.alpha)
    else:
        pixels = _with_alpha8(image, photo.alpha, kind)
    try:
        data = _encoded(kind, pixels, photo, xmp)
    except (ValueError, SystemError, TypeError, OSError) as error:
        raise PhotoError(f"cannot be written as {kind} ({_one_line(error)})") from error
    _write_bytes(path, data)


def _encoded(kind: str, pixels: Image.Image | np.ndarray, photo: Photo, xmp: bytes) -> bytes:
    if kind == "TIFF":
        return _encoded_tiff(np.asarray(pixels), photo, xmp)
    if isinstance(pixels, np.ndarray):
        return _encoded_png16(pixels, photo, xmp)
    buffer = io.BytesIO()
    pixels.save(buffer, format=kind, **_save_options(kind, photo, xmp))
    return buffer.getvalue()


def write_picture(path: str | Path, image: Image.Image, mark: Mark) -> None:
    """Write an 8-bit picture derived from a result (a comparison, a strip), marked like one."""
    write(path, image, Photo(image=np.empty((0, 0)), depth=8), mark)


def write_animation(path: str | Path, frames: list[Image.Image], milliseconds: int) -> None:
    """Write an endless GIF that rests on its last frame."""
    durations = [milliseconds] * (len(frames) - 1) + [12 * milliseconds]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    _write_bytes(Path(path), buffer.getvalue())


def _write_bytes(path: Path, data: bytes) -> None:
    """Write to a temporary name beside `path`, which becomes `path` only when it is complete."""
    temporary = path.with_name(f".colorize-{uuid.uuid4().hex[:12]}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _with_alpha8(
    image: Image.Image | np.ndarray, alpha: np.ndarray | None, kind: str
) -> Image.Image:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.rint(image * 255).astype(np.uint8))
    if alpha is None:
        return image
    if alpha.dtype == np.uint16:
        alpha = np.rint(alpha / 257).astype(np.uint8)
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    if kind != "JPEG":
        return image
    white = Image.new("RGBA", image.size, "white")  # JPEG knows no transparency
    return Image.alpha_composite(white, image).convert("RGB")


def _with_alpha16(image: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    scale = 257 if image.dtype == np.uint8 else 65535
    deep = np.rint(image.astype(np.float32) * scale).astype(np.uint16, order="C")
    if alpha is None:
        return deep
    alpha = alpha.astype(np.uint16) * (257 if alpha.dtype == np.uint8 else 1)
    return np.concatenate([deep, alpha[..., None]], axis=2)


def _save_options(kind: str, photo: Photo, xmp: bytes) -> dict[str, object]:
    """What Pillow's writer of a format is told."""
    options = {"icc_profile": srgb_profile(), "exif": photo.exif, "xmp": xmp}
    if photo.dpi:
        options["dpi"] = photo.dpi
    if kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
        options |= {"exif": photo.exif if len(photo.exif) <= _JPEG_BLOCK else b""}
        options |= {"extra": _iptc_segment(photo.iptc), "comment": photo.texts.get("Comment")}
    elif kind == "WEBP":
        options |= {"lossless": photo.lossless, "quality": 80 if photo.lossless else 95}
        options |= {"exact": True}
    elif kind == "AVIF":
        options |= {"quality": 90, "subsampling": "4:4:4", "exif": _unturned(photo.exif)}
    elif kind == "PNG":
        options |= {"pnginfo": _png_texts(photo, xmp)}
    return options


def _unturned(block: bytes) -> bytes:
    """EXIF without orientation: to take it out, Pillow's writer of AVIF would spoil the texts."""
    exif = Image.Exif()
    exif.load(block)
    exif.pop(ExifTags.Base.Orientation, None)
    return _exif_block(exif) if len(exif) else b""


def _iptc_segment(iptc: bytes) -> bytes:
    """An APP13 segment of JPEG that holds IPTC-IIM alone, of all that Photoshop puts there."""
    if not 0 < len(iptc) <= _JPEG_BLOCK:
        return b""
    resource = struct.pack(">4sHHI", b"8BIM", _IPTC_RESOURCE, 0, len(iptc)) + iptc
    body = b"Photoshop 3.0\0" + resource + bytes(len(iptc) % 2)
    return struct.pack(">HH", 0xFFED, len(body) + 2) + body


def _png_texts(photo: Photo, xmp: bytes) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(_PNG_XMP, xmp.decode())
    for key, text in photo.texts.items():
        info.add_text(key, text)
    return info


def _encoded_png16(pixels: np.ndarray, photo: Photo, xmp: bytes) -> bytes:
    import imagecodecs

    encoded = imagecodecs.png_encode(pixels, level=6)
    header, rest = encoded[:33], encoded[33:]  # signature and IHDR, then the pixels
    chunks = [
        (b"iCCP", b"sRGB\0\0" + zlib.compress(srgb_profile())),
        *((name, data) for name, data, *_ in _png_texts(photo, xmp).chunks),
    ]
    if photo.exif:
        chunks.append((b"eXIf", photo.exif.removeprefix(b"Exif\0\0")))
    if photo.dpi:
        meters = [round(dpi / 0.0254) for dpi in photo.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *meters, 1)))
    return b"".join([header, *(_png_chunk(*chunk) for chunk in chunks), rest])


def _png_chunk(name: bytes, data: bytes) -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _encoded_tiff(pixels: np.ndarray, photo: Photo, xmp: bytes) -> bytes:
    import tifffile

    exif = Image.Exif()
    exif.load(photo.exif)
    told = [
        (int(tag), 2, 0, value.encode("latin-1") + b"\0", True)
        for tag, value in exif.items()
        if isinstance(value, str)
    ]
    for tag in _WINDOWS_TAGS.intersection(exif):
        value = exif[tag]
        if isinstance(value, bytes):
            told.append((tag, 1, len(value), value, True))
        elif isinstance(value, int):
            told.append((tag, 3, 1, value, True))
    iptc = [(_IPTC_TIFF_TAG, 7, len(photo.iptc), photo.iptc, True)] if photo.iptc else []
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        pixels,
        byteorder="<",
        photometric="rgb",
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        compression="zlib",
        predictor=True,
        rowsperstrip=max(1, 2**20 // (pixels.shape[1] * pixels.shape[2] * pixels.itemsize)),
        resolution=photo.dpi,
        resolutionunit=2 if photo.dpi else None,
        iccprofile=srgb_profile(),
        software=False,
        metadata=None,
        extratags=[(274, 3, 1, 1, True), (700, 1, len(xmp), xmp, True), *iptc, *told],
    )
    directories = {
        int(tag): exif.get_ifd(tag)
        for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
        if exif.get_ifd(tag)
    }
    if directories:
        _append_directories(file, directories)
    return file.getvalue()


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
        _keep_texts(values)
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
