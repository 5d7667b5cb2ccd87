"""A whole `colorize` run, or one process's share of it."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import click

from . import engine
from .job import Job
from .report import Counts, Report, say
from .settings import Settings
from .sharing import Share, meet
from .targets import plan
from .work import Work

_INTERRUPTED = 130  # as shells have it: 128 and the number of the signal
_TERMINATED = 143


class _Terminated(KeyboardInterrupt):
    """The program was asked to end by SIGTERM, as SLURM and systemd do."""


def run(settings: Settings) -> int:
    """Do what the settings ask for; returns the exit code."""
    report = Report(settings)
    counts: Counts | None = report.counts
    try:
        with _termination_as_interrupt():
            counts = _run(settings, report)
        code = 1 if report.counts.failed else 0
    except KeyboardInterrupt as interrupt:
        say("stopped; the same command goes on from here")
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
    """Colour the photographs of this process; returns the counts that it is to sum up."""
    share = Share.from_environment(settings.shard)
    jobs = plan(settings, Report(settings, silent=True) if share.local_rank else report)
    mine = share.of(jobs, settings.batch_size)
    todo = [job for job in mine if job.missing(settings)]
    report.counts.total = len(jobs)
    for job in _without(mine, todo):
        report.skip(job)
    if settings.dry_run:
        _announce(todo, settings, report)
        return None
    if todo:
        Work(settings, report, share).run(todo)
    return meet(share, report.counts)


def _without(jobs: list[Job], others: list[Job]) -> list[Job]:
    left = set(others)
    return [job for job in jobs if job not in left]


def _announce(jobs: list[Job], settings: Settings, report: Report) -> None:
    """Say what a run would do."""
    engine.check_model(settings.model)
    for job in jobs:
        report.announce(job)
    skipped = report.counts.skipped
    more = f", {skipped} done already" if skipped else ""
    failed = f", {len(report.counts.failed)} failed" if report.counts.failed else ""
    report.summarize(f"{len(jobs)} to colorize{more}{failed}")


@contextlib.contextmanager
def _termination_as_interrupt() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does while this is open: what has begun is finished and kept."""

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
