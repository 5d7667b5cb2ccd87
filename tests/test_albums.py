"""An album agrees with itself: what its pictures share, and whose colours go where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_run import names, run
from PIL import Image

pytest.importorskip("skimage")
pytest.importorskip("cv2")

from pipeline_colorize import photo
from pipeline_colorize.core.colorimetry import rgb_pixels_to_lab
from pipeline_colorize.core.hints import certain_influence, draw_hints
from pipeline_colorize.core.luminance import see
from pipeline_colorize.core.mending import with_light_of
from pipeline_colorize.telling import albums
from pipeline_colorize.telling.albums import Album, color_album
from pipeline_colorize.telling.choosing import Match, choose_hints
from pipeline_colorize.telling.matching import fill_between, find_features, match_features

EXAMPLES = Path(__file__).parents[1] / "space" / "examples"


@pytest.fixture(scope="module")
def church():
    """Taos Pueblo, 1942 (Ansel Adams, National Archives), 480 pixels wide."""
    whole = Image.open(EXAMPLES / "taos-pueblo-church-1942.jpg").convert("L")
    return whole.resize((480, round(480 * whole.height / whole.width)))


@pytest.fixture(scope="module")
def crops(church):
    """Three crops, of which the second shares most; and a picture of something else."""
    width, height = church.size
    boxes = [(0, 0, 290, height), (90, 0, 390, height), (200, 0, width, height)]
    found = [church.crop(box) for box in boxes]
    found[2] = found[2].rotate(3, Image.Resampling.BICUBIC).point(lambda v: 0.85 * v + 10)
    other = Image.open(EXAMPLES / "mark-twain-1907.jpg").convert("L").resize((200, 260))
    return [*found, other]


def in_color(grey, color):
    light = see(grey).luminance
    return Image.fromarray(with_light_of(np.full((*light.shape, 3), color, np.uint8), light))


def mean_chroma(hints):
    return np.mean([hint.chroma() for hint in hints], axis=0)


def test_the_picture_that_shares_most_comes_first_and_loners_last(crops):
    album = Album()
    for crop in (crops[3], crops[0], crops[1], crops[2]):
        album.add(crop)
    order = album.order()
    assert sorted(order) == [0, 1, 2, 3]
    assert order[0] == 2 and order[-1] == 0
    assert album.hints(1) == []  # nobody has colours yet


def test_colours_are_handed_on_where_the_same_is_shown(crops):
    album = Album()
    for crop in crops:
        album.add(crop)
    album.order()
    album.color(1, in_color(crops[1], (150, 60, 50)))
    assert album.sources(0) == [1] and album.sources(3) == []
    hints = album.hints(0)
    assert len(hints) > 20
    assert all(hint.x > 85 for hint in hints)  # what the second crop does not show has none
    red = rgb_pixels_to_lab(np.array((150, 60, 50)) / 255)[1:]
    assert (
        mean_chroma(hints) @ red / np.linalg.norm(mean_chroma(hints)) / np.linalg.norm(red) > 0.99
    )
    assert album.hints(3) == []
    assert len(album.hints_of(crops[2])) > 10 and album.hints_of(crops[3]) == []
    assert all(0.95 <= hint.confidence < 1 for hint in hints)


def test_no_match_is_as_certain_as_a_colour_that_someone_sets():
    matches = [Match(x, 5.0, np.zeros(2), sure) for x, sure in ((5.0, 1.0), (50.0, 0.96))]
    hints = choose_hints(matches, (100, 100), (0, 100, 0, 100))
    assert hints[0].confidence < 1 and hints[1].confidence == 0.96
    certain = [replace(hint, confidence=1.0) for hint in hints]
    where = (100, 100), (20, 20)
    for doubtful in (False, True):  # yet each network sees it as certain
        assert (draw_hints(hints, *where, doubtful) == draw_hints(certain, *where)).all()
    assert certain_influence(hints, *where).max() == 0
    assert certain_influence(certain, *where).max() == 1


def test_given_colours_come_before_those_that_were_invented(crops):
    album = Album()
    for crop in crops[:3]:
        album.add(crop)
    album.add(crops[1], colors=in_color(crops[1], (60, 90, 160)))  # a reference
    assert album.order()[0] in (0, 1, 2) and 3 not in album.order()
    album.color(1, in_color(crops[1], (150, 60, 50)))
    assert mean_chroma(album.hints(0))[1] < 0  # blue


def test_chroma_is_handed_on_like_a_picture(crops):
    album, chroma = Album(), np.zeros((2, 30, 30), np.float32)
    chroma[:, :, 15:] = 40
    left, right = album.add(crops[0]), album.add(crops[1])
    album.order()
    height = crops[0].height
    album.color(left, chroma, box=(0, height, 90, 290))
    strong = 40 * albums._GAIN  # since these colours were invented
    for hint in album.hints(right):  # whose left edge is at 90 of the first
        expected = 0 if hint.x < 90 else strong if hint.x > 110 else None
        if expected is not None:
            np.testing.assert_allclose(hint.chroma(), expected, atol=3)


def test_places_between_matches_lie_where_they_should(crops):
    ours, theirs = (find_features(see(crop).luminance) for crop in crops[:2])
    matches = match_features(ours, theirs)
    filled = fill_between(ours, theirs, matches)
    added = slice(len(matches), len(filled))
    assert len(filled) > len(matches) + 20
    np.testing.assert_allclose(filled.ours[added, 0], filled.theirs[added, 0] + 90, atol=4)
    np.testing.assert_allclose(filled.ours[added, 1], filled.theirs[added, 1], atol=4)
    assert (filled.confidence[added] <= filled.confidence.min()).all()


def test_in_a_large_album_only_those_that_look_alike_are_compared(crops, monkeypatch):
    monkeypatch.setattr(albums, "_COMPARED", 3)
    album = Album()
    for name in ("suffrage-parade-1917", "wright-flyer-1903", "paris-herb-seller-1899"):
        album.add(Image.open(EXAMPLES / f"{name}.jpg").convert("L").resize((240, 200)))
    numbers = [album.add(crop) for crop in crops[:3]]
    album.order()
    album.color(numbers[1], in_color(crops[1], (150, 60, 50)))
    assert album.sources(numbers[0]) == album.sources(numbers[2]) == [numbers[1]]


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_one_thing_gets_one_colour(crops, engine):
    from pipeline_colorize import ColorizationPipeline, ORTColorizationPipeline
    from pipeline_colorize.onnx.noise import TorchGenerator

    cheap = {"num_inference_steps": 1, "num_candidates": 1, "second_look": 1.0, "temperature": 1.0}
    if engine == "onnx":
        pipe, make = ORTColorizationPipeline.from_pretrained("default"), TorchGenerator
    else:
        torch = pytest.importorskip("torch")
        pipe = ColorizationPipeline.from_pretrained("default", dtype=torch.float32)
        pipe.set_progress_bar_config(disable=True)
        make = torch.Generator

    def left_and_middle(results):
        parts = results[0].crop((90, 340, 290, 640)), results[1].crop((0, 340, 200, 640))
        parts = [np.asarray(part.resize((10, 15), Image.BOX)) / 255 for part in parts]
        one, two = (rgb_pixels_to_lab(part)[..., 1:] for part in parts)
        return np.linalg.norm(one - two, axis=-1).mean()

    seeds = [make().manual_seed(number) for number in range(2)]
    alone = [pipe(c, generator=s, **cheap).images[0] for c, s in zip(crops, seeds, strict=False)]
    together = dict(color_album(pipe, crops[:2], seeds=(0, 1), **cheap))
    assert sorted(together) == [0, 1]
    assert left_and_middle(together) < 0.5 * left_and_middle(alone)


# --- by the command -------------------------------------------------------------------------------


QUICK = ["--consistent", "--steps", 1, "--candidates", 1, "--second-look", 1, "--runtime", "onnx"]


@pytest.fixture
def folder(crops, tmp_path):
    (tmp_path / "album").mkdir()
    for name, crop in zip("abcd", crops, strict=True):
        crop.save(tmp_path / "album" / f"{name}.png")
    return tmp_path / "album"


def mark_of(path):
    return photo.read_mark(photo.read_packet(path))["AIPromptInformation"]


def test_an_album_by_the_command_goes_on_where_it_stopped(folder, tmp_path):
    out = tmp_path / "out"
    result = run(folder, "-o", out, *QUICK)
    assert result.exit_code == 0 and "4 colorized" in result.stderr, result.output
    assert result.stdout.splitlines()[0].startswith(str(folder / "b.png"))
    assert "colors_of=b.png c.png; consistent=yes" in mark_of(out / "a.png") or (
        "colors_of=b.png; consistent=yes" in mark_of(out / "a.png")
    )
    assert "colors_of" not in mark_of(out / "d.png")
    assert "4 done already" in run(folder, "-o", out, *QUICK).stderr
    before = (out / "a.png").read_bytes()
    (out / "a.png").unlink()
    assert "1 colorized, 3 done already" in run(folder, "-o", out, *QUICK).stderr
    found, wanted = (np.asarray(Image.open(one), int) for one in (out / "a.png", save(before, out)))
    assert np.abs(found - wanted).mean() < 2


def save(content, folder):
    (folder / "before.bin").write_bytes(content)
    return folder / "before.bin"


def test_a_mended_picture_passes_its_colours_on(folder, crops, tmp_path):
    out = tmp_path / "out"
    run(folder, "-o", out, *QUICK)
    in_color(crops[1], (60, 90, 160)).save(out / "b.png")  # mended elsewhere
    result = run(folder, "-o", out, *QUICK, "--reference", out / "b.png")
    assert "3 colorized, 1 done already" in result.stderr
    blue = np.asarray(Image.open(out / "a.png").crop((100, 20, 280, 200))) / 255
    assert rgb_pixels_to_lab(blue)[..., 2].mean() < -10
    assert names(out) == ["a.png", "b.png", "c.png", "d.png"]


def test_chroma_files_of_an_album_agree(folder, tmp_path):
    result = run(folder, "-o", f"{tmp_path / 'out'}/", *QUICK, "--chroma-only")
    assert result.exit_code == 0 and "4 colorized" in result.stderr, result.output
    (tmp_path / "out" / "a.chroma.png").unlink()
    again = run(folder, "-o", f"{tmp_path / 'out'}/", *QUICK, "--chroma-only")
    assert "1 colorized, 3 done already" in again.stderr


@pytest.mark.parametrize("options", [["--samples", 2], ["--shard", "1/2"], ["--chroma", "x"]])
def test_what_an_album_cannot_have(folder, tmp_path, options):
    (tmp_path / "x").mkdir()
    options = [tmp_path / "x" if option == "x" else option for option in options]
    result = run(folder, "-o", tmp_path / "out", "--consistent", *options)
    assert result.exit_code in (1, 2) and "--" in result.stderr
    assert not (tmp_path / "out").exists()
