"""Configuration files: what they build on, the names of earlier versions, what is refused."""

import re
from pathlib import Path

import pytest

from pipeline_colorize.training import build
from pipeline_colorize.training.checks import check_configs
from pipeline_colorize.training.config import (
    PARTS,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    find_config,
    merge_settings,
    parse,
    read_settings,
)

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)


# Files


def test_a_file_lies_over_the_one_that_it_builds_on(tmp_path):
    write(
        tmp_path,
        a="batch_size: 8\nseed: 3\nmodel: {attention: true, ab_scale: 33}",
        b="base: a.yaml\nbatch_size: 16\nmodel: {attention: false}",
        c="base: b.yaml\nseed: 4",
    )
    _, model, optim, run = parse(["--config", str(tmp_path / "c.yaml")], PARTS, "")
    assert (optim.batch_size, run.seed) == (16, 4)
    assert model.model == {"attention": False, "ab_scale": 33}
    argv = ["--config", str(tmp_path / "c.yaml"), "--batch_size", "2", "--model.ab_scale", "50"]
    _, model, optim, _ = parse(argv, PARTS, "")
    assert optim.batch_size == 2 and model.model == {"attention": False, "ab_scale": 50}


def test_a_base_is_looked_for_beside_the_file_that_names_it(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    write(tmp_path, a="seed: 3")
    write(tmp_path / "inner", b="base: ../a.yaml")
    monkeypatch.chdir(tmp_path / "inner")
    assert read_settings(Path("b.yaml")) == read_settings(tmp_path / "inner/b.yaml") == {"seed": 3}


def test_merging_changes_neither_side():
    settings, over = {"model": {"a": 1}, "seed": 0}, {"model": {"b": 2}, "seed": None}
    assert merge_settings(settings, over) == {"model": {"a": 1, "b": 2}, "seed": None}
    assert settings == {"model": {"a": 1}, "seed": 0} and over == {"model": {"b": 2}, "seed": None}


@pytest.mark.parametrize(
    "files, message",
    [
        ({"a": "base: b.yaml", "b": "base: a.yaml"}, "b.yaml: `base` leads back to .*a.yaml"),
        ({"a": "base: b.yaml"}, "a.yaml: there is no file .*b.yaml for `base`"),
        ({"a": "- seed"}, "a.yaml must hold `field: value` lines, not list"),
        ({"a": "seed: [1"}, "a.yaml is no YAML file"),
        ({"a": "base: b.yaml", "b": "sed: 1"}, "a.yaml has no 'sed'; did you mean 'seed'"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, files, message):
    write(tmp_path, **files)
    with pytest.raises(ValueError, match=message):
        parse(["--config", str(tmp_path / "a.yaml")], PARTS, "")


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"PAR1\xb4")
    with pytest.raises(ValueError, match="a.yaml is no YAML file"):
        parse(["--config", str(tmp_path / "a.yaml")], PARTS, "")


def test_configurations_that_ship_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("configs/tiny.yaml", "tiny.yaml", "tiny", "small/faces-rgb"):
        assert find_config(name).is_file()
    with pytest.raises(ValueError, match=r"no configuration file 'tinny'.*'configs/tiny\.yaml'"):
        find_config("tinny")


def test_names_of_earlier_versions_are_still_read(tmp_path):
    write(tmp_path, a="closer_resolution: 192\nloss: mse\nsnr_gamma: null\ngradient_weight: 0.0")
    data, *_ = parse(["--config", str(tmp_path / "a.yaml")], PARTS, "")
    assert data.large_resolution == 192
    write(tmp_path, a="loss: l1")
    with pytest.raises(ValueError, match="no `loss` any more"):
        parse(["--config", str(tmp_path / "a.yaml")], PARTS, "")


# Values


def configs(**changes) -> list:
    """The four parts with data sets, and with fields changed in the part that has them."""
    parts = [DataConfig(datasets=["a", "b"]), ModelConfig(), OptimizerConfig(), RunConfig()]
    for name, value in changes.items():
        (part,) = [part for part in parts if hasattr(part, name)]
        setattr(part, name, value)
    return parts


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, not 0"),
        ({"max_train_steps": 0}, "`max_train_steps` must be at least 1, not 0"),
        ({"num_train_epochs": -1}, "`num_train_epochs` must be at least 1, not -1"),
        ({"resolution": 0}, "`resolution` must be at least 1, not 0"),
        ({"checkpoints_total_limit": 0}, "`checkpoints_total_limit` must be at least 1, not 0"),
        ({"early_stopping_patience": 0}, "`early_stopping_patience` must be at least 1, not 0"),
        ({"validation_colors": -1}, "`validation_colors` must be at least 0, not -1"),
        ({"workers": -1}, "`workers` must be at least 0, not -1"),
        ({"validation_pictures": -1}, "`validation_pictures` must be at least 0, not -1"),
        ({"lr_warmup_steps": -5}, "`lr_warmup_steps` must be at least 0, not -5"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be at least 0, not nan"),
        ({"early_stopping_metric": "validation_histogram"}, "set `validation_colors`"),
        ({"crop_probability": 1.5}, "`crop_probability` must be from 0 to 1, not 1.5"),
        ({"ema_decay": 1.0}, "`ema_decay` must be from 0 to below 1, not 1.0"),
        ({"seed": -1}, "`seed` must be from 0 to 2\\^56 - 1, not -1"),
        ({"datasets": []}, "`datasets` names no data set"),
        ({"dataset_weights": [1, 2, 3]}, "3 values for 2"),
        ({"load_size": 8, "resolution": 16}, "`load_size` 8 .*`resolution` 16"),
        ({"streaming": True}, "set `epoch_pictures`"),
        ({"guidance_weight": 1.5, "condition_dropout": 0.1}, "below 1, not 1.5"),
        ({"guidance_weight": 0.3}, "set `condition_dropout`"),
    ],
)
def test_a_value_that_cannot_work_is_refused_before_anything_is_built(changes, message):
    check_configs(configs())
    with pytest.raises(ValueError, match=message):
        check_configs(configs(**changes))


# Processes and precision


@pytest.mark.parametrize("variable", build.WORLD_SIZES)
def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch, variable):
    for name in build.WORLD_SIZES:
        monkeypatch.delenv(name, raising=False)
    build.refuse_lone_processes(1)
    monkeypatch.setenv(variable, "2")
    build.refuse_lone_processes(2)
    with pytest.raises(ValueError, match=f"started 2 processes .{variable}., but only 1"):
        build.refuse_lone_processes(1)


def test_more_tasks_of_a_cluster_than_processes_are_fine_where_a_launcher_counts(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    build.refuse_lone_processes(2)


@pytest.mark.parametrize("native, expected", [(True, "bf16"), (False, "no")])
def test_automatic_precision_asks_the_processor(monkeypatch, native, expected):
    dtype = build.torch.bfloat16 if native else build.torch.float32
    monkeypatch.setattr(build, "native_dtype", lambda: dtype)
    assert build.resolve_precision("auto") == expected
    assert build.resolve_precision("bf16") == "bf16"


def test_the_head_of_every_configuration_says_what_it_takes():
    for file in CONFIGS:
        if "data" in file.parts:
            continue
        head = re.match(r"(#.*\n)+", file.read_text())
        assert head, f"{file} has no head"
        for word in ("python|accelerate", "Hardware:", "Time:"):
            assert re.search(word, head[0]), f"the head of {file} says no {word}"
