"""Open data sets of pictures, hold or stream them, and mix them in their shares."""

import collections
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline_colorize.photo import READABLE

from .config import DataConfig
from .decoding import is_grey, try_decode
from .draws import ORDER, VALIDATION, make_generator

_LENGTH_OF_COMMIT = 40  # hexadecimal digits


class PictureCache:
    """8-bit pictures in memory, packed into few tensors.

    A worker that is not forked opens a file for each tensor that it shares, and a process may open
    no more than about a thousand.
    """

    _SMALLEST, _LARGEST = 2**20, 2**26  # bytes of a tensor

    def __init__(self) -> None:
        self._chunks: list[torch.Tensor] = []
        self._used = 0  # bytes of the last one
        self._places: list[tuple[int, int, torch.Size]] = []  # chunk, first byte, shape
        self.nbytes = 0  # of all pictures

    def append(self, picture: torch.Tensor) -> None:
        """Keep a picture (3, H, W)."""
        count = picture.numel()
        if not self._chunks or self._used + count > len(self._chunks[-1]):
            size = min(max(self.nbytes, self._SMALLEST), self._LARGEST)
            self._chunks.append(torch.empty(max(size, count), dtype=torch.uint8))
            self._used = 0
        self._chunks[-1][self._used : self._used + count] = picture.flatten()
        self._places.append((len(self._chunks) - 1, self._used, picture.shape))
        self._used += count
        self.nbytes += count

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> torch.Tensor:
        chunk, first, shape = self._places[index]
        return self._chunks[chunk][first : first + shape.numel()].view(shape)


class PictureSet:
    """Holds the pictures of one data set, decoded as far as the allowed memory reaches.

    Args:
        dataset: a `datasets.Dataset` whose image column is called `image` and not decoded.
        short_side: to which each picture is scaled.
        budget: bytes of memory for decoded pictures; the rest is decoded at each use.
        name: for messages.
        watch: wraps the reading of the data set, e.g. `tqdm.tqdm`.

    Broken pictures are left out with a warning; those beyond the budget are replaced by the next
    good one when they are met.

    Raises:
        ValueError: if no picture, or no colour picture, is left.
    """

    def __init__(
        self,
        dataset: Any,
        short_side: int,
        budget: float = math.inf,
        name: str = "data set",
        watch: Callable[[Any], Iterable] = iter,
    ):
        self.dataset = dataset
        self.short_side = short_side
        self.cached = PictureCache()
        broken, read, grey = [], 0, 0
        for read, row in enumerate(watch(dataset), start=1):
            picture = try_decode(row["image"], short_side)
            if picture is None:
                broken.append(row["image"]["path"] or f"row {read - 1}")
                continue
            self.cached.append(picture)
            grey += is_grey(picture)
            if self.cached.nbytes >= budget:
                break
        self._rest = range(read, len(dataset))
        if broken:
            warnings.warn(f"{name}: left out {len(broken)} broken: {broken[:5]}", stacklevel=2)
        if not len(self.cached):
            raise ValueError(f"{name}: there is no readable picture in it.")
        if grey == len(self.cached) and not self._rest:
            raise ValueError(f"{name}: all its pictures are grey; colour pictures are needed.")

    def __len__(self) -> int:
        return len(self.cached) + len(self._rest)

    def __getitem__(self, index: int) -> torch.Tensor:
        if index < len(self.cached):
            return self.cached[index]
        for row in self._rest[index - len(self.cached) :]:
            picture = try_decode(self.dataset[row]["image"], self.short_side)
            if picture is not None:
                return picture
        return self.cached[0]


def shares(sizes: list[int], exponent: float, factors: list[float] | None = None) -> np.ndarray:
    """Return the share of each set in the draws: factor * size^exponent, summing to 1.

    Raises:
        ValueError: for factors that are negative, or all 0.
    """
    weights = np.array(sizes, float) ** exponent * (factors or np.ones(len(sizes)))
    if not (weights >= 0).all() or weights.sum() == 0:
        raise ValueError(f"`dataset_weights` must be positive, not {factors}.")
    return weights / weights.sum()


def epoch_order(
    sizes: Sequence[int | None], weights: np.ndarray, draws: int, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the set, and the index within it, of each draw of an epoch, both (draws,).

    Each set gets its share of the draws and goes through whole permutations of its pictures: none
    comes twice before all have come once. A set of unknown size (`None`) is read on from epoch to
    epoch.
    """
    generator = make_generator(seed, ORDER, epoch)
    bounds = np.round(np.cumsum(weights) * draws).astype(int)
    counts = np.diff(bounds, prepend=0)
    source = generator.permutation(np.repeat(np.arange(len(sizes)), counts))
    index = np.empty(draws, int)
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        if size is None:
            index[source == number] = epoch * count + np.arange(count)
            continue
        passes = [generator.permutation(size) for _ in range(-(-count // size))]
        index[source == number] = np.concatenate([*passes, np.empty(0, int)])[:count]
    return source, index


class PictureMix:
    """Pictures by the number of their draw, from several sets in their shares, without end.

    Args:
        sets: `PictureSet`s or `PictureStream`s.
        weights: share of each, summing to 1.
        draws_per_epoch: after which there is a new order.
        seed: of the orders.
    """

    def __init__(
        self,
        sets: "Sequence[PictureSet | PictureStream]",
        weights: np.ndarray,
        draws_per_epoch: int,
        seed: int,
    ):
        self.sets = sets
        self.sizes = [len(one) if isinstance(one, PictureSet) else None for one in sets]
        self.weights = weights
        self.draws_per_epoch = draws_per_epoch
        self.seed = seed
        self._epoch = -1
        self._order = (np.empty(0, int), np.empty(0, int))

    def __getitem__(self, draw: int) -> torch.Tensor:
        epoch, place = divmod(draw, self.draws_per_epoch)
        if epoch != self._epoch:
            order = epoch_order(self.sizes, self.weights, self.draws_per_epoch, self.seed, epoch)
            self._epoch, self._order = epoch, order
        source, index = self._order
        return self.sets[source[place]][index[place]]

    def other(self, generator: np.random.Generator) -> torch.Tensor | None:
        """Choose any picture in memory; `None` where all sets are streams."""
        sets = [one.cached for one in self.sets if isinstance(one, PictureSet)]
        if not sets:
            return None
        chosen = sets[generator.integers(len(sets))]
        return chosen[int(generator.integers(len(chosen)))]

    @property
    def pictures(self) -> int:
        """The number of pictures in the sets that are not streams."""
        return sum(size for size in self.sizes if size is not None)

    @property
    def cached_gigabytes(self) -> float:
        """The memory that decoded pictures take."""
        return sum(one.cached.nbytes for one in self.sets if isinstance(one, PictureSet)) / 2**30


class PictureStream:
    """Pictures by their index, read in order from a stream; quick only where indices ascend.

    Every process reads the whole stream and decodes the pictures that it needs. Going back, or
    resuming at some index, reads the stream again up to there.

    Args:
        dataset: a shuffled `datasets.IterableDataset` with an undecoded column `image`.
        short_side: to which each picture is scaled.
    """

    _PATIENCE = 100  # broken pictures in a row

    def __init__(self, dataset: Any, short_side: int):
        self.dataset = dataset
        self.short_side = short_side
        self._restart()

    def __getstate__(self) -> dict:
        # What has been read stays in this process: a worker that is not forked reads anew.
        return {"dataset": self.dataset, "short_side": self.short_side}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _restart(self) -> None:
        self._records = self._read()
        self._window: collections.deque[dict] = collections.deque()
        self._start = 0

    def _read(self) -> Iterator[dict]:
        for epoch in itertools.count():
            self.dataset.set_epoch(epoch)  # another order in each
            empty = True
            # Not `for row in self.dataset`, which gives each worker of a loader other rows.
            for rows in self.dataset.iter(1):
                empty = False
                yield from rows["image"]
            if empty:
                raise ValueError("The stream has no picture in it.")

    def __getitem__(self, index: int) -> torch.Tensor:
        if index < self._start:
            self._restart()
        while self._start < index:
            self._window.popleft() if self._window else next(self._records)
            self._start += 1
        # A broken picture is replaced by the next good one, which then comes twice.
        for ahead in range(self._PATIENCE):
            if ahead == len(self._window):
                self._window.append(next(self._records))
            picture = try_decode(self._window[ahead], self.short_side)
            if picture is not None:
                return picture
        raise ValueError(f"{self._PATIENCE} broken pictures in a row in the stream.")


def _refuse_unread_endings(folder: Path) -> None:
    """Refuse a folder with pictures of kinds that `datasets` passes over in silence."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    unread = READABLE - set(ImageFolder.EXTENSIONS)
    found = collections.Counter(
        file.suffix.lower() for file in folder.rglob("*") if file.suffix.lower() in unread
    )
    if found:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(found.items()))
        raise ValueError(
            f"{folder}: the library `datasets` does not take {kinds}; save them as JPEG, PNG, WebP "
            "or TIFF, or move them elsewhere."
        )


def _refuse_hidden_pictures(folder: Path) -> None:
    """Refuse a folder of pictures of which `datasets` would leave some out for others' names."""
    from datasets import load_dataset_builder

    _refuse_unread_endings(folder)
    builder = load_dataset_builder(str(folder))
    if builder.name != "imagefolder":
        return
    taken = {str(file) for files in builder.config.data_files.values() for file in files}
    suffixes = Image.registered_extensions()
    folder = folder.resolve()
    pictures = [
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes
        and not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
    ]
    left_out = sorted(str(file) for file in pictures if str(file) not in taken)
    if left_out:
        raise ValueError(
            f"{folder}: {len(left_out)} of {len(pictures)} pictures are in no split, such as "
            f"{left_out[0]}, since the names of others have a word like train, val, dev, test or "
            "eval, which makes a split: rename those, or put the rest into a folder `train`."
        )


def _load_splits(name: str, streaming: bool) -> Any:
    """Open a folder, a parquet file or a data set of the Hub.

    Raises:
        ValueError: if there is none of that name.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    path = Path(name).expanduser()
    if path.is_file() and path.suffix.lower() != ".parquet":
        raise ValueError(f"{name} is a file; a data set is a folder, a parquet file or a Hub id.")
    is_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or path.suffix == ".parquet"
    if is_local and not path.exists():
        raise ValueError(f"There is no folder or parquet file {name!r} to train on.")
    try:
        if path.is_file():
            return load_dataset("parquet", data_files={"train": str(path)}, streaming=streaming)
        if path.is_dir():
            _refuse_hidden_pictures(path)
        splits = load_dataset(str(path), streaming=streaming)
    except (FileNotFoundError, DatasetsError, ConnectionError) as error:
        where = "" if path.is_dir() else "there is no such folder here, and on the Hub "
        raise ValueError(f"{name}: {where}no data set of pictures: {error}") from error
    if not path.is_dir() and not streaming and _is_of_a_folder(splits):
        raise ValueError(
            f"{name}: there is no such folder here. The library `datasets` remembers one of that "
            "name elsewhere: give its path, or user/name for a data set of the Hub."
        )
    return splits


def _is_of_a_folder(splits: Any) -> bool:
    """Tell whether what `datasets` took from its cache was made of a folder, not of the Hub.

    It keeps them by the last part of their names, below a hash of the folder or the Hub's commit.
    """
    files = [Path(file["filename"]) for one in splits.values() for file in one.cache_files]
    return any(len(file.parent.name) < _LENGTH_OF_COMMIT for file in files)


def open_splits(name: str, config: DataConfig) -> dict[str, Any]:
    """Open the splits of a data set, each with one undecoded column `image`.

    Raises:
        ValueError: for a folder that is missing or empty, or an unknown column.
    """
    from datasets import Image as ImageFeature

    result = {}
    for split, dataset in _load_splits(name, config.streaming).items():
        columns = list(dataset.features or dataset.column_names or [])
        if config.image_column not in columns:
            raise ValueError(
                f"{name} has no column {config.image_column!r}, only {', '.join(columns)}: set "
                "`image_column` to the one that holds the pictures."
            )
        dataset = dataset.select_columns([config.image_column])
        if config.image_column != "image":
            dataset = dataset.rename_column(config.image_column, "image")
        result[split] = dataset.cast_column("image", ImageFeature(decode=False))
    return result


def split_validation(splits: dict[str, Any], name: str, config: DataConfig) -> tuple[Any, Any]:
    """Return the training and validation pictures of a data set, or `None` for validation.

    Raises:
        ValueError: if there is no split to train on.
    """
    if config.train_split not in splits:
        raise ValueError(f"{name} has no split {config.train_split!r}, only {sorted(splits)}.")
    train = splits[config.train_split]
    if config.validation_pictures == 0:
        return train, None
    if config.validation_split in splits:
        validation = splits[config.validation_split]
        count = config.validation_pictures
        if not config.streaming:  # of which some versions of `datasets` cannot take more than all
            count = min(count, len(validation))
        return train, validation.take(count)
    if config.streaming or len(train) < 2:
        return train, None
    held = max(min(config.validation_pictures, len(train) // 10), 1)
    # Always the same ones, whatever the seed of the run.
    order = make_generator(0, VALIDATION, 2**33).permutation(len(train))
    return train.select(sorted(order[held:])), train.select(sorted(order[:held]))


def load_training_pictures(
    config: DataConfig,
    seed: int,
    draws_per_step: int,
    watch: Callable[[Any], Iterable] = iter,
) -> tuple[PictureMix, int, dict[str, PictureSet]]:
    """Open `config.datasets`.

    Args:
        config: what is trained on.
        seed: of the order.
        draws_per_step: pictures a step, of all processes.
        watch: wraps the reading of each set, e.g. `tqdm.tqdm`.

    Returns:
        The pictures by the number of their draw, the steps of an epoch, and the validation pictures
        by set.

    Raises:
        ValueError: if there is nothing to train on.
    """
    short_side = config.load_size or config.resolution
    train, validation = {}, {}
    for name in config.datasets:
        train[name], held = split_validation(open_splits(name, config), name, config)
        if held is not None:
            held = list(held) if config.streaming else held
            short = Path(name).name if Path(name).name not in validation else name
            validation[short] = PictureSet(held, short_side, name=f"{name}, validation")
    sets: Sequence[PictureSet | PictureStream]
    if config.streaming:
        sets, size = _stream(list(train.values()), config, seed, short_side)
        weights = shares([1] * len(sets), 0, config.dataset_weights)
    else:
        sets = _hold(train, config, short_side, watch)
        size = sum(map(len, sets))
        weights = shares([len(one) for one in sets], config.size_exponent, config.dataset_weights)
    # No short last batch: what is left over stands elsewhere in the next epoch's order.
    steps = max((config.epoch_pictures or size) // draws_per_step, 1)
    return PictureMix(sets, weights, steps * draws_per_step, seed), steps, validation


def _hold(
    train: dict[str, Any],
    config: DataConfig,
    short_side: int,
    watch: Callable[[Any], Iterable],
) -> list[PictureSet]:
    budget = config.cache_gigabytes * 2**30
    sets = []
    for name, dataset in train.items():
        sets.append(PictureSet(dataset, short_side, budget, name, watch))
        budget -= sets[-1].cached.nbytes
    return sets


def _stream(
    streams: list, config: DataConfig, seed: int, short_side: int
) -> tuple[list[PictureStream], int]:
    shuffled = [s.shuffle(seed=seed, buffer_size=config.shuffle_buffer) for s in streams]
    return [PictureStream(stream, short_side) for stream in shuffled], config.epoch_pictures or 0
