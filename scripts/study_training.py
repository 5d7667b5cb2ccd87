"""Which settings train a better model in the same time? A table of trials.

    python scripts/study_training.py configs/studies/default.yaml --datasets A --datasets B

Each trial of the file is trained for the same time from scratch: a few steps tell how many fit in.
Then it colours the same `validation` pictures twice each. A second run goes on where the first was
stopped, and does again what has changed. Nothing else should run beside it.
"""

import json
import re
import shutil
import statistics
from functools import partial
from pathlib import Path

import click
import numpy as np
import yaml
from recipe import ROOT, Stage, call, run_stage
from study_sampler import FIGURES, OWN, Setting, load, measure, sample

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.training.config import merge_settings, read_settings

PROBE_STEPS = 30  # the first ten are slower


def read_trials(file: Path) -> dict[str, dict]:
    """All settings of each trial, by its name."""
    content = yaml.safe_load(file.read_text("utf-8"))
    base = merge_settings(read_settings(file.parent / content["base"]), content["fields"])
    return {name: merge_settings(base, trial) for name, trial in content["trials"].items()}


def train(settings: dict, folder: Path, **fields) -> list[dict]:
    """Run train_colorize.py on settings; returns what it noted, a record a step or validation."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trial.yaml"
    file.write_text(yaml.safe_dump(settings | fields | {"output_dir": str(folder / "train")}))
    call(ROOT / "train_colorize.py", "--config", file, "--resume_from_checkpoint", "latest")
    lines = (folder / "train" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def steps_in(seconds: float, settings: dict, folder: Path) -> int:
    """How many steps fit in, by a short run on the first data set."""
    small = {"datasets": settings["datasets"][:1], "validation_pictures": 0}
    records = train(settings, folder, max_train_steps=PROBE_STEPS, **small)
    speeds = [one["images_per_second"] for one in records if "images_per_second" in one]
    return round(seconds * statistics.median(speeds[10:]) / pictures_per_step(settings))


def pictures_per_step(settings: dict) -> int:
    return settings["batch_size"] * settings.get("gradient_accumulation_steps", 1)


def try_out(settings: dict, folder: Path, seconds: float, truths: list) -> dict:
    """Train and measure, unless it is done."""
    inputs = {name: str(value) for name, value in settings.items()}
    inputs |= {"seconds": str(seconds), "pictures": str([len(one.pictures) for one in truths])}
    work = partial(train_and_measure, settings, seconds, truths)
    run_stage(Stage(folder.name, lambda: inputs, work, "figures.json", resumes=True), folder)
    return json.loads((folder / "figures.json").read_text())


def train_and_measure(settings: dict, seconds: float, truths: list, folder: Path) -> None:
    """Fill the folder of a trial; what is there already is gone on with."""
    plan, probe = folder / "steps.txt", folder / "probe"
    if not plan.exists():
        shutil.rmtree(probe, ignore_errors=True)
        plan.write_text(str(steps_in(seconds, settings, probe)))
    steps = int(plan.read_text())
    records = train(settings, folder, max_train_steps=steps)
    pipe = ColorizationPipeline.from_pretrained(folder / "train" / "model")
    pipe.set_progress_bar_config(disable=True)
    setting = Setting(OWN, pipe.config.default_num_inference_steps, 1.0)
    sets = [measure(pipe, sample(pipe, pipe.scheduler, setting, one), one) for one in truths]
    figures = {name: float(np.mean([one[name] for one in sets])) for name in FIGURES}
    losses = [one["validation_loss"] for one in records if "validation_loss" in one]
    figures |= {
        "steps": steps,
        "pictures": steps * pictures_per_step(settings),
        "parameters": sum(one.numel() for one in pipe.unet.parameters()),
        "validation_loss": losses[-1],
        "minutes": sum(_seconds(one, settings) for one in records) / 60,
    }
    (folder / "figures.json").write_text(json.dumps(figures, indent=1))


def _seconds(record: dict, settings: dict) -> float:
    speed = record.get("images_per_second")
    return pictures_per_step(settings) / speed if speed else 0.0


def to_markdown(results: dict[str, dict]) -> str:
    """A row a trial, in the order of the file."""
    heads = ["", "parameters", "pictures", "minutes", "validation loss", "energy score"]
    heads += ["one sample, of grey", "colourfulness", "histogram"]
    rows = [heads, ["---"] * len(heads)]
    for name, one in results.items():
        rows.append(
            [
                name,
                f"{one['parameters'] / 1e6:.1f} M",
                f"{one['pictures']:,}",
                f"{one['minutes']:.1f}",
                f"{one['validation_loss']:.4f}",
                f"{one['energy_score']:.2f}",
                f"{one['ciede2000_ratio']:.3f}",
                f"{one['colorfulness_share']:.0%}",
                f"{one['histogram_distance']:.3f}",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("file", metavar="STUDY", type=click.Path(path_type=Path, exists=True))
@click.option("--datasets", multiple=True, required=True, help="Data set, or folder; repeatable.")
@click.option("--minutes", default=5.0, show_default=True, help="Training time of a trial.")
@click.option("--limit", default=100, show_default=True, help="Pictures a set to measure on.")
@click.option("--only", multiple=True, help="Only this trial; repeatable.")
@click.option("--output", default="runs/study", show_default=True, type=click.Path(path_type=Path))
def main(file, datasets, minutes, limit, only, output):
    trials = read_trials(file)
    if unknown := [name for name in only if name not in trials]:
        raise click.UsageError(f"There is no trial {unknown[0]!r}; there are {list(trials)}.")
    truths = [load(path, "validation", limit) for path in datasets]
    results = {}
    for name, settings in trials.items():
        folder = output / re.sub(r"\W+", "-", name).strip("-")
        if (only and name not in only) and not (folder / "figures.json").exists():
            continue
        settings["datasets"] = list(datasets)
        results[name] = try_out(settings, folder, 60 * minutes, truths)
        (output / "study.md").write_text(to_markdown(results))
    click.echo(to_markdown(results))


if __name__ == "__main__":
    main()
