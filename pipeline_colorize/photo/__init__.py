"""Photographs as files: pixels out of them for the pipeline, and the coloured result back.

Reading gives upright pixels whose luminance is that of the sRGB picture, whatever profile, depth or
colour model the file has. Writing keeps size, depth, transparency and metadata, embeds an sRGB
profile, and marks the file as one whose colours were generated (IPTC DigitalSourceType).

Pillow reads and writes; imagecodecs (PNG) and tifffile (TIFF) do what Pillow cannot, which is more
than 8 bits in several channels; littleCMS, inside imagecodecs, does the colour management.
"""

from .content import tint_mask
from .decode import count_pages, read, read_packet
from .encode import copy_dates, write, write_animation, write_bytes, write_picture
from .limits import pixel_limit
from .opening import open_picture
from .profiles import srgb_profile, to_srgb
from .record import (
    DIGITAL_SOURCE_TYPE,
    PICTURE_FORMATS,
    READABLE,
    SYSTEM,
    WRITABLE,
    Mark,
    Photo,
    PhotoError,
    TooLargeError,
)
from .strips import Strip, StripReader, write_strips
from .xmp import marked_xmp, read_mark

__all__ = [
    "DIGITAL_SOURCE_TYPE",
    "PICTURE_FORMATS",
    "READABLE",
    "SYSTEM",
    "WRITABLE",
    "Mark",
    "Photo",
    "PhotoError",
    "Strip",
    "StripReader",
    "TooLargeError",
    "copy_dates",
    "count_pages",
    "marked_xmp",
    "open_picture",
    "pixel_limit",
    "read",
    "read_mark",
    "read_packet",
    "srgb_profile",
    "tint_mask",
    "to_srgb",
    "write",
    "write_animation",
    "write_bytes",
    "write_picture",
    "write_strips",
]
