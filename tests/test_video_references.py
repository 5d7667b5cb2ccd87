"""Films whose colours are given: references, and shots that show again what was seen."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from test_video import SIZE, FakeORTPipeline, decode, planes_of, write_film

from pipeline_colorize.cli import main
from pipeline_colorize.video import FilmOptions, Reference, Seen, VideoColorizer, colorize_film
from pipeline_colorize.video.colorizer import RGB_LEVELS, merge
from pipeline_colorize.video.film import Part, share_of
from pipeline_colorize.video.light import working_light
from pipeline_colorize.video.references import Reference as ReferenceOfRoom
from pipeline_colorize.video.references import were_used
from pipeline_colorize.video.scenes import ShotLights, find_scenes, roots, scene_place


class TellingORTPipeline(FakeORTPipeline):
    """As its parent, but it counts the pictures that it is given as references."""

    def __init__(self):
        super().__init__()
        self.references = []

    def __call__(self, image, reference_images=None, **options):
        self.references.append(len(reference_images or ()))
        return super().__call__(image, **options)


TellingORTPipeline.__name__ = "ORTTelling"


def busy(seed: int, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """A picture with many corners, bytes."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), 120, np.uint8)
    for _ in range(90):
        top, left = rng.integers(0, height - 6), rng.integers(0, width - 6)
        tall, wide = rng.integers(3, 14, 2)
        picture[top : top + tall, left : left + wide] = rng.integers(20, 235)
    return picture


def shots_of(seeds, length: int = 7, shift: int = 0) -> list[np.ndarray]:
    """Shots in which the camera moves by some pixels over one picture each."""
    return [
        np.roll(busy(seed), -shift * place - index, 1)
        for place, seed in enumerate(seeds)
        for index in range(length)
    ]


def packed_lights(frames, starts):
    lights = ShotLights()
    for index, frame in enumerate(frames):
        light = working_light(frame, RGB_LEVELS)
        lights.add(light, 1 if index in starts else None)
    return lights.finished()


def test_shots_that_show_again_what_was_seen_are_found():
    frames = shots_of([1, 2, 1, 3, 2], shift=1)
    packed = packed_lights(frames, {7, 14, 21, 28})
    assert len(packed) == 5
    assert find_scenes(packed) == [None, None, 0, None, 1]


def test_the_light_of_a_shot_is_that_of_its_place():
    import cv2

    planes = [np.full((32, 32), 40 + 3 * index, np.uint8) for index in range(60)]
    lights, starts = ShotLights(), [0, 5, 25]
    for index, plane in enumerate(planes):
        lights.add(plane, 3 if index - 2 in starts[1:] else None)  # a cut is known two frames later
    kept = [int(cv2.imdecode(one, 0).mean().round()) for one in lights.finished()]
    places = [start + scene_place(stop - start) for start, stop in ((0, 5), (5, 25), (25, 60))]
    assert kept == pytest.approx([planes[place].mean() for place in places], abs=1)


def test_even_frames_are_no_scene():
    assert find_scenes(packed_lights([np.full(SIZE, 30, np.uint8)] * 12, {6})) == [None, None]


def test_shots_of_one_scene_go_into_one_shard():
    parts = [Part(number, number, 10 * number - 10, 10 * number, False) for number in range(1, 7)]
    scenes = [None, None, None, 0, 1, 3]
    assert roots(scenes) == [0, 1, 2, 0, 1, 0]
    shares = [{one.shot for one in share_of(parts, (which, 3), scenes)} for which in (1, 2, 3)]
    assert shares == [{1, 2, 4, 5, 6}, {3}, set()]


def test_a_shot_that_shows_the_same_gets_the_same_colours():
    lights = [working_light(frame, RGB_LEVELS) for frame in shots_of([4], 5)]
    pipe = TellingORTPipeline()
    colorizer = VideoColorizer(pipe)
    own = colorizer.color_part(lights)
    given = np.full_like(own[2], 25)
    told = colorizer.color_part(lights, seen=[Seen.of_frame(lights[2], given)])
    assert pipe.references == [0, 0, 1, 1]
    middle = np.s_[:, 4:-4, 8:-8]
    assert np.abs(told[2] - 25)[middle].mean() < np.abs(own[2] - 25)[middle].mean() / 5
    other = working_light(busy(77), RGB_LEVELS)
    unlike = colorizer.color_part(lights, seen=[Seen.of_frame(other, given)])
    assert np.abs(unlike[2] - own[2]).mean() < 3


def red(frame: np.ndarray) -> np.ndarray:
    return np.stack([frame, frame // 2, frame // 2], -1)


def colors_of(path) -> np.ndarray:
    frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in decode(path)]
    return np.array([(frame[..., 0] - frame[..., 2]).mean() for frame in frames])


def test_the_reference_of_a_frame_colours_its_shot_alone(tmp_path):
    frames = shots_of([1, 2, 3])
    source, target = write_film(tmp_path / "a.mkv", frames), tmp_path / "b.mkv"
    options = {"codec": "ffv1", "keep_work": True}
    colorize_film(source, target, FakeORTPipeline(), FilmOptions(**options))
    before, planes = colors_of(target), planes_of(target)
    told = FilmOptions(**options, references=(Reference(red(frames[10]), 0.4, "red.png"),))
    pipe = TellingORTPipeline()
    colorize_film(source, target, pipe, told)
    assert pipe.calls == 2 and set(pipe.references) == {0}  # of the other keyframes of one shot
    assert (colors_of(target)[7:14] > before[7:14] + 15).all()
    after = planes_of(target)
    assert after[:7] == planes[:7] and after[14:] == planes[14:]
    import av

    with av.open(str(target)) as film:
        assert f"References: red.png#{told.references[0].digest[:16]}." in film.metadata["COMMENT"]
    assert were_used(target, told.references) and were_used(target, ())
    assert not were_used(target, (Reference(red(frames[3]), 0.4, "red.png"),))


def test_a_reference_of_another_frame_is_matched(tmp_path):
    """A picture that is not the frame of its time, and one without a time, become references."""
    frames = shots_of([1, 2])
    source = write_film(tmp_path / "a.mkv", frames)
    for one, wanted in (
        (Reference(red(busy(9)), 0.1), [1, 1, 0, 0]),
        (Reference(red(busy(9))), [1] * 4),
    ):
        pipe = TellingORTPipeline()
        colorize_film(source, tmp_path / "b.mkv", pipe, FilmOptions(references=(one,)))
        assert pipe.references == wanted
    result = colorize_film(
        source,
        tmp_path / "b.mkv",
        pipe,
        FilmOptions(references=(Reference(red(busy(9)), 9.0, "late.png"),)),
    )
    assert result.notes == ["late.png is of 9 s, which is not coloured here"]


def test_a_scene_that_comes_back_follows_the_picture_of_its_first_shot(tmp_path):
    frames = shots_of([1, 2, 1])
    source, target = write_film(tmp_path / "a.mkv", frames), tmp_path / "b.mkv"
    options = FilmOptions(codec="ffv1", keep_work=True)
    pipe = TellingORTPipeline()
    colorize_film(source, target, pipe, options)
    assert pipe.references == [0, 0, 0, 0, 1, 1]
    before = colors_of(target)
    picture = tmp_path / "b.mkv.work" / "keyframes" / "shot-0001.png"
    Image.fromarray(red(frames[3])).save(picture)
    colorize_film(source, target, TellingORTPipeline(), options)
    after = colors_of(target)
    assert (after[:7] > before[:7] + 15).all() and (after[14:] > before[14:] + 10).all()
    assert (after[7:14] == before[7:14]).all()


def test_references_are_typed_with_a_time(tmp_path):
    from pipeline_colorize.command.film_references import read_references

    for name in ("a.png", "odd@5.png"):
        Image.fromarray(red(busy(1))).save(tmp_path / name)
    (tmp_path / "text.png").write_text("no picture")
    typed = (f"{tmp_path}/a.png@1:30", f"{tmp_path}/odd@5.png", f"{tmp_path}/a.png")
    found = read_references(typed)
    assert [(one.name, one.time) for one in found] == [
        ("a.png", 90.0),
        ("odd@5.png", None),
        ("a.png", None),
    ]
    assert isinstance(found[0], ReferenceOfRoom) and (found[0].picture == red(busy(1))).all()
    assert found[0].digest != found[2].digest
    source = write_film(tmp_path / "a.mkv", shots_of([1]))
    for bad, reason in (("none.png@3", "no such file"), ("text.png", "text.png: ")):
        done = CliRunner().invoke(main, [str(source), "--reference", str(tmp_path / bad)])
        assert done.exit_code == 1 and reason in done.stderr.lower()
        assert done.stderr.count("\n") == 1
    done = CliRunner().invoke(main, [str(source), "--colored", str(tmp_path / "a.png")])
    assert done.exit_code == 2 and "--colored is for photographs" in done.stderr


def test_merged_colours_are_those_of_a_seen_frame():
    light = working_light(busy(3), RGB_LEVELS)
    chroma = np.full((2, light.shape[0] // 4, light.shape[1] // 4), 20, np.float32)
    seen = Seen.of_frame(light, chroma)
    again = merge(seen.picture.mean(2).astype(np.uint8), chroma)
    assert seen.picture.shape == (*light.shape, 3)
    assert np.abs(again.astype(int) - seen.picture).mean() < 6


def test_the_command_does_a_film_again_when_a_picture_was_replaced(tmp_path):
    source = write_film(tmp_path / "a.mkv", shots_of([1, 2]))
    quick = ["--candidates", "1", "--second-look", "1", "--keep-work", "--codec", "ffv1", "--quiet"]
    assert CliRunner().invoke(main, [str(source), *quick]).exit_code == 0
    target = tmp_path / "a-colorized.mkv"
    before = colors_of(target)
    picture = tmp_path / "a-colorized.mkv.work" / "keyframes" / "shot-0002.png"
    Image.fromarray(red(shots_of([2])[3])).save(picture)
    assert CliRunner().invoke(main, [str(source), *quick]).exit_code == 0
    after = colors_of(target)
    assert (after[:7] == before[:7]).all() and (after[7:] > before[7:] + 10).all()
