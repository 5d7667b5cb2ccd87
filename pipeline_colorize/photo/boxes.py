"""Walks over the boxes that JPEG 2000 and JPEG XL files consist of (ISO base media file format)."""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .limits import LARGEST_PROFILE

_MOST_BOXES = 4096


@dataclass(frozen=True)
class Box:
    """A box of a file: its name, and where its content lies."""

    name: bytes
    start: int
    end: int

    def content(self, file: BinaryIO, most: int = LARGEST_PROFILE) -> bytes:
        """Return the content; nothing where it is longer than `most` bytes."""
        if self.end - self.start > most:
            return b""
        file.seek(self.start)
        return file.read(self.end - self.start)


def boxes(file: BinaryIO, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Return the boxes between two places of a file, as far as they are sound."""
    end = file.seek(0, os.SEEK_END) if end is None else end
    for _ in range(_MOST_BOXES):
        file.seek(start)
        head = file.read(16)
        if len(head) < 8 or start >= end:
            return
        length, name = struct.unpack_from(">I4s", head)
        header = 8
        if length == 1 and len(head) == 16:
            (length,), header = struct.unpack_from(">Q", head, 8), 16
        after = end if length == 0 else start + length
        if after < start + header:
            return
        yield Box(name, start + header, min(after, end))
        start = after
