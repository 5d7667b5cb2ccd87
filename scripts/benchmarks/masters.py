"""Seconds and memory of laying colours over a master of 100 megapixels, and whether tiles agree.

Makes a grey TIFF of 16 bits from a photograph, colours a small copy with `--chroma-only`, lays the
colours over the TIFF with `--chroma`, and compares four tiles with the same parts of the result.
"""

import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from pipeline_colorize import apply_chroma
from pipeline_colorize.photo import open_picture

from .running import timed

_SMALL = 512


def make_files(photograph: Path, folder: Path, megapixels: float) -> None:
    """Write a small JPEG and a large TIFF, with grain, of one photograph."""
    picture = open_picture(photograph).convert("L")
    scale = (megapixels * 1e6 / (picture.width * picture.height)) ** 0.5
    size = int(picture.width * scale), int(picture.height * scale)
    large = np.asarray(picture.resize(size, Image.Resampling.BICUBIC)).astype(np.uint16) * 256
    large += np.random.default_rng(0).integers(0, 256, large.shape, np.uint16)
    tifffile.imwrite(
        folder / "master.tif", large, compression="zlib", rowsperstrip=16, metadata=None
    )
    picture.thumbnail((_SMALL, _SMALL))
    picture.save(folder / "small.jpg", quality=90)


def count_tiles(folder: Path) -> int:
    """Count the tiles, of four, that equal the same parts of the whole to the last bit."""
    master = tifffile.imread(folder / "master.tif")
    whole = tifffile.imread(folder / "out.tif")
    middle, equal = [side // 2 for side in master.shape], 0
    for top, bottom in ((0, middle[0]), (middle[0], master.shape[0])):
        for left, right in ((0, middle[1]), (middle[1], master.shape[1])):
            tile: Any = apply_chroma(
                master, folder / "small.chroma.png", (left, top, right, bottom)
            )
            equal += np.array_equal(tile, whole[top:bottom, left:right])
    return equal


def measure(photograph: Path, megapixels: float) -> None:
    """Measure and print, with a master of so many megapixels."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In another process, whose memory would count as that of the processes after it.
        maker = multiprocessing.get_context("spawn").Process(
            target=make_files, args=(photograph, folder, megapixels)
        )
        maker.start()
        maker.join()
        small, master = str(folder / "small.jpg"), str(folder / "master.tif")
        chroma, out = str(folder / "small.chroma.png"), str(folder / "out.tif")
        alone = timed(small, "--chroma-only")
        laid = timed(master, "--chroma", chroma, "-o", out)
        with tifffile.TiffFile(out) as result:
            page: Any = result.pages[0]
            print(f"{page.imagewidth} x {page.imagelength} pixels, {page.dtype}")
        print(f"--chroma-only on 512 pixels  {alone[0]:7.1f} s  {alone[2]:.2f} GB")
        print(f"chroma file                  {Path(chroma).stat().st_size:7,} bytes")
        print(f"--chroma on the master       {laid[0]:7.1f} s  {laid[2]:.2f} GB")
        print(f"load of the machine          {os.getloadavg()[0]:7.1f} on {os.cpu_count()}")
        print(f"tiles equal to the whole     {count_tiles(folder)} of 4")
