"""Films: the light, the chroma planes, flow and propagation, files and resumed work."""

import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

from pipeline_colorize.core.colorimetry import rgb_pixels_to_lab
from pipeline_colorize.video import FilmError, FilmOptions, VideoColorizer, colorize_film
from pipeline_colorize.video import film as film_module
from pipeline_colorize.video.chroma import (
    ab_to_chroma,
    chroma_planes,
    chroma_to_ab,
    chroma_to_rgb,
    fit_chroma,
)
from pipeline_colorize.video.flow import FlowFinder, consistency
from pipeline_colorize.video.light import LUMA_WEIGHTS, Levels, picture_area, working_light
from pipeline_colorize.video.reading import FilmReader, luma_plane, planar
from pipeline_colorize.video.shots import find_shots, read_shots, shots_between
from pipeline_colorize.video.writing import scale_luma

SIZE = (64, 96)  # height, width


class FakeORTPipeline:
    """Colours by the light alone, so that what is right is known; it counts its calls."""

    config = SimpleNamespace()

    def __init__(self):
        self.calls = self.mends = 0

    def __call__(
        self, image, generator, output_type, find_margins, color_image=None, mask_image=None
    ):
        self.calls += 1
        self.mends += color_image is not None
        rows, columns = image.shape[0] // 4, image.shape[1] // 4
        light = image.reshape(rows, 4, columns, 4).mean((1, 3))
        return SimpleNamespace(images=[np.stack([40 * light - 10, 30 - 60 * light])])


FakeORTPipeline.__name__ = "ORTFake"


def scene(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth blobs of light, bytes."""
    small = np.random.default_rng(seed).uniform(30, 220, (height // 8, width // 8))
    image = Image.fromarray(small.astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def pan(seed: int, count: int, step: int = 2) -> list[np.ndarray]:
    """Frames of a camera that moves to the right."""
    wide = scene(seed, SIZE[0], SIZE[1] + 8 * (step * count // 8 + 1))
    return [wide[:, step * index : step * index + SIZE[1]] for index in range(count)]


def write_film(path, frames, *, fmt="yuv420p", codec="ffv1", times=None, sound=False, rate=25):
    """A small film; its timestamps are in thousandths of a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape
        stream.pix_fmt = fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        container.metadata["title"] = "A day at sea"
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono") if sound else None
        for index, plane in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray")
            frame = frame.reformat(format=fmt, src_color_range="MPEG", dst_color_range="MPEG")
            frame.pts = times[index] if times else 40 * index
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio:
            tone = (np.sin(np.arange(320 * len(frames)) / 9) * 9000).astype(np.int16)
            container.mux(audio.encode(sound_frame(tone)))
            container.mux(audio.encode(None))
    return path


def sound_frame(samples: np.ndarray):
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.rate, frame.pts = 8000, 0
    return frame


def decode(path) -> list:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_of(path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in decode(path)]


def planes_of(path) -> list[list[bytes]]:
    return [[bytes(plane) for plane in frame.planes] for frame in decode(path)]


# --- light and chroma -----------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 10])
def test_levels_of_both_ranges(depth):
    limited, full = Levels(depth, False), Levels(depth, True)
    unit = 1 << (depth - 8)
    assert limited.signal(np.array([16 * unit, 235 * unit])).tolist() == pytest.approx([0, 1])
    assert full.signal(np.array([0, (1 << depth) - 1])).tolist() == pytest.approx([0, 1])
    kind = np.uint8 if depth == 8 else np.uint16
    numbers = limited.chroma_numbers(np.array([[-0.5, 0, 0.5]], np.float32)).astype(kind)
    assert numbers.tolist() == [[16 * unit, 128 * unit, 240 * unit]]


@pytest.mark.parametrize("matrix", LUMA_WEIGHTS)
def test_chroma_shows_the_wanted_colour_at_the_given_luma(matrix):
    ab = np.array([20.0, -15.0]).reshape(2, 1, 1) * np.ones((2, 1, 5))
    signal = np.linspace(0.3, 0.8, 5).reshape(1, 5)
    chroma = ab_to_chroma(signal, ab, matrix)
    red, blue = LUMA_WEIGHTS[matrix]
    rgb = chroma_to_rgb(signal, chroma, matrix)
    luma = np.tensordot([red, 1 - red - blue, blue], rgb, 1)
    np.testing.assert_allclose(luma, signal, atol=1e-6)
    lab = rgb_pixels_to_lab(np.moveaxis(rgb, 0, -1))
    np.testing.assert_allclose(np.moveaxis(lab[..., 1:], -1, 0), ab, atol=0.1)
    np.testing.assert_allclose(chroma_to_ab(signal, chroma, matrix), ab, atol=0.1)


def test_colours_are_brought_into_the_gamut_at_their_luma():
    signal = np.linspace(0, 1, 50, dtype=np.float32).reshape(1, 50)
    chroma = np.stack([np.full((1, 50), 0.3, np.float32), np.full((1, 50), -0.4, np.float32)])
    fitted = fit_chroma(signal, chroma.copy(), "bt709")
    rgb = chroma_to_rgb(signal, fitted, "bt709")
    assert rgb.min() >= -1e-5 and rgb.max() <= 1 + 1e-5
    ratio = fitted[0, 0, 1:-1] / fitted[1, 0, 1:-1]
    np.testing.assert_allclose(ratio, -0.75, rtol=1e-4)


def test_even_chroma_gives_even_planes():
    luma = np.full((48, 64), 126, np.uint8)
    ab = np.full((2, 8, 8), 12.0, np.float32)
    cb, cr = chroma_planes(luma, ab, Levels(), (24, 32))
    assert cb.shape == cr.shape == (24, 32)
    assert np.ptp(cb) == np.ptp(cr) == 0
    signal = Levels().signal(luma)[:1, :1]
    wanted = Levels().chroma_numbers(ab_to_chroma(signal, ab[:, :1, :1], "bt709"))
    assert [cb[0, 0], cr[0, 0]] == wanted.ravel().tolist()


def test_luma_keeps_all_bits_in_a_greater_depth():
    luma = np.arange(256, dtype=np.uint8)[None]
    assert (scale_luma(luma, Levels(8), 10) == luma.astype(int) * 4).all()
    assert scale_luma(luma, Levels(8, full_range=True), 10)[0, [0, 255]].tolist() == [0, 1023]


def test_black_bars_are_not_the_picture():
    brightest = np.full((64, 96), 5, np.uint8)
    brightest[8:56] = 180
    assert picture_area(brightest) == (8, 56, 0, 96) or picture_area(brightest) == (7, 57, 0, 96)
    assert picture_area(np.zeros((64, 96), np.uint8)) == (0, 64, 0, 96)


# --- flow and shots -------------------------------------------------------------------------------


def test_flow_of_a_moving_camera():
    first, second = (
        working_light(frame, Levels(full_range=True)) for frame in pan(1, 3, step=4)[::2]
    )
    find = FlowFinder()
    there, back = find(first, second), find(second, first)
    inner = there[16:-16, 48:-48]
    scale = first.shape[1] / SIZE[1] / 2  # pixels of the flow to a pixel of the frame
    assert np.median(inner[..., 0]) == pytest.approx(-8 * scale, rel=0.05)
    assert abs(np.median(inner[..., 1])) < 0.3
    sure = consistency(there, back)
    assert np.median(sure[16:-16, 48:-48]) > 0.9
    assert sure[:, :4].mean() < 0.1  # what leaves the frame


def test_shots_begin_where_the_picture_changes():
    frames = [*pan(1, 12), *pan(2, 9), *pan(3, 10)]
    lights = [working_light(frame, Levels(full_range=True)) for frame in frames]
    assert find_shots(lights) == [0, 12, 21]


def test_table_of_shots(tmp_path):
    path = tmp_path / "shots.csv"
    path.write_text("shot,first_frame\n1,0\n2,7\n")
    assert read_shots(path, 12) == shots_between([7], 12)
    path.write_text("shot,first_frame\n1,0\n2,70\n")
    with pytest.raises(ValueError, match="no frame 70; the film has 12"):
        read_shots(path, 12)
    path.write_text("shot\n1\n")
    with pytest.raises(ValueError, match="first_frame"):
        read_shots(path, 12)


def test_long_shots_are_divided_evenly():
    parts = film_module.divide(shots_between([5], 15), 4)
    assert [(part.shot, part.start, part.stop) for part in parts] == [
        *[(1, 0, 2), (1, 2, 5)],
        *[(2, 5, 8), (2, 8, 12), (2, 12, 15)],
    ]
    shares = [film_module.share_of(parts, (which, 3)) for which in (1, 2, 3)]
    assert sorted(part.number for share in shares for part in share) == [1, 2, 3, 4, 5]


# --- VideoColorizer -------------------------------------------------------------------------------


def test_colours_follow_the_motion():
    """Colours that depend on the light alone are carried to where the light has moved."""
    frames = pan(4, 9)
    lights = [working_light(frame, Levels(full_range=True)) for frame in frames]
    pipe = FakeORTPipeline()
    carried = VideoColorizer(pipe, keyframe_interval=8).color_part(lights)
    assert pipe.calls == 2
    for light, ab in zip(lights, carried, strict=True):
        alone = VideoColorizer(pipe).color_keyframe(light)
        assert np.abs(ab - alone)[:, 4:-4, 4:-4].mean() < 1.0


def test_what_neither_keyframe_shows_is_invented_where_it_is_seen():
    """A board is in view for some frames between two keyframes."""
    frames = [frame.copy() for frame in pan(4, 17, step=0)]
    for frame in frames[6:11]:
        frame[8:56, 16:80] = scene(9, 48, 64)
    lights = [working_light(frame, Levels(full_range=True)) for frame in frames]
    pipe = FakeORTPipeline()
    carried = VideoColorizer(pipe, keyframe_interval=16).color_part(lights)
    assert pipe.mends >= 1
    wrong = [
        np.abs(ab - VideoColorizer(pipe).color_keyframe(light)).mean()
        for ab, light in zip(carried, lights, strict=True)
    ]
    assert max(wrong[:6] + wrong[11:]) < 0.5
    assert np.mean(wrong[6:11]) < 3


def test_given_colours_are_kept_and_carried():
    lights = [working_light(frame, Levels(full_range=True)) for frame in pan(4, 9, step=0)]
    pipe = FakeORTPipeline()
    colorizer = VideoColorizer(pipe, keyframe_interval=8)
    known = np.full_like(colorizer.color_keyframe(lights[0]), 33)
    carried = colorizer.color_part(lights, given={4: known})
    assert (carried[4] == 33).all()
    own = colorizer.color_keyframe(lights[0])
    assert np.abs(carried[0] - 33).mean() < np.abs(own - 33).mean() / 5


def test_known_colours_may_have_another_grid():
    lights = [working_light(frame, Levels(full_range=True)) for frame in pan(4, 9, step=0)]
    colorizer = VideoColorizer(FakeORTPipeline(), keyframe_interval=8)
    rows, columns = (side // 4 for side in lights[0].shape)
    known = np.full((2, rows // 2, columns // 2), 33, np.float32)
    carried = colorizer.color_part(lights, given={4: known})
    assert {one.shape for one in carried} == {(2, rows, columns)}
    assert (carried[4] == 33).all()


def test_stream_keeps_kind_count_and_luma():
    frames = [*pan(1, 12), *pan(2, 9)]
    pipe = FakeORTPipeline()
    colored = list(VideoColorizer(pipe).stream(iter(frames)))
    assert len(colored) == 21 and pipe.calls == 5
    weights = np.array([0.2126, 0.7152, 0.0722])
    for frame, rgb in zip(frames, colored, strict=True):
        assert np.abs(rgb @ weights - frame).max() <= 1
        assert rgb.std(2).mean() > 1
    pictures = VideoColorizer(pipe)([Image.fromarray(frame) for frame in frames]).frames
    assert all((np.asarray(a) == b).all() for a, b in zip(pictures, colored, strict=True))


def test_wrong_frames_and_options_are_refused():
    with pytest.raises(ValueError, match="keyframe_interval"):
        VideoColorizer(FakeORTPipeline(), keyframe_interval=0)
    with pytest.raises(ValueError, match="generator"):
        VideoColorizer(FakeORTPipeline(), options={"generator": None})
    colorizer = VideoColorizer(FakeORTPipeline())
    with pytest.raises(ValueError, match="one size"):
        list(colorizer.stream([pan(1, 1)[0], np.zeros((8, 8), np.uint8)]))
    with pytest.raises(ValueError, match="float64"):
        list(colorizer.stream([np.zeros((8, 8))]))


def test_default_model_colours_a_film():
    from pipeline_colorize import ORTColorizationPipeline

    pipe = ORTColorizationPipeline.from_pretrained("default")
    options = {"num_candidates": 1, "second_look": 1}
    colored = VideoColorizer(pipe, options=options)([Image.fromarray(f) for f in pan(5, 4)])
    assert [frame.size for frame in colored.frames] == [(96, 64)] * 4


# --- files ----------------------------------------------------------------------------------------


def colorize(source, target, **options):
    return colorize_film(source, target, FakeORTPipeline(), FilmOptions(**options))


@pytest.mark.parametrize(
    ("fmt", "result"),
    [
        ("yuv420p", "yuv420p"),
        ("yuv422p", "yuv422p"),
        ("gray", "yuv420p"),
        ("yuv420p10le", "yuv420p10le"),
        ("gray10le", "yuv420p10le"),
    ],
)
def test_luma_is_kept_to_the_bit(tmp_path, fmt, result):
    source = write_film(tmp_path / "a.mkv", pan(1, 6), fmt=fmt)
    colorize(source, tmp_path / "b.mkv", codec="ffv1")
    for before, after in zip(decode(source), decode(tmp_path / "b.mkv"), strict=True):
        assert after.format.name == result
        assert (luma_plane(planar(before)) == luma_plane(after)).all()
        assert np.ptp(after.to_ndarray(format="rgb24").astype(int), axis=2).max() > 20


def test_everything_else_is_kept(tmp_path):
    times = np.cumsum(np.random.default_rng(0).integers(20, 70, 20)).tolist()
    source = write_film(tmp_path / "a.mkv", pan(1, 20), times=times, sound=True)
    colorize(source, tmp_path / "b.mkv", mark={"comment": "coloured"})
    assert times_of(tmp_path / "b.mkv") == times_of(source)
    with av.open(str(source)) as a, av.open(str(tmp_path / "b.mkv")) as b:
        tags = {key.lower(): value for key, value in b.metadata.items()}
        assert (tags["title"], tags["comment"]) == ("A day at sea", "coloured")
        before, after = (
            [(p.pts, bytes(p)) for p in one.demux(one.streams.audio[0]) if p.size] for one in (a, b)
        )
    assert before == after


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_containers_keep_the_frames_and_their_times(tmp_path, ending):
    source = write_film(tmp_path / "a.mov", pan(1, 15), codec="libx264")
    colorize(source, tmp_path / f"b.{ending}")
    assert len(decode(tmp_path / f"b.{ending}")) == 15
    assert times_of(tmp_path / f"b.{ending}") == times_of(source)


@pytest.mark.parametrize("size", [(63, 95), (64, 95)])
def test_odd_sizes(tmp_path, size):
    frames = [np.ascontiguousarray(frame[: size[0], : size[1]]) for frame in pan(1, 5)]
    source = write_film(tmp_path / "a.mkv", frames, fmt="yuv444p")
    colorize(source, tmp_path / "b.mkv")
    assert decode(tmp_path / "b.mkv")[0].to_ndarray(format="rgb24").shape[:2] == size


def test_stretch_of_a_film(tmp_path):
    source = write_film(tmp_path / "a.mkv", [*pan(1, 15), *pan(2, 15)], sound=True)
    colorize(source, tmp_path / "b.mkv", start=0.4, stop=0.8, codec="ffv1")
    after = decode(tmp_path / "b.mkv")
    assert [frame.pts for frame in after] == [40 * index for index in range(10)]
    for before, frame in zip(decode(source)[10:20], after, strict=True):
        assert (luma_plane(before) == luma_plane(frame)).all()


def test_interrupted_work_goes_on(tmp_path, monkeypatch):
    source = write_film(tmp_path / "a.mkv", [*pan(1, 12), *pan(2, 9), *pan(3, 10)])
    colorize(source, tmp_path / "whole.mkv", codec="ffv1")
    real = film_module.SegmentWriter.write
    written = []

    def fail(self, frame, time):
        written.append(time)
        if len(written) == 15:
            raise KeyboardInterrupt
        real(self, frame, time)

    monkeypatch.setattr(film_module.SegmentWriter, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        colorize(source, tmp_path / "b.mkv", codec="ffv1")
    assert not (tmp_path / "b.mkv").exists()
    written.clear()
    monkeypatch.setattr(
        film_module.SegmentWriter, "write", lambda *a: (written.append(0), real(*a))
    )
    colorize(source, tmp_path / "b.mkv", codec="ffv1")
    assert len(written) == 19  # the first shot was finished
    assert planes_of(tmp_path / "b.mkv") == planes_of(tmp_path / "whole.mkv")
    assert not (tmp_path / "b.mkv.work").exists()


def test_changed_options_are_noticed(tmp_path):
    source = write_film(tmp_path / "a.mkv", pan(1, 6))
    colorize(source, tmp_path / "b.mkv", keep_work=True)
    pipe = FakeORTPipeline()
    colorize_film(source, tmp_path / "b.mkv", pipe, FilmOptions(keep_work=True))
    assert pipe.calls == 0
    result = colorize_film(source, tmp_path / "b.mkv", pipe, FilmOptions(keep_work=True, seed=1))
    assert pipe.calls == 2 and "anew" in result.notes[0]


def test_shards_make_the_same_film(tmp_path):
    source = write_film(tmp_path / "a.mkv", [*pan(1, 12), *pan(2, 9), *pan(3, 10)])
    colorize(source, tmp_path / "whole.mkv", codec="ffv1")
    results = [
        colorize(source, tmp_path / "b.mkv", codec="ffv1", shard=(which, 3)) for which in (3, 1, 2)
    ]
    assert [result.finished for result in results] == [False, False, True]
    assert planes_of(tmp_path / "b.mkv") == planes_of(tmp_path / "whole.mkv")


@pytest.mark.process
def test_a_film_without_the_extra_names_it(tmp_path):
    code = "import sys; sys.modules['av'] = None; from pipeline_colorize.cli import main; main()"
    command = [sys.executable, "-c", code, str(tmp_path / "film.mkv")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        'colorize: films need the package av: pip install "pipeline-colorize[video]"\n'
    )


def test_what_is_no_film_is_said_in_one_line(tmp_path):
    (tmp_path / "empty.mkv").touch()
    (tmp_path / "text.mkv").write_text("no film at all" * 100)
    with av.open(str(tmp_path / "sound.mka"), "w", format="matroska") as container:
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        container.mux(audio.encode(sound_frame(np.zeros(800, np.int16))))
        container.mux(audio.encode(None))
    (tmp_path / "sound.mka").rename(tmp_path / "sound.mp4")
    for name, reason in (
        ("missing.mkv", "no such file"),
        ("empty.mkv", "is empty"),
        ("text.mkv", "cannot be read as a film"),
        ("sound.mp4", "holds sound but no film"),
    ):
        with pytest.raises(FilmError, match=reason):
            colorize(tmp_path / name, tmp_path / "b.mkv")
    source = write_film(tmp_path / "a.mkv", pan(1, 3))
    with pytest.raises(FilmError, match="96 x 64 pixels; the limit is 1,000"):
        colorize(source, tmp_path / "b.mkv", max_pixels=1000)
    with pytest.raises(FilmError, match=r"\.gif is not written"):
        colorize(source, tmp_path / "b.gif")
    with pytest.raises(FilmError, match="cannot hold ffv1"):
        colorize(source, tmp_path / "b.mp4", codec="ffv1")


def test_damaged_films_are_coloured_as_far_as_they_can_be_decoded(tmp_path):
    source = write_film(tmp_path / "a.mkv", pan(1, 20), codec="mpeg4")
    content = bytearray(source.read_bytes())
    content = content[: len(content) * 2 // 3]
    source.write_bytes(content)
    colorize(source, tmp_path / "b.mkv")
    assert 3 < len(decode(tmp_path / "b.mkv")) < 20
    with FilmReader(source) as reader:
        assert reader.facts().width == 96


def test_a_picture_that_was_replaced_recolours_its_shot_alone(tmp_path):
    source = write_film(tmp_path / "a.mkv", [*pan(1, 12), *pan(2, 9)])
    target = tmp_path / "b.mkv"
    colorize(source, target, codec="ffv1", keep_work=True)
    before = [frame.to_ndarray(format="rgb24").astype(int) for frame in decode(target)]
    picture = tmp_path / "b.mkv.work" / "keyframes" / "shot-0002.png"
    grey = np.asarray(Image.open(picture).convert("L"))
    Image.fromarray(np.stack([grey, grey // 2, grey // 2], -1)).save(picture)
    colorize(source, target, codec="ffv1", keep_work=True)
    after = [frame.to_ndarray(format="rgb24").astype(int) for frame in decode(target)]
    assert all((a == b).all() for a, b in zip(before[:12], after[:12], strict=True))
    red = [(frame[..., 0] - frame[..., 2]).mean() for frame in after[12:]]
    assert min(red) > max((frame[..., 0] - frame[..., 2]).mean() for frame in before[12:]) + 20
    pipe = FakeORTPipeline()
    colorize_film(source, target, pipe, FilmOptions(codec="ffv1", keep_work=True))
    assert pipe.calls == 0


@pytest.mark.parametrize("ending", ["png", "tif", "dpx"])
def test_numbered_stills_in_and_out(tmp_path, ending):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for index, frame in enumerate(pan(1, 5)):
        Image.fromarray(frame).save(tmp_path / "in" / f"scan_{index + 37:05d}.png")
    colorize(tmp_path / "in" / "scan_%05d.png", tmp_path / "out" / f"c_%04d.{ending}")
    names = sorted(file.name for file in (tmp_path / "out").iterdir() if file.is_file())
    assert names == [f"c_{index:04d}.{ending}" for index in range(37, 42)]
    colored = np.stack([f.to_ndarray(format="rgb24") for f in decode(tmp_path / "out" / names[0])])
    luma = colored[0] @ np.array([0.299, 0.587, 0.114])  # of a small film
    assert np.abs(luma - pan(1, 5)[0]).max() <= 2
    assert np.ptp(colored.astype(int), axis=3).max() > 20
    with pytest.raises(FilmError, match="no file has a name of this pattern"):
        colorize(tmp_path / "in" / "other_%d.png", tmp_path / "out" / "c_%d.png")


@pytest.mark.parametrize("codec", ["h265", "av1", "prores", "ffv1"])
def test_codecs(tmp_path, codec):
    source = write_film(tmp_path / "a.mkv", pan(1, 6), fmt="yuv420p10le")
    colorize(source, tmp_path / "b.mkv", codec=codec)
    frames = decode(tmp_path / "b.mkv")
    assert len(frames) == 6 and "10" in frames[0].format.name
    wanted = luma_plane(decode(source)[0]).astype(int)
    assert np.abs(luma_plane(frames[0]).astype(int) - wanted).mean() < 8


def test_interlaced_films_stay_interlaced(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        flags = av.codec.context.Flags
        stream.codec_context.flags |= flags.interlaced_dct | flags.interlaced_me
        stream.options = {"x264-params": "tff=1"}
        for index, plane in enumerate(pan(1, 6)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert decode(path)[0].interlaced_frame
    colorize(path, tmp_path / "b.mkv")
    after = decode(tmp_path / "b.mkv")
    assert len(after) == 6 and all(frame.interlaced_frame for frame in after)


def test_rotation_and_aspect_are_kept(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        stream.set_display_rotation(90)
        for index, plane in enumerate(pan(1, 5)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plane), format="gray")
            frame = frame.reformat(format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    colorize(path, tmp_path / "b.mp4")
    frames = decode(path)[0], decode(tmp_path / "b.mp4")[0]
    assert frames[0].rotation == frames[1].rotation == 90
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)
        assert container.streams.video[0].codec_context.colorspace == 6


def test_chapters_and_subtitles_are_kept(tmp_path):
    plain = write_film(tmp_path / "plain.mkv", pan(1, 20))
    source = tmp_path / "a.mkv"
    text = tmp_path / "a.srt"
    text.write_text("1\n00:00:00,100 --> 00:00:00,500\nGood morning\n")
    film, titles, container = av.open(str(plain)), av.open(str(text)), av.open(str(source), "w")
    with film, titles, container:
        video = container.add_stream_from_template(film.streams.video[0])
        subtitle = container.add_stream_from_template(titles.streams.subtitles[0])
        first = {"id": 1, "start": 0, "end": 400, "metadata": {"title": "I"}}
        second = {"id": 2, "start": 400, "end": 800, "metadata": {}}
        base = Fraction(1, 1000)
        container.set_chapters([{**one, "time_base": base} for one in (first, second)])
        container.add_attachment("note.txt", "text/plain", b"kept")
        for one, stream in ((film, video), (titles, subtitle)):
            for packet in one.demux(one.streams[0]):
                if packet.size:
                    packet.stream = stream
                    container.mux_one(packet)
    colorize(source, tmp_path / "b.mkv")
    with av.open(str(source)) as a, av.open(str(tmp_path / "b.mkv")) as b:
        assert [stream.type for stream in b.streams] == ["video", "subtitle", "attachment"]
        kept = [
            [(one["start"], one["end"], one["metadata"]) for one in film.chapters()]
            for film in (a, b)
        ]
        assert kept[0] == kept[1]
        lines = [[bytes(p) for p in f.demux(f.streams.subtitles[0]) if p.size] for f in (a, b)]
        assert lines[0] == lines[1] == [b"Good morning"]
