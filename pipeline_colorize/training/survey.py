"""What is in a set of pictures: faults, duplicates, and splits that share no picture."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from PIL import Image
from tqdm.auto import tqdm

from .augmentation import cut_square
from .cleaning import hash_grey, near_pairs
from .config import DataConfig
from .decoding import grey_version, is_grey, is_toned, try_decode
from .draws import ORDER, make_generator
from .sources import open_splits


@dataclasses.dataclass
class Survey:
    """What was found in a source: pictures left out, and what the rest looks like.

    Args:
        corrupt: indices of pictures that cannot be decoded.
        grey: indices of pictures without colour.
        toned: indices of pictures with one tint, such as sepia.
        good: indices of all others.
        digests: SHA-256 of the pixels of each good picture.
        hashes: 64-bit dHash of each good picture.
    """

    corrupt: list[int] = dataclasses.field(default_factory=list)
    grey: list[int] = dataclasses.field(default_factory=list)
    toned: list[int] = dataclasses.field(default_factory=list)
    good: list[int] = dataclasses.field(default_factory=list)
    digests: list[bytes] = dataclasses.field(default_factory=list)
    hashes: list[int] = dataclasses.field(default_factory=list)


def hash_picture(picture: torch.Tensor) -> int:
    """Compute the 64-bit dHash of an 8-bit picture (3, H, W)."""
    return hash_grey(Image.fromarray(grey_version(picture).numpy()))


def survey_pictures(dataset, size: int) -> Survey:
    """Decode every picture once, as a square of `size` pixels, and sort out what is of no use."""
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
            result.hashes.append(hash_picture(picture))
    return result


def duplicate_pairs(found: Survey, distance: int) -> list[tuple[int, int]]:
    """Find pictures with equal pixels, or with hashes that differ in at most `distance` bits.

    Returns:
        Pairs of positions in `found.good`.
    """
    first_of: dict[bytes, int] = {}
    pairs = set(near_pairs(np.array(found.hashes, np.uint64), distance))
    for position, digest in enumerate(found.digests):
        first = first_of.setdefault(digest, position)
        if first != position:
            pairs.add((first, position))
    return sorted(pairs)


def parse_splits(text: str) -> dict[str, float]:
    """Read numbers and shares of splits.

    >>> parse_splits("train=28000,test=.1")
    {'train': 28000.0, 'test': 0.1}

    Raises:
        ValueError: if the text is not of that form.
    """
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, value in pairs}
    except ValueError as error:
        raise ValueError(f"{text!r} is not like train=28000,test=1000.") from error


def split_sizes(wanted: dict[str, float], available: int) -> dict[str, int]:
    """Turn values up to 1, which are shares of what is available, into numbers of pictures.

    Raises:
        ValueError: if that is more than there is.
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
    """Split the good pictures at random; of duplicates, only the first is taken.

    Args:
        found: the source's pictures.
        pairs: as `duplicate_pairs` finds them.
        wanted: numbers or shares, by the names of the splits.
        seed: of the random order.

    Returns:
        The indices of each split, and those of duplicates that were left out.
    """
    doubles = {second for _, second in pairs}
    unique = [index for place, index in enumerate(found.good) if place not in doubles]
    order = make_generator(seed, ORDER, 0).permutation(unique).tolist()
    splits: dict[str, list[int]] = {}
    start = 0
    for name, size in split_sizes(wanted, len(unique)).items():
        splits[name] = sorted(order[start : start + size])
        start += size
    return splits, [found.good[place] for place in sorted(doubles)]


def find_leaks(
    found: Survey, pairs: list[tuple[int, int]], split_of: list[str]
) -> list[tuple[int, int]]:
    """Find pictures that stand in two splits.

    Returns:
        Pairs of indices; the first is to be left out, and is that of `train` where one is.
    """
    result = []
    for places in pairs:
        pair = sorted((found.good[place] for place in places), key=lambda i: split_of[i] != "train")
        if split_of[pair[0]] != split_of[pair[1]]:
            result.append((pair[0], pair[1]))
    return result


def open_source(source: str, column: str) -> tuple[Dataset, list[str]]:
    """Open all pictures of a source as one data set, with the split that each came from."""
    config = DataConfig(image_column=column)
    splits = open_splits(source, config)
    split_of = [name for name, dataset in splits.items() for _ in range(len(dataset))]
    return concatenate_datasets(list(splits.values())), split_of


def picture_name(dataset, split_of: list[str], index: int) -> str:
    """Name a picture by its split, index and file."""
    path = dataset[index]["image"]["path"]
    return f"{split_of[index]} {index}" + (f" ({Path(path).name})" if path else "")
