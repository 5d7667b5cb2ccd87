"""Time the `colorize` command as a whole process, from shell to file.

Measures one 1024x768 photograph with start-up and model loading, what each further one adds, a
12-megapixel photograph, and peak memory. Photographs are made from those of a folder.

    python scripts/benchmark_photo.py space/examples
"""

import argparse
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
    """Seconds and peak memory in GB of one run of the command."""
    started = time.perf_counter()
    command = ["colorize", str(inputs), "-o", str(output), "--overwrite", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, usage.ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=Path, help="folder of photographs (JPEG)")
    parser.add_argument("--runs", type=int, default=5, help="the median of this many is told")
    parser.add_argument("--further", type=int, default=10, help="further photographs of a run")
    parser.add_argument("--runtime", default="auto", help="auto, onnx or torch (default: auto)")
    parser.add_argument("options", nargs="*", help="options of colorize, after --")
    options = parser.parse_args()
    more = ["--runtime", options.runtime, *options.options]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {
            "one": (SMALL, 1),
            "several": (SMALL, 1 + options.further),
            "large": (LARGE, 1),
        }
        for case, (size, count) in cases.items():
            make_photographs(options.source, folder / case, size, count)
        timed(folder / "one", folder / "out", more)  # warms the disk cache
        seconds, memory = {}, {}
        for case in cases:
            runs = [timed(folder / case, folder / f"out-{case}", more) for _ in range(options.runs)]
            seconds[case] = statistics.median(run[0] for run in runs)
            memory[case] = max(run[1] for run in runs)
    each = (seconds["several"] - seconds["one"]) / options.further
    print(f"one 1024x768 photograph, start-up included  {seconds['one']:6.2f} s")
    print(f"each further one                            {each:6.2f} s")
    print(f"12 megapixels, start-up included            {seconds['large']:6.2f} s")
    print(f"  more than 1024x768                        {seconds['large'] - seconds['one']:6.2f} s")
    print(f"peak memory, 1024x768                       {memory['one']:6.2f} GB")
    print(f"peak memory, a folder of 1024x768           {memory['several']:6.2f} GB")
    print(f"peak memory, 12 megapixels                  {memory['large']:6.2f} GB")


if __name__ == "__main__":
    main()
