"""The script that makes data sets: what it leaves out, splits and refuses."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import load_script
from datasets import load_dataset
from PIL import Image
from skimage.color import rgb2lab

from pipeline_colorize.training.cleaning import near_pairs
from pipeline_colorize.training.survey import hash_picture, split_sizes

prepare_dataset = load_script("prepare_dataset")


def scene(seed: int, size=(48, 40)) -> Image.Image:
    """A smooth random colour picture."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


def sepia(image: Image.Image) -> Image.Image:
    grey = np.asarray(image.convert("L"), float)[..., None] / 255
    return Image.fromarray((grey ** [0.9, 1.1, 1.6] * 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path):
    """20 good pictures, and one of each fault."""
    source = tmp_path / "source"
    source.mkdir()
    for seed in range(20):
        scene(seed).save(source / f"{seed:02d}.png")
    scene(3).save(source / "exact.png")
    scene(4).save(source / "near.jpg", quality=80)
    scene(50).convert("L").save(source / "grey.png")
    sepia(scene(51)).save(source / "sepia.png")
    (source / "broken.png").write_bytes((source / "00.png").read_bytes()[:200])
    return source


def run(*arguments):
    return CliRunner().invoke(prepare_dataset.main, [str(argument) for argument in arguments])


def test_faulty_pictures_and_duplicates_are_left_out_and_listed(folder, tmp_path):
    output = tmp_path / "pairs"
    result = run(folder, output, "--size", 16, "--splits", "train=14,validation=.15,test=3")
    assert result.exit_code == 0, result.output
    report = json.loads((output / "report.json").read_text())
    names = {kind: [line.split("(")[1][:-1] for line in lines] for kind, lines in report.items()}
    assert names["corrupt"] == ["broken.png"]
    assert names["grey"] == ["grey.png"] and names["toned"] == ["sepia.png"]
    assert sorted(names["duplicate"]) == ["exact.png", "near.jpg"]
    assert "14 train, 3 validation, 3 test" in result.output
    assert "| train | 14 |" in (output / "README.md").read_text()

    splits = load_dataset(str(output))
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 14,
        "validation": 3,
        "test": 3,
    }
    seen = set()
    for row in (row for split in splits.values() for row in split):
        colour, grey = np.asarray(row["image"]), np.asarray(row["gray"])
        assert colour.shape == (16, 16, 3) and grey.shape == (16, 16)
        stacked = np.stack([grey] * 3, 2)
        assert np.abs(rgb2lab(colour)[..., 0] - rgb2lab(stacked)[..., 0]).max() < 0.3
        seen.add(colour.tobytes())
    assert len(seen) == 20


def test_the_split_follows_from_the_seed(folder, tmp_path):
    def train_set(name, *more):
        output = tmp_path / name
        run(folder, output, "--size", 16, "--splits", "train=.5,test=.5", *more)
        return {np.asarray(row["image"]).tobytes() for row in load_dataset(str(output))["train"]}

    assert train_set("a") == train_set("b") != train_set("c", "--seed", 1)


def test_leaks_between_the_splits_of_a_source_are_refused(folder, tmp_path):
    for split, seeds in {"train": range(8), "test": range(6, 11)}.items():
        (tmp_path / "own" / split).mkdir(parents=True)
        for seed in seeds:
            scene(seed).save(tmp_path / "own" / split / f"{seed:02d}.png")
    arguments = [tmp_path / "own", tmp_path / "pairs", "--size", 16, "--keep-splits"]
    result = run(*arguments)
    assert result.exit_code == 1 and not (tmp_path / "pairs").exists()
    assert "train 6 (06.png) is a duplicate of test 8 (06.png)" in result.output
    assert "2 leaks" in result.output
    result = run(*arguments, "--drop-leaks")
    assert result.exit_code == 0 and "6 train, 5 test" in result.output


def test_near_pairs_are_all_those_within_the_distance():
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 2**63, 200, dtype=np.uint64)
    for place in range(100):  # neighbours of 0 to 4 other bits
        flips = generator.choice(64, place % 5, replace=False)
        hashes[100 + place] = hashes[place] ^ np.bitwise_or.reduce(
            np.uint64(1) << flips.astype(np.uint64), initial=np.uint64(0)
        )
    for distance in (0, 1, 2):
        expected = [
            (first, second)
            for first in range(200)
            for second in range(first + 1, 200)
            if int(hashes[first] ^ hashes[second]).bit_count() <= distance
        ]
        assert near_pairs(hashes, distance) == expected
        assert len(expected) >= 20 * (distance + 1)


def test_hash_keeps_through_compression_and_tells_pictures_apart():
    def hash_of(image):
        pixels = np.asarray(image.convert("RGB")).copy()
        return hash_picture(torch.from_numpy(pixels).permute(2, 0, 1))

    assert (hash_of(scene(1)) ^ hash_of(scene(1, (96, 80)))).bit_count() <= 2
    assert (hash_of(scene(1)) ^ hash_of(scene(2))).bit_count() > 10


def test_impossible_splits_are_refused():
    with pytest.raises(ValueError, match="10 usable pictures do not make.*28000"):
        split_sizes({"train": 28000, "test": 1}, 10)
    assert split_sizes({"train": 0.8, "test": 2}, 10) == {"train": 8, "test": 2}
