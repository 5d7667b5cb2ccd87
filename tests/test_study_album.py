"""The study of albums: what a view shows, and what its measure of agreement says."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from studies import album


@pytest.fixture(scope="module")
def photograph():
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(60, 200, (12, 16, 3), np.uint8))
    return np.asarray(coarse.resize((320, 240), Image.BICUBIC))


@pytest.fixture(scope="module")
def views(photograph):
    return album.make_album([photograph], 6, 100)


def test_views_are_grey_and_know_where_they_come_from(photograph, views):
    for view in views:
        assert view.grey.ndim == 2 and min(view.grey.shape) == 100
        x, y, w = np.linalg.inv(view.from_source) @ (50, 40, 1)
        source, seen = photograph[round(y / w), round(x / w)], view.truth[40, 50]
        assert np.abs(source.astype(int) - seen).max() < 12


def test_true_colours_agree_and_tinted_ones_do_not(photograph, views):
    truth = [view.truth for view in views]
    agreed = album.spread(views, truth, [photograph])
    assert agreed < 1
    tints = [(12, 0, 0) if number % 2 else (0, 0, 12) for number in range(len(views))]
    tinted = [np.uint8(one + tint) for one, tint in zip(truth, np.array(tints), strict=True)]
    assert album.spread(views, tinted, [photograph]) > agreed + 2
    assert album.measure(views, truth, [photograph])["error"] == 0


def test_a_folder_without_photographs_is_named(tmp_path):
    with pytest.raises(ValueError, match="No photographs"):
        album.load(tmp_path, album.AlbumOptions())
