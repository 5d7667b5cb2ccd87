"""A recipe: a configuration with the stages that lead from pictures to coloured photographs."""

import dataclasses
import hashlib
import io
import itertools
import json
import sys
from functools import partial
from pathlib import Path

import click
import yaml
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from pipeline_colorize.photo import open_picture
from pipeline_colorize.training import config
from pipeline_colorize.training.augmentation import cut_square
from pipeline_colorize.training.baselines import validation_losses
from pipeline_colorize.training.decoding import decode
from pipeline_colorize.training.survey import (
    Survey,
    duplicate_pairs,
    find_leaks,
    hash_picture,
    new_splits,
    open_source,
    parse_splits,
    picture_name,
    survey_pictures,
)

from .stages import Stage, call, checksum, checksum_of_source

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import train_colorize  # noqa: E402

# Fields of a configuration that change nothing in what comes out of the training.
LOGISTICS = {
    "datasets",
    "output_dir",
    "resume_from_checkpoint",
    "dry_run",
    "pipeline",
    "report_to",
    "checkpointing_steps",
    "checkpointing_epochs",
    "checkpoints_total_limit",
    "grid_epochs",
    "grid_pictures",
    "workers",
    "cache_gigabytes",
    "push_to_hub",
    "hub_model_id",
}
STEPS = (5, 10, 20, 50, 100, 350, 1000)
STEPS_PICTURES = 16
ROWS = 5000  # pictures a file, which are in memory at a time
COLUMNS: dict = {"image": ImageFeature(decode=False)} | {
    name: Value("string") for name in ("split", "name", "digest", "dhash")
}


# --- ingest and split ---------------------------------------------------------------------------


def keep_small(record: dict, size: int) -> bytes:
    """Take the file of a picture, or a smaller PNG where its short side is above `size`."""
    content = record["bytes"] or Path(record["path"]).read_bytes()
    with open_picture(io.BytesIO(content)) as image:
        small = min(image.size) <= size and image.mode == "RGB"
    if small:
        return content
    stream = io.BytesIO()
    pixels = decode(record, size).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def has_splits(split_of: list[str]) -> bool:
    """Say whether a source is split already, so that it keeps its validation and test pictures."""
    return {"train", "test"} <= set(split_of)


def keep_judged(found: Survey, dataset, split_of: list[str], size: int) -> None:
    """Keep grey and toned pictures outside of `train` after all: a test set stays what it is."""
    for left_out in (found.grey, found.toned):
        for index in [index for index in left_out if split_of[index] != "train"]:
            left_out.remove(index)
            picture = cut_square(decode(dataset[index]["image"], size), size)
            found.good.append(index)
            found.digests.append(hashlib.sha256(picture.numpy().tobytes()).digest())
            found.hashes.append(hash_picture(picture))


def ingest_one(source: str, column: str, size: int, target: Path) -> dict:
    """Write the usable pictures of a data set to parquet files; returns what was left out."""
    dataset, split_of = open_source(source, column)
    found = survey_pictures(dataset, size)
    if has_splits(split_of):
        keep_judged(found, dataset, split_of, size)

    def rows():
        good = sorted(zip(found.good, found.digests, found.hashes, strict=True))
        for index, digest, dhash in good:
            record = dataset[index]["image"]
            yield {
                "image": {"bytes": keep_small(record, size), "path": None},
                "split": split_of[index],
                "name": picture_name(dataset, split_of, index),
                "digest": digest.hex(),
                "dhash": f"{dhash:016x}",
            }

    target.mkdir()
    left = rows()
    for number in itertools.count():
        some = list(itertools.islice(left, ROWS))
        if not some and number:
            break
        part = Dataset.from_list(some, Features(COLUMNS))
        part.to_parquet(target / f"{number:05d}.parquet")
    names = partial(picture_name, dataset, split_of)
    kinds = ("corrupt", "grey", "toned")
    left_out = {kind: [names(index) for index in getattr(found, kind)] for kind in kinds}
    return {"pictures": len(found.good), "left_out": left_out}


def ingest(recipe: "Recipe", folder: Path) -> None:
    """Write a folder of parquet files for each data set, and `report.json`."""
    report = {}
    for name, source in recipe.sources.items():
        column = recipe.data.image_column
        report[name] = ingest_one(source, column, recipe.size, folder / name)
        left_out = {kind: len(names) for kind, names in report[name]["left_out"].items()}
        click.echo(f"  {name}: {report[name]['pictures']:,} pictures, left out {left_out}")
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def choose_splits(pictures: Dataset, shares: str) -> tuple[dict[str, list[int]], list[int]]:
    """Choose splits, and the duplicates that are left out; both as indices.

    A source that has `train` and `test` keeps its splits, and only loses, from `train` where
    possible, what stands in two of them. Any other is split at random.
    """
    split_of, digests = list(pictures["split"]), [bytes.fromhex(one) for one in pictures["digest"]]
    hashes = [int(one, 16) for one in pictures["dhash"]]
    everything = list(range(len(split_of)))
    found = Survey(good=everything, digests=digests, hashes=hashes)
    pairs = duplicate_pairs(found, distance=2)
    if not has_splits(split_of):
        return new_splits(found, pairs, parse_splits(shares), 0)
    doubles = {first for first, _ in find_leaks(found, pairs, split_of)}
    names = dict.fromkeys(split_of)
    kept = [index for index in everything if index not in doubles]
    return {name: [i for i in kept if split_of[i] == name] for name in names}, sorted(doubles)


def split(recipe: "Recipe", folder: Path) -> None:
    """Write a folder for each data set, with a parquet file a split, and `report.json`."""
    report = {}
    for name in recipe.sources:
        files = sorted((recipe.folder / "ingest" / name).glob("*.parquet"))
        pictures = Dataset.from_parquet([str(file) for file in files])
        pictures = pictures.cast_column("image", ImageFeature(decode=False))
        splits, doubles = choose_splits(pictures, recipe.splits)
        (folder / name).mkdir()
        for part, indices in splits.items():
            chosen = pictures.select(indices).select_columns(["image"])
            chosen = chosen.cast_column("image", ImageFeature())  # which readers go by
            chosen.to_parquet(folder / name / f"{part}-00000-of-00001.parquet")
        sizes = {part: len(indices) for part, indices in splits.items()}
        report[name] = {"pictures": sizes, "duplicates": pictures.select(doubles)["name"][:]}
        click.echo(f"  {name}: {sizes}, {len(doubles)} duplicates left out")
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


# --- train, evaluate, colorize ------------------------------------------------------------------


def train(recipe: "Recipe", folder: Path) -> None:
    """Run `train_colorize.py` on the split pictures, from its last checkpoint if there is one."""
    last = ("--output_dir", folder, "--resume_from_checkpoint", "latest")
    options = ("--config", recipe.file, *recipe.fields, "--datasets", *recipe.sets, *last)
    call(ROOT / "train_colorize.py", *options)


def judge(recipe: "Recipe", output: Path, *options) -> None:
    """Run `scripts/evaluate.py` on the split pictures."""
    sets = [part for path in recipe.sets for part in ("--data", path)]
    fixed = ("--model", recipe.model, *sets, "--mean-color", "train", "--output", output)
    call(ROOT / "scripts" / "evaluate.py", *fixed, *options)


def evaluate(recipe: "Recipe", folder: Path) -> None:
    """Write figures on the test pictures, `speed.json`, and losses to beat in `baselines.json`."""
    guessed = validation_losses(train_colorize.Run(recipe.configs_after_split()))
    (folder / "baselines.json").write_text(json.dumps(guessed, indent=1) + "\n", "utf-8")
    speed = ("systems", "--model", recipe.model, "--side", 128, "--only", "this project")
    call(ROOT / "scripts" / "benchmark.py", *speed, "--output", folder / "speed.json")
    samples = recipe.samples if recipe.is_diffusion else 1  # one pass has one answer
    judge(recipe, folder, "--split", "test", "--samples", samples)


def study_steps(recipe: "Recipe", folder: Path) -> None:
    """Evaluate with each number of steps."""
    few = ("--split", recipe.data.validation_split, "--limit", STEPS_PICTURES, "--samples", 2)
    for steps in recipe.step_numbers():
        judge(recipe, folder / str(steps), *few, "--steps", steps)


def colorize(recipe: "Recipe", folder: Path) -> None:
    """Run the command `colorize` on the photographs."""
    more = ("--intermediates",) if recipe.is_diffusion else ()
    fixed = ("--output", folder / "photographs", "--model", recipe.model, "--compare", "--recolor")
    call("-m", "pipeline_colorize.cli", recipe.photographs, *fixed, *more)


# --- the recipe ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Recipe:
    """A configuration with fields over it, and what else the stages need.

    Args:
        file: the configuration.
        fields: flags of train_colorize.py that go over it.
        photographs: folder of photographs to colorize.
        size: short side, in pixels, of the pictures that are kept.
        splits: shares of a source that is not split.
        samples: colourings of each test picture.
    """

    file: Path
    fields: list[str]
    photographs: Path
    size: int = 128
    splits: str = "train=.8,validation=.1,test=.1"
    samples: int = 4

    def __post_init__(self):
        argv = ["--config", str(self.file), *self.fields]
        self.configs = config.parse(argv, train_colorize.PARTS, "")
        self.data, self.network, _, run = self.configs
        self.folder = Path(run.output_dir)
        self.sources = {Path(source).name: source for source in self.data.datasets}
        if not self.sources or len(self.sources) < len(self.data.datasets):
            raise ValueError(
                f"`datasets` needs data sets of different names, not {self.data.datasets}."
            )

    @property
    def sets(self) -> list[Path]:
        """The folders of the data sets after the split."""
        return [self.folder / "split" / name for name in self.sources]

    def configs_after_split(self) -> list:
        """Build the parts of the configuration as the training sees them."""
        pictures = dataclasses.replace(self.data, datasets=[str(path) for path in self.sets])
        run = dataclasses.replace(self.configs[3], report_to="none")
        return [pictures, *self.configs[1:3], run]

    @property
    def model(self) -> Path:
        """The folder of the trained model."""
        return self.folder / "train" / "model"

    @property
    def is_diffusion(self) -> bool:
        """Whether the model takes steps, or else one pass."""
        return self.network.scheduler_class != "none"

    def step_numbers(self) -> list[int]:
        """List the numbers of steps to compare, up to as many as the schedule has."""
        most = self.network.scheduler.get("num_train_timesteps", 1000)
        return sorted({steps for steps in STEPS if steps < most} | {most})

    def settings(self) -> dict:
        """Read every field of the configuration."""
        return yaml.safe_load(config.to_yaml(self.configs))

    def stages(self) -> list[Stage]:
        """List the stages in order, without those that the recipe has no use for."""
        stages = [
            Stage("ingest", self._for_ingest, partial(ingest, self), "report.json"),
            Stage("split", self._for_split, partial(split, self), "report.json"),
            Stage("train", self._for_train, partial(train, self), "model", True, ("pipeline",)),
            Stage("evaluate", self._for_evaluate, partial(evaluate, self), "results.json"),
            Stage("colorize", self._for_colorize, partial(colorize, self), "photographs", True),
        ]
        if self.network.model_class == "GreyAutoencoder":  # which has no colours
            return stages[:3]
        if self.is_diffusion:
            last = f"{self.step_numbers()[-1]}/results.json"
            steps = Stage("steps", self._for_steps, partial(study_steps, self), last)
            stages.insert(-1, steps)
        return stages

    # What the stages depend on

    def _for_ingest(self) -> dict[str, str]:
        sources = {source: checksum_of_source(source) for source in self.sources.values()}
        return sources | {"size": str(self.size), "column": self.data.image_column}

    def _for_split(self) -> dict[str, str]:
        return {"pictures": checksum(self.folder / "ingest"), "shares": self.splits}

    def _for_train(self) -> dict[str, str]:
        settings = self.settings()
        fields = {name: str(value) for name, value in settings.items() if name not in LOGISTICS}
        for name in ("init_from", "init_encoder_from"):
            if settings.get(name):
                fields[name] = checksum_of_source(settings[name])
        pictures = {"pictures": checksum(self.folder / "split", "*.parquet")}
        return pictures | fields | {"pipeline": str(settings["pipeline"])}

    def _for_evaluate(self) -> dict[str, str]:
        pictures = {"pictures": checksum(self.folder / "split", "*.parquet")}
        return pictures | self._model() | {"samples": str(self.samples)}

    def _for_steps(self) -> dict[str, str]:
        pictures = {"pictures": checksum(self.folder / "split", "*.parquet")}
        return pictures | self._model() | {"steps": str(self.step_numbers())}

    def _for_colorize(self) -> dict[str, str]:
        return {"photographs": checksum(self.photographs)} | self._model()

    def _model(self) -> dict[str, str]:
        return {"model": checksum(self.model, "*.json", "*.safetensors")}
