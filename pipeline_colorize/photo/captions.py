"""Captions that stand in the form of one format, as XMP, which every format can hold.

The fields of IPTC-IIM are mapped as the IPTC Photo Metadata Standard and the Metadata Working Group
map them, the keywords of PNG as its specification (third edition, 11.3.3.2) describes them.
"""

import struct
from collections.abc import Iterator

from .xmp import Property

_APPLICATION_RECORD = 2
_CHARACTER_SET = (1, 90)
_UTF8 = b"\x1b%G"
_DATE_CREATED = 55

_IPTC_FIELDS = {
    5: Property("dc", "title", "Alt"),
    10: Property("photoshop", "Urgency"),
    15: Property("photoshop", "Category"),
    20: Property("photoshop", "SupplementalCategories", "Bag"),
    25: Property("dc", "subject", "Bag"),
    40: Property("photoshop", "Instructions"),
    _DATE_CREATED: Property("photoshop", "DateCreated"),
    80: Property("dc", "creator", "Seq"),
    85: Property("photoshop", "AuthorsPosition"),
    90: Property("photoshop", "City"),
    92: Property("Iptc4xmpCore", "Location"),
    95: Property("photoshop", "State"),
    100: Property("Iptc4xmpCore", "CountryCode"),
    101: Property("photoshop", "Country"),
    103: Property("photoshop", "TransmissionReference"),
    105: Property("photoshop", "Headline"),
    110: Property("photoshop", "Credit"),
    115: Property("photoshop", "Source"),
    116: Property("dc", "rights", "Alt"),
    120: Property("dc", "description", "Alt"),
    122: Property("photoshop", "CaptionWriter"),
}
# Fields that say how the block is written, or on what machine, and nothing about the photograph.
_IPTC_TECHNICAL = frozenset([0, 60, 62, 63, 65, 70, 150, 151, 152, 153, 154, *range(200, 203)])

_PNG_KEYWORDS = {
    "Title": Property("dc", "title", "Alt"),
    "Author": Property("dc", "creator", "Seq"),
    "Description": Property("dc", "description", "Alt"),
    "Copyright": Property("dc", "rights", "Alt"),
    "Source": Property("dc", "source"),
    "Disclaimer": Property("xmpRights", "UsageTerms", "Alt"),
    "Warning": Property("photoshop", "Instructions"),
    "Comment": Property("exif", "UserComment", "Alt"),
}
# Of the program and the moment that wrote the old file.
_PNG_TECHNICAL = frozenset(["Software", "Creation Time", "date:create", "date:modify"])


def iptc_properties(block: bytes) -> tuple[dict[Property, list[str]], list[str]]:
    """Return the captions of an IPTC-IIM block as XMP properties.

    Returns:
        The properties, and the names of fields that XMP has no place for.
    """
    fields = list(_iptc_fields(block))
    is_utf8 = any(
        (record, number) == _CHARACTER_SET and value == _UTF8 for record, number, value in fields
    )
    found: dict[Property, list[str]] = {}
    unknown = []
    for record, number, value in fields:
        if record != _APPLICATION_RECORD or number in _IPTC_TECHNICAL:
            continue
        if number not in _IPTC_FIELDS:
            unknown.append(f"IPTC field {record}:{number}")
            continue
        text = _iptc_text(value, is_utf8)
        if number == _DATE_CREATED and len(text) == 8 and text.isdigit():
            text = _iptc_date(text)
        if text:
            found.setdefault(_IPTC_FIELDS[number], []).append(text)
    return found, unknown


def _iptc_fields(block: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield record, number, value of each field, as far as the block is sound (IIM 4.2, 1.5)."""
    at = 0
    while at + 5 <= len(block) and block[at] == 0x1C:
        record, number, length = struct.unpack_from(">BBH", block, at + 1)
        at += 5
        if length & 0x8000:
            size = length & 0x7FFF
            length = int.from_bytes(block[at : at + size], "big")
            at += size
        yield record, number, block[at : at + length]
        at += length


def _iptc_text(value: bytes, is_utf8: bool) -> str:
    """Text of a field; without a stated encoding it is UTF-8 where it can be, or else Latin-1."""
    try:
        return value.decode("utf-8").strip("\0 ")
    except UnicodeDecodeError:
        return value.decode("utf-8" if is_utf8 else "latin-1", "replace").strip("\0 ")


def _iptc_date(digits: str) -> str:
    """Return a date as XMP writes it; in IIM, unknown months and days are 00."""
    parts = [digits[:4], digits[4:6], digits[6:]]
    return "-".join(parts[: 1 + (parts[1] != "00") + (parts[1] != "00" and parts[2] != "00")])


def text_properties(texts: dict[str, str]) -> tuple[dict[Property, list[str]], list[str]]:
    """Return the texts of a PNG, or a comment, as XMP properties.

    Returns:
        The properties, and the names of texts that XMP has no place for.
    """
    found: dict[Property, list[str]] = {}
    unknown = []
    for keyword, text in texts.items():
        if keyword in _PNG_KEYWORDS:
            found[_PNG_KEYWORDS[keyword]] = [text]
        elif keyword not in _PNG_TECHNICAL:
            unknown.append(f"text {keyword!r}")
    return found, unknown
