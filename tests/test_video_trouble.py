"""Films that are damaged, and runs that are killed."""

import itertools
import random
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from click.testing import CliRunner
from test_video import FakeORTPipeline, colorize, decode, pan, planes_of, times_of, write_film

from pipeline_colorize.cli import main
from pipeline_colorize.video import FilmError, FilmOptions, colorize_film

QUICK = ["--candidates", "1", "--second-look", "1", "--codec", "ffv1"]


def packets_of(path) -> list[bytes]:
    with av.open(str(path)) as film:
        return [bytes(packet) for packet in film.demux() if packet.size]


def start(command: list[str], folder) -> subprocess.Popen:
    """Start a run, and wait until its work has begun or it has ended."""
    process = subprocess.Popen(command)
    begun = folder / "film.json"
    while process.poll() is None and not begun.exists():
        time.sleep(0.002)
    return process


@pytest.mark.slow
@pytest.mark.process
def test_a_film_that_was_killed_ten_times_is_the_same(tmp_path):
    frames = itertools.chain.from_iterable(pan(seed, 9) for seed in range(6))
    source = write_film(tmp_path / "a.mkv", list(frames), sound=True)
    whole, target = tmp_path / "whole.mkv", tmp_path / "b.mkv"
    command = [sys.executable, "-m", "pipeline_colorize", str(source), *QUICK, "--quiet", "-o"]
    process = start([*command, str(whole)], tmp_path / "whole.mkv.work")
    began = time.monotonic()
    assert process.wait() == 0
    seconds, draw, killed = time.monotonic() - began, random.Random(39), 0
    while killed < 10:
        process = start([*command, str(target)], tmp_path / "b.mkv.work")
        try:
            process.wait(draw.uniform(0, 0.7) * seconds)
            target.unlink()  # it was quicker than the kill: from the beginning again
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            killed += 1
    subprocess.run([*command, str(target)], check=True)
    assert planes_of(target) == planes_of(whole)
    assert times_of(target) == times_of(whole) == times_of(source)
    assert packets_of(target) == packets_of(whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mkv", "b.mkv", "whole.mkv"]


def test_what_can_be_decoded_is_coloured_and_the_rest_is_named(tmp_path):
    source = write_film(tmp_path / "a.mkv", [*pan(1, 20), *pan(2, 20)])
    content = bytearray(source.read_bytes())
    source.write_bytes(content[: len(content) * 3 // 5])
    result = colorize(source, tmp_path / "b.mkv")
    count = len(decode(source))
    assert 10 < count < 35
    assert result.frames == len(decode(tmp_path / "b.mkv")) == count
    lost = (40 - count) * 0.04
    assert any(note == f"its last {lost:.1f} s are missing from the file" for note in result.notes)


def test_a_hole_in_a_film_is_left_out_and_named(tmp_path):
    source = write_film(tmp_path / "a.mkv", pan(1, 30), codec="libx264")
    content = bytearray(source.read_bytes())
    with av.open(str(source)) as film:
        packets = [(p.pos, p.size) for p in film.demux(film.streams.video[0]) if p.size]
    for position, size in packets[8:14]:
        content[position + 8 : position + 8 + size // 2] = b"\xff" * (size // 2)
    source.write_bytes(content)
    result = colorize(source, tmp_path / "b.mkv")
    assert 15 < result.frames <= 30
    assert len(decode(tmp_path / "b.mkv")) == result.frames
    assert any("damaged packets could not be decoded" in note for note in result.notes)


def test_a_frame_of_16_000_pixels_is_refused_unseen(tmp_path):
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16384, 8192, "gray"
        packet = av.Packet(b"\x89PNG\r\n\x1a\n" + bytes(64))
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        packet.time_base = stream.time_base or 1
        container.mux(packet)
    with pytest.raises(FilmError, match=r"^has frames of 16384 x 8192 pixels; the limit is 100,0"):
        colorize(path, tmp_path / "b.mkv")


def test_frames_that_are_larger_than_the_file_says_are_not_decoded(tmp_path):
    source = write_film(tmp_path / "a.mov", pan(1, 3), codec="png", fmt="gray")
    large = write_film(
        tmp_path / "l.mov", [np.zeros((640, 960), np.uint8)], codec="png", fmt="gray"
    )
    packet = packets_of(large)[0]
    with av.open(str(source)) as film, av.open(str(tmp_path / "c.mov"), "w") as container:
        stream = container.add_stream_from_template(film.streams.video[0])
        given = next(iter(film.demux(film.streams.video[0])))
        swollen = av.Packet(packet)
        swollen.stream, swollen.pts, swollen.dts = stream, 0, 0
        swollen.time_base = given.time_base
        container.mux(swollen)
    with pytest.raises(FilmError, match="pixels|no frame that can be decoded"):
        colorize(tmp_path / "c.mov", tmp_path / "b.mkv", max_pixels=100_000)


def test_a_film_that_grows_while_it_is_read_is_refused(tmp_path):
    source = write_film(tmp_path / "a.mkv", pan(1, 12))

    def grow(stage, done, total):
        if stage == "looking through" and done == 5:
            with open(source, "ab") as file:
                file.write(bytes(100))

    with pytest.raises(FilmError, match=r"^is still being written; try again when it is complete$"):
        colorize_film(source, tmp_path / "b.mkv", FakeORTPipeline(), FilmOptions(), grow)


def test_a_full_disk_loses_at_most_a_shot(tmp_path, monkeypatch):
    from pipeline_colorize.video import film as film_module

    source = write_film(tmp_path / "a.mkv", [*pan(1, 8), *pan(2, 8)])
    colorize(source, tmp_path / "whole.mkv", codec="ffv1")
    real, written = film_module.SegmentWriter.write, []

    def fail(self, frame, moment):
        written.append(moment)
        if len(written) == 12:
            raise OSError(28, "No space left on device")
        real(self, frame, moment)

    monkeypatch.setattr(film_module.SegmentWriter, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        colorize(source, tmp_path / "b.mkv", codec="ffv1")
    colorize(source, tmp_path / "b.mkv", codec="ffv1")
    assert len(written) == 12 + 8
    assert planes_of(tmp_path / "b.mkv") == planes_of(tmp_path / "whole.mkv")


def test_the_command_says_one_line_for_each_film_that_cannot_be_read(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mov").write_text("no film at all " * 50)
    with av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as container:
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        frame.rate, frame.pts = 8000, 0
        container.mux(audio.encode(frame))
    (tmp_path / "sound.mka").rename(tmp_path / "sound.mp4")
    wanted = {
        "empty.mp4": "is empty",
        "text.mov": "cannot be read as a film",
        "sound.mp4": "holds sound but no film",
        "gone.mkv": "no such file",
    }
    done = CliRunner().invoke(main, [str(tmp_path / name) for name in wanted])
    lines = [line for line in done.stderr.splitlines() if str(tmp_path) in line]
    assert done.exit_code == 1 and len(lines) == 4
    for line, (name, reason) in zip(lines, wanted.items(), strict=True):
        assert name in line and reason in line


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
    ],
)
def test_a_list_of_other_files_is_no_film(tmp_path, text):
    write_film(tmp_path / "secret.ts", pan(1, 6), codec="libx264")
    source = tmp_path / "a.mp4"
    source.write_text(text.format("secret.ts"))
    with pytest.raises(FilmError, match="cannot be read as a film"):
        colorize(source, tmp_path / "b.mkv")
