"""Which settings train a better model in the same time? A table of trials.

Each trial of the file is trained for the same time from scratch: a few steps show how many fit in.
Then it colours the same `validation` pictures twice each. A second run continues where the first
was stopped, and repeats what has changed. Nothing else should run beside it.
"""

import json
import re
import shutil
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.training.config import merge_settings, read_settings
from recipes.stages import Stage, call, run_stage

from .sampler import FIGURES, MODELS, Setting, load, measure, sample

ROOT = Path(__file__).resolve().parents[2]
PROBE_STEPS = 30  # the first ten are slower


def read_trials(file: Path) -> dict[str, dict]:
    """Read all settings of each trial, by its name."""
    content = yaml.safe_load(file.read_text("utf-8"))
    base = merge_settings(read_settings(file.parent / content["base"]), content["fields"])
    return {name: merge_settings(base, trial) for name, trial in content["trials"].items()}


def train(settings: dict, folder: Path, **fields) -> list[dict]:
    """Run train_colorize.py; returns its records, one for a step or validation."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trial.yaml"
    file.write_text(yaml.safe_dump(settings | fields | {"output_dir": str(folder / "train")}))
    call(ROOT / "train_colorize.py", "--config", file, "--resume_from_checkpoint", "latest")
    lines = (folder / "train" / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def steps_in(seconds: float, settings: dict, folder: Path) -> int:
    """Find how many steps fit in, by a short run on the first data set."""
    small = {"datasets": settings["datasets"][:1], "validation_pictures": 0}
    records = train(settings, folder, max_train_steps=PROBE_STEPS, **small)
    speeds = [one["images_per_second"] for one in records if "images_per_second" in one]
    return round(seconds * statistics.median(speeds[10:]) / pictures_per_step(settings))


def pictures_per_step(settings: dict) -> int:
    """Count the pictures of an optimizer step."""
    return settings["batch_size"] * settings.get("gradient_accumulation_steps", 1)


def try_out(settings: dict, folder: Path, seconds: float, truths: list) -> dict:
    """Train and measure, unless that is done."""
    inputs = {name: str(value) for name, value in settings.items()}
    inputs |= {"seconds": str(seconds), "pictures": str([len(one.pictures) for one in truths])}
    work = partial(train_and_measure, settings, seconds, truths)
    run_stage(Stage(folder.name, lambda: inputs, work, "figures.json", resumes=True), folder)
    return json.loads((folder / "figures.json").read_text())


def train_and_measure(settings: dict, seconds: float, truths: list, folder: Path) -> None:
    """Fill the folder of a trial, from where an earlier run was stopped."""
    plan, probe = folder / "steps.txt", folder / "probe"
    if not plan.exists():
        shutil.rmtree(probe, ignore_errors=True)
        plan.write_text(str(steps_in(seconds, settings, probe)))
    steps = int(plan.read_text())
    records = train(settings, folder, max_train_steps=steps)
    pipe = ColorizationPipeline.from_pretrained(folder / "train" / "model")
    pipe.set_progress_bar_config(disable=True)
    setting = Setting(MODELS, pipe.config.default_num_inference_steps, 1.0)
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
    """Write a row a trial, in the order of the file."""
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


def run(
    file: Path,
    datasets: tuple[str, ...],
    limit: int,
    minutes: float,
    only: tuple[str, ...],
    output: Path,
) -> str:
    """Train and measure the trials of a file; returns the table.

    Args:
        file: of the study.
        datasets: to train on, each with the split `validation` to measure on.
        limit: pictures of a set to measure on.
        minutes: of training for each trial.
        only: names of trials; all if there are none.
        output: a folder.

    Raises:
        ValueError: if there is no trial of such a name.
    """
    trials = read_trials(file)
    if unknown := [name for name in only if name not in trials]:
        raise ValueError(f"There is no trial {unknown[0]!r}; there are {list(trials)}.")
    truths = [load(path, "validation", limit) for path in datasets]
    results: dict[str, dict] = {}
    for name, settings in trials.items():
        folder = output / re.sub(r"\W+", "-", name).strip("-")
        if (only and name not in only) and not (folder / "figures.json").exists():
            continue
        settings["datasets"] = list(datasets)
        results[name] = try_out(settings, folder, 60 * minutes, truths)
        (output / "study.md").write_text(to_markdown(results))
    return to_markdown(results)
