"""The studies of references and mends: what a pair is, and what their figures say."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from studies import mends, references


@pytest.fixture(scope="module")
def picture():
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(60, 200, (12, 16, 3), np.uint8))
    return np.asarray(coarse.resize((160, 120), Image.BICUBIC))


def test_crops_show_the_same_and_the_next_photograph_something_else(picture, tmp_path):
    for number in range(3):
        Image.fromarray(np.roll(picture, number, axis=2)).save(tmp_path / f"{number}.png")
    pairs = list(references.crops(tmp_path, references.ReferenceOptions(pairs=3, side=80)))
    assert [pair.protocol for pair in pairs] == ["crops", "something else"] * 3
    for pair in pairs:
        assert pair.grey.shape == pair.truth.shape[:2] and min(pair.grey.shape) == 80
    assert not np.array_equal(pairs[0].reference, pairs[1].reference)


def test_true_hints_are_true(picture):
    pair = references.Pair("crops", references.to_grey(picture), picture, picture)
    for hint in references.true_hints(pair, 20):
        there = picture[int(hint.y), int(hint.x)].astype(int)
        assert np.abs(there - hint.color).max() < 25


def test_a_palette_is_near_where_the_colours_are_the_same_wherever_they_are(picture):
    moved = np.roll(picture, 40, axis=1)[::-1]
    other = np.roll(picture, 1, axis=2)
    assert references.palette_distance(moved, picture) < 0.01
    assert references.palette_distance(other, picture) > 1


def test_figures_compare_colours_at_equal_light(picture):
    darker = np.asarray(Image.fromarray(picture).point(lambda value: value))
    assert references.measure(darker, picture)["ciede2000"] == 0
    grey = np.repeat(references.to_grey(picture)[..., None], 3, axis=2)
    figures = references.measure(grey, picture)
    assert figures["ciede2000"] > 5 and figures["colorfulness"] < 1


def test_the_table_has_the_means_of_each_protocol():
    ways = {"none": {"ciede2000": 10.0, "colorfulness": 20.0}}
    ways["reference"] = {"ciede2000": 7.0, "colorfulness": 21.0}
    records = [
        {"protocol": "crops", "figures": ways, "hints": {"reference": count}, "truth": 22.0}
        for count in (0, 60)
    ]
    lines = list(references.table(records))
    assert lines[2] == "| crops, 2 | truth | | | 0 | | 22.0 |"
    assert lines[4] == "| | reference | 1 | 30 | 7.00 | -30.0% | 21.0 |"


def test_a_place_that_is_mended_is_wrong_and_small(picture):
    inside, mask = (mends.circle((120, 160), 3, share) for share in (mends.WRONG, mends.MASK))
    assert inside.sum() == pytest.approx(np.pi * (mends.WRONG * 120) ** 2, rel=0.05)
    assert (inside <= mask).all()
    tinted = np.where(inside[..., None], np.uint8((190, 40, 40)), picture)
    assert mends.error(picture, picture, inside) == 0 < mends.error(tinted, picture, inside)
    assert mends.error(tinted, picture, ~inside) == 0


def test_a_folder_without_photographs_is_named(tmp_path):
    with pytest.raises(ValueError, match="No photographs"):
        next(mends.load(tmp_path, mends.MendOptions()))
