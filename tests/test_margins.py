"""Margins around a photograph are found, and nothing of the photograph is taken for one."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_run import run
from conftest import load_script
from PIL import Image, ImageDraw
from skimage.color import rgb2lab

from pipeline_colorize.core.margins import picture_box

EXAMPLES = Path(__file__).parents[1] / "space" / "examples"
HISTORICAL = sorted(path.stem for path in EXAMPLES.glob("*.jpg"))
COLOR = sorted(path.stem for path in (EXAMPLES / "color").glob("*.jpg"))
BLACK, GRAY, WHITE = 3, 128, 250


def grays(name: str, side: int = 360) -> np.ndarray:
    """A photograph of the Space as sRGB grey, uint8 (H, W)."""
    folder = EXAMPLES / "color" if name in COLOR else EXAMPLES
    with Image.open(folder / f"{name}.jpg") as opened:
        picture = opened.convert("L")
    picture.thumbnail((side, side))
    return np.asarray(picture)


def lightness(gray: np.ndarray) -> np.ndarray:
    levels = np.arange(256)[:, None, None].repeat(3, axis=2) / 255
    return rgb2lab(levels)[:, 0, 0][gray]


def surrounded(gray: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], level: int):
    return np.pad(gray, (rows, columns), constant_values=level)


def assert_box(found, rows, columns, shape, slack=0.02):
    """The box is that of a picture of `shape` inside margins, to a share of the picture."""
    expected = (rows[0], rows[0] + shape[0], columns[0], columns[0] + shape[1])
    assert np.abs(np.subtract(found, expected)).max() <= max(2, slack * max(shape)), expected


@pytest.mark.parametrize("name", HISTORICAL + COLOR)
def test_a_bare_photograph_is_taken_whole(name):
    gray = grays(name, 800)
    assert picture_box(lightness(gray)) == (0, gray.shape[0], 0, gray.shape[1])


@pytest.mark.parametrize("level", [BLACK, GRAY, WHITE])
@pytest.mark.parametrize("name", HISTORICAL)
def test_margins_of_three_to_sixty_per_cent_are_found(name, level):
    gray = grays(name)
    for share in (0.03, 0.1, 0.3, 0.6):
        rows, columns = ([round(share * side)] * 2 for side in gray.shape)
        found = picture_box(lightness(surrounded(gray, rows, columns, level)))
        assert_box(found, rows, columns, gray.shape)


@pytest.mark.parametrize("level", [BLACK, GRAY, WHITE])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [((0, 120), (0, 90)), ((30, 250), (180, 20)), ((60, 60), (0, 0)), ((0, 0), (90, 140))],
    ids=["corner", "off centre", "letterbox", "pillarbox"],
)
@pytest.mark.parametrize("name", ["mark-twain-1907", "suffrage-parade-1917"])
def test_margins_need_not_be_alike_on_all_sides(name, rows, columns, level):
    gray = grays(name)
    found = picture_box(lightness(surrounded(gray, rows, columns, level)))
    assert_box(found, rows, columns, gray.shape)


@pytest.mark.parametrize("name", HISTORICAL)
def test_a_noisy_lid_that_is_lighter_at_one_end(name):
    gray, rng = grays(name), np.random.default_rng(0)
    rows, columns = [100, 80], [120, 90]
    page = surrounded(gray, rows, columns, 20).astype(float)
    lid = np.linspace(-4, 6, page.shape[1]) + rng.normal(0, 2, page.shape)
    lid[100:-80, 120:-90] = 0
    page = np.clip(page + lid, 0, 255).astype(np.uint8)
    assert_box(picture_box(lightness(page)), rows, columns, gray.shape)


@pytest.mark.parametrize("name", HISTORICAL)
def test_a_picture_with_a_white_rim_on_a_black_lid(name):
    gray = grays(name)
    page = surrounded(surrounded(gray, (20, 60), (20, 20), WHITE), (90, 40), (70, 100), BLACK)
    assert_box(picture_box(lightness(page)), (110, 100), (90, 120), gray.shape)


@pytest.mark.parametrize("name", HISTORICAL)
def test_a_picture_that_lies_askew(name):
    with Image.open(EXAMPLES / f"{name}.jpg") as opened:
        picture = opened.convert("LA")
    picture.thumbnail((480, 480))
    picture = picture.rotate(1.2, expand=True, resample=Image.Resampling.BICUBIC)
    page = Image.new("L", (picture.width + 160, picture.height + 200), BLACK)
    page.paste(picture.convert("L"), (60, 90), picture.getchannel("A"))
    found = picture_box(lightness(np.asarray(page)))
    assert_box(found, (90, 110), (60, 100), (picture.height, picture.width), slack=0.03)


@pytest.mark.parametrize("level", [BLACK, WHITE])
@pytest.mark.parametrize("name", HISTORICAL)
def test_a_caption_below_belongs_to_the_margin(name, level):
    gray = grays(name)
    rows, columns = (20, 150), (25, 25)
    page = Image.fromarray(surrounded(gray, rows, columns, level))
    for line in (30, 70):
        place = (40, rows[0] + gray.shape[0] + line)
        ink = 255 - level
        ImageDraw.Draw(page).text(place, "Aunt Zoe by the sea, 1912", fill=ink, font_size=20)
    assert_box(picture_box(lightness(np.asarray(page))), rows, columns, gray.shape)


@pytest.mark.parametrize("name", HISTORICAL)
def test_the_holes_of_a_film_belong_to_its_rebate(name):
    gray = grays(name)
    rows, columns = (110, 110), (25, 25)
    page = Image.fromarray(surrounded(gray, rows, columns, 14))
    for left in range(10, page.width, 44):
        for top in (35, page.height - 65):
            ImageDraw.Draw(page).rounded_rectangle((left, top, left + 24, top + 30), 4, fill=240)
    assert_box(picture_box(lightness(np.asarray(page))), rows, columns, gray.shape)


def test_the_edge_is_exact_in_a_large_scan():
    gray = np.asarray(Image.fromarray(grays("mark-twain-1907")).resize((2900, 1901)))
    page = surrounded(gray, (311, 97), (203, 402), BLACK)
    assert picture_box(lightness(page)) == (311, 311 + 1901, 203, 203 + 2900)


@pytest.mark.parametrize("level", [BLACK, GRAY, WHITE])
def test_an_even_sky_is_no_margin(level):
    """A sky with grain over a straight horizon, and a silhouette before an even wall."""
    rng = np.random.default_rng(0)
    sky = np.full((300, 400), float(level)).clip(4, 240)
    sky[180:] = rng.uniform(60, 180, (120, 400))
    wall = np.full((300, 400), float(level)).clip(4, 240)
    wall[60:, 140:260] = rng.uniform(60, 180, (240, 120))
    rows = np.arange(240)[:, None]
    slope = np.abs(np.arange(120) - 60) * 4 < rows
    wall[60:, 140:260][~slope] = wall[0, 0]
    for picture in (sky, wall):
        grain = (picture + rng.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8)
        assert picture_box(lightness(grain)) == (0, 300, 0, 400)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((1, 1)),
        np.full((400, 300), 50.0),
        np.repeat([[0.0, 100.0]], 200, axis=0).repeat(100, axis=1),
        np.pad(np.random.default_rng(0).uniform(0, 100, (10, 10)), 8),
        np.pad(np.full((200, 200), 60.0), 80),
    ],
    ids=["a pixel", "one level", "two halves", "too small", "an empty frame"],
)
def test_where_there_is_no_picture_to_find_all_of_it_is_taken(picture):
    assert picture_box(picture) == (0, picture.shape[0], 0, picture.shape[1])


def test_luminance_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 8, 8\)"):
        picture_box(np.zeros((1, 8, 8)))


# --- what is said of them -------------------------------------------------------------------------


def scans(folder: Path, level: int = BLACK) -> Path:
    """A folder with a photograph on a scanner's lid and a bare one."""
    gray = grays("mark-twain-1907", 160)
    folder.mkdir()
    Image.fromarray(surrounded(gray, (30, 10), (20, 40), level)).save(folder / "lid.png")
    Image.fromarray(gray).save(folder / "bare.png")
    return folder


def test_the_command_says_where_the_photograph_lies(tmp_path):
    folder, quick = scans(tmp_path / "in"), ("--steps", "2", "--candidates", "1")
    height, width = grays("mark-twain-1907", 160).shape
    place = {"left": 20, "top": 30, "width": width, "height": height}
    alone = run(folder / "lid.png", "-o", tmp_path / "one.png", *quick)
    assert f"photograph inside is {width} x {height} at (20, 30)" in alone.stderr
    several = run(folder, "-o", tmp_path / "out", *quick)
    assert "2 colorized, 1 had margins, which stay neutral" in several.stderr
    assert "photograph inside" not in several.stderr
    told = run(folder, "-o", tmp_path / "json", "--json", *quick)
    found = {Path(row["input"]).name: row for row in map(json.loads, told.stdout.splitlines())}
    assert found["lid.png"]["photograph"] == place and "photograph" not in found["bare.png"]
    off = run(folder / "lid.png", "-o", tmp_path / "off.png", "--no-find-margins", *quick)
    assert "margins" not in off.stderr


def test_the_figure_of_the_study_is_one_where_margins_are_found_to_the_pixel(monkeypatch):
    study = load_script("studies.margins")
    gray = grays("mark-twain-1907", 160)
    assert set(study.ratios(gray, None).values()) == {1.0}
    monkeypatch.setattr(study, "picture_box", lambda luminance: None)
    found = study.ratios(gray, lambda page, box: float(page.size))
    assert found["grey", 0.6] == pytest.approx(2.2**2, rel=0.02)
