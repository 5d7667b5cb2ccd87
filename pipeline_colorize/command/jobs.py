"""The photographs of a `colorize` run: which they are, where they go, whose they are, and their
way in threads."""

import contextlib
import glob
import itertools
import json
import os
import re
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import click

from pipeline_colorize import photo

from . import parquet

# What this command adds to a photograph's name.
_RESULT_NAME = re.compile(r"-colorized(-\d+)?(-compare|-uncertainty|-intermediates)?$")
THREADS = 2  # that decode, and as many that encode
_SCREEN = 20  # photographs after which failures have scrolled away and are listed again
_PATIENCE = timedelta(days=30)  # with the other processes of a run


@dataclass(frozen=True)
class Settings:
    """The command line."""

    inputs: tuple[str, ...]
    output: Path | None
    model: str
    steps: int | None
    samples: int
    candidates: int | None
    seed: int
    scheduler: str | None
    eta: float | None
    processing_resolution: int | None
    refinement: float | None
    batch_size: int
    runtime: str
    device: str
    dtype: str
    saturation: float
    temperature: float | None
    hint: tuple[tuple[float, float, str], ...]
    compare: bool
    uncertainty: bool
    intermediates: bool
    overwrite: bool
    recursive: bool
    max_pixels: int


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


def _tell(line: str) -> None:
    """A line to stdout; what stands there is no reason to say that a photograph failed."""
    try:
        click.echo(line)
    except UnicodeEncodeError:  # a name that is not text, or not in the terminal's encoding
        click.echo(line.encode("utf-8", "surrogateescape"))
    except OSError:  # the reader has gone, as `head` does, or its disk is full
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


@dataclass
class Report:
    """What became of the photographs."""

    total: int = 0
    colorized: int = 0
    skipped: int = 0
    failed: list[str] = field(default_factory=list)
    advance: Callable[[], None] = lambda: None  # the progress bar, by one photograph

    def done(self, name: str, results: list[Path]) -> None:
        """A photograph is through; each result that was written goes to stdout."""
        self.colorized += 1
        for result in results:
            _tell(f"{name} -> {result}")
        self.advance()

    def fail(self, name: str | Path, reason: object) -> None:
        """Something was not colorized, for a reason of one line."""
        self.failed.append(f"{name}: {reason}")
        self.note(name, reason)
        self.advance()

    def note(self, name: str | Path, text: object) -> None:
        """A word about a photograph, to stderr."""
        click.echo(f"colorize: {name}: {text}", err=True)

    def summary(self) -> str:
        """How many of what; failures once more by name, where they have scrolled away."""
        parts = [f"{self.colorized} colorized"]
        if self.skipped:
            parts.append(f"{self.skipped} done already (--overwrite does them again)")
        if self.failed:
            parts.append(f"{len(self.failed)} failed")
        lines = [", ".join(parts)]
        if self.failed and self.total > _SCREEN:
            lines += [f"  {line}" for line in self.failed]
        return "\n".join(lines)


class Unheard(Report):
    """Of a process beside one on the same machine that finds and says the same."""

    def note(self, name: str | Path, text: object) -> None:
        """Nothing."""


# --- several processes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """Which of several processes this is, and so which photographs are its own.

    Shares follow from the list of photographs alone, not from what is done already: what the others
    write meanwhile changes nothing, and the same command, repeated, leaves nothing out.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among the processes of this machine

    @classmethod
    def from_environment(cls) -> "Share":
        """As `accelerate launch` and `torchrun` tell; a ClickException for what cannot be."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, count, local = texts = [os.environ.get(name) for name in names]
        if rank is None or count is None:
            return cls()
        if not all(text is None or text.isdecimal() for text in texts) or int(rank) >= int(count):
            told = " ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))
            raise click.ClickException(f"the environment has {told}; RANK runs from 0.")
        return cls(int(rank), int(count), int(local or 0))

    def of(self, jobs: list[Job], size: int) -> list[Job]:
        """Each `count`-th `size` photographs: the batches are those of a single process."""
        return [job for index, job in enumerate(jobs) if index // size % self.count == self.rank]

    def meet(self, report: Report) -> Report | None:
        """Wait until every process is through; the first one gets what became of all.

        Launchers end all processes when the first one fails, so none may say that a photograph
        failed while others work. Without a launcher nobody waits, and each has its own report.
        """
        if self.count == 1 or "MASTER_ADDR" not in os.environ:
            return report
        from torch import distributed

        names = [f"colorize/{rank}" for rank in range(self.count)]
        try:
            store, *_ = next(distributed.rendezvous("env://", timeout=_PATIENCE))
            counts = (report.total, report.colorized, report.skipped, report.failed)
            store.set(names[self.rank], json.dumps(counts))
            store.wait(names, _PATIENCE)
            if self.rank > 0:
                return None
            all_counts = [json.loads(store.get(name)) for name in names]
        except distributed.DistError:  # the first process has left, and it leaves last
            return None if self.rank > 0 else report
        totals, *sums, failed = zip(*all_counts, strict=True)
        return Report(max(totals), *map(sum, sums), list(itertools.chain(*failed)))


# --- which photographs, and where to -------------------------------------------------------------


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
    except parquet.ParquetError as error:
        report.fail(source, error)
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


# --- files on their way --------------------------------------------------------------------------


def contents(jobs: Iterable[Job]) -> Iterator[tuple[Job, bytes | Exception | None]]:
    """Jobs with what is to be decoded: `None` is the file itself. Few rows are held at a time."""
    for path, group in itertools.groupby(jobs, lambda job: job.row is not None and job.source):
        if path is False:
            yield from ((job, None) for job in group)
        else:
            yield from _row_contents(path, deque(group))


def _row_contents(path: Path, jobs: deque[Job]) -> Iterator[tuple[Job, bytes | Exception]]:
    """Of one data set; where it cannot be read on, the rest have the error."""
    try:
        for content in parquet.read_rows(path, [job.row for job in jobs]):
            yield jobs.popleft(), content or photo.PhotoError("this row has no picture in it")
    except Exception as error:  # pyarrow has many, on damaged files
        yield from ((job, error) for job in jobs)


def decode(job: Job, content: bytes | Exception | None) -> photo.Photo:
    """Decode a photograph."""
    if isinstance(content, Exception):
        raise content
    if content is None:
        return photo.read(job.source)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture"
        file.write_bytes(content)
        return photo.read(file)


class Ahead:
    """(job, future) in order, begun ahead of use; at most `limit` are begun and not yet taken.

    `items` are tuples of a job and of what else `function` takes.
    """

    def __init__(self, pool: ThreadPoolExecutor, function: Callable, items: Iterable, limit: int):
        self._begin = lambda item: (item[0], pool.submit(function, *item))
        self._items = iter(items)
        self._waiting = deque(map(self._begin, itertools.islice(self._items, limit)))

    def __iter__(self) -> Iterator[tuple[Job, Future]]:
        while self._waiting:
            yield self._waiting.popleft()
            self._waiting.extend(map(self._begin, itertools.islice(self._items, 1)))


class Backlog:
    """Jobs of writing in threads, while a `with` block lasts; at most `limit` are on their way.

    `finish` gets each with its future, in order. Where the block is left by an exception, what has
    begun is finished and counted, and nothing more is begun.
    """

    def __init__(self, finish: Callable[[Job, Future], None], limit: int):
        self._pool = ThreadPoolExecutor(THREADS)
        self._finish, self._limit = finish, limit
        self._waiting: deque[tuple[Job, Future]] = deque()

    def add(self, job: Job, function: Callable, *arguments) -> None:
        """Begin `function(job, *arguments)`; waits for the oldest where there are too many."""
        while len(self._waiting) >= self._limit or self._is_oldest_done():
            self._finish(*self._waiting.popleft())
        self._waiting.append((job, self._pool.submit(function, job, *arguments)))

    def _is_oldest_done(self) -> bool:
        return bool(self._waiting) and self._waiting[0][1].done()

    def __enter__(self) -> "Backlog":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
        for job, future in self._waiting:
            if error is None or not (future.cancelled() or future.exception()):
                self._finish(job, future)


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that finish what they have begun, and begin nothing more, when this is left."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
