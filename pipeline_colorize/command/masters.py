"""Lays the colours of chroma files over photographs, one after the other."""

import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline_colorize import photo
from pipeline_colorize.archive.chroma import Chroma, read_chroma
from pipeline_colorize.archive.masters import color_master

from . import places
from .decoding import contents, ending_of
from .encoding import HOPELESS, cannot_write, writable
from .job import STDOUT, Job
from .report import Bar, Report, one_line
from .settings import Settings
from .sharing import Claims, Share


class Masters:
    """Colours the photographs of a process from chroma files, without a model.

    Whatever one photograph causes is reported as its failure, and the others go on.

    Args:
        settings: of the run.
        report: gets each photograph when it is through.
        share: this process's.
    """

    def __init__(self, settings: Settings, report: Report, share: Share):
        self._settings, self._report = settings, report
        self._shows_bar = share.local_rank == 0 and not settings.quiet

    def run(self, jobs: list[Job], finished: list[Job]) -> None:
        """Colour the photographs; one that another run is working on is waited for.

        What is `finished` already does not matter to the others.
        """
        jobs = writable(jobs, self._report)
        with Bar(len(jobs), self._shows_bar) as bar, Claims() as claims:
            self._report.advance = bar.advance
            bar.say("colorizing")
            for job, content in contents(jobs):
                while job.target != STDOUT and not claims.take(job.target):
                    claims.wait(job.target)
                self._color(job, content)
                claims.release(job.target)

    def _color(self, job: Job, content: bytes | Exception | None) -> None:
        """Colour one photograph, and report what became of it."""
        if not job.missing(self._settings):
            self._report.skip(job)
            return
        began, again = time.perf_counter(), job.has_changed(self._settings)
        try:
            assert job.chroma is not None
            chroma = _read_chroma(job.chroma)
            with _as_files(job, content) as (source, target):
                notes = color_master(source, target, chroma, job.page)
        except OSError as error:
            if error.errno in HOPELESS:
                raise cannot_write(job.target.parent, error) from error
            self._report.fail(job, one_line(error))
            return
        except Exception as error:  # whatever a file causes is its failure alone
            more = "; --max-pixels raises it" if isinstance(error, photo.TooLargeError) else ""
            self._report.fail(job, one_line(error) + more)
            return
        for note in notes:
            self._report.note(job.name, note)
        if self._settings.keep_dates and job.is_plain_file:
            photo.copy_dates(job.source, job.target)
        seconds = time.perf_counter() - began
        self._report.done(job, [job.target], seconds, again, chroma.settings)


def _read_chroma(path: Path) -> Chroma:
    with places.local_copy(path) as file:
        return read_chroma(file)


@contextlib.contextmanager
def _as_files(job: Job, content: bytes | Exception | None) -> Iterator[tuple[Path, Path]]:
    """Provide a photograph as a file, and one that takes its result, also for streams."""
    if isinstance(content, Exception):
        raise content
    with tempfile.TemporaryDirectory() as folder:
        source, target = job.source, job.target
        if content is None and places.is_remote(source):
            content = places.read_bytes(source)
        if content is not None:
            source = Path(folder) / "picture"
            source.write_bytes(content)
        if target == STDOUT:
            ending = source.suffix if content is None else ending_of(content)
            is_known = ending.lower() in photo.WRITABLE
            target = Path(folder) / f"result{ending if is_known else '.png'}"
        elif places.is_remote(target):
            target = Path(folder) / target.name
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
        yield source, target
        if job.target == STDOUT:
            sys.stdout.buffer.write(target.read_bytes())
            sys.stdout.buffer.flush()
        elif places.is_remote(job.target):
            places.send(target, job.target)
