"""The sheets of `scripts/illustrate.py`, on a tiny model and tiny pictures."""

import numpy as np
import pytest
import torch
from conftest import load_script, smooth_picture, tiny_unet
from PIL import Image

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def sheets():
    return load_script("illustrations.sheets")


@pytest.fixture(scope="module")
def pipe():
    return ColorizationPipeline(
        tiny_unet("grid"),
        OffsetCosineScheduler(),
        default_num_inference_steps=2,
        default_processing_resolution=32,
    )


def save(path, height, width, seed=0):
    picture = smooth_picture(height, width, seed).movedim(0, -1).numpy()
    Image.fromarray((255 * picture).round().astype(np.uint8)).save(path)
    return path


def test_pages_are_written(sheets, pipe, tmp_path, capsys):
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "pictures").mkdir()
    save(tmp_path / "pictures" / "wide.png", 400, 600)
    large = save(tmp_path / "pictures" / "high.png", 700, 500, 1)
    output = tmp_path / "docs" / "sheets"
    output.mkdir(parents=True)
    (output / "color-2.jpg").write_text("of an earlier run")
    options = ["--photographs", tmp_path / "pictures", "--color", tmp_path / "pictures"]
    options += ["--old-color", tmp_path / "pictures", "--every", 2]
    options += ["--large", large, "--model", tmp_path / "model", "--output", output]
    words = ["sheets", *map(str, options)]
    load_script("illustrate").main(words, standalone_mode=False)
    written = sorted(path.name for path in output.iterdir())
    assert written == ["color-1.jpg", "crops-1.jpg", "old-color-1.jpg", "photographs-1.jpg"]
    assert capsys.readouterr().out.split() == [
        str(output / f"{name}-1.jpg") for name in ("photographs", "color", "old-color", "crops")
    ]
    sizes = {path.stem: Image.open(path).size for path in output.iterdir()}
    assert sizes["photographs-1"][0] == 4 * 340 + 5 * sheets.GAP  # grey and three seeds
    assert sizes["color-1"][0] == 3 * 340 + 4 * sheets.GAP
    # Three seeds between grey and truth, of the high picture alone.
    assert sizes["old-color-1"][0] == 5 * 214 + 6 * sheets.GAP
    assert sizes["crops-1"][0] == 3 * 400 + 4 * sheets.GAP
    for path in output.iterdir():
        assert path.stat().st_size < 1_500_000
        assert Image.open(path).layer[1][1:3] == (1, 1)  # colour is not subsampled


def test_crops_are_the_pipeline_s_own_pixels(sheets, pipe, tmp_path):
    path = save(tmp_path / "a.png", 500, 1300)
    rows = list(sheets.crop_rows(pipe, path, seed=7, megapixels=12))
    truth = Image.open(path)
    result = pipe(sheets.grey(pipe, truth), generator=torch.Generator().manual_seed(7)).images[0]
    for row in rows:
        x, y = (int(number) for number in row.title.split("from ")[1].split(", "))
        box = (x, y, x + 400, y + 400)
        for view, whole in zip(row.pictures[1:], (result, truth), strict=True):
            assert np.array_equal(np.asarray(view), np.asarray(whole.crop(box)))
    assert len({row.title for row in rows}) == len(rows) > 1


def test_large_pictures_are_brought_to_the_megapixels(sheets, pipe, tmp_path):
    path = save(tmp_path / "a.png", 1000, 1500)
    (row, *_) = sheets.crop_rows(pipe, path, seed=0, megapixels=0.96)
    assert row.title.startswith("a.png, 1200x800, from ")


def test_crops_are_where_colours_end(sheets):
    picture = np.full((1200, 2000, 3), 128, np.uint8)
    picture[640:840, 1240:1440] = (200, 60, 60)
    picture[:, :200] = np.arange(1200)[:, None, None] // 40 * 8  # light alone does not matter
    left, top = sheets.crop_places(Image.fromarray(picture))[0]
    assert 1032 < left <= 1240 and 432 < top <= 640
    assert left + 400 >= 1440 and top + 400 >= 840


def test_rows_fill_pages_in_order(sheets):
    rows = [sheets.Row(f"{n}", [Image.new("RGB", (10, 500))]) for n in range(8)]
    filled = list(sheets.pages(rows))
    assert [len(page) for page in filled] == [3, 3, 2]
    assert [row.title for page in filled for row in page] == [f"{n}" for n in range(8)]


def test_a_page_that_is_too_large_loses_quality(sheets, monkeypatch):
    page = Image.effect_noise((600, 600), 40).convert("RGB")
    large = len(sheets.encode(page))
    monkeypatch.setattr(sheets, "LARGEST_PAGE", large // 2)
    assert len(sheets.encode(page)) <= large // 2
    monkeypatch.setattr(sheets, "LARGEST_PAGE", 100)
    with pytest.raises(ValueError, match="does not fit"):
        sheets.encode(page)
