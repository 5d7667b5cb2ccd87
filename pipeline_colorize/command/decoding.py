"""Reads the photographs of a `colorize` run: files, rows of data sets, standard input."""

import io
import itertools
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline_colorize import photo
from pipeline_colorize.core.margins import Box

from . import containers, parquet, places
from .job import STDIN, Job

_STREAM_BYTES = 1 << 32  # at most of a photograph from standard input


@dataclass
class Decoded:
    """Holds a photograph that is ready to be coloured."""

    job: Job
    photo: photo.Photo
    seconds: float  # spent on it so far
    again: bool  # it has results, of what it was before it was changed
    ending: str  # of a file of its format
    notes: list[str] = field(default_factory=list)  # of its results, one line each
    sources: list[str] = field(default_factory=list)  # pictures that its colours come from
    box: Box | None = None  # of the photograph inside margins, where some were found


def contents(jobs: Iterable[Job]) -> Iterator[tuple[Job, bytes | Exception | None]]:
    """Yield jobs with the bytes to decode, a few at a time, or with `None` for the file itself."""
    for path, group in itertools.groupby(jobs, _container):
        if path:
            together = deque(group)
            read = _row_contents if together[0].member is None else _member_contents
            yield from read(path, together)
        else:
            yield from ((job, _read_stdin() if job.source == STDIN else None) for job in group)


def _container(job: Job) -> Path | None:
    """Return the file that a photograph is a part of, if it is one of many in it."""
    return job.source if job.row is not None or job.member is not None else None


def _member_contents(path: Path, jobs: deque[Job]) -> Iterator[tuple[Job, bytes | Exception]]:
    """Yield the members of one tar or zip file; the jobs that are left over get the reason."""
    left = {job.member: job for job in jobs if job.member is not None}
    reason: Exception = photo.PhotoError("it is no longer in the file")
    try:
        for name, content in containers.read_members(path, list(left)):
            if name in left:  # a tar may have a name twice
                yield left.pop(name), content or photo.PhotoError("the file is empty (0 bytes)")
    except Exception as error:  # also those of file systems
        reason = error
    yield from ((job, reason) for job in left.values())


def _read_stdin() -> bytes | Exception:
    data = bytearray()
    while chunk := sys.stdin.buffer.read(1 << 20):
        data += chunk
        if len(data) > _STREAM_BYTES:
            return photo.PhotoError(f"more than {_STREAM_BYTES:,} bytes, the limit")
    return bytes(data) or photo.PhotoError("nothing came from standard input")


def _row_contents(path: Path, jobs: deque[Job]) -> Iterator[tuple[Job, bytes | Exception]]:
    """Yield the rows of one data set; if reading stops, the remaining jobs get the error."""
    rows = [job.row for job in jobs if job.row is not None]
    try:
        for content in parquet.read_rows(path, rows):
            yield jobs.popleft(), content or photo.PhotoError("this row has no picture in it")
    except Exception as error:  # pyarrow has many, on damaged files
        yield from ((job, error) for job in jobs)


def decode(job: Job, content: bytes | Exception | None) -> tuple[photo.Photo, str]:
    """Decode a photograph; the ending of its format is returned as well."""
    if isinstance(content, Exception):
        raise content
    if content is None and not places.is_remote(job.source):
        return photo.read(job.source, job.page), job.source.suffix
    content = places.read_bytes(job.source) if content is None else content
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture"
        file.write_bytes(content)
        return photo.read(file), ending_of(content)


def ending_of(content: bytes) -> str:
    """Return the file name ending for encoded bytes; `.png` if their format is not written."""
    try:
        with photo.open_picture(io.BytesIO(content)) as opened:
            kind = "JPEG" if opened.format == "MPO" else opened.format
    except OSError:  # a damaged one, of which what was left has been read
        return ".png"
    return next((ending for ending, name in photo.WRITABLE.items() if name == kind), ".png")
