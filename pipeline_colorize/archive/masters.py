"""Colours a master file from a chroma file: some rows at a time, so that memory stays bounded."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline_colorize.core.luminance import to_luminance
from pipeline_colorize.photo import Strip, StripReader, write_strips

from .chroma import Chroma
from .overlay import Overlay

_THREADS = 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def color_master(
    source: str | Path, target: str | Path, chroma: Chroma, page: int | None = None
) -> list[str]:
    """Write a master in the colours of a chroma file, with its size, depth and metadata.

    The file is read twice: to fit the colours to its light, and to colour it. From a plain TIFF to
    a TIFF that takes a few hundred megabytes of memory, whatever the size.

    Args:
        source: the master.
        target: the result, whose ending decides its format.
        chroma: the colours.
        page: which page of a TIFF, from 0; the first one by default.

    Returns:
        A line for people about each thing that is worth knowing.

    Raises:
        ValueError: where the colours belong to another photograph.
        photo.PhotoError: where the master cannot be read or the result cannot be written.
    """
    reader = StripReader(source, page)
    overlay = Overlay.fit(chroma, reader.size, (to_luminance(strip.image) for strip in reader))
    kind = np.dtype(np.uint8 if reader.photo.depth == 8 else np.uint16)

    def color(item: tuple[int, Strip]) -> Strip:
        row, strip = item
        return Strip(overlay.color(to_luminance(strip.image), (row, 0), kind), strip.alpha)

    with ThreadPoolExecutor(_THREADS) as pool:
        strips = _ahead(pool, color, _with_places(reader))
        notes = write_strips(target, reader, strips, chroma.mark)
    return [*reader.photo.warnings, *notes]


def _with_places(strips: Iterable[Strip]) -> Iterator[tuple[int, Strip]]:
    """Yield strips, each with the number of its first row."""
    row = 0
    for strip in strips:
        yield row, strip
        row += len(strip.image)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Yield the results of `function` in order, with only a few items in progress."""
    rest = iter(items)
    waiting: deque[Future[_Result]] = deque()
    for item in itertools.islice(rest, 2 * _THREADS):
        waiting.append(pool.submit(function, item))
    while waiting:
        result = waiting.popleft().result()
        for item in itertools.islice(rest, 1):
            waiting.append(pool.submit(function, item))
        yield result
