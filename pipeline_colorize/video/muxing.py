"""Joins the coloured shots with the sound, subtitles and chapters of the film that they are of."""

import heapq
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av

from .codecs import CONTAINERS
from .reading import FilmError, FilmFacts, FilmReader

_COMMENT = "comment"


@dataclass(frozen=True)
class Segment:
    """A file with the coloured frames of a part of the film.

    Args:
        path: of the file.
        order: for each of its packets the place of its frame as it is shown, from 0.
    """

    path: Path
    order: list[int]


@dataclass(frozen=True)
class Clock:
    """When frames are shown, and which stretch of the film is taken.

    Args:
        times: of each frame of the stretch, in units of `base`.
        last: how long the last one is shown.
        base: seconds of a unit.
        start: where the stretch begins, in seconds; what is taken is moved to begin at 0.
        stop: where it ends; `None` is the film's end.
        whole: whether the film is taken from its beginning, and so nothing is moved.
    """

    times: list[int]
    last: int
    base: Fraction
    start: Fraction = Fraction(0)
    stop: Fraction | None = None
    whole: bool = True

    def even(self, rate: Fraction) -> "Clock":
        """Return the same times, counted in frames of a constant rate, as AVI has them.

        Args:
            rate: frames a second.

        Raises:
            FilmError: if a frame lies between two of that rate.
        """
        allowed = max(self.base, Fraction(1, 1000)) * Fraction(101, 100)
        counted = [round(time * self.base * rate) for time in self.times]
        off = (abs(n / rate - t * self.base) for n, t in zip(counted, self.times, strict=True))
        rising = all(a < b for a, b in pairwise(counted))
        if not rising or max(off) > allowed:
            raise FilmError(
                "has frames of uneven length, which a file named .avi cannot hold; use .mkv"
            )
        return replace(self, times=counted, last=1, base=1 / rate)

    @property
    def shift(self) -> Fraction:
        """The seconds by which everything is moved to the front."""
        return Fraction(0) if self.whole else self.start


def assemble(
    source: Path,
    target: Path,
    facts: FilmFacts,
    segments: list[Segment],
    clock: Clock,
    mark: dict[str, str],
) -> list[str]:
    """Write the finished film: the coloured shots, and a copy of all else in the source.

    The target is replaced at once when everything is written.

    Args:
        source: the film that is coloured.
        target: the result, whose ending says the container.
        facts: of the source.
        segments: in order; together they hold the frames of `clock`.
        clock: when each frame is shown.
        mark: metadata to add.

    Returns:
        What of the source could not be taken over, one line each.
    """
    partial = target.with_name(f".{target.name}.part")
    name = CONTAINERS[target.suffix.lower()][0]
    options = {"movflags": "+faststart"} if name in ("mp4", "mov") else {}
    with FilmReader(source) as film:
        output = av.open(str(partial), "w", format=name, options=options)
        try:
            lost = _write(film, output, facts, segments, clock, mark)
            output.close()
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, target)
    return lost


def _write(film, output, facts, segments, clock: Clock, mark: dict[str, str]) -> list[str]:
    with av.open(str(segments[0].path)) as first:
        video = output.add_stream_from_template(first.streams.video[0], opaque=True)
        video.time_base = clock.base
        _describe(video, film.stream, facts)
        copies, lost = _copies(film, output)
        _copy_tags(film.container, output, clock, mark)
        sources = [_video_packets(segments, clock, video)]
        if copies:
            sources.append(_copied_packets(film, copies, clock))
        for _, packet in heapq.merge(*sources, key=lambda item: item[0]):
            output.mux_one(packet)
    return lost


def _describe(video, original, facts: FilmFacts) -> None:
    """Give the new stream what the old one says of itself."""
    for key, value in original.metadata.items():
        if key.lower() not in ("encoder", "duration", "number_of_bytes", "number_of_frames", "bps"):
            video.metadata[key] = value
    video.disposition = original.disposition
    video.sample_aspect_ratio = facts.aspect
    if facts.display_matrix:
        video.set_display_matrix(list(facts.display_matrix))


def _copies(film: FilmReader, output) -> tuple[dict, list[str]]:
    """List the streams that are copied, by their index; and a line for each other one."""
    copies, lost = {}, []
    for stream in film.container.streams:
        if stream.index == film.stream.index:
            continue
        kind = stream.type or "unknown"
        codec = codec_name(stream)
        is_timecode = kind == "data" and "timecode" in stream.metadata
        if is_timecode:  # the container makes its own from the metadata
            continue
        try:
            if kind == "data" or not _holds(output, stream, codec):
                raise ValueError
            copy = output.add_stream_from_template(stream, opaque=True)
        except (ValueError, av.FFmpegError, TypeError):
            lost.append(f"the {kind} stream {stream.index} ({codec}) does not fit into the result")
            continue
        copy.metadata.update(stream.metadata)
        copy.disposition = stream.disposition
        if kind != "attachment":
            copies[stream.index] = copy
    return copies, lost


def check_sound(film: FilmReader, ending: str) -> None:
    """Refuse a container that cannot hold the sound of a film as it is.

    Args:
        film: the source.
        ending: of the result.

    Raises:
        FilmError: which names the codec of the sound, and a container that takes it.
    """
    name = CONTAINERS[ending][0]
    with av.open(io.BytesIO(), "w", format=name) as container:
        supported = container.supported_codecs
    if name in film.container.format.name.split(","):
        return
    for stream in film.container.streams.audio:
        codec = codec_name(stream)
        if supported and codec not in supported:
            raise FilmError(
                f"a file named {ending} cannot hold its sound ({codec}); .mkv takes any sound"
            )


def codec_name(stream) -> str:
    """FFmpeg's name of a stream's codec, whichever decoder reads it."""
    codec = getattr(getattr(stream, "codec_context", None), "codec", None)
    return getattr(codec, "canonical_name", None) or "unknown"


_MP4_SUBTITLES = {"mov_text", "tx3g"}


def _holds(output, stream, codec: str) -> bool:
    """Tell whether the container can hold a stream of this kind and codec."""
    name = output.format.name
    if stream.type == "attachment":
        return "matroska" in name
    if stream.type == "subtitle" and name in ("mp4", "mov"):
        return codec in _MP4_SUBTITLES
    if stream.type == "subtitle" and "matroska" in name:
        return codec not in _MP4_SUBTITLES
    supported = output.supported_codecs
    return not supported or codec in supported or stream.type == "audio"


def _copy_tags(source, output, clock: Clock, mark: dict[str, str]) -> None:
    for key, value in source.metadata.items():
        if key not in ("encoder", "major_brand", "minor_version", "compatible_brands"):
            output.metadata[key] = value
    for key, value in mark.items():
        before = output.metadata.get(key)
        output.metadata[key] = f"{before}\n{value}" if before else value
    if chapters := _chapters(source, clock):
        output.set_chapters(chapters)


def _chapters(source, clock: Clock) -> list[dict]:
    """Return the chapters of the stretch, moved to where they are in the result."""
    kept = []
    for chapter in source.chapters():
        base = chapter["time_base"]
        begin, end = (chapter[name] * base for name in ("start", "end"))
        begin, end = max(begin, clock.start) if not clock.whole else begin, end
        if clock.stop is not None:
            end = min(end, clock.stop)
        if begin < end:
            start, stop = (round((time - clock.shift) / base) for time in (begin, end))
            kept.append({**chapter, "start": start, "end": stop})
    return kept


def _video_packets(segments: list[Segment], clock: Clock, video) -> Iterator[tuple]:
    """Return the coloured frames, with the film's own timestamps."""
    shift = round(clock.shift / clock.base)
    times = [time - shift for time in clock.times]
    ahead = max(place - shown for one in segments for place, shown in enumerate(one.order))
    durations = [b - a for a, b in pairwise(times)] + [clock.last]
    step = min(durations[:-1], default=1)
    begin, place = 0, 0
    for segment in segments:
        with av.open(str(segment.path)) as file:
            packets = (p for p in file.demux(file.streams.video[0]) if p.size)
            for packet, shown in zip(packets, segment.order, strict=True):
                index = begin + shown
                early = place - ahead
                packet.stream = video
                packet.time_base = clock.base
                packet.pts = times[index]
                packet.dts = times[early] if early >= 0 else times[0] + early * step
                packet.duration = durations[index]
                yield packet.dts * clock.base, packet
                place += 1
        begin += len(segment.order)


def _copied_packets(film: FilmReader, copies: dict, clock: Clock) -> Iterator[tuple]:
    """Return the packets of all other streams, as they are but for the stretch that is taken."""
    streams = [film.container.streams[index] for index in copies]
    last = Fraction(-1 << 40)
    for packet in film.container.demux(streams):
        if packet.dts is None and packet.pts is None:
            continue
        base = packet.time_base
        time = (packet.dts if packet.dts is not None else packet.pts) * base
        if not clock.whole and time < clock.start and packet.stream.type != "video":
            continue
        if clock.stop is not None and time >= clock.stop:
            continue
        index, shift = packet.stream_index, round(clock.shift / base)
        packet.stream = copies[index]
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        last = max(last, time - clock.shift)
        yield last, packet
