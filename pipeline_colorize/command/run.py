"""Carries out a whole `colorize` run, or one process's share of it."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace

import click

from . import engine, films
from .bundle import Bundle
from .job import Job
from .masters import Masters
from .report import Counts, Report, say
from .settings import Settings
from .sharing import Share, meet
from .targets import plan
from .telling import without_references
from .work import Work

_INTERRUPTED = 130  # as shells have it: 128 and the number of the signal
_TERMINATED = 143


class _Terminated(KeyboardInterrupt):
    """Tells that SIGTERM asked the program to end, as SLURM and systemd do."""


def run(settings: Settings) -> int:
    """Do what the settings ask for, and return the exit code."""
    report = Report(settings)
    counts: Counts | None = report.counts
    try:
        with _termination_as_interrupt():
            counts = _run(settings, report)
        code = 1 if report.counts.failed else 0
    except KeyboardInterrupt as interrupt:
        say("stopped; the same command continues from here")
        code = _TERMINATED if isinstance(interrupt, _Terminated) else _INTERRUPTED
    except click.ClickException as error:
        say(error.format_message())
        code = error.exit_code
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        say(f"{error.filename}: {error.strerror}")
        code = 1
    if counts and (counts.total > 1 or counts.changed or counts.skipped or counts.failed):
        report.summarize(counts.summary())
    return code


def _run(settings: Settings, report: Report) -> Counts | None:
    """Colour the photographs of this process, and return the counts for its summary, if any."""
    settings = films.run_films(settings, report)  # which leaves the photographs
    if not settings.inputs:
        return report.counts
    share = Share.from_environment(settings.shard)
    settings = _one_by_one(settings, share) if settings.consistent else settings
    bundle = Bundle.of(settings, share)
    if bundle:
        settings, report.shown = bundle.settings(settings), bundle.shown
    jobs = plan(settings, Report(settings, silent=True) if share.local_rank else report)
    mine = share.of(jobs, settings.batch_size)
    todo = [job for job in without_references(mine, settings) if job.missing(settings)]
    if bundle and bundle.is_done(mine, settings):
        todo = []
    report.counts.total += len(jobs)
    for job in _without(mine, todo):
        report.skip(job)
    if settings.dry_run:
        _announce(todo, settings, report)
        return None
    if todo:
        work = (Masters if settings.chroma else Work)(settings, report, share)
        work.run(todo, finished=_without(mine, todo))
    if bundle:
        bundle.pack()
    return meet(report.counts)


def _one_by_one(settings: Settings, share: Share) -> Settings:
    """Let each photograph get the colours of those before it."""
    if share.count > 1:
        raise click.UsageError("--consistent takes one process, which sees all photographs.")
    return replace(settings, batch_size=1)


def _without(jobs: list[Job], others: list[Job]) -> list[Job]:
    left = set(others)
    return [job for job in jobs if job not in left]


def _announce(jobs: list[Job], settings: Settings, report: Report) -> None:
    """Print what a run would do."""
    if not settings.chroma:
        engine.check_model(settings.model)
    for job in jobs:
        report.announce(job)
    skipped = report.counts.skipped
    more = f", {skipped} done already" if skipped else ""
    failed = f", {len(report.counts.failed)} failed" if report.counts.failed else ""
    report.summarize(f"{len(jobs)} to colorize{more}{failed}")


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C while this is open: photographs in progress are finished."""

    def stop(*_) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
