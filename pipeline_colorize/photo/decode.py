"""Reads photographs: upright pixels whose luminance is that of the sRGB picture."""

import stat
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from .limits import check_size, open_picture
from .metadata import drop_large_parts, exif_bytes, read_exif, read_iptc, read_texts, read_xmp
from .profiles import CHANNELS, for_pipeline, read_profile
from .record import Photo, PhotoError, TooLargeError, one_line
from .tiff import tiff_pixels, unit_range, with_channels


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
        raise PhotoError(f"the file is damaged or cut off ({one_line(error)})") from error


def _read(path: Path) -> Photo:
    try:
        with open_picture(path) as opened:
            check_size(opened.size)
            return _decode(opened, path)
    except Image.UnidentifiedImageError:
        return _read_rare_tiff(path)


def _read_rare_tiff(path: Path) -> Photo:
    """A TIFF of a kind that Pillow does not know, such as RGB in floating point."""
    import tifffile

    notes = ["of this kind of TIFF only pixels and colour profile are kept"]
    try:
        pixels, space = tiff_pixels(path, notes)
        with tifffile.TiffFile(path) as tiff:
            tags = tiff.pages[0].tags
            orientation, profile = tags.valueof(274), tags.valueof(34675)
    except tifffile.TiffFileError:
        raise PhotoError("not a picture, or of a kind that cannot be read") from None
    color, alpha = _split_alpha(_upright(pixels, orientation), space)
    image = for_pipeline(color, space, profile, notes)
    return Photo(image, 8 if pixels.dtype == np.uint8 else 16, alpha, warnings=notes)


def _decode(opened: Image.Image, path: Path) -> Photo:
    notes = []
    # They are not counted, since there may be millions.
    if getattr(opened, "is_animated", False) and opened.format != "MPO":
        notes.append("has more than one frame or page; only the first one is colorized")
    if not _is_for_tifffile(opened):
        # Only this reads the late chunks of a PNG. It also turns a TIFF and drops its orientation.
        opened.load()
    drop_large_parts(opened, notes)
    pixels, space = _pixels(opened, path, notes)
    exif = read_exif(opened, notes)
    pixels = _upright(pixels, exif.get(ExifTags.Base.Orientation, 1))
    color, alpha = _split_alpha(pixels, space)
    return Photo(
        image=for_pipeline(color, space, read_profile(opened, space), notes),
        depth=8 if pixels.dtype == np.uint8 else 16,
        alpha=alpha,
        lossless=_is_lossless(opened, path),
        exif=exif_bytes(exif, color.shape, notes),
        xmp=read_xmp(opened),
        iptc=read_iptc(opened),
        texts=read_texts(opened),
        dpi=_dpi(opened),
        warnings=notes,
    )


def _pixels(opened: Image.Image, path: Path, notes: list[str]) -> tuple[np.ndarray, str]:
    """Pixels (H, W, C) as stored, and their space: "gray", "rgb" or "cmyk"; alpha comes last."""
    if opened.format == "PNG" and _png_depth(path) == 16:
        import imagecodecs

        pixels = imagecodecs.png_decode(path.read_bytes())
    elif _is_for_tifffile(opened):
        return tiff_pixels(path, notes)
    elif opened.mode.startswith("I;16"):
        pixels = np.asarray(opened).astype(np.uint16)
    elif opened.mode == "I":  # what Pillow makes of 16-bit PGM and JPEG 2000
        pixels = np.asarray(opened).clip(0, 65535).astype(np.uint16)
    elif opened.mode == "F":
        pixels = unit_range(np.asarray(opened), notes)
    else:
        pixels = np.asarray(_plain_mode(opened))
    if opened.mode == "CMYK":
        return pixels, "cmyk"
    return with_channels(pixels), "gray" if pixels.ndim == 2 or pixels.shape[2] == 2 else "rgb"


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
    channels = CHANNELS[space]
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
