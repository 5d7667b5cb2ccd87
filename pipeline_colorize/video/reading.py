"""Opens films, and decodes their frames."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from .light import Levels
from .names import is_numbered

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
_MATRIX_NUMBERS = {"bt709": 1, "fcc": 4, "bt601": 6, "smpte240m": 7, "bt2020": 9}
_UNSPECIFIED, _FULL_RANGE = 2, 2
# Formats whose first plane is luma, in the byte order of the machine.
_LUMA_FIRST = re.compile(r"(gray|yuvj?4\d\dp|yuva4\d\dp|nv(12|16|21|24|42)$)(\d+le)?$|gray\d+le$")
# Frames whose numbers may be missing before a film is taken for damaged beyond use.
_TRIES = 1000


# Lists and scripts, which make FFmpeg open other files, are no films, whatever their name.
_LISTS = {"avisynth", "concat", "dash", "hls", "imf", "rtp", "rtsp", "sap", "sdp", "vapoursynth"}
_SAFE = {
    "format_whitelist": ",".join(sorted(av.formats_available - _LISTS)),
    "protocol_whitelist": "file",
}


class FilmError(ValueError):
    """A file cannot be read or written as a film; the message is one line for people."""


@dataclass
class FilmFacts:
    """Holds what is known of a film before its frames are coloured.

    Args:
        width: of the luma plane in pixels.
        height: of the luma plane in pixels.
        levels: what the numbers of its planes mean.
        subsampling: "420", "422", "444" or another; "400" where it has no chroma.
        time_base: seconds of a unit of the timestamps.
        rate: frames a second, on average.
        aspect: width of a pixel over its height.
        matrix_tag: number of the matrix in the file (ITU-T H.273); likewise the next two.
        interlaced: whether frames consist of two fields.
        top_first: whether the upper field comes first.
        display_matrix: nine numbers that turn the picture, or `None`.
    """

    width: int
    height: int
    levels: Levels
    subsampling: str
    time_base: Fraction
    rate: Fraction
    aspect: Fraction = Fraction(1)
    matrix_tag: int = 1
    primaries_tag: int = _UNSPECIFIED
    transfer_tag: int = _UNSPECIFIED
    interlaced: bool = False
    top_first: bool = True
    display_matrix: tuple[int, ...] | None = None


@dataclass
class Timeline:
    """Holds when each frame of a film is shown.

    Args:
        raw: the timestamp of each frame as it stands in the file; -1 where there is none.
        times: the timestamp of each frame, in units of the time base, each later than the last.
        last: how long the last frame is shown, in the same units.
        lost: how many packets could not be decoded.
    """

    raw: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    last: int = 0
    lost: int = 0


class FilmReader:
    """Decodes a film from its beginning, or from any frame on.

    Args:
        path: a file, or a pattern of numbered stills such as `frames/%06d.png`.
        max_pixels: frames with more pixels are refused.

    Raises:
        FilmError: if the file is no film, or its frames are too large.
    """

    def __init__(self, path: str | Path, max_pixels: int = 100_000_000):
        self.path = Path(path)
        self._max_pixels = max_pixels
        self._open()
        self.lost = 0

    def _open(self) -> None:
        check_file(self.path)
        try:
            options: dict[str, Any] = {"container_options": dict(_SAFE)}
            if files := numbered_files(self.path):
                first = number_of(files[0], self.path)
                options |= {"format": "image2", "options": {"start_number": str(first)}}
            self.container = av.open(str(self.path), metadata_errors="replace", **options)
        except (av.FFmpegError, OSError) as error:
            raise FilmError(f"cannot be read as a film ({_words(error)})") from error
        self.stream = _find_stream(self.container)
        codec = self.stream.codec_context
        if codec.width * codec.height > self._max_pixels:
            raise FilmError(
                f"has frames of {codec.width} x {codec.height} pixels; the limit is "
                f"{self._max_pixels:,}"
            )
        codec.thread_type = "AUTO"
        # Where frames are larger than the file says, nothing is decoded either.
        codec.options = {"max_pixels": str(self._max_pixels)}

    @property
    def announced(self) -> float | None:
        """How long the file says that the film is, in seconds; `None` if it does not."""
        if self.stream.duration and self.stream.time_base:
            return float(self.stream.duration * self.stream.time_base)
        if self.container.duration and not self.container.streams.audio:
            return self.container.duration / av.time_base
        return None

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def __enter__(self) -> "FilmReader":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def facts(self) -> FilmFacts:
        """Read the first frame and what it says of all; the reader is at the beginning after it."""
        frame = next(self.frames(), None)
        if frame is None:
            raise FilmError("holds no frame that can be decoded")
        facts = _facts_of(frame, self.stream)
        self.restart()
        return facts

    def restart(self) -> None:
        """Go back to the first frame."""
        self.close()
        self._open()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Decode the frames from here on; packets that are damaged are left out and counted."""
        size = None
        for packet in self._packets():
            try:
                decoded = packet.decode()
            except av.FFmpegError:
                self.lost += 1
                continue
            for frame in decoded:
                size = size or (frame.width, frame.height)
                if (frame.width, frame.height) != size:
                    frame = frame.reformat(*size)
                yield frame

    def _packets(self) -> Iterator[av.Packet]:
        packets = self.container.demux(self.stream)
        for _ in range(_TRIES):
            try:
                yield from packets
                return
            except av.FFmpegError:
                self.lost += 1
        raise FilmError("is damaged beyond use")

    def sought(self, start: int, timeline: Timeline) -> Iterator[av.VideoFrame] | None:
        """Seek the frames from `start` on by the file's index; `None` if that fails."""
        wanted = timeline.raw[start]
        if wanted < 0 or timeline.lost or is_numbered(str(self.path)):
            return None
        try:
            self.restart()
            self.container.seek(wanted, stream=self.stream)
        except av.FFmpegError:
            return None
        frames = self.frames()
        for frame in frames:
            if frame.pts is None or frame.pts > wanted:
                return None
            if frame.pts == wanted:
                return _put_back(frame, frames)
        return None


def _put_back(first: av.VideoFrame, rest: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    yield first
    yield from rest


def _words(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split()).lower()


def numbered_files(pattern: Path) -> list[Path]:
    """Find the files of a pattern such as `frames/%06d.png`, by number; none if it is none."""
    if not is_numbered(str(pattern)) or not pattern.parent.is_dir():
        return []
    found = [(number_of(file, pattern), file) for file in pattern.parent.iterdir()]
    return [file for number, file in sorted(found) if number >= 0]


def number_of(file: Path, pattern: Path) -> int:
    """Return the number in a file's name; -1 if the name is not of the pattern."""
    before, _, after = re.split(r"(%0?\d*d)", pattern.name, maxsplit=1)
    match = re.fullmatch(rf"{re.escape(before)}(\d+){re.escape(after)}", file.name)
    return int(match[1]) if match else -1


def check_file(path: Path) -> None:
    """Refuse a film that is not there or is empty, with a FilmError."""
    if is_numbered(str(path)):
        if not numbered_files(path):
            raise FilmError("no file has a name of this pattern")
        return
    if not path.exists():
        raise FilmError("no such file")
    if path.is_dir():
        raise FilmError("is a folder; name its stills with a pattern such as frames/%06d.png")
    if path.stat().st_size == 0:
        raise FilmError("is empty")


def _find_stream(container) -> av.VideoStream:
    """Return the stream of moving pictures; cover pictures are none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    if container.streams.audio:
        raise FilmError("holds sound but no film")
    raise FilmError("holds no film")


def _facts_of(frame: av.VideoFrame, stream) -> FilmFacts:
    given, codec = planar(frame), stream.codec_context
    name, tag = given.format.name, frame.colorspace
    rgb = given is not frame
    matrix = _MATRICES.get(tag) or ("bt709" if frame.height >= 720 or rgb else "bt601")
    full = rgb or (frame.color_range == _FULL_RANGE or "yuvj" in name or name[:4] == "gray")
    if name.startswith("gray") and frame.color_range == 1:
        full = False
    depth = given.format.components[0].bits
    rate = stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
    return FilmFacts(
        width=frame.width,
        height=frame.height,
        levels=Levels(depth, full, matrix),
        subsampling=_subsampling(given),
        time_base=stream.time_base or Fraction(1, 1000),
        rate=Fraction(rate),
        aspect=Fraction(stream.sample_aspect_ratio or codec.sample_aspect_ratio or 1),
        matrix_tag=_MATRIX_NUMBERS[matrix],
        primaries_tag=int(frame.color_primaries),
        transfer_tag=int(frame.color_trc),
        interlaced=frame.interlaced_frame,
        top_first=int(codec.field_order) not in (3, 5),
        display_matrix=_display_matrix(frame),
    )


def _display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            return tuple(np.frombuffer(bytes(data), np.int32).tolist())
    return None


def _subsampling(frame: av.VideoFrame) -> str:
    parts = frame.format.components
    if len(parts) < 3:
        return "400"
    across = round(frame.width / max(parts[1].width, 1))
    down = round(frame.height / max(parts[1].height, 1))
    return {(2, 2): "420", (2, 1): "422", (1, 1): "444"}.get((across, down), "420")


def planar(frame: av.VideoFrame) -> av.VideoFrame:
    """Return the frame itself if its first plane is luma; else a copy in Y'CbCr.

    Red, green and blue become full-range Y'CbCr of the matrix BT.709, so that grey keeps its value.
    """
    name = frame.format.name
    if _LUMA_FIRST.match(name):
        return frame
    deep = max(part.bits for part in frame.format.components) > 8
    packed = re.match(r"(yuyv|yvyu|uyvy|y21\d|v210|p\d1\d|p\d2\d|ayuv|xv)", name)
    if packed or name.startswith(("yuv", "nv", "gray")):
        return frame.reformat(format="yuv422p10le" if deep else "yuv422p")
    return frame.reformat(
        format="yuv444p10le" if deep else "yuv444p", dst_colorspace="ITU709", dst_color_range="JPEG"
    )


def luma_plane(frame: av.VideoFrame) -> np.ndarray:
    """View the luma plane (H, W) of a planar frame, bytes or 16-bit numbers, in its memory."""
    return plane_view(frame.planes[0], frame.width, frame.height, frame.format.components[0].bits)


def plane_view(plane, width: int, height: int, bits: int) -> np.ndarray:
    """Return a plane of a frame as an array (height, width) that shares its memory."""
    kind = np.uint8 if bits == 8 else np.uint16
    whole = np.frombuffer(plane, kind).reshape(-1, plane.line_size // np.dtype(kind).itemsize)
    return whole[:height, :width]


def next_time(frame: av.VideoFrame, timeline: Timeline, step: int) -> None:
    """Add a frame to the timeline; a timestamp that is missing or no later is mended."""
    raw = frame.pts if frame.pts is not None else None
    previous = timeline.times[-1] if timeline.times else None
    if raw is None:
        time = 0 if previous is None else previous + step
    else:
        time = raw if previous is None or raw > previous else previous + 1
    timeline.raw.append(-1 if raw is None else raw)
    timeline.times.append(time)
    timeline.last = int(frame.duration or step)
