"""Decodes photographs in threads, colours them with the model, and encodes them in threads.

Few photographs are in progress at any time, so ten thousand take hardly more memory than ten.
"""

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pipeline_colorize import Hint, photo

from . import engine
from .albums import ConsistentAlbum
from .coloring import Coloring, call_model, model_trouble
from .decoding import Decoded, contents, decode
from .encoding import HOPELESS, cannot_write, writable, write_all
from .job import STDOUT, Job
from .report import Bar, Report, one_line
from .settings import Settings
from .sharing import Claims, Share

THREADS = 2  # that decode, and as many that encode


class Ahead:
    """Yields jobs with their futures in order, and keeps up to `limit` of them begun ahead of use.

    `items` are tuples of a job and the other arguments of `function`.
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
    """Writes in threads during a `with` block, with at most `limit` items in progress.

    `finish` gets each item with its future, in order. If an exception ends the block, what has
    begun is finished and counted, and nothing more is begun.
    """

    def __init__(self, finish: Callable[[Any, Future], None], limit: int):
        self._pool = ThreadPoolExecutor(THREADS)
        self._finish, self._limit = finish, limit
        self._waiting: deque[tuple[Any, Future]] = deque()

    def add(self, item: Any, function: Callable, *arguments) -> None:
        """Begin `function(item, *arguments)`; if too many are in progress, wait for the oldest."""
        while len(self._waiting) >= self._limit or self._is_oldest_done():
            self._finish(*self._waiting.popleft())
        self._waiting.append((item, self._pool.submit(function, item, *arguments)))

    def _is_oldest_done(self) -> bool:
        return bool(self._waiting) and self._waiting[0][1].done()

    def __enter__(self) -> "Backlog":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
        for item, future in self._waiting:
            if error is None or not (future.cancelled() or future.exception()):
                self._finish(item, future)


@contextlib.contextmanager
def threads() -> Iterator[ThreadPoolExecutor]:
    """Provide threads that finish what they have begun, and begin nothing more, at the end."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def batches(photos: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Group up to `size` consecutive photographs of the same depth."""
    batch: list[Decoded] = []
    for one in photos:
        if batch and batch[0].photo.depth != one.photo.depth:
            yield batch
            batch = []
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


class _Busy(Exception):
    """Tells that another run is working on a photograph."""


class Work:
    """Colours the photographs of a process: it decodes, runs the model and encodes all at once.

    Whatever one photograph causes is reported as its failure, and the others go on.

    Args:
        settings: of the run.
        report: gets each photograph when it is through.
        share: this process's, of which the progress bar speaks.
    """

    def __init__(self, settings: Settings, report: Report, share: Share):
        self._settings, self._report, self._share = settings, report, share
        self._pipe: Any = None
        self._busy: list[Job] = []
        self._album: ConsistentAlbum | None = None

    def run(self, jobs: list[Job], finished: list[Job]) -> None:
        """Colour the photographs; come back at the end to those that another run is working on.

        With --consistent, those that are `finished` hand their colours on.
        """
        jobs = writable(jobs, self._report)
        if self._settings.consistent:
            self._album = ConsistentAlbum(self._settings, jobs, finished, self._reason_to_leave_out)
            jobs = self._album.order(jobs)
        with Bar(len(jobs), self._shows_bar()) as bar, Claims() as self._claims:
            self._report.advance = bar.advance
            while jobs:
                self._busy = []
                self._pass(jobs, bar)
                for job in self._busy:
                    self._claims.wait(job.target)
                jobs = self._busy

    def _shows_bar(self) -> bool:
        return self._share.local_rank == 0 and not self._settings.quiet

    def _pass(self, jobs: list[Job], bar: Bar) -> None:
        settings, share = self._settings, self._share
        with threads() as readers:
            reads = Ahead(readers, self._decode, contents(jobs), settings.batch_size + THREADS)
            if self._pipe is None:
                self._pipe = engine.load_model(settings)
            alone = share.count == 1
            bar.say("colorizing" if alone else f"colorizing, one of {share.count} shares")
            with Backlog(self._finish, THREADS) as backlog:
                for batch in batches(self._usable(reads), settings.batch_size):
                    for one, coloring in self._colored(batch):
                        backlog.add(one, write_all, coloring, self._pipe, settings)

    def _decode(self, job: Job, content: bytes | Exception | None) -> Decoded | None:
        """Decode a photograph; `None` if its results have been written meanwhile."""
        began = time.perf_counter()
        if job.target != STDOUT and not self._claims.take(job.target):
            raise _Busy
        if not job.missing(self._settings):
            return None
        again = job.has_changed(self._settings)
        read, ending = decode(job, content)
        return Decoded(job, read, time.perf_counter() - began, again, ending)

    def _usable(self, reads: Ahead) -> Iterator[Decoded]:
        """Yield decoded photographs, and report those that cannot or should not be coloured."""
        for job, future in reads:
            try:
                one = future.result()
                if one is None:
                    self._report.skip(job)
                elif reason := self._reason_to_leave_out(one.photo):
                    self._report.leave_out(job, reason)
                else:
                    self._note(one)
                    yield one
                    continue
            except _Busy:
                self._busy.append(job)
                continue
            except Exception as error:  # whatever a file causes is its failure alone
                more = "; --max-pixels raises it" if isinstance(error, photo.TooLargeError) else ""
                self._report.fail(job, one_line(error) + more)
            self._claims.release(job.target)

    def _reason_to_leave_out(self, read: photo.Photo) -> str | None:
        """Return why a photograph among several should not be coloured, if there is a reason."""
        if self._report.counts.total == 1:
            return None
        if photo.read_mark(read.xmp):
            return "its colours were made by this program"
        if read.in_color and not (self._settings.recolor or self._settings.keep_tints):
            return "it is already in colour (--recolor takes it)"
        return None

    def _note(self, one: Decoded) -> None:
        """Print the remarks about a photograph that is going to be coloured."""
        if one.photo.in_color and not (self._settings.recolor or self._settings.keep_tints):
            self._report.note(
                one.job.name, "is already in colour; the result has invented colours instead"
            )
        for warning in one.photo.warnings:
            self._report.note(one.job.name, warning)

    def _colored(self, batch: list[Decoded]) -> Iterator[tuple[Decoded, Coloring]]:
        """Yield a batch with its colours; if it fails, try its photographs one by one."""
        began = time.perf_counter()
        try:
            photos, hints = [one.photo for one in batch], self._hints(batch)
            colorings = call_model(self._pipe, photos, self._settings, hints)
        except Exception as error:
            if len(batch) > 1:
                for one in batch:
                    yield from self._colored([one])
            else:
                self._report.fail(batch[0].job, model_trouble(error))
                self._claims.release(batch[0].job.target)
            return
        seconds = (time.perf_counter() - began) / len(batch)
        for one, coloring in zip(batch, colorings, strict=True):
            one.seconds += seconds
            one.box = coloring.box
            if self._album:
                self._album.color(one.job, coloring)
            yield one, coloring

    def _hints(self, batch: list[Decoded]) -> list[list[Hint]] | None:
        """Return the hints of an album's photographs; `None` where each is coloured by itself."""
        if self._album is None:
            return None
        for one in batch:
            one.sources = self._album.sources(one.job)
        return [self._album.hints(one.job) for one in batch]

    def _finish(self, one: Decoded, future: Future) -> None:
        """Report a photograph that was written, or could not be."""
        try:
            written = future.result()
            for note in one.notes:
                self._report.note(one.job.name, note)
            if written:
                self._report.done(one.job, written, one.seconds, one.again, box=one.box)
            else:
                self._report.skip(one.job)
        except OSError as error:
            if error.errno in HOPELESS:
                raise cannot_write(one.job.target.parent, error) from error
            self._report.fail(one.job, f"cannot be written ({one_line(error)})")
        except Exception as error:
            self._report.fail(one.job, one_line(error))
        self._claims.release(one.job.target)
