"""Files that hold many photographs: WebDataset's tar, zip, and the writing of them and of parquet.

pyarrow is imported when a parquet file is written.
"""

import contextlib
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pipeline_colorize import photo

from . import parquet, places

SUFFIXES = (".tar", ".zip")
"""Endings of files whose members are photographs."""

WRITTEN = (*SUFFIXES, ".parquet")
"""Endings of files that can hold results."""

_MOST_MEMBERS = 10_000_000
_ROWS = 64  # of a parquet file in a group


class ContainerError(Exception):
    """Says in one line for people why a file cannot be used as one of many photographs."""


def find_members(path: Path) -> list[str]:
    """Name the photographs in a tar or zip file, in its order.

    Raises:
        ContainerError: where the file is damaged.
    """
    with _errors():
        members = [name for name, _ in _walk(path, lambda name: False)]
    return [name for name in members if _is_photograph(name)]


def read_members(path: Path, wanted: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield members of a tar or zip file in its order, one at a time in memory."""
    names = set(wanted)
    with _errors():
        for name, data in _walk(path, names.__contains__):
            if data is not None:
                yield name, data


def first_member(path: Path) -> tuple[str, bytes]:
    """Return the name and the bytes of the first file that `pack` put into a container."""
    if path.suffix.lower() == ".parquet":
        return "picture", next(iter(parquet.read_rows(path, [0]))) or b""
    with _errors():
        return next((name, data or b"") for name, data in _walk(path, lambda name: True))


def _is_photograph(name: str) -> bool:
    """Tell whether a member is a photograph, with a name that stays inside the output folder."""
    path = PurePosixPath(name)
    is_hidden = any(part.startswith(".") for part in path.parts)  # among them ".."
    is_inside = not path.is_absolute() and "\\" not in name and ":" not in name
    return path.suffix.lower() in photo.READABLE and is_inside and not is_hidden


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ContainerError(f"it is damaged or cut off ({error})") from error


def _walk(path: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name of each file in a container, with its bytes where they are wanted."""
    with _open(path) as file:
        walk = _walk_zip if path.suffix.lower() == ".zip" else _walk_tar
        for count, member in enumerate(walk(file, is_wanted)):
            if count >= _MOST_MEMBERS:
                raise ContainerError(f"it has more than {_MOST_MEMBERS:,} members")
            yield member


def _open(path: Path) -> Any:
    if not places.is_remote(path):
        return open(path, "rb")
    return places.open_remote(path)


def _walk_tar(
    file: IO[bytes], is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes | None]]:
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # which would grow with the file
            if not member.isfile():
                continue
            data = None
            if is_wanted(member.name) and (opened := archive.extractfile(member)):
                data = _limited(opened)
            yield member.name, data


def _walk_zip(
    file: IO[bytes], is_wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes | None]]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            data = None
            if is_wanted(member.filename):
                with archive.open(member) as opened:
                    data = _limited(opened)
            yield member.filename, data


def _limited(file: IO[bytes]) -> bytes:
    """Read a member, but not one that unpacks to more than any photograph."""
    data = file.read(places.LARGEST_FILE + 1)
    if len(data) > places.LARGEST_FILE:
        raise ContainerError(f"a member has more than {places.LARGEST_FILE:,} bytes, the limit")
    return data


def pack(folder: Path, target: Path) -> int:
    """Put all files of a folder into a tar, zip or parquet file; returns how many there are.

    The file appears under its name only when it is complete.
    """
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")
    )
    draft = folder.with_name(f".{folder.name}.draft")
    write = {".tar": _pack_tar, ".zip": _pack_zip, ".parquet": _pack_parquet}
    try:
        write[target.suffix.lower()](draft, folder, files)
        if places.is_remote(target):
            places.send(draft, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    return len(files)


def _pack_tar(draft: Path, folder: Path, files: list[Path]) -> None:
    with tarfile.open(draft, "w", format=tarfile.PAX_FORMAT) as archive:
        for file in files:
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size, member.mode = file.stat().st_size, 0o644
            with open(file, "rb") as opened:
                archive.addfile(member, opened)


def _pack_zip(draft: Path, folder: Path, files: list[Path]) -> None:
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:  # pictures are packed already
        for file in files:
            archive.write(file, file.relative_to(folder).as_posix())


def _pack_parquet(draft: Path, folder: Path, files: list[Path]) -> None:
    """Write a data set with one column of pictures, as the package `datasets` reads it."""
    try:
        import pyarrow
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise ContainerError("a data set takes the package pyarrow; pip install pyarrow") from None
    described = {"info": {"features": {"image": {"_type": "Image"}}}}
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema([("image", picture)], metadata={"huggingface": json.dumps(described)})
    with ParquetWriter(draft, schema) as writer:
        for first in range(0, len(files), _ROWS):
            rows = [
                {"bytes": file.read_bytes(), "path": file.relative_to(folder).as_posix()}
                for file in files[first : first + _ROWS]
            ]
            writer.write_table(pyarrow.table({"image": rows}, schema=schema))
