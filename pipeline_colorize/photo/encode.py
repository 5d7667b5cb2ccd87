"""Writes coloured photographs, with their metadata, an sRGB profile and a mark."""

import hashlib
import io
import os
import struct
import uuid
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from .captions import iptc_properties, text_properties
from .mending import png_chunk
from .metadata import EXTENDED_XMP, IPTC_RESOURCE, PNG_XMP, exif_block, smaller_exif
from .profiles import srgb_profile
from .record import WRITABLE, Mark, Photo, PhotoError, one_line
from .sidecar import sidecar_path
from .tiff import encoded_tiff
from .xmp import Property, marked_xmp, split_xmp, with_properties

_JPEG_BLOCK = 65_000  # bytes of metadata that surely fit a segment
_EXTENSION_PART = 65_400  # bytes of extended XMP in a segment
_WITH_IPTC = ("JPEG", "TIFF")


def write(path: str | Path, image: Image.Image | np.ndarray, photo: Photo, mark: Mark) -> list[str]:
    """Write a coloured `photo`; the ending of `path` decides the format.

    The file appears under its name only when it is complete.

    Args:
        path: one of the endings of `WRITABLE`.
        image: RGB at the photograph's size, a Pillow picture or an array (H, W, 3): of floating
            point in [0, 1], or of uint8 or uint16 as the photograph has it. PNG and TIFF get the
            photograph's depth, other formats 8 bits.
        photo: what was read, whose metadata is kept.
        mark: says how the colours came to be.

    Returns:
        A line for people about each part of the metadata that the format has no place for.

    Raises:
        PhotoError: for a picture that the format cannot hold.
        OSError: for what the file system cannot.
    """
    path = Path(path)
    kind = WRITABLE[path.suffix.lower()]
    photo, notes = fitted(photo, kind)
    xmp = marked_xmp(photo.xmp, mark)
    pixels: np.ndarray | Image.Image
    if photo.depth == 16 and kind in ("PNG", "TIFF"):
        pixels = _with_alpha16(np.asarray(image), photo.alpha)
    else:
        pixels = _with_alpha8(image, photo.alpha, kind)
    try:
        data = _encoded(kind, pixels, photo, xmp)
    except (ValueError, SystemError, TypeError, OSError) as error:
        raise PhotoError(f"cannot be written as {kind} ({one_line(error)})") from error
    write_bytes(path, data)
    if photo.sidecar is not None:
        if sidecar := sidecar_path(path, photo.sidecar):
            write_bytes(sidecar, xmp)
        else:
            notes.append("a sidecar of another program lies beside the result, and was left alone")
    return notes


def copy_dates(source: str | Path, target: str | Path) -> None:
    """Give a result the dates of its photograph: of its last change, and of its last use."""
    found = os.stat(source)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def fitted(photo: Photo, kind: str) -> tuple[Photo, list[str]]:
    """Return a photograph whose metadata a format can hold, and notes about what it cannot."""
    wanted: dict[Property, list[str]] = {}
    lost: list[str] = []
    iptc, exif, texts = photo.iptc, photo.exif, photo.texts
    if iptc and (kind not in _WITH_IPTC or (kind == "JPEG" and len(iptc) > _JPEG_BLOCK)):
        wanted, lost = iptc_properties(iptc)
        iptc = b""
    if kind != "PNG":
        comment = texts.get("Comment", "") if kind == "JPEG" else ""
        kept = {"Comment": comment} if 0 < len(comment.encode()) <= _JPEG_BLOCK else {}
        found, unknown = text_properties({k: v for k, v in texts.items() if k not in kept})
        wanted, lost, texts = found | wanted, lost + unknown, kept
    if kind == "JPEG" and len(exif) > _JPEG_BLOCK:
        exif, left_out = smaller_exif(exif, _JPEG_BLOCK)
        lost += left_out
    xmp = photo.xmp
    if wanted:
        xmp, differ = with_properties(xmp, wanted)
        lost += [f"second {item.prefix}:{item.name}" for item in differ]
    notes = [f"{kind} has no place for its {', '.join(lost)}"] if lost else []
    return replace(photo, iptc=iptc, exif=exif, texts=texts, xmp=xmp), notes


def _encoded(kind: str, pixels: Image.Image | np.ndarray, photo: Photo, xmp: bytes) -> bytes:
    if kind == "TIFF":
        return encoded_tiff(np.asarray(pixels), photo, xmp)
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
    write_bytes(Path(path), buffer.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
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
        pixels = image if image.dtype == np.uint8 else np.rint(image * 255).astype(np.uint8)
        image = Image.fromarray(pixels)
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
    if image.dtype != np.uint16:
        scale = 257 if image.dtype == np.uint8 else 65535
        image = np.rint(image.astype(np.float32) * scale).astype(np.uint16, order="C")
    return with_alpha(image, alpha)


def with_alpha(image: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Join RGB (H, W, 3) of uint8 or uint16 and alpha (H, W) of either to (H, W, 4)."""
    if alpha is None:
        return image
    if alpha.dtype != image.dtype:
        is_deep = image.dtype == np.uint16
        alpha = alpha.astype(np.uint16) * 257 if is_deep else np.rint(alpha / 257).astype(np.uint8)
    return np.concatenate([image, alpha[..., None]], axis=2)


def _save_options(kind: str, photo: Photo, xmp: bytes) -> dict[str, object]:
    """Collect the options for Pillow's writer of a format."""
    options: dict[str, object] = {"icc_profile": srgb_profile(), "exif": photo.exif, "xmp": xmp}
    if photo.dpi:
        options["dpi"] = photo.dpi
    if kind == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
        xmp, extended = split_xmp(xmp, _JPEG_BLOCK)
        segments = _iptc_segment(photo.iptc) + _extended_segments(extended)
        options |= {"xmp": xmp, "extra": segments, "comment": photo.texts.get("Comment")}
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
    return exif_block(exif) if len(exif) else b""


def _iptc_segment(iptc: bytes) -> bytes:
    """Make an APP13 segment of JPEG with IPTC-IIM alone, of all that Photoshop puts there."""
    if not iptc:
        return b""
    resource = struct.pack(">4sHHI", b"8BIM", IPTC_RESOURCE, 0, len(iptc)) + iptc
    body = b"Photoshop 3.0\0" + resource + bytes(len(iptc) % 2)
    return struct.pack(">HH", 0xFFED, len(body) + 2) + body


def _extended_segments(extended: bytes) -> bytes:
    """Make the APP1 segments of JPEG that continue an XMP packet (XMP Specification 3, 1.1.3.1)."""
    name = hashlib.md5(extended).hexdigest().upper().encode()
    segments = b""
    for place in range(0, len(extended), _EXTENSION_PART):
        part = extended[place : place + _EXTENSION_PART]
        body = EXTENDED_XMP + name + struct.pack(">II", len(extended), place) + part
        segments += struct.pack(">HH", 0xFFE1, len(body) + 2) + body
    return segments


def _png_texts(photo: Photo, xmp: bytes) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt(PNG_XMP, xmp.decode())
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
    return b"".join([header, *(png_chunk(*chunk) for chunk in chunks), rest])
