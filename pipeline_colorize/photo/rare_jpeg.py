"""JPEGs that Pillow cannot read: of 12 bits, or without loss and of up to 16 bits."""

import io
import struct
from typing import BinaryIO

import numpy as np
from PIL import Image

from .limits import check_bytes, check_shape, check_size
from .opening import open_picture
from .record import PhotoError
from .tiff import full_range, with_channels

START = b"\xff\xd8\xff"
_FRAMES = frozenset([*range(0xC0, 0xD0)]) - {0xC4, 0xC8, 0xCC}  # markers, T.81, table B.1
_METADATA = frozenset([*range(0xE0, 0xF0), 0xFE])
_SCAN = 0xDA


def decoded(file: BinaryIO) -> tuple[Image.Image, np.ndarray]:
    """Decode by imagecodecs.

    Returns:
        A picture of one pixel with the metadata of the file, and the pixels (H, W, C), uint8 or
        uint16.

    Raises:
        PhotoError: where it is no such JPEG.
    """
    import imagecodecs

    file.seek(0)
    data = file.read()
    metadata, frame = _segments(data)
    bits, height, width, channels = struct.unpack_from(">BHHB", frame)
    check_size((width, height))
    check_shape((width, height))
    check_bytes(2 * width * height * channels)
    pixels = full_range(with_channels(imagecodecs.jpeg_decode(data)), bits)
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "JPEG")
    one_pixel = buffer.getvalue()
    return open_picture(io.BytesIO(one_pixel[:2] + metadata + one_pixel[2:])), pixels


def _segments(data: bytes) -> tuple[bytes, bytes]:
    """Return the segments of metadata, and what the frame's header says."""
    metadata, at = b"", 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _SCAN:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _METADATA:
            metadata += data[at : at + 2 + length]
        elif marker in _FRAMES:
            return metadata, data[at + 4 : at + 2 + length]
        at += 2 + length
    raise PhotoError("not a picture, or of a kind that cannot be read")
