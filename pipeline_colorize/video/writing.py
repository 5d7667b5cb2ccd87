"""Encodes the frames of a shot, with new chroma under the luma that they have."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags

from .chroma import chroma_planes, chroma_to_rgb
from .codecs import STILL_FORMATS, Codec
from .light import Levels, resize
from .reading import FilmFacts, luma_plane, planar, plane_view

_FULL, _LIMITED = 2, 1
# Where the picture lies in the frame, as shares of its sides: top, bottom, left, right.
Area = tuple[float, float, float, float]
WHOLE: Area = (0.0, 1.0, 0.0, 1.0)


def scale_luma(luma: np.ndarray, levels: Levels, depth: int) -> np.ndarray:
    """Return a luma plane in another depth; it is exact where the depth is the same or greater."""
    more = depth - levels.depth
    if more == 0:
        return luma
    kind = np.uint8 if depth == 8 else np.uint16
    if levels.full_range:
        top = (1 << depth) - 1
        return np.rint(luma * (top / ((1 << levels.depth) - 1))).astype(kind)
    if more > 0:
        return np.left_shift(luma.astype(kind), more)
    return np.minimum(
        (luma.astype(np.uint32) + (1 << (-more - 1))) >> -more, (1 << depth) - 1
    ).astype(kind)


def area_slices(shape: tuple[int, ...], area: Area) -> tuple[slice, slice]:
    """Return the rows and columns of an area of a frame (height, width), on even lines."""
    top, bottom, left, right = area
    ends = ((top, bottom, shape[0]), (left, right, shape[1]))
    rows, columns = (
        slice(round(begin * length / 2) * 2, round(end * length / 2) * 2 if end < 1 else length)
        for begin, end, length in ends
    )
    return rows, columns


def result_levels(facts: FilmFacts, depth: int) -> Levels:
    """Return what the numbers of a result's planes mean: as in the film, but for the depth."""
    return Levels(depth, facts.levels.full_range, facts.levels.matrix)


class FrameColorer:
    """Gives frames new chroma; luma is copied as it is.

    Args:
        facts: of the film.
        pixel_format: in which the result is written.
        depth: bits of a sample of it.
        area: where the picture lies within black bars, which stay neutral.
    """

    def __init__(self, facts: FilmFacts, pixel_format: str, depth: int, area: Area = WHOLE):
        self._facts, self._format, self._area = facts, pixel_format, area
        self._levels = result_levels(facts, depth)

    def __call__(self, frame: av.VideoFrame, ab: np.ndarray) -> av.VideoFrame:
        """Colour a frame by chroma a*b* (2, rows, columns) of the picture's area."""
        is_same = frame.format.name == self._format
        if is_same:
            frame.make_writable()  # it may move the planes, so nobody may look at them before
        given = planar(frame)
        luma = scale_luma(luma_plane(given), self._facts.levels, self._levels.depth)
        result = frame if is_same else frame.reformat(format=self._format)
        self._fill(result, luma, ab)
        result.pict_type = 0
        result.colorspace = self._facts.matrix_tag
        result.color_range = _FULL if self._levels.full_range else _LIMITED
        return result

    def _fill(self, frame: av.VideoFrame, luma: np.ndarray, ab: np.ndarray) -> None:
        bits = self._levels.depth
        view = plane_view(frame.planes[0], frame.width, frame.height, bits)
        if not np.shares_memory(view, luma):
            view[:] = luma
        part = frame.format.components[1]
        size = part.height, part.width
        views = [plane_view(plane, size[1], size[0], bits) for plane in frame.planes[1:3]]
        inner = area_slices(luma.shape, self._area)
        small = tuple(
            slice(-(-one.start * new // old), -(-one.stop * new // old))
            for one, new, old in zip(inner, size, luma.shape, strict=True)
        )
        if self._area != WHOLE:
            for one in views:
                one[:] = self._levels.neutral
        shape = tuple(one.stop - one.start for one in small)
        planes = chroma_planes(luma[inner], ab, self._levels, shape, self._facts.interlaced)
        for one, plane in zip(views, planes, strict=True):
            one[small] = plane


class SegmentWriter:
    """Encodes the frames of a shot into a file of their own, which then gets its name at once.

    Args:
        path: of the segment.
        facts: of the film.
        codec: that encodes it.
        quality: of the codec; `None` is its default.
    """

    def __init__(self, path: Path, facts: FilmFacts, codec: Codec, quality: int | None = None):
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 is loud otherwise
        self._path, self._partial = path, path.with_suffix(".part")
        self._container = av.open(str(self._partial), "w", format="matroska")
        stream = self._container.add_stream(codec.encoder, rate=_plausible(facts.rate))
        stream.width, stream.height = facts.width, facts.height
        stream.pix_fmt = codec.pixel_format(facts)
        stream.options = codec.encoder_options(facts, quality)
        context = stream.codec_context
        context.time_base = facts.time_base
        context.sample_aspect_ratio = facts.aspect
        context.colorspace, context.color_primaries = facts.matrix_tag, facts.primaries_tag
        context.color_trc = facts.transfer_tag
        context.color_range = _FULL if facts.levels.full_range else _LIMITED
        if facts.interlaced and codec.fields:
            context.flags |= Flags.interlaced_dct | Flags.interlaced_me
        self._stream = stream
        self._ranks: list[int] = []

    def write(self, frame: av.VideoFrame, time: int) -> None:
        """Encode a frame that is shown at `time`, in units of the film's time base."""
        frame.pts, frame.dts = time, None
        frame.time_base = self._stream.codec_context.time_base
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            self._ranks.append(packet.pts)
            self._container.mux(packet)

    @property
    def order(self) -> list[int]:
        """For each packet as it is written, the place of its frame as it is shown."""
        shown = {time: place for place, time in enumerate(sorted(self._ranks))}
        return [shown[time] for time in self._ranks]

    def close(self) -> None:
        """Finish the file, and give it its name."""
        self._mux(self._stream.encode(None))
        self._container.close()
        with open(self._partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self._partial, self._path)

    def discard(self) -> None:
        """Give up, and leave nothing behind."""
        self._container.close()
        self._partial.unlink(missing_ok=True)


class StillsWriter:
    """Writes frames as numbered pictures; the arguments are those of `SegmentWriter`.

    Args:
        pattern: of their names, such as `color/%06d.png`.
        number: of the first.
        facts: of the film.
        codec: one of `STILLS`.
    """

    def __init__(self, pattern: Path, number: int, facts: FilmFacts, codec: Codec):
        options = {"start_number": str(number), "atomic_writing": "1"}
        self._container = av.open(str(pattern), "w", format="image2", options=options)
        stream = self._container.add_stream(codec.encoder, rate=_plausible(facts.rate))
        stream.width, stream.height = facts.width, facts.height
        stream.pix_fmt = STILL_FORMATS[codec.encoder][codec.depth_for(facts)]
        stream.options = dict(codec.options)
        self._levels = result_levels(facts, codec.depth_for(facts))
        self._stream, self.order = stream, list[int]()

    def write(self, frame: av.VideoFrame, time: int) -> None:
        """Write a frame; its time does not matter."""
        rgb = as_rgb(frame, self._levels)
        if self._levels.depth == 8:
            picture = av.VideoFrame.from_ndarray(np.rint(rgb * 255).astype(np.uint8), "rgb24")
        else:
            picture = av.VideoFrame.from_ndarray(np.rint(rgb * 65535).astype(np.uint16), "rgb48le")
        picture = picture.reformat(format=self._stream.pix_fmt)
        picture.pts, picture.time_base = len(self.order), 1 / self._stream.codec_context.rate
        self.order.append(len(self.order))
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish."""
        self._container.mux(self._stream.encode(None))
        self._container.close()

    discard = close


def as_rgb(frame: av.VideoFrame, levels: Levels) -> np.ndarray:
    """Return a coloured frame in red, green and blue, float32 in [0, 1], (H, W, 3)."""
    shape = frame.height, frame.width
    luma, *chroma = (
        plane_view(plane, part.width, part.height, levels.depth).astype(np.float32)
        for plane, part in zip(frame.planes, frame.format.components, strict=True)
    )
    signal = (luma - levels.black) / levels.luma_span
    around = [(plane - levels.neutral) / levels.chroma_span for plane in chroma]
    full = np.stack([resize(plane, *shape) for plane in around])
    return np.moveaxis(chroma_to_rgb(signal, full, levels.matrix), 0, -1).clip(0, 1)


def _plausible(rate: Fraction) -> Fraction:
    """Return a rate as encoders take it; timestamps say the truth anyway."""
    return rate.limit_denominator(100_000) if 1 <= rate <= 240 else Fraction(25)
