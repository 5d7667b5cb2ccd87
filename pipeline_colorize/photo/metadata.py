"""EXIF, IPTC captions and texts: what the result keeps of them."""

import io
import struct
from collections.abc import Mapping, MutableMapping
from typing import Any, BinaryIO

from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from .limits import LARGEST_PROFILE, LARGEST_TEXT, check_directories
from .upright import Turn
from .xmp import joined_xmp

# TIFF tags that say where and how the pixels lie, or hold what is written anew; in an EXIF block
# of another format they are meaningless. Everything else describes the photograph and is kept.
_LAYOUT_TAGS = frozenset(
    [*range(254, 260), *range(262, 267), 273, *range(277, 282), 284, *range(288, 294)]
    + [301, *range(317, 326), *range(330, 348), *range(512, 533), 700, 33723, 34377, 34675]
)

# Rating, and title, comment, author, keywords and subject as the Explorer of Windows has them.
WINDOWS_TAGS = frozenset([0x4746, 0x4749, *range(0x9C9B, 0x9CA0)])

_SUBJECT_TAGS = (0x9214, 0xA214)  # its area, and its location

IPTC_RESOURCE = 0x0404  # in Photoshop's blocks

IPTC_TIFF_TAG = 33723
_RESOURCES_TIFF_TAG = 34377

PNG_XMP = "XML:com.adobe.xmp"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"


def drop_large_parts(opened: Image.Image, notes: list[str]) -> None:
    """Leave out metadata that is larger than any photograph's, before anything works on it."""
    limits = {"xmp": LARGEST_TEXT, "icc_profile": LARGEST_PROFILE, "comment": LARGEST_TEXT}
    names = {"xmp": "XMP", "icc_profile": "colour profile", "comment": "comment"}
    for key, limit in limits.items():
        if len(opened.info.get(key) or b"") > limit:
            del opened.info[key]
            notes.append(f"its {names[key]} of more than {limit:,} bytes was left out")


def read_exif(opened: Image.Image, notes: list[str]) -> Image.Exif:
    """Return the EXIF data of a file; empty, with a note, where it is damaged."""
    try:
        _check_exif(opened)
        return _with_directories(opened.getexif())
    except Exception:  # damaged blocks raise struct.error, SyntaxError, KeyError and more
        notes.append("its EXIF data is damaged and was left out")
        return Image.Exif()


def read_tiff_exif(file: BinaryIO, page: int, notes: list[str]) -> Image.Exif:
    """Read the tags of a TIFF that Pillow cannot open; where damaged, none, with a note."""
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        place, order, big = tiff.pages[page].offset, tiff.byteorder, tiff.is_bigtiff
    exif = Image.Exif()
    exif.endian, exif.bigtiff = order, big
    try:
        exif.load_from_fp(file, place)
        return _with_directories(exif)
    except Exception:  # damaged blocks raise struct.error, SyntaxError, KeyError and more
        notes.append("its EXIF data is damaged and was left out")
        return Image.Exif()


def _with_directories(exif: Image.Exif) -> Image.Exif:
    for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        exif.get_ifd(directory)
    exif.bigtiff = False  # of the file that it came from, not of the block that is made of it
    return exif


def orientation_of(exif: Mapping[int, Any]) -> int:
    """Return how a picture must be turned, as EXIF counts from 1 (upright) to 8."""
    value = exif.get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def as_bytes(value: object) -> bytes:
    """Return what a TIFF tag holds, if it is bytes; some programs say that they are numbers."""
    if isinstance(value, tuple) and all(isinstance(item, int) and item < 256 for item in value):
        return bytes(value)
    return value if isinstance(value, bytes) else b""


def _check_exif(opened: Image.Image) -> None:
    block = opened.info.get("exif") or b""
    if opened.format != "TIFF" and isinstance(block, bytes):
        check_directories(io.BytesIO(block), 6 if block.startswith(b"Exif\0\0") else 0)


class _Latin1(str):
    """Text of EXIF: Pillow reads it as Latin-1, but would write ASCII, and "?" for the rest.

    Written as it was read, text keeps its bytes, in whatever encoding they are.
    """

    def encode(self, *_) -> bytes:
        return super().encode("latin-1", "replace")


def keep_texts(directory: MutableMapping[int, Any]) -> None:
    """Let each text of a directory be written with the bytes that it was read from."""
    for tag, value in list(directory.items()):
        if isinstance(value, str):
            directory[tag] = _Latin1(value)


def exif_block(exif: Image.Exif) -> bytes:
    """EXIF data as the bytes that a file holds, with the bytes of its texts as they were."""
    for directory in (exif, *map(exif.get_ifd, (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))):
        keep_texts(directory)
    return exif.tobytes()


def exif_bytes(exif: Image.Exif, turn: Turn, notes: list[str]) -> bytes:
    """EXIF that describes the upright sRGB result, without what described the old file's layout."""
    if not len(exif):
        return b""
    for tag in _LAYOUT_TAGS.intersection(exif):
        del exif[tag]
    exif[ExifTags.Base.Orientation] = 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details.pop(ExifTags.IFD.Interop, None)  # an offset into the old file
    width, height = (turn.height, turn.width) if turn.swaps else (turn.width, turn.height)
    for tag, value in (
        (ExifTags.Base.ExifImageWidth, width),
        (ExifTags.Base.ExifImageHeight, height),
        (ExifTags.Base.ColorSpace, 1),
    ):
        if tag in details:
            details[tag] = value
    try:
        _turn_subject(details, turn)
        return exif_block(exif)
    except Exception:  # a tag whose value does not fit its type
        notes.append("its EXIF data is damaged and was left out")
        return b""


def smaller_exif(block: bytes, most: int) -> tuple[bytes, list[str]]:
    """Leave out the largest fields of an EXIF block until it has at most `most` bytes.

    Returns:
        The block, and the names of the fields.
    """
    exif = Image.Exif()
    exif.load(block)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    names = []
    while len(block) > most:
        _, tag, directory = max(
            (
                (len(str(value)), tag, directory)
                for directory in (exif, details)
                for tag, value in directory.items()
            ),
            key=lambda item: item[:2],
        )
        del directory[tag]
        names.append(f"EXIF {ExifTags.TAGS.get(tag, hex(tag))}")
        block = exif_block(exif)
    return block, names


def _turn_subject(details: MutableMapping[int, Any], turn: Turn) -> None:
    """Turn the places where EXIF says that the subject is, in pixels of the stored picture."""
    for tag in _SUBJECT_TAGS:
        place = details.get(tag)
        if not isinstance(place, tuple) or turn.orientation == 1:
            continue
        sides = place[2:][::-1] if turn.swaps else place[2:]
        details[tag] = (*(round(part) for part in turn.pixel(*place[:2])), *sides)


def read_xmp(opened: Image.Image, notes: list[str]) -> bytes:
    """Read the XMP packet of a file, if any; of a JPEG with the parts that continue it."""
    xmp = opened.info.get("xmp", b"")
    if not xmp and isinstance(opened, PngImagePlugin.PngImageFile):
        xmp = _raw_profile(opened, "xmp")
    xmp = xmp.encode() if isinstance(xmp, str) else bytes(xmp)
    parts = {}
    for marker, content in getattr(opened, "applist", []):
        if marker == "APP1" and content.startswith(EXTENDED_XMP):
            name, length, place = struct.unpack_from(">32sII", content, len(EXTENDED_XMP))
            if name in xmp and length <= LARGEST_TEXT:
                parts[place] = content[len(EXTENDED_XMP) + 40 :]
    if not parts:
        return xmp
    extended = b"".join(parts[place] for place in sorted(parts))
    if len(xmp) + len(extended) > LARGEST_TEXT:
        notes.append(f"its XMP of more than {LARGEST_TEXT:,} bytes was left out in part")
        return xmp
    return joined_xmp(xmp, extended)


def read_iptc(opened: Image.Image) -> bytes:
    """Return the IPTC-IIM block of a file, or nothing."""
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        # Its bytes, whatever type the tag has: many programs say that they are whole numbers.
        tags = opened.tag_v2._tagdata
        found = tags.get(IPTC_TIFF_TAG) or _from_resources(tags.get(_RESOURCES_TIFF_TAG, b""))
    elif isinstance(opened, PngImagePlugin.PngImageFile):
        block = _raw_profile(opened, "iptc") or _raw_profile(opened, "8bim")
        found = block if block.startswith(b"\x1c") else _from_resources(block)
    else:
        found = opened.info.get("iptc") or opened.info.get("photoshop", {}).get(IPTC_RESOURCE)
    return found if isinstance(found, bytes) else b""


def _from_resources(blocks: bytes) -> bytes:
    """Return the IPTC-IIM block among Photoshop's image resources."""
    at = blocks.find(b"8BIM")
    while 0 <= at <= len(blocks) - 12 and blocks[at : at + 4] == b"8BIM":
        number, name = struct.unpack_from(">HB", blocks, at + 4)
        at += 6 + (1 + name + 1) // 2 * 2
        length = int.from_bytes(blocks[at : at + 4], "big")
        if number == IPTC_RESOURCE:
            return blocks[at + 4 : at + 4 + length]
        at += 4 + (length + 1) // 2 * 2
    return b""


def _raw_profile(opened: PngImagePlugin.PngImageFile, name: str) -> bytes:
    """Read what ImageMagick keeps in a text of a PNG: a name, a length, and digits."""
    parts = str(opened.text.get(f"Raw profile type {name}", ""))[: 2 * LARGEST_TEXT].split(None, 2)
    try:
        return bytes.fromhex(parts[2])
    except (IndexError, ValueError):
        return b""


def read_texts(opened: Image.Image) -> dict[str, str]:
    """Return the texts of a PNG by keyword, or the comment of another file."""
    if isinstance(opened, PngImagePlugin.PngImageFile):
        texts = {key: str(value) for key, value in opened.text.items()}
        return {
            key: text
            for key, text in texts.items()
            if key != PNG_XMP and not key.startswith("Raw profile") and len(text) <= LARGEST_TEXT
        }
    comment = opened.info.get("comment", b"")
    comment = comment.decode("utf-8", "replace") if isinstance(comment, bytes) else comment
    return {"Comment": comment.strip("\0 ")} if comment.strip("\0 ") else {}
