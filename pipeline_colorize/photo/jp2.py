"""What a JPEG 2000 file says beside its pixels: colour profile, EXIF, XMP and IPTC.

Pillow reads none of them. Profiles stand in `colr` boxes (ISO/IEC 15444-1, I.5.3.3), metadata in
boxes with an identifier of 16 bytes, as Adobe and digiKam write them.
"""

from typing import BinaryIO

from .boxes import boxes
from .limits import LARGEST_PROFILE, LARGEST_TEXT

_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"
_XMP = bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC")
_IPTC = bytes.fromhex("33C7A4D2B81D4723A0BAF1A3E097AD38")
_EXIF = b"JpgTiffExif->JP2"
_PROFILE_METHODS = (2, 3)  # a restricted profile, and any


def read_boxes(file: BinaryIO) -> dict[str, bytes]:
    """Return the parts that a file has of `icc_profile`, `exif`, `xmp` and `iptc`."""
    file.seek(0)
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        return {}  # a bare codestream
    found: dict[str, bytes] = {}
    names = {_XMP: "xmp", _IPTC: "iptc", _EXIF: "exif"}
    for box in boxes(file):
        if box.name == b"jp2h":
            for inner in boxes(file, box.start, box.end):
                content = inner.content(file, LARGEST_PROFILE) if inner.name == b"colr" else b""
                if content and content[0] in _PROFILE_METHODS:
                    found.setdefault("icc_profile", content[3:])
        elif box.name == b"uuid":
            content = box.content(file, LARGEST_PROFILE)
            if content[:16] in names:
                found.setdefault(names[content[:16]], content[16:])
        elif box.name == b"xml ":
            content = box.content(file, LARGEST_TEXT)
            if b"adobe:ns:meta/" in content:
                found.setdefault("xmp", content)
    return found
