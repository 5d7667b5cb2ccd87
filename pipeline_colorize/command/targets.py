"""Names the files that the results of a `colorize` run go to."""

import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import click

from pipeline_colorize import photo
from pipeline_colorize.archive.chroma import SUFFIX as CHROMA

from . import containers, parquet, places, web
from .discovery import Found, find_photos
from .job import STDIN, STDOUT, Job, real_path
from .provenance import given_colors
from .report import Report, is_terminal, one_line
from .settings import STREAM, Settings
from .telling import check_colored

# What ends the name of a file. The name of a folder, such as `album.1912` or `Mr. Smith`, may
# have a dot as well.
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")


def plan(settings: Settings, report: Report) -> list[Job]:
    """Find all photographs and name their results.

    Photographs whose results would overwrite photographs or one another are reported and left out.

    Raises:
        click.UsageError: where the options do not fit what was found.
    """
    _check_chroma(settings)
    if STREAM in settings.inputs and is_terminal(sys.stdin):
        raise click.UsageError("standard input is a terminal; send a photograph to it.")
    found = find_photos(settings, report)
    photos = [part for one in found for part in _parts(one, settings, report)]
    check_colored(settings, len(photos))
    jobs = _without_clashes(_with_targets(photos, settings), settings, report)
    return _with_chroma(jobs, Path(settings.chroma), report) if settings.chroma else jobs


def _check_chroma(settings: Settings) -> None:
    """Raise a UsageError where --chroma or --chroma-only do not fit the other options."""
    name = "--chroma-only" if settings.chroma_only else "--chroma"
    if not settings.chroma_only and not settings.chroma:
        return
    if settings.chroma_only and settings.chroma:
        raise click.UsageError("--chroma-only writes chroma files and --chroma reads them.")
    if settings.compare or settings.uncertainty or settings.intermediates:
        raise click.UsageError(f"{name} writes no other pictures, such as --compare.")
    if settings.chroma and (settings.samples > 1 or given_colors(settings)):
        raise click.UsageError(
            "--chroma takes colours as they are, without --samples and what tells of colours."
        )
    if settings.chroma and not os.path.exists(settings.chroma):
        raise click.UsageError(f"--chroma {settings.chroma}: no such file or folder.")


def _with_chroma(jobs: list[Job], place: Path, report: Report) -> list[Job]:
    """Give each job its chroma file; jobs without one are reported and left out."""
    if not place.is_dir():
        if len(jobs) > 1:
            raise click.UsageError(
                f"--chroma {place} is one file, but there are {len(jobs)} photographs; give a "
                "folder of chroma files."
            )
        return [replace(job, chroma=place) for job in jobs]
    found = []
    for job in jobs:
        stem = job.target.stem if job.page is not None else job.source.stem
        names = [f"{stem.removesuffix('-colorized')}-{job.source.suffix[1:]}", stem]
        files = [place / f"{name}{CHROMA}" for name in names]
        if file := next(filter(Path.is_file, files), None):
            found.append(replace(job, chroma=file))
        else:
            report.fail(job, f"there is no {files[-1]}")
    return found


def _parts(one: Found, settings: Settings, report: Report) -> Iterable[Found]:
    """Return the photographs in a file: rows of a data set, members, pages, or the file itself."""
    suffix = one.path.suffix.lower()
    if suffix == parquet.SUFFIX:
        return _rows(one, settings, report)
    if suffix in containers.SUFFIXES:
        return _members(one, settings, report)
    return _pages(one, settings)


def _members(one: Found, settings: Settings, report: Report) -> list[Found]:
    """Return the members of a tar or zip file."""
    try:
        names = containers.find_members(one.path)
    except Exception as error:  # also those of file systems
        report.fail(one.path, one_line(error))
        return []
    if not names:
        report.fail(one.path, "no photographs in this file")
    elif settings.output in (None, STREAM):
        raise click.UsageError(f"{one.path} holds several; its results need a folder: --output.")
    return [replace(one, member=name) for name in names]


def _pages(one: Found, settings: Settings) -> list[Found]:
    """Return the pages of a file if they are asked for, and the file itself otherwise."""
    if not settings.pages or one.path == STDIN or places.is_remote(one.path):
        return [one]
    try:
        count = photo.count_pages(one.path)
    except photo.PhotoError:  # which is said when it is decoded
        return [one]
    return [replace(one, page=page, pages=count) for page in range(count)] if count > 1 else [one]


def _rows(one: Found, settings: Settings, report: Report) -> Iterable[Found]:
    """Return the rows of a data set."""
    source = one.path
    try:
        pictures = parquet.find_pictures(source)
    except Exception as error:  # its own, and those of a footer that is not what it says
        report.fail(source, one_line(error))
        return []
    if pictures is None:  # in a folder of photographs, it may be about these
        is_asked_for = str(source) in settings.inputs
        (report.fail if is_asked_for else report.note)(
            source, "no column of this data set holds pictures"
        )
        return []
    if settings.output in (None, STREAM):
        raise click.UsageError(f"{source} is a data set; its results need a folder: --output.")
    return (replace(one, row=row) for row in range(pictures.rows))


def _with_targets(photos: list[Found], settings: Settings) -> list[Job]:
    """Name the results, with distinct names for photographs that differ in their endings alone."""
    if target := _single_target(settings, len(photos)):
        return [Job(one.path, target, one.row, one.page, one.member) for one in photos]
    folder = _place(settings.output) if settings.output else None
    _check_web(photos, folder)
    kind = CHROMA if settings.chroma_only else None
    targets = [_target(one, folder, one.path.stem, kind) for one in photos]
    uses = Counter(os.path.normcase(str(target)) for target in targets)
    for index, (one, target) in enumerate(zip(photos, targets, strict=True)):
        is_converted = one.row is None and (
            settings.chroma_only or target.suffix != one.path.suffix
        )
        if is_converted and uses[os.path.normcase(str(target))] > 1:
            targets[index] = _target(one, folder, f"{one.path.stem}-{one.path.suffix[1:]}", kind)
    return [
        Job(one.path, target, one.row, one.page, one.member)
        for one, target in zip(photos, targets, strict=True)
    ]


def _place(output: str) -> Path:
    try:
        return places.place_of(output)
    except ValueError as error:
        raise click.UsageError(f"--output: {error}.") from error


def _check_web(photos: list[Found], folder: Path | None) -> None:
    """Raise a UsageError where results would go beside photographs of the web."""
    if folder is None and any(isinstance(one.path, web.WebFile) for one in photos):
        raise click.UsageError("photographs of the web need a place for results: --output.")


def _single_target(settings: Settings, count: int) -> Path | None:
    """Return the file that --output names; `None` if it is a folder, or is not given."""
    output = settings.output
    if STREAM in settings.inputs and output is None:
        output = STREAM
    if output == STREAM:
        _check_stream(settings, count)
        return STDOUT
    if output is None or os.path.isdir(output) or output.endswith(("/", os.sep)):
        if STREAM in settings.inputs:
            raise click.UsageError(f"--output {output}: a photograph from {STREAM} needs a file.")
        return None
    if places.is_address(output):
        return _single_address(output, settings, count)
    if not _is_file(output, settings):
        return None
    if count > 1:
        raise click.UsageError(
            f"--output {output} is one file, but there are {count} photographs; give a folder."
        )
    return Path(output)


def _single_address(output: str, settings: Settings, count: int) -> Path | None:
    """Return the file that an address names for a single photograph; `None` for a folder."""
    place = _place(output)
    if place.suffix.lower() not in photo.WRITABLE:
        return None
    if count > 1:
        raise click.UsageError(f"--output {output} is one file, but there are {count} photographs.")
    return place


def _check_stream(settings: Settings, count: int) -> None:
    """Raise a UsageError unless exactly one picture goes to standard output."""
    if count > 1 or settings.samples > 1 or Job(STDIN, STDOUT).extras(settings):
        raise click.UsageError("standard output takes a single picture; give a folder: --output.")
    if settings.json:
        raise click.UsageError("--json needs standard output, so the picture needs --output FILE.")
    if is_terminal(sys.stdout) and not settings.dry_run:
        raise click.UsageError("standard output is a terminal; send it to a file, or use --output.")


def _is_file(output: str, settings: Settings) -> bool:
    """Tell whether --output names a picture; raise a UsageError if it is no folder, either."""
    suffix, endings = Path(output).suffix.lower(), " ".join(sorted(photo.WRITABLE))
    if os.path.exists(output) and not stat.S_ISREG(os.stat(output).st_mode):
        raise click.UsageError(
            f"--output {output} is neither a file nor a folder; {STREAM} is standard output."
        )
    if suffix in photo.WRITABLE:
        if settings.chroma_only and suffix != ".png":
            raise click.UsageError(f"--output {output}: a chroma file is a PNG, NAME{CHROMA}.")
        return True
    if os.path.exists(output):
        raise click.UsageError(
            f"--output {output} is a file that is no folder, and has none of the endings {endings}."
        )
    if _ENDING.fullmatch(suffix):
        raise click.UsageError(
            f"--output {output}: {suffix} is not written; use one of {endings}. "
            f"A folder of that name is {output}/."
        )
    return False


def _target(one: Found, output: Path | None, stem: str, kind: str | None) -> Path:
    """Name the result of a photograph, beside it or in the folder `output`.

    The ending is `kind`, or that of the photograph where it can be written.
    """
    source = one.path
    inner = _inner(one)
    if one.member is not None:
        source = source.with_name(PurePosixPath(one.member).name)
        stem = source.stem if stem == one.path.stem else f"{source.stem}-{source.suffix[1:]}"
    if one.row is not None and output:
        return output.joinpath(*inner, f"{stem}-{one.row:06d}{kind or '.png'}")
    if one.page is not None:
        stem = f"{stem}-page{one.page + 1:0{len(str(one.pages))}d}"
    suffix = kind or (source.suffix if source.suffix.lower() in photo.WRITABLE else ".png")
    beside = f"{stem}{kind}" if kind else f"{stem}-colorized{suffix}"
    if output is None:
        return source.with_name(beside)
    target = output.joinpath(*inner, f"{stem}{suffix}")
    return target.with_name(beside) if real_path(target) == real_path(source) else target


def _inner(one: Found) -> tuple[str, ...]:
    """Return the folders between the one that was searched and a photograph."""
    if one.member is not None:
        return PurePosixPath(one.member).parent.parts
    if isinstance(one.path, web.WebFile):
        return ()
    if places.is_remote(one.path):
        folder, root = (places.inner_path(path).strip("/") for path in (one.path.parent, one.root))
        return tuple(part for part in folder.removeprefix(root).split("/") if part)
    return one.path.parent.relative_to(one.root).parts


def _without_clashes(jobs: list[Job], settings: Settings, report: Report) -> list[Job]:
    """Leave out and report jobs that would overwrite a photograph or one another's results."""
    sources = {real_path(source) for source in {job.source for job in jobs}}
    colored = real_path(settings.colored) if settings.colored else None
    writer: dict[str, Job] = {}
    clashes: dict[Job, str] = {}
    for job in jobs:
        for path in [*job.results(settings), *job.extras(settings)]:
            if real_path(path) in sources:
                clashes[job] = f"would be written over the photograph {path}"
            if real_path(path) == colored:
                clashes[job] = f"would be written over {path}, which --colored names"
            other = writer.setdefault(os.path.normcase(str(path)), job)
            if other is not job:
                clashes[job] = f"would be written to {path}, as would {other.name}"
                clashes.setdefault(other, f"would be written to {path}, as would {job.name}")
    for job, clash in clashes.items():
        advice = f"{clash}; choose another --output"
        if len(jobs) == 1:
            raise click.UsageError(f"{job.name} {advice}.")
        report.fail(job, advice)
    return [job for job in jobs if job not in clashes]
