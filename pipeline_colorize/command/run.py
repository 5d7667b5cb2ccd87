"""A whole `colorize` run, or one process's share of it."""

import click

from .discovery import plan
from .report import Report, Unheard
from .settings import Settings
from .sharing import Share
from .work import colorize_jobs


def run(settings: Settings) -> int:
    """The whole command, or this process' share of it; returns its exit code."""
    report = Report()
    code = 0
    try:
        share = Share.from_environment()
        jobs = plan(settings, Unheard() if share.local_rank else report)
        own = share.of(jobs, settings.batch_size)
        todo = [job for job in own if job.missing(settings)]
        report.total, report.skipped = len(jobs), len(own) - len(todo)
        if todo:
            colorize_jobs(todo, settings, report, share)
        code = 1 if report.failed else 0
        report = share.meet(report)
    except KeyboardInterrupt:
        click.echo("colorize: stopped; the same command goes on from here", err=True)
        code = 130
    except click.ClickException as error:
        click.echo(f"colorize: {error.format_message()}", err=True)
        code = error.exit_code
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        click.echo(f"colorize: {error.filename}: {error.strerror}", err=True)
        code = 1
    if report and (report.total > 1 or report.skipped or report.failed):
        click.echo(report.summary(), err=True)
    return code
