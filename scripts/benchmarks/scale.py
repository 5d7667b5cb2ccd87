"""Pictures a second against processes, and peak memory against the number of pictures.

Runs the `colorize` command on folders of small pictures that it makes from photographs, each time
in new processes that share the work as under a launcher. Prints tables as Markdown.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageOps

from pipeline_colorize.photo import open_picture


@dataclass
class Run:
    """What one run of the command took."""

    pictures: int  # asked for
    processes: int
    threads: int  # of each process
    done: int
    rate: float  # pictures a second once the model is loaded, all processes together
    seconds: float  # with start-up
    peak_mib: float  # of the process that took most


def make_pictures(source: Path, folder: Path, count: int, side: int) -> None:
    """Make `count` grey JPEGs with the short side `side`; each photograph is linked many times."""
    folder.mkdir()
    files = sorted(source.glob("*.jpg"))
    if not files:
        raise SystemExit(f"no .jpg in {source}")
    for index in range(count):
        path = folder / f"{index:06}.jpg"
        if index < len(files):
            picture = ImageOps.exif_transpose(open_picture(files[index])).convert("L")
            factor = side / min(picture.size)
            picture.resize([round(factor * one) for one in picture.size]).save(path, quality=90)
        else:
            _link(folder / f"{index % len(files):06}.jpg", path)


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # not on every file system, and not without end
        shutil.copy(source, path)


class Watched:
    """A process whose lines are timed as they come."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert self.process.stdout  # since it is a pipe
        self.output = self.process.stdout
        self.times: list[float] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for _ in self.output:
            self.times.append(time.perf_counter())

    def finish(self) -> tuple[int, float]:
        """Wait for the end of the process; returns exit code and peak memory in MiB."""
        self._reader.join()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.output.close()
        self.process.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return self.process.returncode, usage.ru_maxrss / unit

    def rate(self) -> float:
        """Count pictures a second between the first and the last."""
        times = self.times
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0


def measure(folder: Path, output: Path, processes: int, limit: float, options: list[str]) -> Run:
    """Colorize `folder` by several processes, which are stopped after `limit` seconds."""
    shutil.rmtree(output, ignore_errors=True)
    threads = max(_cores() // processes, 1)
    command = [sys.executable, "-m", "pipeline_colorize.cli", str(folder), "-o", str(output)]
    started = time.perf_counter()
    running = [
        Watched(command + options, _environment(rank, processes, threads))
        for rank in range(processes)
    ]
    alarm = threading.Timer(limit, _stop, [running])
    alarm.start()
    ends = [one.finish() for one in running]
    alarm.cancel()
    seconds = time.perf_counter() - started
    done = sum(len(one.times) for one in running)
    if any(code not in (0, 130) for code, _ in ends):
        raise SystemExit(f"colorize ended with the exit codes {[code for code, _ in ends]}")
    if done != len(list(output.iterdir())):
        raise SystemExit(f"{done} results were reported, but not as many lie in {output}")
    rate, peak = sum(one.rate() for one in running), max(peak for _, peak in ends)
    count = len(list(folder.iterdir()))
    return Run(count, processes, threads, done, rate, seconds, peak)


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _stop(running: list[Watched]) -> None:
    for one in running:
        one.process.send_signal(signal.SIGINT)


def _environment(rank: int, processes: int, threads: int) -> dict[str, str]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
    variables = {**place, "OMP_NUM_THREADS": threads}
    return os.environ | {name: str(value) for name, value in variables.items()}


def by_processes(runs: list[Run]) -> str:
    """Write the table of pictures a second against processes."""
    rows = []
    for run in runs:
        ratio = f"{run.rate / runs[0].rate:.2f}"
        row = [run.processes, run.threads, _done(run), f"{run.rate:.2f}", ratio]
        rows.append([*row, f"{run.seconds:.1f}", f"{run.peak_mib:.0f}"])
    heads = ["processes", "threads each", "pictures", "pictures/s", "ratio", "seconds in all"]
    return _table([*heads, "peak MiB of a process"], rows)


def by_pictures(runs: list[Run]) -> str:
    """Write the table of peak memory against pictures."""
    rows = []
    for run in runs:
        ratio = f"{run.peak_mib / runs[0].peak_mib:.3f}"
        rows.append([_done(run), f"{run.peak_mib:.0f}", ratio, f"{run.rate:.2f}"])
    return _table(["pictures", "peak MiB", "ratio", "pictures/s"], rows)


def _done(run: Run) -> str:
    return f"{run.done:,}" if run.done == run.pictures else f"{run.done:,} of {run.pictures:,}"


def _table(heads: list[str], rows: list[list]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(map(str, line)) + " |\n" for line in lines)


@dataclass(frozen=True)
class ScaleOptions:
    """What is measured.

    Args:
        source: folder of photographs.
        processes: numbers of processes to compare.
        pictures: numbers of pictures to compare.
        share: pictures that the processes share.
        side: short side of the pictures, in pixels.
        limit: seconds for each run.
    """

    source: Path
    processes: tuple[int, ...] = (1, 2)
    pictures: tuple[int, ...] = (10, 100, 1000, 10000)
    share: int = 200
    side: int = 192
    limit: float = 1800


def compare(options: ScaleOptions, more: list[str]) -> None:
    """Measure and print both tables; `more` are options of the command."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def run(count: int, processes: int) -> Run:
            if not (folder / str(count)).exists():
                make_pictures(options.source, folder / str(count), count, options.side)
            where = (folder / str(count), folder / "out")
            return measure(*where, processes, options.limit, more)

        run(1, 1)  # warms the disk cache
        print(by_processes([run(options.share, count) for count in options.processes]), flush=True)
        print(by_pictures([run(count, 1) for count in options.pictures]))
