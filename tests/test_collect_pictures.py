"""The script that makes sets from collections: reading, cleaning, splitting, terms."""

import json
import shutil
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner
from conftest import load_script
from datasets import load_dataset
from test_cleaning import photograph

from pipeline_colorize.training import collecting

collect_pictures = load_script("collect_pictures")

TABLE = {
    "streets": {
        "repository": "someone/streets",
        "files": ["photos/*"],
        "skip": ["*/map.jpg"],
        "label": r"photos/([a-z]+)",
        "set": "general",
        "terms": "NC",
        "held_out": {"general": 3},
    },
    "film": {
        "repository": "else/film",
        "files": ["*.jpg"],
        "series": r"/(\w)-\d",
        "terms_file": "terms/{name}.txt",
        "set": "film",
        "terms": "unknown",
        "held_out": {"general": 1},
    },
}


@pytest.fixture
def clones(tmp_path):
    """A clone with a work tree, and a bare one."""
    photos = tmp_path / "clones" / "someone" / "streets" / "photos"
    photos.mkdir(parents=True)
    for seed in range(20):
        photograph(seed, (360, 280)).save(photos / f"street{seed:02d}.jpg")
    photograph(0, (360, 280)).save(photos / "zcopy.png")
    photograph(40, (360, 280)).convert("L").save(photos / "grey.jpg")
    photograph(41, (360, 280)).save(photos / "map.jpg")
    (photos / "broken.jpg").write_bytes((photos / "street00.jpg").read_bytes()[:500])
    film = tmp_path / "film"
    (film / "terms").mkdir(parents=True)
    for number, name in enumerate("aabbccdd"):
        name = f"{name}-{number}.jpg"
        photograph(60 + number, (300, 300)).save(film / name)
        terms = "licenced under cc by 2.0" if number % 2 else "CC BY-ND 2.0"
        (film / "terms" / f"{name}.txt").write_text(terms)
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "film"]):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *command], cwd=film, check=True)
    bare = tmp_path / "clones" / "else" / "film.git"
    subprocess.run(["git", "clone", "-q", "--bare", film, bare], check=True)
    return tmp_path / "clones"


@pytest.fixture
def apart(tmp_path):
    """A folder whose only picture is a crop of one of the streets."""
    folder = tmp_path / "apart"
    folder.mkdir()
    photograph(5, (360, 280)).crop((40, 0, 320, 280)).save(folder / "crop.jpg")
    return folder


def run(clones, output, *arguments, table=TABLE):
    file = clones.parent / "table.yaml"
    file.write_text(yaml.safe_dump(table, sort_keys=False))
    words = [str(word) for word in (clones, output, "--table", file, *arguments)]
    return CliRunner().invoke(collect_pictures.main, words, catch_exceptions=False)


def pool(output: Path) -> list[str]:
    """Names of the clean pictures of the film."""
    file = output / "collections" / "film.parquet"
    return [image["path"] for image in pq.read_table(file)["image"].to_pylist()]


def names(folder: Path) -> dict[str, list[str]]:
    """Names of the pictures of a set by split."""
    data = load_dataset(str(folder), cache_dir=str(folder.parent / "cache"))
    data = data.cast_column("image", data["validation"].features["image"].__class__(decode=False))
    return {split: [row["image"]["path"] for row in rows] for split, rows in data.items()}


def test_sets_are_clean_apart_and_complete(clones, apart, tmp_path):
    output = tmp_path / "out"
    result = run(clones, output, "--apart", apart)
    assert result.exit_code == 0, result.output
    found = names(output / "general")
    every = sorted(sum(found.values(), []))
    # 20 streets less the one kept apart; of the film, 2 held out.
    assert len(found["validation"]) == len(found["test"]) == 4 and len(every) == 19 + 2
    assert len(set(every)) == len(every) and not any("street05" in name for name in every)
    assert not any(word in name for name in every for word in ("copy", "grey", "map", "broken"))
    left_out = json.loads((output / "collections" / "streets.json").read_text())
    assert left_out == {"broken": ["photos/broken.jpg"], "grey": ["photos/grey.jpg"]}
    numbers = [int(name[-6:-4]) for name in found["train"]]
    assert numbers != sorted(numbers)  # since a part of a split is to be like the whole
    row = load_dataset(str(output / "general"), cache_dir=str(tmp_path / "cache"))["train"][0]
    assert min(row["image"].size) == 256 and row["image"].format == "WEBP"
    assert (row["source"], row["label"], row["terms"]) == ("streets", "street", "NC")


def test_what_is_held_out_stays_and_its_series_leaves(clones, apart, tmp_path):
    run(clones, tmp_path / "one", "--only", "streets")
    run(clones, tmp_path / "two")
    first, second = names(tmp_path / "one" / "general"), names(tmp_path / "two" / "general")
    for split in ("validation", "test"):
        assert set(first[split]) == {name for name in second[split] if "streets/" in name}
    held = {name.split("/")[1][0] for name in sum(second.values(), []) if "film/" in name}
    table = load_dataset(
        "parquet",
        data_files=str(tmp_path / "two" / "film" / "train.parquet"),
        cache_dir=str(tmp_path / "cache"),
    )["train"]
    assert len(table) == 8 - 2 * len(held)


def test_deleted_pictures_are_read_from_an_older_commit(clones, tmp_path):
    film, bare = tmp_path / "film", clones / "else" / "film.git"
    head = ["git", "rev-parse", "HEAD"]
    older = subprocess.run(head, cwd=film, check=True, capture_output=True, text=True).stdout
    for command in (["rm", "-q", "*.jpg"], ["commit", "-q", "-m", "Remove the pictures"]):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *identity, *command], cwd=film, check=True)
    shutil.rmtree(bare)
    subprocess.run(["git", "clone", "-q", "--bare", film, bare], check=True)
    table = {"film": {**TABLE["film"], "commit": older.strip()}}
    assert run(clones, tmp_path / "bare", table=table).exit_code == 0
    assert len(pool(tmp_path / "bare")) == 8
    shutil.rmtree(bare)
    subprocess.run(["git", "clone", "-q", film, bare.with_suffix("")], check=True)
    assert run(clones, tmp_path / "tree", table=table).exit_code == 0
    assert len(pool(tmp_path / "tree")) == 8
    table["film"]["commit"] = "0" * 40
    result = run(clones, tmp_path / "none", table=table)
    assert result.exit_code == 1 and "clone without --depth" in result.output


def test_nothing_seen_in_training_is_held_out(clones, tmp_path):
    run(clones, tmp_path / "one", "--only", "streets")
    held = names(tmp_path / "one" / "general")["test"]
    seen = tmp_path / "seen"
    seen.mkdir()
    for name in held:
        seed = int(name[-6:-4])
        photograph(seed, (360, 280)).resize((180, 140)).save(seen / f"{seed}.jpg")
    run(clones, tmp_path / "two", "--only", "streets", "--seen", seen)
    found = names(tmp_path / "two" / "general")
    assert not set(held) & set(found["validation"] + found["test"])
    assert set(held) < set(found["train"])


def test_pictures_can_be_skipped_later(clones, tmp_path):
    run(clones, tmp_path / "out", "--only", "streets")
    before = sum(names(tmp_path / "out" / "general").values(), [])
    skipping = {"streets": {**TABLE["streets"], "skip": ["*/street0?.jpg"]}}
    run(clones, tmp_path / "out", table=skipping)
    after = sum(names(tmp_path / "out" / "general").values(), [])
    kept = {name for name in before if "street0" not in name}
    assert set(after) == kept | {"streets/photos/zcopy.png"}  # street00.jpg stood in its way


def test_free_keeps_only_what_may_be_used_for_anything(clones, tmp_path):
    table = {**TABLE, "film": {**TABLE["film"], "held_out": {}, "series": ""}}
    result = run(clones, tmp_path / "out", "--free", table=table)
    assert "film: 4 train\n" in result.stdout and "general" not in result.stdout
    assert not (tmp_path / "out" / "free" / "general").exists()


def test_mistakes_are_named(clones, tmp_path):
    result = run(clones, tmp_path / "out", table={"a": {**TABLE["film"], "file": "x"}})
    assert result.exit_code == 1 and "unexpected keyword argument 'file'" in result.output
    elsewhere = {"a": {**TABLE["film"], "repository": "no/where"}}
    result = run(clones, tmp_path / "out", table=elsewhere)
    assert result.exit_code == 1 and "no clone of a repository" in result.output


def test_the_table_of_the_project_is_sound():
    table = collecting.read_table(collect_pictures.TABLE)
    for split in collecting.SPLITS[1:]:
        assert sum(one.held_out.get("general", 0) for one in table) == 300, split
    terms = {*collecting.SPELLINGS.values(), "NC", "unknown"}
    assert {one.terms for one in table} <= terms
