"""How the command fares beside other programs: both engines, on a quiet and on a busy machine."""

import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

WAYS = {
    "onnxruntime": ("onnx", {}),
    "onnxruntime, one thread": ("onnx", {"OMP_NUM_THREADS": "1"}),
    "torch, as `colorize` starts it": ("torch", {}),
    "torch, whose threads wait busily": ("torch", {"OMP_WAIT_POLICY": "ACTIVE"}),
    "torch, one thread": ("torch", {"OMP_NUM_THREADS": "1"}),
}


def _spin() -> None:
    while True:
        pass


@contextmanager
def neighbours(count: int):
    """Keep so many processes busy for a while."""
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=_spin, daemon=True) for _ in range(count)]
    for one in running:
        one.start()
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.join()


def timed(folder: Path, output: Path, runtime: str, variables: dict) -> tuple[float, float]:
    """Colour a folder; returns seconds, and seconds of processor time."""
    command = [sys.executable, "-m", "pipeline_colorize", str(folder), "-o", str(output)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")} | variables
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--runtime", runtime, "--overwrite"], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def compare(folder: Path, busy: list[int], rounds: int) -> None:
    """Print a table for each number of busy neighbours; the ways take turns."""
    with tempfile.TemporaryDirectory() as output:
        for count in busy:
            load = os.getloadavg()[0]
            taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            with neighbours(count):
                for _ in range(rounds):
                    for way, how in WAYS.items():
                        taken[way].append(timed(folder, Path(output), *how))
            print(f"\n{count} busy neighbours on {os.cpu_count()} cores, load {load:.1f} before\n")
            print("| engine | seconds | of processor time |\n| --- | --- | --- |")
            for way, runs in taken.items():
                seconds, used = (statistics.median(column) for column in zip(*runs, strict=True))
                print(f"| {way} | {seconds:.1f} | {used:.1f} |", flush=True)
