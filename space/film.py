"""Short films in the Space: a clip in, a coloured clip out that browsers play.

Everything about a clip that can be refused is known before its frames are decoded: its packets are
counted, but for the first frame none of them is opened.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
from coloring import Refused, call, load, on_gpu, own_copy
from limits import Limits

from pipeline_colorize.command.films import film_options
from pipeline_colorize.command.report import one_line
from pipeline_colorize.command.settings import Settings
from pipeline_colorize.video import FilmError, colorize_film
from pipeline_colorize.video.muxing import codec_name
from pipeline_colorize.video.reading import FilmReader

Progress = Callable[[str, int, int], None]
"""Takes what goes on, how many frames of it are done, and of how many (0 if unknown)."""

_LEFT = "Nobody waits for this any more."
_SOUND = {"aac", "mp3", "opus", "flac"}  # what browsers play in an MP4 file
_RATE = 48_000  # samples of sound a second
_MORE = "The command `colorize` takes films of any length."
# Seconds between two looks at whether anybody waits still.
_PATIENCE = 0.2


def color_clip(
    path: str,
    settings: Settings,
    limits: Limits,
    folder: Path,
    wanted: Callable[[], bool],
    tell: Progress,
) -> Path:
    """Colour a clip.

    Args:
        path: of the clip.
        settings: the model and the seed.
        limits: of this Space.
        folder: where the result goes.
        wanted: whether anybody waits for it still.
        tell: is called with how far it is.

    Returns:
        An MP4 file in `folder`: H.264 in 8 bits, with the sound that the clip has.

    Raises:
        Refused: if the clip is too much or no film, or nobody waits any more.
    """
    name = Path(path).name
    watch = _Watch(wanted, tell)
    try:
        check_clip(path, limits)
        pipe = _Keyframes(settings, watch)
        made = folder / f"{Path(path).stem}-colorized.mp4"
        plays = plays_everywhere(path)
        target = made if plays else made.with_suffix(".mkv")
        options = replace(
            film_options(settings, load(settings.model)),
            max_pixels=limits.max_film_pixels,
            codec="h264",
            most_bits=8,
            call={},  # `color_keyframe` knows the settings
        )
        colorize_film(path, target, pipe, options, watch)
        if not plays:
            with_playable_sound(target, made)
            target.unlink()
    except FilmError as error:
        raise Refused(f"{name} cannot be used: it {one_line(error)}.") from error
    except av.FFmpegError as error:
        raise Refused(f"{name} cannot be used: it is damaged.") from error
    except MemoryError as error:
        raise Refused("There is not enough memory for this: give a smaller film.") from error
    return made


# --- what is refused -----------------------------------------------------------------------------


def check_clip(path: str, limits: Limits) -> None:
    """Look whether a clip is within the limits, by its packets alone.

    Raises:
        Refused: if it is not.
        FilmError: if it is no film, or its frames are too large.
    """
    name, file = Path(path).name, Path(path)
    if not file.is_file():
        raise Refused("That film is no longer on the server: give it again.")
    if file.stat().st_size > limits.max_mb * 1_000_000:
        raise Refused(f"{name} cannot be used: it has more than {limits.max_mb} MB, the limit.")
    too_long = Refused(
        f"{name} is too long: films of up to {limits.max_film_seconds:g} seconds and "
        f"{limits.max_film_frames} frames can be coloured here. {_MORE}"
    )
    with FilmReader(path, limits.max_film_pixels) as reader:
        if (reader.announced or 0) > limits.max_film_seconds:
            raise too_long
        first, last = None, 0.0
        packets = reader.container.demux(reader.stream)
        for count, packet in enumerate((one for one in packets if one.size), 1):
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None and packet.time_base:
                last = float(time * packet.time_base)
                first = last if first is None else min(first, last)
            is_late = first is not None and last - first > limits.max_film_seconds
            if is_late or count > limits.max_film_frames:
                raise too_long


# --- colours -------------------------------------------------------------------------------------


class _Watch:
    """Tells how far a film is, and stops it when nobody waits any more."""

    def __init__(self, wanted: Callable[[], bool], tell: Progress):
        self._wanted, self._tell, self._next = wanted, tell, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take what `colorize_film` tells."""
        if time.monotonic() >= self._next:
            self.check()
            self._tell(stage, done, total)
            self._next = time.monotonic() + _PATIENCE

    def check(self) -> None:
        """Refuse to go on where nobody waits."""
        if not self._wanted():
            raise Refused(_LEFT)


@on_gpu
def color_keyframe(light: np.ndarray, settings: Settings, options: dict[str, Any]) -> np.ndarray:
    """Find chroma a*b* (2, rows, columns) of a grey signal (h, w) in [0, 1]."""
    chroma = call(own_copy(settings), light, settings, None, **options).images[0]
    return np.asarray(chroma.float().cpu(), np.float32)


class _Keyframes:
    """The pipeline as `VideoColorizer` calls it, keyframe by keyframe, for as long as it is wanted.

    The random numbers are made where the model runs, from the generator's seed.
    """

    def __init__(self, settings: Settings, watch: _Watch):
        self._settings, self._watch = settings, watch

    def __call__(self, light: np.ndarray, generator, output_type: str, **options: Any):
        """Colour one keyframe; its chroma is the only one of `images`."""
        self._watch.check()
        settings = replace(self._settings, seed=generator.initial_seed())
        return SimpleNamespace(images=[color_keyframe(light, settings, options)])


# --- sound ---------------------------------------------------------------------------------------


def plays_everywhere(path: str) -> bool:
    """Tell whether all sound of a film is of a kind that browsers play in an MP4 file."""
    with FilmReader(path) as reader:
        audio = reader.container.streams.audio
        return all(codec_name(stream) in _SOUND for stream in audio)


def with_playable_sound(source: Path, target: Path) -> None:
    """Copy a film into an MP4 file, with its sound as AAC.

    Args:
        source: as `colorize_film` writes it.
        target: the MP4 file.
    """
    flags = {"movflags": "+faststart"}
    with av.open(str(source)) as film, av.open(str(target), "w", options=flags) as output:
        output.metadata.update(film.metadata)
        picture, sound = film.streams.video[0], film.streams.audio[0]
        copy = output.add_stream_from_template(picture, opaque=True)
        aac = output.add_stream("aac", rate=_RATE, layout="stereo")
        resampler = av.AudioResampler("fltp", "stereo", _RATE)
        for packet in film.demux(picture, sound):
            if packet.stream.index == picture.index:
                if packet.size:
                    packet.stream = copy
                    output.mux(packet)
                continue
            with contextlib.suppress(av.FFmpegError):  # damaged sound is left out
                for frame in packet.decode():
                    output.mux(encoded(aac, resampler, frame))
        output.mux(encoded(aac, resampler, None))
        output.mux(aac.encode(None))


def encoded(aac, resampler, frame) -> list:
    """Return the packets of a frame of sound; `None` for what is left."""
    return [packet for even in resampler.resample(frame) for packet in aac.encode(even)]
