"""Which photographs a `colorize` run takes, and which files their colours go to."""

import glob
import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click

from pipeline_colorize import photo

from . import parquet
from .report import Report, one_line
from .settings import Settings

# What this command adds to a photograph's name.
_RESULT_NAME = re.compile(r"-colorized(-\d+)?(-compare|-uncertainty|-intermediates)?$")


@dataclass(frozen=True, slots=True)  # there may be very many
class Job:
    """A photograph and the file that its colours go to."""

    source: Path
    target: Path
    row: int | None = None  # where the source is a data set

    @property
    def name(self) -> str:
        """The photograph, for people."""
        return str(self.source) if self.row is None else f"{self.source}, row {self.row}"

    def results(self, settings: Settings) -> list[Path]:
        """One file a sample."""
        if settings.samples == 1:
            return [self.target]
        return [self._beside(f"-{n + 1}", self.target.suffix) for n in range(settings.samples)]

    def extras(self, settings: Settings) -> list[Path]:
        """Files that are written besides, where they are asked for."""
        paths = [self.compare] * settings.compare + [self.uncertainty] * settings.uncertainty
        if settings.intermediates:
            paths += itertools.chain.from_iterable(self.films(settings))
        return paths

    def films(self, settings: Settings) -> list[tuple[Path, Path]]:
        """Animation and strip of the denoising, a pair a sample."""
        stems = [path.with_name(f"{path.stem}-intermediates") for path in self.results(settings)]
        return [(Path(f"{stem}.gif"), Path(f"{stem}.png")) for stem in stems]

    @property
    def compare(self) -> Path:
        """Before and after."""
        return self._beside("-compare", ".jpg")

    @property
    def uncertainty(self) -> Path:
        """Where the samples disagree."""
        return self._beside("-uncertainty", ".png")

    def missing(self, settings: Settings) -> set[Path]:
        """What has to be written."""
        paths = [*self.results(settings), *self.extras(settings)]
        return {path for path in paths if settings.overwrite or not os.path.exists(path)}

    def _beside(self, addition: str, suffix: str) -> Path:
        return self.target.with_name(f"{self.target.stem}{addition}{suffix}")


def find_photos(settings: Settings, report: Report) -> list[tuple[Path, Path]]:
    """(photograph, folder that its place is relative to), each photograph once.

    Where there are several, those named like results are left out: `colorize *.jpg` is to do the
    same when it is called again.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for text in settings.inputs:
        paths = [Path(text)] if os.path.exists(text) else sorted(map(Path, _glob(text)))
        if not paths:
            report.fail(text, "no such file or folder, and no file matches it")
        for path in paths:
            root = path if path.is_dir() else path.parent
            for one in _in_folder(path, settings, report) if path.is_dir() else [path]:
                found.setdefault(os.path.realpath(one), (one, root))
    photos = list(found.values())
    originals = [pair for pair in photos if not _RESULT_NAME.search(pair[0].stem)]
    if len(photos) == len(originals) or len(photos) == 1:
        return photos
    report.note(f"{len(photos) - len(originals)} left out", "named like results of earlier runs")
    return originals


def _glob(text: str) -> list[str]:
    return glob.glob(os.path.expanduser(text), recursive=True)


def _in_folder(folder: Path, settings: Settings, report: Report) -> list[Path]:
    """Photographs in a folder, without hidden files and without what is in the output folder."""
    output = Path(os.path.realpath(settings.output)) if settings.output else None
    unreadable: list[OSError] = []
    candidates = []
    for place, inner, files in os.walk(folder, onerror=unreadable.append):
        candidates += [Path(place, name) for name in files]
        inner[:] = [name for name in inner if settings.recursive and not name.startswith(".")]
    for error in unreadable:
        report.fail(error.filename, f"cannot be read ({error.strerror})")
    if unreadable and not candidates:
        return []
    photos = [
        path
        for path in sorted(candidates)
        if path.suffix.lower() in photo.READABLE | {parquet.SUFFIX}
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not _lies_in(path, output, folder)
        and os.path.isfile(path)
    ]
    if not photos:
        more = "" if settings.recursive else "; --recursive searches its sub-folders"
        report.fail(folder, f"no photographs in this folder{more}")
    return photos


def _lies_in(path: Path, output: Path | None, folder: Path) -> bool:
    """Whether `path` is in the output folder, where that is a sub-folder of the input folder."""
    folder = Path(os.path.realpath(folder))
    if output is None or folder not in output.parents:
        return False
    return output in Path(os.path.realpath(path)).parents


def plan(settings: Settings, report: Report) -> list[Job]:
    """All jobs; a UsageError where results would overwrite photographs or one another."""
    photos = [
        (source, root, row)
        for source, root in find_photos(settings, report)
        for row in _rows(source, settings, report)
    ]
    if settings.hint and len(photos) > 1:
        raise click.UsageError(f"--hint is for one photograph, but there are {len(photos)}.")
    as_file = _output_is_file(settings.output, len(photos))
    targets = [settings.output if as_file else _target(*one, settings.output) for one in photos]
    jobs = [
        Job(source, target, row) for (source, _, row), target in zip(photos, targets, strict=True)
    ]
    _check_clashes(jobs, settings)
    return jobs


def _rows(source: Path, settings: Settings, report: Report) -> Iterable[int | None]:
    """Of a data set its rows; of a photograph, `None`."""
    if source.suffix.lower() != parquet.SUFFIX:
        return [None]
    try:
        pictures = parquet.find_pictures(source)
    except Exception as error:  # its own, and those of a footer that is not what it says
        report.fail(source, one_line(error))
        return []
    if pictures is None:  # in a folder of photographs, it may be about these
        say = report.fail if str(source) in settings.inputs else report.note
        say(source, "no column of this data set holds pictures")
        return []
    if settings.output is None:
        raise click.UsageError(f"{source} is a data set; its results need a folder: --output.")
    return range(pictures.rows)


def _output_is_file(output: Path | None, count: int) -> bool:
    if output is None or output.is_dir():
        return False
    suffix = output.suffix.lower()
    if suffix in photo.READABLE and suffix not in photo.WRITABLE:
        endings = " ".join(sorted(photo.WRITABLE))
        raise click.UsageError(f"--output {output}: {suffix} is not written; use one of {endings}.")
    if suffix in photo.WRITABLE and count > 1:
        raise click.UsageError(
            f"--output {output} is one file, but there are {count} photographs; give a folder."
        )
    return suffix in photo.WRITABLE


def _target(source: Path, root: Path, row: int | None, output: Path | None) -> Path:
    if row is not None:
        return output / source.parent.relative_to(root) / f"{source.stem}-{row:06d}.png"
    suffix = source.suffix if source.suffix.lower() in photo.WRITABLE else ".png"
    beside = f"{source.stem}-colorized{suffix}"
    if output is None:
        return source.with_name(beside)
    target = output / source.parent.relative_to(root) / f"{source.stem}{suffix}"
    same = os.path.realpath(target) == os.path.realpath(source)
    return target.with_name(beside) if same else target


def _check_clashes(jobs: list[Job], settings: Settings) -> None:
    sources = {os.path.realpath(source) for source in {job.source for job in jobs}}
    writer: dict[str, Job] = {}
    for job in jobs:
        for path in [*job.results(settings), *job.extras(settings)]:
            if os.path.realpath(path) in sources:
                raise click.UsageError(
                    f"{job.name} would be written over the photograph {path}; "
                    "choose another --output."
                )
            other = writer.setdefault(os.path.normcase(path), job)
            if other is not job:
                raise click.UsageError(
                    f"{other.name} and {job.name} would both be written to {path}; "
                    "colorize them one after the other, with different --output."
                )
