"""Runs the command `colorize` and measures what it takes."""

import os
import subprocess
import sys
import time


def timed(*options: str) -> tuple[float, float, float]:
    """Run the command; returns its seconds, its processor seconds and its peak memory in GB."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline_colorize", *options], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"colorize {' '.join(options)} failed")
    seconds = time.perf_counter() - began
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6
