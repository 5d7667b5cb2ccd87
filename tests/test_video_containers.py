"""Films in each container: sound to the bit, timestamps and frames as they were."""

from fractions import Fraction

import av
import numpy as np
import pytest
from test_video import SIZE, colorize, decode, pan, times_of

from pipeline_colorize.video import FilmError

FRAMES = 14
UNEVEN = np.cumsum(np.random.default_rng(1).integers(20, 70, FRAMES)).tolist()
# A container, what it holds, and the sound in it.
KINDS = {
    "mkv": ("libx264", "aac"),
    "mp4": ("libx264", "aac"),
    "mov": ("libx264", "pcm_s16le"),
    "avi": ("mpeg4", "libmp3lame"),
    "webm": ("libvpx-vp9", "libopus"),
}


def write_sounding(path, times=None):
    """A film with moving pictures and sound; `times` are in thousandths of a second."""
    codec, sound = KINDS[path.suffix[1:]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.options = {"bf": "0"} if codec == "mpeg4" else {}
        base = Fraction(1, 1000) if times else Fraction(1, 25)
        stream.codec_context.time_base = base
        audio = container.add_stream(sound, rate=48000, layout="mono")
        for index, plane in enumerate(pan(1, FRAMES)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray")
            frame = frame.reformat(format="yuv420p", dst_color_range="MPEG")
            frame.pts, frame.time_base = times[index] if times else index, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        tone = (np.sin(np.arange(48000 * FRAMES // 25) / 20) * 9000).astype(np.int16)
        one = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        one.rate, one.pts, one.time_base = 48000, 0, Fraction(1, 48000)
        converter = av.AudioResampler(audio.codec_context.format.name, "mono", 48000)
        size = audio.codec_context.frame_size or 1024
        whole = av.AudioFifo()
        for part in converter.resample(one):
            whole.write(part)
        while (part := whole.read(size, partial=True)) is not None:
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return path


def sound_of(path) -> bytes:
    """The content of all packets of sound."""
    with av.open(str(path)) as container:
        return b"".join(bytes(p) for p in container.demux(container.streams.audio[0]) if p.size)


def sound_times(path) -> list[float]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [float(packet.pts * packet.time_base) for packet in packets if packet.size]


def check_kept(source, target):
    assert len(decode(target)) == len(decode(source)) == FRAMES
    assert times_of(target) == times_of(source)
    assert sound_of(target) == sound_of(source)
    before, after = sound_times(source), sound_times(target)
    if len(before) == len(after):  # AVI hands out raw sound in pieces of its own
        assert after == pytest.approx(before, abs=0.002)
    assert np.ptp(decode(target)[5].to_ndarray(format="rgb24").astype(int), axis=2).max() > 20


@pytest.mark.parametrize("ending", KINDS)
def test_a_film_keeps_its_container_sound_and_times(tmp_path, ending):
    source = write_sounding(tmp_path / f"a.{ending}")
    colorize(source, tmp_path / f"b.{ending}")
    check_kept(source, tmp_path / f"b.{ending}")


@pytest.mark.parametrize("ending", [ending for ending in KINDS if ending != "avi"])
def test_uneven_times_are_kept(tmp_path, ending):
    source = write_sounding(tmp_path / f"a.{ending}", UNEVEN)
    assert len({b - a for a, b in zip(times_of(source), times_of(source)[1:], strict=False)}) > 4
    colorize(source, tmp_path / f"b.{ending}")
    check_kept(source, tmp_path / f"b.{ending}")


@pytest.mark.parametrize(("before", "after"), [("avi", "mkv"), ("mov", "avi"), ("mp4", "mov")])
def test_from_one_container_to_another(tmp_path, before, after):
    source = write_sounding(tmp_path / f"a.{before}")
    colorize(source, tmp_path / f"b.{after}")
    assert sound_of(tmp_path / f"b.{after}") == sound_of(source)
    close = pytest.approx([float(time) for time in times_of(source)], abs=0.0006)
    assert [float(time) for time in times_of(tmp_path / f"b.{after}")] == close


def test_vp9_in_webm(tmp_path):
    source = write_sounding(tmp_path / "a.webm")
    colorize(source, tmp_path / "b.webm", codec="vp9")
    check_kept(source, tmp_path / "b.webm")
    with av.open(str(tmp_path / "b.webm")) as film:
        assert film.streams.video[0].codec_context.name == "vp9"


def test_what_a_container_cannot_hold_is_said_before_the_work(tmp_path):
    source = write_sounding(tmp_path / "a.mp4", UNEVEN)
    for ending, reason in (
        ("webm", r"\.webm cannot hold its sound \(aac\)"),
        ("avi", "frames of uneven length"),
    ):
        with pytest.raises(FilmError, match=reason):
            colorize(source, tmp_path / f"b.{ending}")
        assert not list(tmp_path.glob("b*/part-*"))
    with pytest.raises(FilmError, match=r"\.webm cannot hold h264"):
        colorize(source, tmp_path / "b.webm", codec="h264")
    with pytest.raises(FilmError, match=r"\.avi cannot hold h264"):
        colorize(source, tmp_path / "b.avi", codec="h264")
