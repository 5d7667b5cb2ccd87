"""Finds the photographs that a `colorize` run takes."""

import errno
import glob
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pipeline_colorize import photo

from . import containers, parquet, places, web
from .job import STDIN, is_named_like_a_result, real_folder, real_path
from .report import Report, one_line
from .settings import STREAM, Settings

# Endings of pictures that people keep beside their photographs; those that cannot be read are
# named when a folder is searched.
_PICTURES = """
.3fr .ai .arw .bmp .cr2 .cr3 .dcr .dib .djvu .dng .eps .erf .exr .fff .fpx .gif .hdr .heic .heif
.hif .icns .ico .iiq .j2c .j2k .jif .jp2 .jpc .jpf .jpm .jpx .jxl .jxr .kdc .mef .mos .mpo .mrw
.nef .nrw .orf .pcd .pcx .pdf .pef .pict .pct .ppm .psb .psd .ptx .qoi .raf .raw .rw2 .rwl .sgi
.sr2 .srf .srw .svg .tga .webp .wmf .x3f .xcf
"""
_PICTURE_ENDINGS = frozenset(_PICTURES.split())
_TAKEN = photo.READABLE | {parquet.SUFFIX, *containers.SUFFIXES}


@dataclass(frozen=True, slots=True)
class Found:
    """Holds a photograph, and the folder that its place in the output is relative to."""

    path: Path
    root: Path
    row: int | None = None  # where it is part of a data set
    member: str | None = None  # where it is part of a tar or zip file
    page: int | None = None  # where it is one of several, from 0
    pages: int = 1


@dataclass
class _Search:
    """Collects what was found among the inputs, and counts what was not taken."""

    photos: list[Found] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)  # pictures that cannot be read, by ending
    broken: int = 0  # links that lead nowhere
    doubles: int = 0  # links to photographs that are taken themselves

    def not_taken(self) -> str:
        """List in one line what was not taken; the text is empty if everything was."""
        parts = [f"{count} {ending}" for ending, count in sorted(self.others.items())]
        if self.doubles:
            parts.append(f"{_links(self.doubles)} to photographs that are taken anyway")
        if self.broken:
            parts.append(f"{_links(self.broken)} to nothing")
        return ", ".join(parts)


def _links(count: int) -> str:
    return "1 link" if count == 1 else f"{count} links"


def find_photos(settings: Settings, report: Report) -> list[Found]:
    """Find the photographs among the inputs, each of them once.

    Where there are several, those named like results are left out: `colorize *.jpg` is to do the
    same when it is called again.
    """
    real_folder.cache_clear()
    search = _Search()
    for text in settings.inputs:
        if text == STREAM:
            search.photos.append(Found(STDIN, STDIN.parent))
        if places.is_address(text):
            search.photos += _at_address(text, settings, report)
            continue
        for path in _expand(text, report) if text != STREAM else []:
            if path.is_dir():
                _search_folder(path, settings, search, report)
            else:
                search.photos.append(Found(path, path.parent))
    photos = _without_doubles(search)
    if line := search.not_taken():
        report.note("not taken", line)
    originals = [one for one in photos if not is_named_like_a_result(one.path)]
    if len(photos) == len(originals) or len(photos) == 1:
        return photos
    report.note(f"{len(photos) - len(originals)} left out", "named like results of earlier runs")
    return originals


def _at_address(text: str, settings: Settings, report: Report) -> list[Found]:
    """Find the photographs at an address: a file, a folder, a pattern, or what IIIF has."""
    try:
        if web.is_web(text):
            found = web.find(text, settings.chroma_only)
            return [Found(cast(Path, one), cast(Path, one.parent)) for one in found]
        if "*" in text:
            paths = places.matching(text)
            return [Found(path, path.parent) for path in paths] or _nothing_at(text, report)
        place = places.place_of(text)
        if not places.is_remote(place):
            return [Found(place, place.parent)]
        if not places.retried(place.is_dir):
            return [Found(place, place.parent)]
        paths = places.list_folder(place, settings.recursive)
        taken = [path for path in paths if path.suffix.lower() in _TAKEN]
        return [Found(path, place) for path in taken] or _nothing_at(text, report)
    except Exception as error:  # each file system has its own
        report.fail(text, one_line(error))
        return []


def _nothing_at(text: str, report: Report) -> list[Found]:
    report.fail(text, "no photographs there")
    return []


def _expand(text: str, report: Report) -> list[Path]:
    """Return the file or folder, or all that match a pattern; report it if there are none."""
    try:
        os.stat(text)
        return [Path(text)]
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            report.fail(text, f"cannot be reached ({error.strerror})")
            return []
    paths = [] if os.path.islink(text) else _glob(os.path.expanduser(text))
    if not paths:
        nothing = "no such file or folder, and no file matches it"
        report.fail(text, "a link to nothing" if os.path.islink(text) else nothing)
    return paths


def _glob(text: str) -> list[Path]:
    """Return what matches a pattern.

    Leading folders that exist under a name such as `album [1912]` are not taken as a pattern. If
    nothing matches, brackets in the rest are taken literally, too.
    """
    literal, rest = "", text
    while (cut := rest.find(os.sep, 1)) >= 0 and os.path.exists(literal + rest[:cut]):
        literal, rest = literal + rest[:cut], rest[cut:]
    for pattern in (rest, rest.replace("[", "[[]")):
        if found := glob.glob(glob.escape(literal) + pattern, recursive=True):
            return sorted(map(Path, found))
    return []


def _search_folder(folder: Path, settings: Settings, search: _Search, report: Report) -> None:
    """Add the photographs in a folder, without hidden files and those in the output folder."""
    unreadable: list[OSError] = []
    candidates: list[Path] = []
    for place, inner, names in os.walk(folder, onerror=unreadable.append):
        candidates += [Path(place, name) for name in names if not name.startswith(".")]
        inner[:] = [name for name in inner if settings.recursive and not name.startswith(".")]
    for error in unreadable:
        report.fail(error.filename, f"cannot be read ({error.strerror})")
    if unreadable and not candidates:
        return
    output = _inner_output(folder, settings)
    candidates = [path for path in sorted(candidates) if not _lies_in(path, output)]
    photos = [path for path in candidates if _is_taken(path, search)]
    search.photos += [Found(path, folder) for path in photos]
    if not photos:
        more = "" if settings.recursive else "; --recursive searches its sub-folders"
        report.fail(folder, f"no photographs in this folder{more}")


def _is_taken(path: Path, search: _Search) -> bool:
    """Tell whether a file in a folder is taken; pictures and links that are not are counted."""
    suffix = path.suffix.lower()
    if suffix not in _TAKEN:
        search.others.update([suffix] if suffix in _PICTURE_ENDINGS else [])
        return False
    is_file = os.path.isfile(path)
    search.broken += not is_file and path.is_symlink()
    return is_file


def _inner_output(folder: Path, settings: Settings) -> Path | None:
    """Return the output folder if it is a sub-folder of the input folder."""
    if settings.output in (None, STREAM) or places.is_address(settings.output):
        return None
    output = Path(os.path.realpath(settings.output))
    return output if Path(os.path.realpath(folder)) in output.parents else None


def _lies_in(path: Path, output: Path | None) -> bool:
    return output is not None and output in Path(real_path(path)).parents


def _without_doubles(search: _Search) -> list[Found]:
    """Keep one path to each file, and prefer the file itself to links that lead to it."""
    found: dict[str, Found] = {}
    for one in search.photos:
        real = real_path(one.path)
        other = found.setdefault(real, one)
        if other is one or places.is_remote(one.path):
            continue
        if os.path.abspath(one.path) == os.path.abspath(other.path):
            continue
        search.doubles += 1
        if _is_link(one.path, real) < _is_link(other.path, real):
            found[real] = one
    return list(found.values())


def _is_link(path: Path, real: str) -> tuple[bool, bool]:
    """Tell whether a path is a link, and whether one of its folders is one; both sort last."""
    return path.is_symlink(), os.path.abspath(path) != real
