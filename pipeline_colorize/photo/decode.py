"""Reads photographs: upright pixels whose luminance is that of the sRGB picture."""

import contextlib
import stat
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from . import jp2, jxl, mending, rare_jpeg
from .content import is_in_color
from .hidden import without_hidden
from .limits import check_size, full_pages
from .metadata import (
    IPTC_TIFF_TAG,
    as_bytes,
    drop_large_parts,
    exif_bytes,
    orientation_of,
    read_exif,
    read_iptc,
    read_texts,
    read_tiff_exif,
    read_xmp,
)
from .opening import jpeg2000_bits, open_picture
from .profiles import CHANNELS, for_pipeline, read_profile, to_srgb_cells
from .record import Photo, PhotoError, TooLargeError, one_line
from .sidecar import read_sidecar
from .tiff import full_range, tiff_pixels, unit_range, with_channels
from .upright import Turn, upright_xmp
from .xmp import joined_xmp

# Of files that are pictures, whatever is wrong with them; those of others are mended.
_SIGNATURES = (b"GIF8", b"RIFF", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_LOSSY = frozenset(["JPEG", "MPO", "AVIF", "HEIF", "JPEG2000"])


def read(path: str | Path, page: int | None = None) -> Photo:
    """Decode the photograph at `path`.

    The size is checked before any pixel is decoded, against Pillow's `Image.MAX_IMAGE_PIXELS`
    (see `pixel_limit`).

    Args:
        path: of the file; what it is follows from its bytes and not from its name.
        page: which page of a TIFF is read, from 0 to `count_pages(path) - 1`. By default it is the
            first one, and a note says that there are others.

    Raises:
        PhotoError: with a line for people that says what is wrong with the file.
    """
    path = Path(path)
    with errors_for_people():
        check_kind(path)
        notes: list[str] = []
        sidecar = read_sidecar(path, notes)
        with open(path, "rb") as file:
            photo = _read(file, page, sidecar.xmp if sidecar else b"")
        photo.warnings += notes
        photo.sidecar = sidecar.is_appended if sidecar else None
        return photo


def count_pages(path: str | Path) -> int:
    """Count the photographs in a file: pages of a TIFF without its thumbnails, otherwise 1.

    Raises:
        PhotoError: where the file cannot be opened.
    """
    with errors_for_people():
        check_kind(Path(path))
        with open(path, "rb") as file:
            return max(1, len(full_pages(file)))


def read_packet(path: str | Path) -> bytes:
    """Read the XMP packet of a file, if any; where Pillow knows the format, without its pixels.

    Raises:
        PhotoError: where the file cannot be opened.
    """
    with errors_for_people():
        check_kind(Path(path))
        try:
            with open_picture(path) as opened:
                return read_xmp(opened, [])
        except Image.UnidentifiedImageError:  # such as a TIFF of 16 bits a channel
            return read(path).xmp


@contextlib.contextmanager
def errors_for_people() -> Iterator[None]:
    """Turn whatever goes wrong with a file into a PhotoError of one line."""
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise TooLargeError(f"more than {Image.MAX_IMAGE_PIXELS:,} pixels, the limit") from None
    except PermissionError:
        raise PhotoError("no permission to read the file") from None
    except (FileNotFoundError, IsADirectoryError) as error:
        raise PhotoError((error.strerror or str(error)).lower()) from None
    except Image.UnidentifiedImageError:
        raise PhotoError("not a picture, or of a kind that cannot be read") from None
    except MemoryError:
        raise PhotoError("not enough memory to decode it") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise PhotoError(f"the file is damaged or cut off ({one_line(error)})") from error


def check_kind(path: Path) -> None:
    """Refuse what is no file, or an empty one, with a PhotoError."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise PhotoError("not a file but a pipe or device; save it as a file first")
    if found.st_size == 0:
        raise PhotoError("the file is empty (0 bytes)")


def _read(file: BinaryIO, page: int | None, sidecar: bytes) -> Photo:
    """Read a file; where it is damaged, what is left of it."""
    try:
        return _read_sound(file, page, sidecar)
    except (PhotoError, Image.DecompressionBombError, MemoryError):
        raise
    except Exception:  # decoders raise nearly anything on damaged files
        if mending.needs_all(file):
            raise PhotoError(mending.NOTHING_LEFT) from None
        if (mended := mending.mended(file)) is None:
            raise
        whole, note = mended
        photo = _read_sound(whole, page, sidecar)
        if note == mending.CUT_OFF:
            mending.check_enough(photo.image)
        photo.warnings.insert(0, note)
        return photo


def _read_sound(file: BinaryIO, page: int | None, sidecar: bytes) -> Photo:
    try:
        with open_picture(file) as opened:
            notes = _go_to_page(opened, file, page)
            check_size(opened.size)
            return photo_of(opened, file, None, sidecar, notes)
    except Image.UnidentifiedImageError:
        file.seek(0)
        start = file.read(12)
        if start[:2] in (b"II", b"MM"):
            return _read_rare_tiff(file, page or 0, sidecar)
        if start.startswith(rare_jpeg.START):
            notes = []
            opened, pixels = rare_jpeg.decoded(file)
            return photo_of(opened, file, pixels, sidecar, notes)
        if mending.needs_all(file):
            raise PhotoError(mending.NOTHING_LEFT) from None
        if start.startswith(_SIGNATURES):
            raise PhotoError("the file is damaged or cut off in its header") from None
        raise


def _go_to_page(opened: Image.Image, file: BinaryIO, page: int | None) -> list[str]:
    """Seek the page of a TIFF that is asked for; returns notes about the others."""
    if not isinstance(opened, TiffImagePlugin.TiffImageFile):
        if page:
            raise PhotoError(f"it has one page, so there is no page {page + 1}")
        # They are not counted, since there may be millions.
        several = getattr(opened, "is_animated", False) and opened.format != "MPO"
        return ["has more than one frame; only the first one is colorized"] if several else []
    pages = full_pages(file)
    if page is not None and page >= len(pages):
        raise PhotoError(f"it has {len(pages)} pages, so there is no page {page + 1}")
    if pages[page or 0]:
        opened.seek(pages[page or 0])
    several = page is None and len(pages) > 1
    return [f"has {len(pages)} pages; only the first one is colorized"] if several else []


def _read_rare_tiff(file: BinaryIO, page: int, sidecar: bytes) -> Photo:
    """Return a TIFF of a kind that Pillow does not know, such as RGB in floating point."""
    import tifffile

    notes: list[str] = []
    pages = full_pages(file)
    if page >= len(pages):
        raise PhotoError(f"it has {len(pages)} pages, so there is no page {page + 1}")
    try:
        pixels, space = tiff_pixels(file, pages[page], notes)
        exif = read_tiff_exif(file, pages[page], notes)
    except tifffile.TiffFileError:
        raise PhotoError("not a picture, or of a kind that cannot be read") from None
    profile, xmp, iptc = (as_bytes(exif.get(tag)) for tag in (34675, 700, IPTC_TIFF_TAG))
    orientation = orientation_of(exif)
    upright = _upright(pixels, orientation)
    turn = _turn(orientation, upright)
    color, alpha = _split_alpha(upright, space)
    color, seen = without_hidden(color, alpha)
    return Photo(
        image=for_pipeline(color, space, profile, notes),
        depth=8 if pixels.dtype == np.uint8 else 16,
        alpha=alpha,
        exif=exif_bytes(exif, turn, notes),
        xmp=upright_xmp(joined_xmp(sidecar, xmp), turn, notes),
        iptc=iptc,
        in_color=is_in_color(seen, partial(to_srgb_cells, space=space, profile=profile)),
        warnings=notes,
    )


def photo_of(
    opened: Image.Image,
    file: BinaryIO,
    pixels: np.ndarray | None,
    sidecar: bytes,
    notes: list[str],
) -> Photo:
    """Make a photograph of what Pillow knows, and of pixels that are decoded already, if any."""
    stored = None
    if isinstance(opened, TiffImagePlugin.TiffImageFile):  # which may be turned when it is loaded
        stored = orientation_of(opened.tag_v2)
    if pixels is None:
        pixels, space = _pixels(opened, file, notes)
    else:
        space = _space_of(pixels)
    if opened.format == "JPEG2000":
        opened.info.update(jp2.read_boxes(file))
    drop_large_parts(opened, notes)
    exif = read_exif(opened, notes)
    # The decoder of JPEG XL turns pixels by the file's own orientation, which counts for more.
    orientation = 1 if opened.format == jxl.FORMAT else orientation_of(exif)
    upright = _upright(pixels, orientation)
    turn = _turn(stored or orientation, upright)
    color, alpha = _split_alpha(upright, space)
    color, seen = without_hidden(color, alpha)
    profile = read_profile(opened, space, notes)
    return Photo(
        image=for_pipeline(color, space, profile, notes),
        depth=8 if pixels.dtype == np.uint8 else 16,
        alpha=alpha,
        lossless=_is_lossless(opened, file),
        exif=exif_bytes(exif, turn, notes),
        xmp=upright_xmp(joined_xmp(sidecar, read_xmp(opened, notes)), turn, notes),
        iptc=read_iptc(opened),
        texts=read_texts(opened),
        dpi=_dpi(opened),
        in_color=is_in_color(seen, partial(to_srgb_cells, space=space, profile=profile)),
        warnings=notes,
    )


def _pixels(opened: Image.Image, file: BinaryIO, notes: list[str]) -> tuple[np.ndarray, str]:
    """Pixels (H, W, C) as stored, and their space: "gray", "rgb" or "cmyk"; alpha comes last."""
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        return _pixels_of_tiff(opened, file, notes)
    if isinstance(opened, jxl.JpegXlFile):
        pixels = opened.pixels(notes)
        pixels = unit_range(pixels, notes) if pixels.dtype.kind == "f" else pixels
    elif opened.format == "JPEG2000" and opened.mode in ("RGB", "RGBA") and jpeg2000_bits(file) > 8:
        pixels = _deep_jpeg2000(file)
    elif opened.format == "HEIF" and opened.info.get("bit_depth", 8) > 8:
        pixels = _deep_heif(file)
    else:
        opened.load()  # only this reads the late chunks of a PNG
        if opened.format == "PNG" and _png_depth(file) == 16:
            pixels = _deep_png(file)
        else:
            return _pixels_of_pillow(opened, notes)
    pixels = with_channels(pixels)
    return pixels, _space_of(pixels)


def _space_of(pixels: np.ndarray) -> str:
    return "gray" if pixels.shape[2] < 3 else "rgb"


def _pixels_of_pillow(opened: Image.Image, notes: list[str]) -> tuple[np.ndarray, str]:
    if opened.mode.startswith("I;16"):
        pixels = np.asarray(opened).astype(np.uint16)
    elif opened.mode == "I":  # what Pillow makes of 16-bit PGM and JPEG 2000
        pixels = np.asarray(opened).clip(0, 65535).astype(np.uint16)
    elif opened.mode == "F":
        pixels = unit_range(np.asarray(opened), notes)
    else:
        pixels = np.asarray(_plain_mode(opened))
    pixels = with_channels(pixels)
    return pixels, "cmyk" if opened.mode == "CMYK" else _space_of(pixels)


def _pixels_of_tiff(
    opened: TiffImagePlugin.TiffImageFile, file: BinaryIO, notes: list[str]
) -> tuple[np.ndarray, str]:
    """By Pillow, or by tifffile where Pillow cannot: for its depth, compression or damage."""
    if not _is_for_tifffile(opened):
        with contextlib.suppress(OSError, ValueError, SyntaxError, struct.error):
            opened.load()  # which also turns it and drops its orientation
            return _pixels_of_pillow(opened, notes)
    return tiff_pixels(file, opened.tell(), notes)


def _deep_png(file: BinaryIO) -> np.ndarray:
    import imagecodecs

    file.seek(0)
    return imagecodecs.png_decode(file.read())


def _deep_jpeg2000(file: BinaryIO) -> np.ndarray:
    import imagecodecs

    bits = jpeg2000_bits(file)
    file.seek(0)
    return full_range(imagecodecs.jpeg2k_decode(file.read()), bits)


def _deep_heif(file: BinaryIO) -> np.ndarray:
    """Pixels of 10 or 12 bits, as uint16."""
    import pillow_heif

    file.seek(0)
    return np.asarray(pillow_heif.open_heif(file, convert_hdr_to_8bit=False, hdr_to_16bit=True))


def _plain_mode(opened: Image.Image) -> Image.Image:
    """One of Pillow's many 8-bit modes as L, LA, RGB, RGBA or CMYK."""
    clear = opened.has_transparency_data
    if opened.mode in ("1", "L", "LA", "La"):
        return opened.convert("LA" if clear else "L")
    if opened.mode == "CMYK":
        return opened
    return opened.convert("RGBA" if clear else "RGB")


def _png_depth(file: BinaryIO) -> int:
    file.seek(24)  # past width and height in IHDR
    return file.read(1)[0]


def _is_for_tifffile(opened: TiffImagePlugin.TiffImageFile) -> bool:
    deep = max(opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8
    # Pillow 12.3 reads the rows of these at their turned length, and so garbles them.
    turned = orientation_of(opened.tag_v2) > 4
    return deep or (turned and opened.info.get("compression") == "raw")


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation, 1 to 8."""
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


def _turn(orientation: int, upright: np.ndarray) -> Turn:
    """Return how a picture was turned that is upright now."""
    height, width = upright.shape[:2]
    return Turn(orientation, *((height, width) if orientation > 4 else (width, height)))


def _split_alpha(pixels: np.ndarray, space: str) -> tuple[np.ndarray, np.ndarray | None]:
    channels = CHANNELS[space]
    color = pixels[..., :channels]
    if pixels.shape[2] == channels:
        return color, None
    alpha = pixels[..., channels]
    if alpha.dtype == np.float32:
        alpha = np.rint(alpha * 65535).astype(np.uint16)
    return np.ascontiguousarray(color), np.ascontiguousarray(alpha)


def _is_lossless(opened: Image.Image, file: BinaryIO) -> bool:
    if opened.format == "WEBP":
        file.seek(0)
        return b"VP8L" in file.read(4096)
    if isinstance(opened, jxl.JpegXlFile):
        return opened.header.is_lossless
    return opened.format not in _LOSSY


def _dpi(opened: Image.Image) -> tuple[float, float] | None:
    dpi = opened.info.get("dpi")
    return (float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None
