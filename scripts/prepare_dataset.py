"""Make a colour + grey data set of squares for training, and say what was left out.

python scripts/prepare_dataset.py korexyz/celeba-hq-256x256 celeba-128
python scripts/prepare_dataset.py ~/photographs mine --splits train=.9,validation=.05,test=.05
"""

import dataclasses
import hashlib
import io
import json
import math
import sys
from pathlib import Path

import click
import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features, concatenate_datasets
from datasets import Image as ImageFeature
from PIL import Image
from tqdm.auto import tqdm

from pipeline_colorize.hub import publish
from pipeline_colorize.training.augmentation import cut_square
from pipeline_colorize.training.cleaning import hash_grey, near_pairs
from pipeline_colorize.training.config import DataConfig
from pipeline_colorize.training.decoding import decode, grey_version, is_grey, is_toned, try_decode
from pipeline_colorize.training.draws import ORDER, make_generator
from pipeline_colorize.training.sources import open_splits

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


@dataclasses.dataclass
class Survey:
    """What was found in a source, by index: pictures left out, and what the rest looks like."""

    corrupt: list[int] = dataclasses.field(default_factory=list)
    grey: list[int] = dataclasses.field(default_factory=list)
    toned: list[int] = dataclasses.field(default_factory=list)
    good: list[int] = dataclasses.field(default_factory=list)
    digests: list[bytes] = dataclasses.field(default_factory=list)  # of the pixels of the good
    hashes: list[int] = dataclasses.field(default_factory=list)  # dHash of the good


def dhash(picture: torch.Tensor) -> int:
    """The 64-bit dHash of an 8-bit picture (3, H, W)."""
    return hash_grey(Image.fromarray(grey_version(picture).numpy()))


def survey(dataset, size: int) -> Survey:
    """Decode every picture once."""
    result = Survey()
    for index, row in enumerate(tqdm(dataset, desc="reading", unit="picture")):
        picture = try_decode(row["image"], size)
        if picture is None:
            result.corrupt.append(index)
            continue
        picture = cut_square(picture, size)
        if is_grey(picture):
            result.grey.append(index)
        elif is_toned(picture):
            result.toned.append(index)
        else:
            result.good.append(index)
            result.digests.append(hashlib.sha256(picture.numpy().tobytes()).digest())
            result.hashes.append(dhash(picture))
    return result


def duplicate_pairs(found: Survey, distance: int) -> list[tuple[int, int]]:
    """Pairs of positions in `found.good`: equal pixels, or hashes at most `distance` apart."""
    first_of = {}
    pairs = set(near_pairs(np.array(found.hashes, np.uint64), distance))
    for position, digest in enumerate(found.digests):
        first = first_of.setdefault(digest, position)
        if first != position:
            pairs.add((first, position))
    return sorted(pairs)


def parse_splits(text: str) -> dict[str, float]:
    """Read "train=28000,test=.1" as {"train": 28000.0, "test": .1}."""
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not like train=28000,test=1000.") from error


def split_sizes(wanted: dict[str, float], available: int) -> dict[str, int]:
    """Numbers as they are, values up to 1 as shares of what is available.

    Raises:
        ValueError: if there are not so many.
    """
    sizes = {
        name: int(value * available + 1e-9) if value <= 1 else int(value)
        for name, value in wanted.items()
    }
    if sum(sizes.values()) > available or min(sizes.values()) < 1:
        raise ValueError(
            f"{available} usable pictures do not make {sizes}; give other numbers, or shares such "
            "as --splits train=.9,validation=.05,test=.05."
        )
    return sizes


def new_splits(
    found: Survey, pairs: list[tuple[int, int]], wanted: dict[str, float], seed: int
) -> tuple[dict[str, list[int]], list[int]]:
    """Split the good pictures at random, of duplicates only the first; (splits, left out)."""
    doubles = {second for _, second in pairs}
    unique = [index for place, index in enumerate(found.good) if place not in doubles]
    order = make_generator(seed, ORDER, 0).permutation(unique).tolist()
    splits, start = {}, 0
    for name, size in split_sizes(wanted, len(unique)).items():
        splits[name] = sorted(order[start : start + size])
        start += size
    return splits, [found.good[place] for place in sorted(doubles)]


def leaks(
    found: Survey, pairs: list[tuple[int, int]], split_of: list[str]
) -> list[tuple[int, int]]:
    """Pairs of pictures that stand in two splits, the one to be left out first (train, if any)."""
    result = []
    for places in pairs:
        pair = sorted((found.good[place] for place in places), key=lambda i: split_of[i] != "train")
        if split_of[pair[0]] != split_of[pair[1]]:
            result.append(tuple(pair))
    return result


def encode(record: dict, size: int) -> dict:
    """The pair of a source picture, as PNG files."""
    picture = cut_square(decode(record, size), size)
    result = {}
    for name, pixels in (("image", picture.permute(1, 2, 0)), ("gray", grey_version(picture))):
        stream = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(stream, "PNG")
        result[name] = {"bytes": stream.getvalue(), "path": None}
    return result


def build(dataset, splits: dict[str, list[int]], size: int) -> DatasetDict:
    """The pairs of each split."""
    return DatasetDict(
        {
            name: dataset.select(indices).map(
                lambda row: encode(row["image"], size), features=COLUMNS, desc=name
            )
            for name, indices in splits.items()
        }
    )


def write(result: DatasetDict, card: str, report: dict, folder: Path) -> None:
    """Parquet files of at most 10,000 pairs, `README.md` and `report.json`."""
    folder.mkdir(parents=True)
    for name, dataset in result.items():
        shards = math.ceil(len(dataset) / 10_000)
        for number in range(shards):
            file = folder / f"{name}-{number:05d}-of-{shards:05d}.parquet"
            dataset.shard(shards, number, contiguous=True).to_parquet(file)
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def open_source(source: str, column: str) -> tuple[Dataset, list[str]]:
    """All pictures of a source in one data set, and the split that each came from."""
    config = DataConfig(image_column=column)
    splits = open_splits(source, config)
    split_of = [name for name, dataset in splits.items() for _ in range(len(dataset))]
    return concatenate_datasets(list(splits.values())), split_of


def name_of(dataset, split_of: list[str], index: int) -> str:
    """Where a picture came from."""
    path = dataset[index]["image"]["path"]
    return f"{split_of[index]} {index}" + (f" ({Path(path).name})" if path else "")


@click.command(context_settings={"show_default": True})
@click.argument("source")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--size", default=128, help="Side of the squares, in pixels.")
@click.option(
    "--splits", default="train=28000,validation=1000,test=1000", help="Numbers, or shares up to 1."
)
@click.option("--keep-splits", is_flag=True, help="Keep the splits of the source.")
@click.option(
    "--drop-leaks", is_flag=True, help="With --keep-splits: leave out what stands in two splits."
)
@click.option("--distance", default=2, type=click.IntRange(0, 2), help="dHash bits of a duplicate.")
@click.option("--column", default="image", help="Column of the pictures.")
@click.option("--seed", default=0, help="Of the random split.")
@click.option("--push-to-hub", metavar="USER/NAME", help="Push the data set there.")
@click.option("--private", is_flag=True, help="Make that repository private.")
def main(
    source,
    output,
    size,
    splits,
    keep_splits,
    drop_leaks,
    distance,
    column,
    seed,
    push_to_hub,
    private,
):
    """Make OUTPUT, a folder of colour + grey pairs, from SOURCE: a Hub data set or a folder.

    Corrupt, grey and toned (sepia) pictures and duplicates are left out and listed in
    OUTPUT/report.json. A source whose own splits share pictures is refused.
    """
    if output.exists():
        raise click.UsageError(f"{output} exists already.")
    dataset, split_of = open_source(source, column)
    found = survey(dataset, size)
    pairs = duplicate_pairs(found, distance)
    if keep_splits:
        leaked = leaks(found, pairs, split_of)
        if leaked and not drop_leaks:
            for first, second in leaked[:10]:
                click.echo(
                    f"{name_of(dataset, split_of, first)} is a duplicate of "
                    f"{name_of(dataset, split_of, second)}", err=True,
                )  # fmt: skip
            click.echo(f"{len(leaked)} leaks between splits; --drop-leaks removes them.", err=True)
            sys.exit(1)
        doubles = sorted({first for first, _ in leaked})
        kept = sorted(set(found.good) - set(doubles))
        chosen = {
            name: [i for i in kept if split_of[i] == name] for name in dict.fromkeys(split_of)
        }
    else:
        chosen, doubles = new_splits(found, pairs, parse_splits(splits), seed)
    left_out = {name: getattr(found, name) for name in ("corrupt", "grey", "toned")}
    left_out["duplicate"] = doubles
    summary = ", ".join(f"{len(indices):,} {name}" for name, indices in left_out.items())
    card = CARD.format(
        name=output.name, size=size, source=source, left_out=summary, distance=distance,
        splits="\n".join(f"| {name} | {len(indices):,} |" for name, indices in chosen.items()),
    )  # fmt: skip
    report = {
        name: [name_of(dataset, split_of, index) for index in indices]
        for name, indices in left_out.items()
    }
    result = build(dataset, chosen, size)
    write(result, card, report, output)
    sizes = ", ".join(f"{len(indices):,} {name}" for name, indices in chosen.items())
    click.echo(f"{output}: {sizes}. Left out: {summary} (see report.json).")
    if push_to_hub:
        try:
            place, _ = publish(
                output, push_to_hub, "Upload pairs", repo_type="dataset", private=private or None,
                skip=("report.json",), replace=("*",),
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise click.ClickException(f"{output} is written, but {error}") from None
        click.echo(f"Published: {place}.")


if __name__ == "__main__":
    main()
