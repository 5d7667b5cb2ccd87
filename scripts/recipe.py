"""From a folder of pictures to coloured photographs, by one command.

    python scripts/recipe.py configs/small/flowers-ddpm.yaml --datasets FOLDER [--FIELD VALUE ...]

Six stages, each with a folder of its own in the recipe's `output_dir`:

    ingest    pictures of the data sets, scaled down; broken ones are left out, and out of those to
              learn from also grey and toned ones
    split     train, validation and test, which share no picture
    train     train_colorize.py, which goes on where it was stopped
    evaluate  scripts/evaluate.py on the test pictures, and the time that a picture takes
    steps     the same for several numbers of denoising steps, on some validation pictures
    colorize  a folder of photographs in colour; with noise, also how the colours came about

A stage is left out where nothing that goes into it has changed since it was done: `stage.json` in
its folder holds checksums of its pictures, model and settings. What has become out of date is put
into `old/`, never removed.
"""

import dataclasses
import hashlib
import io
import itertools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import prepare_dataset
import yaml
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from recipe_baselines import validation_losses

from pipeline_colorize.photo import open_picture
from pipeline_colorize.training import config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import train_colorize  # noqa: E402
from pipeline_colorize.training.augmentation import cut_square  # noqa: E402
from pipeline_colorize.training.decoding import decode  # noqa: E402

# Fields of a configuration that change nothing in what comes out of the training.
LOGISTICS = {
    "datasets", "output_dir", "resume_from_checkpoint", "dry_run", "pipeline", "report_to",
    "checkpointing_steps", "checkpointing_epochs", "checkpoints_total_limit", "grid_epochs",
    "grid_pictures", "workers", "cache_gigabytes", "push_to_hub", "hub_model_id",
}  # fmt: skip
STEPS = (5, 10, 20, 50, 100, 350, 1000)
STEPS_PICTURES = 16
ROWS = 5000  # pictures a file, which are in memory at a time
COLUMNS = {"image": ImageFeature(decode=False)} | {
    name: Value("string") for name in ("split", "name", "digest", "dhash")
}


# --- stages -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Stage:
    """One step of a recipe.

    Args:
        name: of its folder.
        inputs: -> what it depends on, label -> text; asked for when its turn has come.
        work: folder -> None; makes what the stage is for.
        product: what is there when it is done, in the folder.
        resumes: goes on in a folder that it has not finished.
        mild: labels of inputs whose change spoils nothing that a stage that resumes has done.
    """

    name: str
    inputs: Callable[[], dict[str, str]]
    work: Callable[[Path], None]
    product: str
    resumes: bool = False
    mild: tuple[str, ...] = ()


def checksum(folder: Path, *patterns: str) -> str:
    """SHA-256 over the names and contents of the files in a folder, or of those like `patterns`."""
    total = hashlib.sha256()
    for file in sorted({file for one in patterns or ("*",) for file in folder.rglob(one)}):
        if file.is_file() and file.name != "stage.json":
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.relative_to(folder)} {content}\n".encode())
    return total.hexdigest()


def checksum_of_source(name: str) -> str:
    """Of the files of a data set or model, or its name where it is one of the Hub."""
    path = Path(name).expanduser()
    return checksum(path) if path.exists() else name


def read_record(folder: Path) -> dict:
    """What `stage.json` says; `{}` where there is none."""
    file = folder / "stage.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def write_record(folder: Path, inputs: dict, finished: bool, seconds: float) -> None:
    record = {"finished": finished, "seconds": round(seconds, 1), "inputs": inputs}
    (folder / "stage.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def changed_inputs(record: dict, inputs: dict) -> list[str]:
    """Labels of the inputs that are not as they were."""
    before = record.get("inputs", {})
    return [label for label in {**before, **inputs} if before.get(label) != inputs.get(label)]


def set_aside(folder: Path) -> Path:
    """Move what a stage made earlier to `old/`, under a name that is free."""
    old = folder.parent / "old"
    old.mkdir(exist_ok=True)
    number = 1
    while (target := old / f"{folder.name}-{number}").exists():
        number += 1
    return folder.rename(target)


def make_room(stage: Stage, folder: Path, record: dict, changed: list[str]) -> None:
    """Leave the folder to a stage that resumes; for any other, begin with an empty one."""
    if not folder.exists() or (stage.resumes and record and set(changed) <= set(stage.mild)):
        return
    if record and not record["finished"] and not stage.resumes:
        shutil.rmtree(folder)
    else:
        click.echo(f"  what was there is now in {set_aside(folder)}")


def run_stage(stage: Stage, folder: Path, again: bool = False) -> bool:
    """Do what the stage is for, unless it is done; returns whether anything was done."""
    inputs, record = stage.inputs(), read_record(folder)
    changed = changed_inputs(record, inputs)
    if record.get("finished") and not changed and not again and (folder / stage.product).exists():
        click.echo(f"{stage.name}: done already, nothing has changed")
        return False
    reason = f" ({', '.join(changed)} changed)" if record and changed else ""
    click.echo(f"{stage.name} ...{reason}")
    make_room(stage, folder, record, [*changed, "again"] if again else changed)
    folder.mkdir(parents=True, exist_ok=True)
    spent = read_record(folder).get("seconds", 0.0)
    write_record(folder, inputs, False, spent)
    started, finished = time.perf_counter(), False
    try:
        stage.work(folder)
        finished = (folder / stage.product).exists()
    finally:
        write_record(folder, inputs, finished, spent + time.perf_counter() - started)
    if not finished:
        raise click.ClickException(f"{stage.name} stopped early; the same command goes on with it.")
    return True


def call(*command) -> None:
    """Run a program to its end; Ctrl-C and SIGTERM are left to it.

    Raises:
        ClickException: if it fails.
    """
    child = subprocess.Popen([sys.executable, *map(str, command)])
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),  # a terminal tells both
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
    }
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise click.ClickException(f"{' '.join(map(str, command[:2]))} ... ended with {code}.")


# --- ingest and split ---------------------------------------------------------------------------


def keep_small(record: dict, size: int) -> bytes:
    """The file of a picture, or where its short side is above `size`, a smaller PNG."""
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
    """Whether a source is split already, so that it keeps its validation and test pictures."""
    return {"train", "test"} <= set(split_of)


def keep_judged(found: prepare_dataset.Survey, dataset, split_of: list[str], size: int) -> None:
    """Take grey and toned pictures outside of `train` back: a test set stays what it is."""
    for left_out in (found.grey, found.toned):
        for index in [index for index in left_out if split_of[index] != "train"]:
            left_out.remove(index)
            picture = cut_square(decode(dataset[index]["image"], size), size)
            found.good.append(index)
            found.digests.append(hashlib.sha256(picture.numpy().tobytes()).digest())
            found.hashes.append(prepare_dataset.dhash(picture))


def ingest_one(source: str, column: str, size: int, target: Path) -> dict:
    """Write the usable pictures of a data set to parquet files; returns what was left out."""
    dataset, split_of = prepare_dataset.open_source(source, column)
    found = prepare_dataset.survey(dataset, size)
    if has_splits(split_of):
        keep_judged(found, dataset, split_of, size)

    def rows():
        good = sorted(zip(found.good, found.digests, found.hashes, strict=True))
        for index, digest, dhash in good:
            record = dataset[index]["image"]
            yield {
                "image": {"bytes": keep_small(record, size), "path": None},
                "split": split_of[index],
                "name": prepare_dataset.name_of(dataset, split_of, index),
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
    names = partial(prepare_dataset.name_of, dataset, split_of)
    kinds = ("corrupt", "grey", "toned")
    left_out = {kind: [names(index) for index in getattr(found, kind)] for kind in kinds}
    return {"pictures": len(found.good), "left_out": left_out}


def ingest(recipe: "Recipe", folder: Path) -> None:
    """A folder of parquet files for each data set, and `report.json`."""
    report = {}
    for name, source in recipe.sources.items():
        column = recipe.data.image_column
        report[name] = ingest_one(source, column, recipe.size, folder / name)
        left_out = {kind: len(names) for kind, names in report[name]["left_out"].items()}
        click.echo(f"  {name}: {report[name]['pictures']:,} pictures, left out {left_out}")
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def choose_splits(pictures: Dataset, shares: str) -> tuple[dict[str, list[int]], list[int]]:
    """Splits, and duplicates that were left out; both as indices.

    A source that has `train` and `test` keeps its splits, and only loses, from `train` where
    possible, what stands in two of them. Any other is split at random.
    """
    split_of, digests = list(pictures["split"]), [bytes.fromhex(one) for one in pictures["digest"]]
    hashes = [int(one, 16) for one in pictures["dhash"]]
    everything = list(range(len(split_of)))
    found = prepare_dataset.Survey(good=everything, digests=digests, hashes=hashes)
    pairs = prepare_dataset.duplicate_pairs(found, distance=2)
    if not has_splits(split_of):
        return prepare_dataset.new_splits(found, pairs, prepare_dataset.parse_splits(shares), 0)
    doubles = {first for first, _ in prepare_dataset.leaks(found, pairs, split_of)}
    names = dict.fromkeys(split_of)
    kept = [index for index in everything if index not in doubles]
    return {name: [i for i in kept if split_of[i] == name] for name in names}, sorted(doubles)


def split(recipe: "Recipe", folder: Path) -> None:
    """A folder of parquet files, one a split, for each data set, and `report.json`."""
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
    """`train_colorize.py` on the split pictures, from its last checkpoint if there is one."""
    last = ("--output_dir", folder, "--resume_from_checkpoint", "latest")
    own = ("--config", recipe.file, *recipe.fields, "--datasets", *recipe.sets, *last)
    call(ROOT / "train_colorize.py", *own)


def judge(recipe: "Recipe", output: Path, *options) -> None:
    """`scripts/evaluate.py` on the split pictures."""
    sets = [part for path in recipe.sets for part in ("--data", path)]
    own = ("--model", recipe.model, *sets, "--mean-color", "train", "--output", output)
    call(ROOT / "scripts" / "evaluate.py", *own, *options)


def evaluate(recipe: "Recipe", folder: Path) -> None:
    """Figures on the test pictures, `speed.json`, and losses to beat in `baselines.json`."""
    guessed = validation_losses(train_colorize.Run(recipe.configs_after_split()))
    (folder / "baselines.json").write_text(json.dumps(guessed, indent=1) + "\n", "utf-8")
    speed = ("--model", recipe.model, "--side", 128, "--only", "this project")
    call(ROOT / "scripts" / "benchmark.py", *speed, "--output", folder / "speed.json")
    samples = recipe.samples if recipe.is_diffusion else 1  # one pass has one answer
    judge(recipe, folder, "--split", "test", "--samples", samples)


def study_steps(recipe: "Recipe", folder: Path) -> None:
    """An evaluation for each number of steps."""
    few = ("--split", recipe.data.validation_split, "--limit", STEPS_PICTURES, "--samples", 2)
    for steps in recipe.step_numbers():
        judge(recipe, folder / str(steps), *few, "--steps", steps)


def colorize(recipe: "Recipe", folder: Path) -> None:
    """The command `colorize` on the photographs."""
    more = ("--intermediates",) if recipe.is_diffusion else ()
    call("-m", "pipeline_colorize.cli", recipe.photographs, "--output", folder / "photographs",
         "--model", recipe.model, "--compare", "--recolor", *more)  # fmt: skip


# --- the recipe ---------------------------------------------------------------------------------


@dataclasses.dataclass
class Recipe:
    """A configuration file with fields over it, and what else the stages need to know.

    Args:
        file: the configuration.
        fields: flags of train_colorize.py that go over it.
        photographs: folder of photographs to colorize.
        size: short side, in pixels, of the pictures that are kept.
        splits: shares of a source that has no splits of its own.
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
        """Folders of the data sets after the split."""
        return [self.folder / "split" / name for name in self.sources]

    def configs_after_split(self) -> list:
        """The parts of the configuration as the training sees them."""
        pictures = dataclasses.replace(self.data, datasets=[str(path) for path in self.sets])
        run = dataclasses.replace(self.configs[3], report_to="none")
        return [pictures, *self.configs[1:3], run]

    @property
    def model(self) -> Path:
        return self.folder / "train" / "model"

    @property
    def is_diffusion(self) -> bool:
        return self.network.scheduler_class != "none"

    def step_numbers(self) -> list[int]:
        """Numbers of steps to compare: up to as many as the schedule has."""
        most = self.network.scheduler.get("num_train_timesteps", 1000)
        return sorted({steps for steps in STEPS if steps < most} | {most})

    def settings(self) -> dict:
        """Every field of the configuration."""
        return yaml.safe_load(config.to_yaml(self.configs))

    def stages(self) -> list[Stage]:
        """In order; those that the recipe has no use for left out."""
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


@click.command(
    help=__doc__.split("\n\n")[0],
    context_settings={"ignore_unknown_options": True, "show_default": True},
)
@click.argument("file", metavar="CONFIG", type=click.Path(path_type=Path, exists=True))
@click.argument("fields", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--photographs", default=ROOT / "space" / "examples", show_default="those of the repository",
    type=click.Path(path_type=Path, exists=True), help="Folder of photographs to colorize.",
)  # fmt: skip
@click.option("--size", default=128, help="Short side of the pictures that are kept.")
@click.option(
    "--splits", default="train=.8,validation=.1,test=.1",
    help="Shares, or numbers, for a source without `train` and `test` of its own.",
)  # fmt: skip
@click.option("--samples", default=4, help="Colourings of each test picture.")
@click.option("--until", help="Last stage to be done.")
@click.option("--again", help="A stage to do again, even though nothing has changed.")
def main(file, fields, photographs, size, splits, samples, until, again):
    try:
        recipe = Recipe(file, list(fields), photographs, size, splits, samples)
        stages = recipe.stages()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    names = [stage.name for stage in stages]
    for name in (until, again):
        if name not in (None, *names):
            raise click.UsageError(f"There is no stage {name!r}; this recipe has {names}.")
    for stage in stages[: names.index(until) + 1 if until else None]:
        run_stage(stage, recipe.folder / stage.name, stage.name == again)


if __name__ == "__main__":
    main()
