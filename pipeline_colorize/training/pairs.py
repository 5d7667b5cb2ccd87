"""Data sets of pairs, a colour picture and its grey version, for training."""

import dataclasses
import io
import json
import math
from pathlib import Path

from datasets import DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image

from .augmentation import cut_square
from .decoding import decode, grey_version
from .survey import (
    Survey,
    duplicate_pairs,
    find_leaks,
    new_splits,
    open_source,
    parse_splits,
    picture_name,
    survey_pictures,
)

COLUMNS = Features({"image": ImageFeature(), "gray": ImageFeature()})

CARD = """---
task_categories: [image-to-image]
tags: [colorization]
---

# {name}

Pairs of a colour picture (`image`) and its grey version (`gray`, CIE L*), {size}x{size} pixels,
made from `{source}` by `scripts/prepare_dataset.py`: the largest square in the middle, scaled by
Lanczos.

| split | pictures |
|---|---|
{splits}

Left out: {left_out}. No picture stands in two splits: exact duplicates and near duplicates (64-bit
dHash, distance at most {distance}) were looked for over all of them.

The terms of the source apply: state them here before sharing the data set.
"""


@dataclasses.dataclass(frozen=True)
class PairOptions:
    """How a set of pairs is made.

    Args:
        size: side of the squares, in pixels.
        splits: numbers of pictures, or shares up to 1, such as "train=.9,test=.1".
        keep_splits: keep the splits of the source in place of `splits`.
        drop_leaks: with `keep_splits`, leave out what stands in two splits; else it is an error.
        distance: bits by which the dHashes of two duplicates may differ.
        column: that holds the pictures.
        seed: of the random split.
    """

    size: int = 128
    splits: str = "train=28000,validation=1000,test=1000"
    keep_splits: bool = False
    drop_leaks: bool = False
    distance: int = 2
    column: str = "image"
    seed: int = 0


def encode(record: dict, size: int) -> dict:
    """Make the pair of a source picture, as PNG files."""
    picture = cut_square(decode(record, size), size)
    result: dict[str, dict] = {}
    for name, pixels in (("image", picture.permute(1, 2, 0)), ("gray", grey_version(picture))):
        stream = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(stream, "PNG")
        result[name] = {"bytes": stream.getvalue(), "path": None}
    return result


def build(dataset, splits: dict[str, list[int]], size: int) -> DatasetDict:
    """Make the pairs of each split."""
    return DatasetDict(
        {
            name: dataset.select(indices).map(
                lambda row: encode(row["image"], size), features=COLUMNS, desc=name
            )
            for name, indices in splits.items()
        }
    )


def write(result: DatasetDict, card: str, report: dict, folder: Path) -> None:
    """Write Parquet files of at most 10,000 pairs each, `README.md` and `report.json`."""
    folder.mkdir(parents=True)
    for name, dataset in result.items():
        shards = math.ceil(len(dataset) / 10_000)
        for number in range(shards):
            file = folder / f"{name}-{number:05d}-of-{shards:05d}.parquet"
            dataset.shard(shards, number, contiguous=True).to_parquet(file)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def choose_splits(
    dataset, split_of: list[str], found: Survey, options: PairOptions
) -> tuple[dict[str, list[int]], list[int]]:
    """Choose the pictures of each split; returns also the duplicates that are left out.

    Raises:
        ValueError: if the splits of the source share pictures and are to be kept as they are.
    """
    pairs = duplicate_pairs(found, options.distance)
    if not options.keep_splits:
        return new_splits(found, pairs, parse_splits(options.splits), options.seed)
    leaked = find_leaks(found, pairs, split_of)
    if leaked and not options.drop_leaks:
        lines = [
            f"{picture_name(dataset, split_of, first)} is a duplicate of "
            f"{picture_name(dataset, split_of, second)}"
            for first, second in leaked[:10]
        ]
        lines.append(f"{len(leaked)} leaks between splits; --drop-leaks removes them.")
        raise ValueError("\n".join(lines))
    doubles = sorted({first for first, _ in leaked})
    kept = sorted(set(found.good) - set(doubles))
    names = dict.fromkeys(split_of)
    return {name: [i for i in kept if split_of[i] == name] for name in names}, doubles


def make_pairs(source: str, output: Path, options: PairOptions) -> str:
    """Make a data set of pairs from the pictures of a source.

    Args:
        source: a folder, or a data set of the Hub.
        output: the folder to be made.
        options: how.

    Returns:
        A line that says how many pictures the splits have and why others were left out.

    Raises:
        ValueError: if the pictures are too few, or the source's splits share some.
    """
    dataset, split_of = open_source(source, options.column)
    found = survey_pictures(dataset, options.size)
    chosen, doubles = choose_splits(dataset, split_of, found, options)
    left_out = {name: getattr(found, name) for name in ("corrupt", "grey", "toned")}
    left_out["duplicate"] = doubles
    summary = ", ".join(f"{len(indices):,} {name}" for name, indices in left_out.items())
    card = CARD.format(
        name=output.name,
        size=options.size,
        source=source,
        left_out=summary,
        distance=options.distance,
        splits="\n".join(f"| {name} | {len(indices):,} |" for name, indices in chosen.items()),
    )
    report = {
        name: [picture_name(dataset, split_of, index) for index in indices]
        for name, indices in left_out.items()
    }
    write(build(dataset, chosen, options.size), card, report, output)
    sizes = ", ".join(f"{len(indices):,} {name}" for name, indices in chosen.items())
    return f"{output}: {sizes}. Left out: {summary} (see report.json)."
