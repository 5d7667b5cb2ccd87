"""Training sets of 256 pixels from public collections of photographs, which are Git repositories.

A table lists the collections with their terms. The clean pictures of each become its *pool*; from
all pools together, pictures are chosen for validation and test, and what is nearly the same as one
of those is left out.
"""

import collections
import concurrent.futures
import dataclasses
import fnmatch
import functools
import hashlib
import io
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from datasets import Features, Value
from datasets import Image as ImageFeature
from tqdm.auto import tqdm

from ..photo import READABLE
from . import cleaning

SHORT_SIDE = 256  # pixels; smaller pictures are not enlarged
SAME = 2  # bits between the dHashes of two pictures that are nearly the same
ALIKE = 8  # bits between those of two that may be of one series
# Terms under which a model may be trained, used and passed on for any purpose.
FREE = ("CC0", "MIT", "public domain", "CC BY", "Unsplash", "Pexels", "free use")
NAMED_TERMS = re.compile("CC BY-ND|CC BY-SA|CC BY|CC0|public domain|Pexels|Unsplash", re.I)
SPELLINGS = {name.lower(): name for name in (*FREE, "CC BY-SA", "CC BY-ND")}
SPLITS = ("train", "validation", "test")
COLUMNS = Features(
    {
        "image": ImageFeature(),
        "source": Value("string"),
        "label": Value("string"),
        "terms": Value("string"),
    }
)
POOL = pa.schema(
    [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("source", pa.string()),
        ("label", pa.string()),
        ("terms", pa.string()),
        ("hashes", pa.list_(pa.uint64())),  # of its views, see `cleaning.hash_views`
        ("short_side", pa.int32()),
    ]
)
WHOLE, SQUARE = 0, 3  # places of two views among the hashes
OPEN = "?"  # the place of a picture that has none yet
OUT = ""  # the place of one that is left out


@dataclasses.dataclass(frozen=True)
class Collection:
    """A collection of photographs, as the table lists it."""

    name: str  # the column `source`
    repository: str  # owner/name
    files: list[str]  # glob patterns; * matches slashes, too
    set: str  # that its training pictures join
    terms: str  # the column `terms`
    commit: str = "HEAD"  # one that still has the pictures, if the newest has not
    skip: list[str] = dataclasses.field(default_factory=list)  # glob patterns
    terms_file: str = ""  # path of the text that names the terms of picture {name}
    label: str = ""  # regular expression; its group, found in a path, is the column `label`
    series: str = ""  # likewise: pictures of one series do not stand in two splits
    crop: float = 0.0  # share of every side that is cut off
    every: int = 1  # one picture in so many is taken
    flattest: float = cleaning.FLATTEST  # share of flat blocks above which a picture is drawn
    held_out: dict[str, int] = dataclasses.field(default_factory=dict)
    # set: how many pictures join its validation split, and as many its test split


def read_table(path: Path) -> list[Collection]:
    """Read the collections in the order of the table.

    Raises:
        ValueError: if one has an unknown field, or lacks one.
    """
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        return [Collection(name=name, **fields) for name, fields in table.items()]
    except TypeError as error:
        raise ValueError(f"{path}: a collection has other fields than it should: {error}") from None


# Reading clones


class Folder:
    """The files of a folder."""

    def __init__(self, path: Path):
        self.path = path

    def names(self) -> list[str]:
        """List the paths relative to the folder."""
        files = (file for file in self.path.rglob("*") if file.is_file())
        return sorted(file.relative_to(self.path).as_posix() for file in files)

    def read(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents."""
        for name in names:
            yield name, (self.path / name).read_bytes()


class BareClone:
    """The files of a commit of a bare Git repository."""

    def __init__(self, path: Path, commit: str):
        self.path, self.commit = path, commit
        self.git = ["git", f"--git-dir={path}"]

    def names(self) -> list[str]:
        """List the paths in the tree.

        Raises:
            ValueError: if the clone lacks the commit.
        """
        command = [*self.git, "ls-tree", "-r", "-z", "--name-only", self.commit]
        listing = subprocess.run(command, capture_output=True)
        if listing.returncode:
            raise ValueError(f"{self.path} lacks the commit {self.commit}: clone without --depth.")
        names = listing.stdout.decode("utf-8", "replace").split("\0")
        return sorted(name for name in names if name)

    def read(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents; a file whose content the clone lacks is left out."""
        command = [*self.git, "cat-file", "--batch"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            asked, answered = process.stdin, process.stdout
            assert asked and answered  # since both are pipes
            for name in names:
                asked.write(f"{self.commit}:{name}\n".encode())
                asked.flush()
                *_, kind, size = answered.readline().split()
                if kind == b"blob":
                    yield name, answered.read(int(size))
                    answered.read(1)
            asked.close()


def open_clone(root: Path, collection: Collection) -> Folder | BareClone | None:
    """Open the clone of a collection below `root`, bare or not; `None` if there is none."""
    bare, folder = root / f"{collection.repository}.git", root / collection.repository
    if not bare.is_dir() and collection.commit != "HEAD":
        bare = folder / ".git"  # the work tree has the files of another commit
    if bare.is_dir():
        return BareClone(bare, collection.commit)
    return Folder(folder) if folder.is_dir() else None


# Pools: the clean pictures of a collection


def matches(name: str, patterns: list[str]) -> bool:
    """Say whether a path matches one of some glob patterns."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def chosen_names(collection: Collection, names: list[str]) -> list[str]:
    """Choose the pictures of a collection among the files of its repository."""
    pictures = [
        name
        for name in names
        if Path(name).suffix.lower() in READABLE
        and matches(name, collection.files)
        and not matches(name, collection.skip)
    ]
    return pictures[:: collection.every]


def named_terms(collection: Collection, clone: Folder | BareClone, names: list[str]) -> dict:
    """Read the terms of each picture that has a text about them beside it, by its name."""
    if not collection.terms_file:
        return {}
    name_of = {collection.terms_file.format(name=Path(name).name): name for name in names}
    texts = [file for file in clone.names() if file in name_of]
    found = {}
    for file, content in clone.read(texts):
        match = NAMED_TERMS.search(content.decode("utf-8", "replace"))
        if match:
            found[name_of[file]] = SPELLINGS[match[0].lower()]
    return found


def gather(collection: Collection, clone: Folder | BareClone) -> tuple[list[dict], dict]:
    """Read the clean pictures of a collection, and list those left out, by reason."""
    names = chosen_names(collection, clone.names())
    terms = named_terms(collection, clone, names)
    rows, left_out = [], collections.defaultdict(list)
    reading = tqdm(clone.read(names), total=len(names), desc=collection.name, unit="picture")
    for name, content in reading:
        try:
            image = cleaning.clean(content, SHORT_SIDE, collection.crop)
            reason = cleaning.fault(image, collection.flattest)
        except cleaning.BROKEN:
            reason = "broken"
        if reason:
            left_out[reason].append(name)
            continue
        stream = io.BytesIO()
        image.save(stream, "WEBP", quality=82, method=2)
        label = re.search(collection.label, name) if collection.label else None
        rows.append(
            {
                "image": {"bytes": stream.getvalue(), "path": f"{collection.name}/{name}"},
                "source": collection.name,
                "label": label[1] if label else "",
                "terms": terms.get(name, collection.terms),
                "hashes": cleaning.hash_views(image),
                "short_side": min(image.size),
            }
        )
    return rows, dict(left_out)


def write_table(table: pa.Table, file: Path) -> None:
    """Write a Parquet file, which gets its name only when it is whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    pq.write_table(table, part, row_group_size=500)
    part.replace(file)


def make_pool(collection: Collection, clones: Path, pools: Path) -> bool:
    """Write the pool of a collection unless it is there; returns whether there is one now."""
    file = pools / f"{collection.name}.parquet"
    if file.exists():
        return True
    clone = open_clone(clones, collection)
    if clone is None:
        return False
    rows, left_out = gather(collection, clone)
    write_table(pa.Table.from_pylist(rows, POOL), file)
    text = json.dumps(left_out, indent=1)
    file.with_suffix(".json").write_text(text, encoding="utf-8")
    return True


# Splits


def stored_pictures(folder: Path, splits: tuple[str, ...]) -> list[bytes]:
    """Read the picture files in some splits of a data set, and all loose ones of a folder.

    Raises:
        ValueError: if there are none.
    """
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in READABLE]
    contents = [file.read_bytes() for file in files]
    for file in sorted(folder.glob("*.parquet")):
        if file.name.startswith(splits):
            contents += [row["bytes"] for row in pq.read_table(file)["image"].to_pylist()]
    if not contents:
        raise ValueError(f"{folder} has neither pictures nor a split {' or '.join(splits)}.")
    return contents


def stored_hashes(folders: Sequence[Path], splits: tuple[str, ...], cache: Path) -> np.ndarray:
    """Compute the hashes (M,) of stored pictures, which the folder `cache` keeps for next time."""
    result = [np.zeros(0, np.uint64)]
    for folder in folders:
        contents = stored_pictures(folder, splits)
        key = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents))
        file = cache / f"{folder.name}-{key.hexdigest()[:16]}.npy"
        if not file.exists():
            reading = tqdm(contents, desc=folder.name, unit="picture")
            values = [cleaning.hash_views(cleaning.clean(item, SHORT_SIDE)) for item in reading]
            cache.mkdir(parents=True, exist_ok=True)
            np.save(file, np.array(values, np.uint64).reshape(-1))
        result.append(np.load(file))
    return np.concatenate(result)


class Pool:
    """The pictures of all collections, and where each of them goes.

    Args:
        table: with the columns of `POOL`.

    `places` says of each "set/split", `OPEN` or `OUT`.
    """

    def __init__(self, table: pa.Table):
        self.table = table
        self.hashes = np.array(table["hashes"].to_pylist(), np.uint64)
        self.names = [image["path"] for image in table["image"].to_pylist()]
        self.sources = np.array(table["source"].to_pylist())
        self.large = np.array(table["short_side"].to_pylist()) >= SHORT_SIDE
        self.places = np.full(len(self.names), OPEN, object)
        digests = [hashlib.sha256(name.encode()).digest() for name in self.names]
        self.order = np.array(digests).argsort()  # at random, but always the same

    @classmethod
    def read(cls, files: list[Path]) -> "Pool":
        """Read the pools of some files, in their order."""
        return cls(pa.concat_tables([pq.read_table(file) for file in files]))

    def is_held_out(self) -> np.ndarray:
        """Say which pictures are for validation or test, (N,)."""
        return np.array([place not in (OUT, OPEN) for place in self.places], bool)

    def drop(self, chosen: np.ndarray) -> None:
        """Leave the `chosen` (N,) out, as far as they have no place yet."""
        self.places[chosen & (self.places == OPEN)] = OUT

    def drop_skipped(self, table: list[Collection]) -> None:
        """Leave out what the table has come to skip since the pools were made."""
        patterns = [f"{one.name}/{pattern}" for one in table for pattern in one.skip]
        self.drop(np.array([matches(name, patterns) for name in self.names], bool))

    def drop_doubles(self) -> None:
        """Keep the first of pictures that are nearly the same, or one the middle of the other."""
        views = self.hashes[:, [WHOLE, SQUARE]]
        for first, second in cleaning.near_pairs(views.reshape(-1), SAME):
            first, second = first // views.shape[1], second // views.shape[1]
            if first != second and self.places[first] != OUT:
                self.places[second] = OUT

    def hold_out(self, table: list[Collection], seen: np.ndarray) -> None:
        """Choose validation and test pictures, none like one of `seen` (M,), and drop those alike.

        The choice follows from the names of the pictures, so it stays when collections are added.
        """
        for collection in table:
            of_it = (self.sources == collection.name) & self.large
            candidates = self._fresh(self.order[of_it[self.order]], seen)
            for name, number in collection.held_out.items():
                for split in SPLITS[1:]:
                    self._fill(f"{name}/{split}", number, candidates)
        held = self.is_held_out()
        judged = self.hashes[held][:, [WHOLE, SQUARE]].reshape(-1)
        self.drop(cleaning.is_near(self.hashes, judged, ALIKE))
        for collection in table:
            if collection.series:
                self._drop_series(collection)

    def _fresh(self, indices: np.ndarray, seen: np.ndarray) -> Iterator[int]:
        """Yield those of `indices` that are not like one of `seen`, as they are asked for."""
        for start in range(0, len(indices), 64):
            part = indices[start : start + 64]
            yield from part[~cleaning.is_near(self.hashes[part], seen, ALIKE)]

    def _fill(self, place: str, number: int, candidates: Iterator[int]) -> None:
        """Give the next `number` candidates to a place that are not like others held out."""
        for index in candidates:
            if number == 0:
                break
            held = self.hashes[self.is_held_out()][:, WHOLE]
            alike = cleaning.is_near(self.hashes[[index]], held, ALIKE)[0]
            if self.places[index] == OPEN and not alike:
                self.places[index] = place
                number -= 1

    def _drop_series(self, collection: Collection) -> None:
        """Drop pictures of the series of which others are held out."""
        found = [re.search(collection.series, name) for name in self.names]
        series = np.array([match[1] if match else "" for match in found])
        of_it = self.sources == collection.name
        taken = series[of_it & self.is_held_out()]
        self.drop(of_it & (series != "") & np.isin(series, taken))

    def write(self, output: Path, free: bool) -> dict[str, dict[str, int]]:
        """Write each set in mixed order, or what of it is free; count its pictures by split."""
        allowed = np.array([not free or terms in FREE for terms in self.table["terms"].to_pylist()])
        counts: dict[str, dict[str, int]] = collections.defaultdict(dict)
        for place in sorted(set(self.places) - {OUT, OPEN}):
            name, split = place.split("/")
            rows = self.order[((self.places == place) & allowed)[self.order]]
            if len(rows):
                part = self.table.take(rows).select(list(COLUMNS)).cast(COLUMNS.arrow_schema)
                write_table(part, output / name / f"{split}.parquet")
                counts[name][split] = len(rows)
        return counts


@dataclasses.dataclass(frozen=True)
class CollectingOptions:
    """How sets are made from collections.

    Args:
        apart: data sets, or folders of pictures, of whose validation and test pictures nothing
            similar is taken.
        seen: data sets that are trained on as well: nothing like their training pictures is held
            out.
        only: names of collections; all of the table if there are none.
        free: keep only pictures whose terms allow any use.
        table: the file that lists the collections.
        workers: processes that read clones, each one collection at a time.
    """

    table: Path
    apart: tuple[Path, ...] = ()
    seen: tuple[Path, ...] = ()
    only: tuple[str, ...] = ()
    free: bool = False
    workers: int = 1


def make_pools(
    wanted: list[Collection], clones: Path, pools: Path, workers: int
) -> list[Collection]:
    """Write the pools that are missing; returns the collections that have one now."""
    make = functools.partial(make_pool, clones=clones, pools=pools)
    # One thread in each: torch's threads would wait for one another on pictures this small.
    with concurrent.futures.ProcessPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(1,)
    ) as executor:
        return [one for one, made in zip(wanted, executor.map(make, wanted), strict=True) if made]


def make_sets(clones: Path, output: Path, options: CollectingOptions) -> dict[str, dict[str, int]]:
    """Make training sets from the collections whose clones are there.

    Args:
        clones: folder that holds the clones as OWNER/NAME, or bare as OWNER/NAME.git.
        output: folder of the sets; its folder `collections` keeps the pools for the next time.
        options: what is taken.

    Returns:
        Pictures by set and split.

    Raises:
        ValueError: if the table is wrong, or names none of the clones.
    """
    pools = output / "collections"
    wanted = [
        collection
        for collection in read_table(options.table)
        if not options.only or collection.name in options.only
    ]
    found = make_pools(wanted, clones, pools, options.workers)
    if not found:
        raise ValueError(f"{clones} has no clone of a repository that {options.table} names.")
    pool = Pool.read([pools / f"{collection.name}.parquet" for collection in found])
    pool.drop_skipped(found)
    judged = stored_hashes(options.apart, SPLITS[1:], pools / "hashes")
    pool.drop(cleaning.is_near(pool.hashes, judged, SAME))
    pool.drop_doubles()
    pool.hold_out(found, stored_hashes(options.seen, SPLITS[:1], pools / "hashes"))
    for collection in found:
        rest = (pool.places == OPEN) & (pool.sources == collection.name)
        pool.places[rest] = f"{collection.set}/train"
    return pool.write(output / "free" if options.free else output, options.free)
