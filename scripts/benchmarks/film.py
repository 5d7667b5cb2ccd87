"""Speed of a film from file to file, by part, and its memory, beside each frame coloured alone.

The film is a pan over a photograph. Its parts are timed one after the other, with the functions
that `colorize` calls, in processor seconds, which other programs disturb less than the clock.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from pipeline_colorize import ORTColorizationPipeline
from pipeline_colorize.photo import open_picture
from pipeline_colorize.video.codecs import CODECS
from pipeline_colorize.video.colorizer import VideoColorizer
from pipeline_colorize.video.film import area_light
from pipeline_colorize.video.propagation import find_motion
from pipeline_colorize.video.reading import FilmReader, luma_plane, planar
from pipeline_colorize.video.scenes import ShotLights
from pipeline_colorize.video.shots import ShotFinder
from pipeline_colorize.video.writing import WHOLE, FrameColorer, SegmentWriter

from .running import timed

_STEP = 3  # pixels from frame to frame
_ALONE = 4  # frames beyond the first that are coloured alone


def make_film(photograph: Path, path: Path, size: tuple[int, int], count: int) -> None:
    """Write a grey film, whose camera moves over a photograph with some grain.

    Args:
        photograph: of any size.
        path: of the film.
        size: width and height of its frames.
        count: frames.
    """
    picture = open_picture(photograph).convert("L")
    width, height = size
    wide = width + _STEP * count
    scale = max(wide / picture.width, height / picture.height)
    scaled = picture.resize((round(picture.width * scale + 1), round(picture.height * scale + 1)))
    light, grain = np.asarray(scaled, np.int16), np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index in range(count):
            plane = light[:height, _STEP * index : _STEP * index + width]
            plane = (plane + grain.integers(-4, 5, plane.shape)).clip(0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(plane, format="gray").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class Parts:
    """Adds up the processor seconds of the parts of a work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, do: Callable, *args: Any) -> Any:
        """Do something, and count it as a part."""
        began = time.process_time()
        try:
            return do(*args)
        finally:
            used = time.process_time() - began
            self.seconds[name] = self.seconds.get(name, 0) + used

    def each(self, name: str, items: Iterable) -> Iterator:
        """Hand out items; the time to get them counts as a part."""
        walk, end = iter(items), object()
        while (item := self.timed(name, next, walk, end)) is not end:
            yield item


def measure_parts(film: Path, pipe: Any, folder: Path) -> dict[str, float]:
    """Measure the processor seconds of each part of colouring a film of one short shot."""
    parts = Parts()
    with FilmReader(film) as reader:
        facts = reader.facts()
        finder, kept = ShotFinder(), ShotLights()
        lights, frames = [], []
        for frame in parts.each("decode", reader.frames()):
            light = parts.timed("shots", area_light, luma_plane(planar(frame)), facts, WHOLE)
            kept.add(light, parts.timed("shots", finder.add, light))
            lights.append(light)
            frames.append(frame)
    parts.seconds["decode"] *= 3  # it is looked through, coloured and written
    colorizer = _Counting(pipe, parts)
    parts.timed("flow", find_motion, lights)
    chroma = parts.timed("carry", colorizer.color_part, lights)
    parts.seconds["carry"] -= parts.seconds["flow"] + parts.seconds["colour"]
    codec = CODECS["h264"]
    color = FrameColorer(facts, codec.pixel_format(facts), codec.depth_for(facts))
    writer = SegmentWriter(folder / "part.mkv", facts, codec)
    for index, (frame, ab) in enumerate(zip(frames, chroma, strict=True)):
        merged = parts.timed("merge", color, frame, ab)
        parts.timed("encode", writer.write, merged, index)
    parts.timed("encode", writer.close)
    return parts.seconds


class _Counting(VideoColorizer):
    """Counts the time that the network takes."""

    def __init__(self, pipe: Any, parts: Parts):
        super().__init__(pipe)
        self._parts = parts

    def color_keyframe(self, light: np.ndarray, place: int = 0, **options: Any) -> np.ndarray:
        """As its parent's."""
        call = super().color_keyframe
        return self._parts.timed("colour", lambda: call(light, place, **options))


def each_alone(film: Path, folder: Path) -> tuple[float, float, float]:
    """Seconds and processor seconds of a frame that is coloured as a photograph, and memory."""
    for name, count in (("one", 1), ("some", 1 + _ALONE)):
        (folder / name).mkdir()
        with FilmReader(film) as reader:
            for index, frame in zip(range(count), reader.frames(), strict=False):
                plane = np.ascontiguousarray(luma_plane(planar(frame)))
                Image.fromarray(plane).save(folder / name / f"{index:03d}.png")
    one, some = (
        timed(str(folder / name), "-o", str(folder / f"out-{name}"), "--quiet")
        for name in ("one", "some")
    )
    return (some[0] - one[0]) / _ALONE, (some[1] - one[1]) / _ALONE, some[2]


def report(size: tuple[int, int], parts: dict[str, float], count: int, whole, alone) -> None:
    """Print what was measured of films of one size."""
    total = sum(parts.values())
    shares = ", ".join(f"{name} {used / total:.0%}" for name, used in parts.items())
    print(f"\n{size[0]} x {size[1]}, {count} frames")
    print(f"film                {count / whole[0]:7.2f} frames/s with start-up  {whole[2]:.2f} GB")
    print(f"  a processor core  {count / whole[1]:7.2f} frames/s with start-up")
    print(f"  its parts         {count / total:7.2f} frames/s  ({shares})")
    print(f"each frame alone    {1 / alone[0]:7.2f} frames/s                {alone[2]:.2f} GB")
    print(f"  a processor core  {1 / alone[1]:7.2f} frames/s")
    print(f"load of the machine {os.getloadavg()[0]:7.1f} on {os.cpu_count()}", flush=True)


def measure(photograph: Path, sizes: list[tuple[int, int]], count: int) -> None:
    """Measure and print.

    Args:
        photograph: over which the camera moves.
        sizes: width and height of the films.
        count: frames of each.
    """
    cv2.setNumThreads(1)
    pipe = ORTColorizationPipeline.from_pretrained("default")
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            film = folder / "film.mkv"
            make_film(photograph, film, size, count)
            parts = measure_parts(film, pipe, folder)
            whole = timed(str(film), "-o", str(folder / "color.mkv"), "--quiet")
            report(size, parts, count, whole, each_alone(film, folder))
