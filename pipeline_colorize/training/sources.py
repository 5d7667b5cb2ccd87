"""Where pictures come from: data sets, held or streamed, mixed in their shares."""

import collections
import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .config import DataConfig, refuse_unknown
from .decoding import is_grey, try_decode
from .draws import ORDER, VALIDATION, make_generator


class PictureSet:
    """The pictures of one data set, kept decoded as far as memory is allowed.

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
        dataset,
        short_side: int,
        budget: float = math.inf,
        name: str = "data set",
        watch: Callable = iter,
    ):
        self.dataset = dataset
        self.short_side = short_side
        self.cached: list[torch.Tensor] = []
        broken, read, grey = [], 0, 0
        for read, row in enumerate(watch(dataset), start=1):
            picture = try_decode(row["image"], short_side)
            if picture is None:
                broken.append(row["image"]["path"] or f"row {read - 1}")
                continue
            self.cached.append(picture)
            grey += is_grey(picture)
            budget -= picture.numel()
            if budget <= 0:
                break
        self._rest = range(read, len(dataset))
        if broken:
            warnings.warn(f"{name}: left out {len(broken)} broken: {broken[:5]}", stacklevel=2)
        if not self.cached:
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
    """Share of each set in the draws: factor * size^exponent, summing to 1."""
    if factors and len(factors) != len(sizes):
        raise ValueError(f"`dataset_weights` has {len(factors)} values for {len(sizes)} data sets.")
    weights = np.array(sizes, float) ** exponent * (factors or np.ones(len(sizes)))
    if not (weights >= 0).all() or weights.sum() == 0:
        raise ValueError(f"`dataset_weights` must be positive, not {factors}.")
    return weights / weights.sum()


def epoch_order(
    sizes: list[int | None], weights: np.ndarray, draws: int, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Set and index within the set of each draw of an epoch, both (draws,).

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
    """Draw number -> picture, from several sets in their shares, without end.

    Args:
        sets: `PictureSet`s or `PictureStream`s.
        weights: share of each, summing to 1.
        draws_per_epoch: after which there is a new order.
        seed: of the orders.
    """

    def __init__(self, sets: list, weights: np.ndarray, draws_per_epoch: int, seed: int):
        self.sets = sets
        self.sizes = [len(s) if isinstance(s, PictureSet) else None for s in sets]
        self.weights = weights
        self.draws_per_epoch = draws_per_epoch
        self.seed = seed
        self._epoch, self._order = -1, None

    def __getitem__(self, draw: int) -> torch.Tensor:
        epoch, place = divmod(draw, self.draws_per_epoch)
        if epoch != self._epoch:
            order = epoch_order(self.sizes, self.weights, self.draws_per_epoch, self.seed, epoch)
            self._epoch, self._order = epoch, order
        source, index = self._order
        return self.sets[source[place]][index[place]]

    @property
    def held_gigabytes(self) -> float:
        """Memory that decoded pictures take."""
        held = [picture for one in self.sets for picture in getattr(one, "cached", ())]
        return sum(picture.numel() for picture in held) / 2**30


class PictureStream:
    """Index -> picture, read in order from a stream; quick only where indices ascend.

    Every process reads the whole stream and decodes its own pictures. Going back, or resuming at
    some index, reads the stream again up to there.

    Args:
        dataset: a shuffled `datasets.IterableDataset` with an undecoded column `image`.
        short_side: to which each picture is scaled.
    """

    _PATIENCE = 100  # broken pictures in a row

    def __init__(self, dataset, short_side: int):
        self.dataset = dataset
        self.short_side = short_side
        self._restart()

    def _restart(self):
        self._records = self._read()
        self._window = collections.deque()
        self._start = 0

    def _read(self):
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


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") != 1


def _refuse_hidden_pictures(folder: Path) -> None:
    """Refuse a folder of pictures of which `datasets` would leave some out for others' names."""
    from datasets import load_dataset_builder

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


def open_splits(name: str, config: DataConfig) -> dict:
    """The splits of a data set, each with one undecoded column `image`.

    Raises:
        ValueError: for a folder that is not there or empty, or an unknown column.
    """
    from datasets import Image as ImageFeature
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    path = Path(name).expanduser()
    if _looks_like_path(name) and not path.is_dir():
        raise ValueError(f"There is no folder {name!r} to train on.")
    try:
        if path.is_dir():
            _refuse_hidden_pictures(path)
        splits = load_dataset(str(path), streaming=config.streaming)
    except (FileNotFoundError, DatasetsError) as error:
        raise ValueError(f"{name}: no data set of pictures: {error}") from error
    result = {}
    for split, dataset in splits.items():
        columns = list(dataset.features or dataset.column_names or [])
        refuse_unknown([config.image_column], columns, f"{name}: the data set")
        dataset = dataset.select_columns([config.image_column])
        if config.image_column != "image":
            dataset = dataset.rename_column(config.image_column, "image")
        result[split] = dataset.cast_column("image", ImageFeature(decode=False))
    return result


def split_validation(splits: dict, name: str, config: DataConfig) -> tuple:
    """(training, validation) of a data set; validation is `None` if there is none to be had."""
    if config.train_split not in splits:
        raise ValueError(f"{name} has no split {config.train_split!r}, only {sorted(splits)}.")
    train = splits[config.train_split]
    if config.validation_pictures == 0:
        return train, None
    if config.validation_split in splits:
        validation = splits[config.validation_split]
        return train, validation.take(config.validation_pictures)
    if config.streaming or len(train) < 2:
        return train, None
    held = max(min(config.validation_pictures, len(train) // 10), 1)
    # Always the same ones, whatever the seed of the run.
    order = make_generator(0, VALIDATION, 2**33).permutation(len(train))
    return train.select(sorted(order[held:])), train.select(sorted(order[:held]))


def load_training_pictures(
    config: DataConfig, seed: int, draws_per_step: int, watch: Callable = iter
) -> tuple[PictureMix, int, dict[str, PictureSet]]:
    """Open `config.datasets`.

    Args:
        config: what is trained on.
        seed: of the order.
        draws_per_step: pictures a step, of all processes.
        watch: wraps the reading of each set, e.g. `tqdm.tqdm`.

    Returns:
        Draw number -> picture, the steps of an epoch, and the validation pictures by set.

    Raises:
        ValueError: if there is nothing to train on, and for fields that do not fit.
    """
    if not config.datasets:
        raise ValueError("`datasets` names no data set to train on.")
    if not 0 <= seed < 2**56:
        raise ValueError(f"`seed` must be from 0 to 2^56 - 1, not {seed}.")
    short_side = config.load_size or config.resolution
    if short_side < config.resolution:
        raise ValueError(
            f"`load_size` {short_side} must not be below `resolution` {config.resolution}."
        )
    train, validation = {}, {}
    for name in config.datasets:
        train[name], held = split_validation(open_splits(name, config), name, config)
        if held is not None:
            held = list(held) if config.streaming else held
            short = Path(name).name if Path(name).name not in validation else name
            validation[short] = PictureSet(held, short_side, name=f"{name}, validation")
    if config.streaming:
        sets, size = _stream(list(train.values()), config, seed, short_side)
        weights = shares([1] * len(sets), 0, config.dataset_weights)
    else:
        sets, size = _hold(train, config, short_side, watch)
        weights = shares([len(s) for s in sets], config.size_exponent, config.dataset_weights)
    # No short last batch: what is left over stands elsewhere in the next epoch's order.
    steps = max((config.epoch_pictures or size) // draws_per_step, 1)
    return PictureMix(sets, weights, steps * draws_per_step, seed), steps, validation


def _hold(
    train: dict, config: DataConfig, short_side: int, watch: Callable
) -> tuple[list[PictureSet], int]:
    budget = config.cache_gigabytes * 2**30
    sets = []
    for name, dataset in train.items():
        sets.append(PictureSet(dataset, short_side, budget, name, watch))
        budget -= sum(picture.numel() for picture in sets[-1].cached)
    return sets, sum(len(pictures) for pictures in sets)


def _stream(streams: list, config: DataConfig, seed: int, short_side: int):
    if config.epoch_pictures is None:
        raise ValueError("A stream has no known length: set `epoch_pictures`.")
    shuffled = [s.shuffle(seed=seed, buffer_size=config.shuffle_buffer) for s in streams]
    return [PictureStream(stream, short_side) for stream in shuffled], config.epoch_pictures
