"""Time the `colorize` command as a whole process, from shell to file.

Measures one 1024x768 photograph with start-up and model loading, what each further one adds, a
12-megapixel photograph, and peak memory. Photographs are made from those of a folder.
"""

import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from PIL import ImageOps

from pipeline_colorize.photo import open_picture

SMALL, LARGE = (1024, 768), (4000, 3000)


def make_photographs(source: Path, folder: Path, size: tuple[int, int], count: int) -> None:
    """Write `count` grey JPEGs of `size`, cut from the photographs of `source`."""
    folder.mkdir()
    files = sorted(source.glob("*.jpg"))
    for index in range(count):
        image = ImageOps.fit(open_picture(files[index % len(files)]).convert("L"), size)
        image.save(folder / f"{index:03}.jpg", quality=90)


def timed(inputs: Path, output: Path, options: list[str]) -> tuple[float, float]:
    """Run the command once; returns its seconds and its peak memory in GB."""
    started = time.perf_counter()
    command = ["colorize", str(inputs), "-o", str(output), "--overwrite", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1e6


def measure(source: Path, runs: int, further: int, options: list[str]) -> None:
    """Time the command and print the medians.

    Args:
        source: folder of photographs (JPEG).
        runs: of each case.
        further: photographs of a folder run beyond the first.
        options: of the command.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {"one": (SMALL, 1), "several": (SMALL, 1 + further), "large": (LARGE, 1)}
        for case, (size, count) in cases.items():
            make_photographs(source, folder / case, size, count)
        timed(folder / "one", folder / "out", options)  # warms the disk cache
        seconds, memory = {}, {}
        for case in cases:
            done = [timed(folder / case, folder / f"out-{case}", options) for _ in range(runs)]
            seconds[case] = statistics.median(run[0] for run in done)
            memory[case] = max(run[1] for run in done)
    each = (seconds["several"] - seconds["one"]) / further
    print(f"one 1024x768 photograph, start-up included  {seconds['one']:6.2f} s")
    print(f"each further one                            {each:6.2f} s")
    print(f"12 megapixels, start-up included            {seconds['large']:6.2f} s")
    print(f"  more than 1024x768                        {seconds['large'] - seconds['one']:6.2f} s")
    print(f"peak memory, 1024x768                       {memory['one']:6.2f} GB")
    print(f"peak memory, a folder of 1024x768           {memory['several']:6.2f} GB")
    print(f"peak memory, 12 megapixels                  {memory['large']:6.2f} GB")
