"""How several processes share the photographs of a `colorize` run."""

import itertools
import json
import os
from dataclasses import dataclass
from datetime import timedelta

import click

from .discovery import Job
from .report import Report

_PATIENCE = timedelta(days=30)  # with the other processes of a run


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
