"""Places that photographs come from and results go to: files, and addresses by way of fsspec.

An address such as s3://bucket/key is a `upath.UPath`, which has what the command uses of
`pathlib.Path`. fsspec and its file systems are imported when an address is given: whoever
colorizes files does without them.
"""

import contextlib
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, TypeVar, cast

from pipeline_colorize.photo import PhotoError

from . import web

LARGEST_FILE = 1 << 32
"""Bytes of a photograph that comes from elsewhere, at most."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NEEDS = 'addresses need fsspec: pip install "pipeline-colorize[remote]"'
# File systems where a file appears when it is complete; elsewhere it gets its name then.
_WHOLE = frozenset(["s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "hf", "memory"])
_TRIES = 4
_PAUSE = 0.5  # seconds after the first failure, doubled after each further one
_LOST = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError)

_Result = TypeVar("_Result")


def is_address(text: str) -> bool:
    """Tell whether a text is an address, such as s3://bucket/key, rather than a file name."""
    return _ADDRESS.match(text) is not None


def place_of(text: str) -> Path:
    """Return the path of a file name or an address.

    Raises:
        ValueError: where an address needs a package that is not installed.
    """
    if not is_address(text):
        return Path(text)
    try:
        from upath import UPath

        place = UPath(text)
        protocol = place.protocol if isinstance(place.protocol, str) else place.protocol[0]
        if protocol in ("file", "local"):
            return Path(place.path)
        place.fs  # noqa: B018, which imports the file system's own package
    except ModuleNotFoundError as error:
        if error.name in ("upath", "fsspec"):
            raise ValueError(_NEEDS) from None
        raise ValueError(f"{text} needs the package {error.name}") from None
    except ImportError as error:  # fsspec's, which says what to install
        raise ValueError(f"{text}: {error}") from None
    return cast(Path, place)


def is_remote(path: Path) -> bool:
    """Tell whether a path is not that of a file on this machine."""
    return not isinstance(path, PurePath)


def file_system(path: Path) -> Any:
    """Return the file system of fsspec that an address belongs to."""
    return cast(Any, path).fs


def inner_path(path: Path) -> str:
    """Return an address as its file system has it."""
    return cast(Any, path).path


def time_of(path: Path) -> int | None:
    """Return when a file was last changed, in nanoseconds; `None` if there is no file.

    Where a file system does not say, it is 0, so that a file there counts as old.
    """
    if isinstance(path, web.WebFile):
        return 0
    if not is_remote(path):
        try:
            return os.stat(path).st_mtime_ns
        except OSError:
            return None
    try:
        if not retried(lambda: file_system(path).exists(inner_path(path))):
            return None
        return int(file_system(path).modified(inner_path(path)).timestamp() * 1e9)
    except FileNotFoundError:
        return None
    except Exception:  # not every file system knows of times
        return 0


def list_folder(folder: Path, recursive: bool) -> list[Path]:
    """Return the files below a folder at an address, without hidden ones."""
    system, inside = file_system(folder), inner_path(folder)
    system.invalidate_cache()
    found = retried(lambda: system.find(inside, maxdepth=None if recursive else 1))
    names = [name[len(inside) :].lstrip("/") if name.startswith(inside) else name for name in found]
    visible = [name for name in names if name and not re.search(r"(^|/)\.", name)]
    return [folder.joinpath(*name.split("/")) for name in sorted(visible)]


def matching(pattern: str) -> list[Path]:
    """Return the files that match a pattern such as s3://bucket/album/*.jpg."""
    root, _, rest = pattern.partition("*")
    folder = place_of(root.rpartition("/")[0])
    inside = inner_path(folder)
    wanted = f"{inside}/{root.rpartition('/')[2]}*{rest}"
    found = retried(lambda: file_system(folder).glob(wanted))
    return [folder.joinpath(*name[len(inside) :].strip("/").split("/")) for name in sorted(found)]


def warm(paths: list[Path]) -> None:
    """List the folders of results once, so that no result takes a request of its own."""
    for folder in {str(path.parent): path.parent for path in paths if is_remote(path)}.values():
        with contextlib.suppress(Exception):  # it may not exist yet
            file_system(folder).ls(inner_path(folder), refresh=True)


def read_bytes(path: Path) -> bytes:
    """Fetch a file from an address; a connection that breaks is tried again.

    Raises:
        PhotoError: with a line for people, where it cannot be had.
    """
    if isinstance(path, web.WebFile):
        return web.fetch(path.address, LARGEST_FILE)

    def read() -> bytes:
        with file_system(path).open(inner_path(path), "rb") as file:
            size = file.size if isinstance(getattr(file, "size", None), int) else 0
            data = b"" if size > LARGEST_FILE else file.read(LARGEST_FILE + 1)
        if max(size, len(data)) > LARGEST_FILE:
            raise PhotoError(f"more than {LARGEST_FILE:,} bytes, the limit")
        if len(data) < size:
            raise OSError(f"the connection broke after {len(data):,} of {size:,} bytes")
        return data

    try:
        return retried(read)
    except PhotoError:
        raise
    except Exception as error:  # each file system has its own
        raise PhotoError(f"cannot be fetched ({_reason(error)})") from error


def open_remote(path: Path) -> Any:
    """Open a file at an address, of which the parts that are needed are fetched."""
    return retried(lambda: file_system(path).open(inner_path(path), "rb"))


def send(file: Path, target: Path) -> None:
    """Copy a file to an address, where it appears only when it is complete.

    Raises:
        PhotoError: with a line for people, where that cannot be done.
    """
    system, place = file_system(target), inner_path(target)
    protocols = system.protocol if isinstance(system.protocol, tuple) else (system.protocol,)
    draft = place
    if not _WHOLE.intersection(protocols):
        draft = f"{place.rpartition('/')[0]}/.colorize-{uuid.uuid4().hex[:12]}.part"

    def put() -> None:
        if draft != place:
            system.makedirs(place.rpartition("/")[0], exist_ok=True)
        system.put_file(str(file), draft)
        if draft != place:
            system.mv(draft, place)

    try:
        retried(put)
    except Exception as error:  # each file system has its own
        raise PhotoError(f"cannot be sent to {target} ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def retried(action: Callable[[], _Result]) -> _Result:
    """Do something over a network, and try again where it fails in a way that may pass."""
    for attempt in range(_TRIES):
        try:
            return action()
        except (PhotoError, *_LOST):
            raise
        except Exception:  # of aiohttp, botocore and others, which share no class
            if attempt == _TRIES - 1:
                raise
            time.sleep(_PAUSE * 2**attempt)
    raise AssertionError


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Provide a file from an address as one on this machine; other files as they are."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / (path.name or "file")
        copy.write_bytes(read_bytes(path))
        yield copy
