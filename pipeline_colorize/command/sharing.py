"""Shares the photographs among several processes, or several runs at the same time."""

import functools
import hashlib
import importlib.util
import json
import operator
import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import click

from .job import real_path
from .report import Counts

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

_PATIENCE = timedelta(days=30)  # with the other processes of a run
# Variables in which launchers say which process this is, of how many, and which on this machine:
# torchrun and accelerate; Open MPI's mpirun.
_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Share:
    """Tells which of several processes this is, and so which photographs it takes.

    A share depends only on the list of photographs, not on which of them are finished. So it does
    not matter what the other processes write meanwhile, and a repeated command leaves nothing out.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among the processes of this machine

    @classmethod
    def from_environment(cls, shard: tuple[int, int] | None = None) -> "Share":
        """Return the share of this process, as its launcher's variables and a shard define it.

        Args:
            shard: which of how many parts the processes share, from 1; all where it is `None`.

        Raises:
            click.ClickException: where the variables contradict themselves or one another, and so
                several processes would do the same.
        """
        tasks = _read_slurm()
        share = _read(_TORCH) or tasks or _read(_MPI) or cls()
        if tasks and share.count < tasks.count:
            raise click.ClickException(
                f"srun started {tasks.count} tasks, but WORLD_SIZE is {share.count}: each would "
                "believe that it is alone. Start colorize with srun itself, or use one launcher "
                "for all tasks."
            )
        if shard is None:
            return share
        which, shards = shard
        return cls((which - 1) * share.count + share.rank, shards * share.count, share.local_rank)

    def of(self, items: list[_Item], size: int) -> list[_Item]:
        """Return every `count`-th batch of `size` items; batches are those of a single process."""
        return [item for index, item in enumerate(items) if index // size % self.count == self.rank]


def _read(names: tuple[str, str, str]) -> Share | None:
    """Return the share that three variables define; `None` if they are not set."""
    rank, count, local = texts = [os.environ.get(name) for name in names]
    if rank is None and count in (None, "1"):
        return None
    is_whole = all(text is None or text.isdecimal() for text in texts)
    if rank is None or count is None or not is_whole or int(rank) >= int(count):
        found = " ".join(
            f"{name}={text}" for name, text in zip(names, texts, strict=True) if text is not None
        )
        raise click.ClickException(
            f"the environment has {found}; it needs {names[1]}, and {names[0]} from 0 to "
            f"{names[1]} - 1."
        )
    return Share(int(rank), int(count), int(local or 0))


def _read_slurm() -> Share | None:
    """Return the share of a task that srun started; `None` elsewhere, as in a batch script."""
    is_alone_in_job = "SLURM_JOB_ID" in os.environ and "SLURM_STEP_ID" not in os.environ
    if "SLURM_PROCID" not in os.environ or is_alone_in_job:
        return None
    count = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in os.environ else "SLURM_NTASKS"
    if count not in os.environ and os.environ["SLURM_PROCID"] == "0":
        return None
    return _read(("SLURM_PROCID", count, "SLURM_LOCALID"))


def meet(counts: Counts) -> Counts | None:
    """Wait for all processes of a launcher to finish; the first one gets the counts of all.

    Launchers end all processes when the first one fails, so none may say that a photograph
    failed while others work. Without a launcher nobody waits, and each has its own counts.
    """
    if "MASTER_ADDR" not in os.environ or (launched := _read(_TORCH)) is None:
        return counts
    if launched.count == 1 or importlib.util.find_spec("torch") is None:
        return counts
    from torch import distributed

    names = [f"colorize/{rank}" for rank in range(launched.count)]
    try:
        store, *_ = next(distributed.rendezvous("env://", timeout=_PATIENCE))
        store.set(names[launched.rank], json.dumps(vars(counts)))
        store.wait(names, _PATIENCE)
        if launched.rank > 0:
            return None
        all_counts = [Counts(**json.loads(store.get(name))) for name in names]
    except distributed.DistError:  # the first process has left, and it leaves last
        return None if launched.rank > 0 else counts
    return functools.reduce(operator.add, all_counts)


class Claims:
    """Claims the results that this run is about to write, against other runs on this machine.

    A claim is a lock on one byte of a file in the temporary folder, and ends with its process at
    the latest. Where there are no such locks, every claim succeeds.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        if fcntl is None:
            return
        try:
            path = Path(tempfile.gettempdir()) / f"colorize-{os.getuid()}.lock"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError:  # somebody else's, or a folder that takes nothing
            return

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_) -> None:
        if self._file is not None:
            os.close(self._file)

    def take(self, path: Path) -> bool:
        """Claim a result; `False` if another run has claimed it."""
        try:
            self._lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB if fcntl else 0)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:  # a file system without locks
            pass
        return True

    def release(self, path: Path) -> None:
        """Give a claim up."""
        if fcntl:
            self._lock(path, fcntl.LOCK_UN)

    def wait(self, path: Path) -> None:
        """Wait until no other run has claimed a result."""
        if fcntl:
            self._lock(path, fcntl.LOCK_EX)
            self.release(path)

    def _lock(self, path: Path, kind: int) -> None:
        if self._file is not None:
            place = os.fsencode(real_path(path))
            digest = hashlib.blake2b(place, digest_size=7).digest()
            fcntl.lockf(self._file, kind, 1, int.from_bytes(digest, "big"))
