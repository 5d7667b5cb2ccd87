"""The training script: exact resume, kills, processes, release. Everything at 16 pixels."""

import dataclasses
import inspect
import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import socket
import sqlite3
import sys
import time
import types
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
import yaml
from accelerate.state import AcceleratorState, GradientState
from diffusers.optimization import get_scheduler
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from conftest import load_script  # noqa: E402

import pipeline_colorize  # noqa: E402
import train_colorize  # noqa: E402
from pipeline_colorize.core.pipeline import ColorizationPipeline  # noqa: E402
from pipeline_colorize.registry import is_shipped  # noqa: E402
from pipeline_colorize.training import build, checkpoint, config  # noqa: E402
from pipeline_colorize.training.augmentation import cut_square  # noqa: E402
from pipeline_colorize.training.batches import BatchFormat  # noqa: E402
from pipeline_colorize.training.colors import color_figures  # noqa: E402
from pipeline_colorize.training.decoding import bytes_to_lab, decode  # noqa: E402
from pipeline_colorize.training.memory import activation_bytes, idle_cores_advice, memory_advice  # noqa: E402
from pipeline_colorize.training.meter import divergence  # noqa: E402
from pipeline_colorize.training.sources import open_splits, split_validation  # noqa: E402

TINY = {
    "resolution": 16,
    "batch_size": 4,
    "noise_levels": 2,
    "epoch_pictures": 16,
    "max_train_steps": 6,
    "learning_rate": 1e-2,
    "lr_warmup_steps": 2,
    "checkpointing_epochs": None,
    "validation_epochs": 100,
    "grid_epochs": 100,
    "grid_pictures": 1,
    "model": {
        "sample_channels": 2,
        "hint_channels": 3,
        "block": "scale_shift",
        "time_embedding": "timestep",
        "time_embedding_dim": 16,
        "norm_num_groups": 4,
        "chroma_stride": 2,
        "block_out_channels": [8, 8],
        "layers_per_block": 1,
    },
    "scheduler": {"prediction_type": "v_prediction"},
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 13 colour pictures: smooth, of several sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(13):
        small = generator.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        size = (16, 16) if number % 2 else (24, 18)
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def clean_process():
    """Accelerate keeps its state in the process, and training sets signal handlers."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    torch.set_num_threads(1)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


def arguments(pictures, folder, **changes) -> list[str]:
    """A configuration file in `folder`, as the command line has it."""
    content = {**TINY, "datasets": [str(pictures)], "output_dir": str(folder / "run"), **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return ["--config", str(folder / "config.yaml")]


def train(pictures, folder, **changes) -> Path:
    """Run in this process and return the run's folder."""
    AcceleratorState._reset_state(True)
    GradientState._reset_state()
    train_colorize.main(arguments(pictures, folder, **changes))
    return Path(changes.get("output_dir", folder / "run"))


def losses(run: Path) -> dict[int, float]:
    """Loss by step; of two lines with the same step, the second counts."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def released(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "unet" / "diffusion_pytorch_model.safetensors")


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


# Configuration


def parse(argv):
    return config.parse(argv, train_colorize.PARTS, "")


def test_flags_go_over_the_file_and_values_are_checked(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("batch_size: 8\nlearning_rate: 6e-4\nmodel: {attention: false}\nflip: false\n")
    data, model, optim, _ = parse(
        ["--config", str(file), "--batch_size", "16", "--model.block_out_channels", "8", "16"]
    )
    assert (optim.batch_size, optim.learning_rate, data.flip) == (16, 6e-4, False)
    assert model.model == {"attention": False, "block_out_channels": [8, 16]}


@pytest.mark.parametrize(
    "content, flags, near",
    [
        ("bach_size: 8", [], "batch_size"),
        ("", ["--learning_rte", "1"], "learning_rate"),
        ("", ["--modle.attention", "true"], "model"),
    ],
)
def test_an_unknown_field_is_refused_with_the_nearest(tmp_path, content, flags, near):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ValueError, match=f"mean '{near}"):
        parse(["--config", str(tmp_path / "c.yaml"), *flags])


def test_null_empties_a_field_that_may_be_empty(tmp_path):
    (tmp_path / "c.yaml").write_text("checkpointing_epochs: null\nmodel: null")
    *_, run = parse(["--config", str(tmp_path / "c.yaml")])
    assert run.checkpointing_epochs is None
    *_, run = parse(["--config", str(tmp_path / "c.yaml"), "--checkpointing_epochs", "3"])
    assert run.checkpointing_epochs == 3
    (tmp_path / "c.yaml").write_text("mixed_precision: no")
    _, _, optim, *_ = parse(["--config", str(tmp_path / "c.yaml")])
    assert optim.mixed_precision == "no"
    (tmp_path / "c.yaml").write_text("batch_size: null")
    with pytest.raises(ValueError, match="`batch_size` has no value"):
        parse(["--config", str(tmp_path / "c.yaml")])


def test_an_unknown_argument_of_a_class_is_refused_with_the_nearest():
    modules = [pipeline_colorize, diffusers]
    with pytest.raises(ValueError, match="attentoin.*mean 'attention'"):
        config.construct("ColorizationUNet", {"attentoin": True}, modules)
    with pytest.raises(ValueError, match="'ColorizationVNet'"):
        config.construct("ColorizationVNet", {}, modules)


def test_the_resolved_configuration_reads_back_the_same(tmp_path):
    configs = parse(["--learning_rate", "6e-4", "--datasets", "a", "b", "--model.attention", "on"])
    (tmp_path / "c.yaml").write_text(config.to_yaml(configs))
    assert parse(["--config", str(tmp_path / "c.yaml")]) == configs


RECIPES = [
    file
    for file in sorted((ROOT / "configs").rglob("*.yaml"))
    if file.parent.name not in ("data", "studies")
]
BASES = {
    *("default", "finetune", "reference", "tiny"),
    *("driving-regression", "faces-lab", "faces-rgb", "flowers-ddpm"),  # as they were published
    "faces-lab-encoder",
}
BACKBONES = {
    "backbone": transformers.ResNetModel(
        transformers.ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic"
        )
    ),
    "cross-attention": transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=12, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=8
        )
    ),
}


@pytest.fixture
def backbone(request, tmp_path):
    """A folder with a small network in place of the one that a configuration names."""
    BACKBONES[request.param].save_pretrained(tmp_path / request.param)
    return request.param, str(tmp_path / request.param)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_every_shipped_configuration_builds_its_network(file, tmp_path):
    assert "\nbase: " in file.read_text() or file.stem in BASES
    data, model, optim, run = parse(["--config", str(file)])
    if file.stem in BACKBONES:
        assert "/" in model.model["encoder_backbone"]
        BACKBONES[file.stem].save_pretrained(tmp_path)
        model.model["encoder_backbone"] = str(tmp_path)
    if model.init_from and is_shipped(model.init_from):
        build.adopt(build.load_initial_model(model.init_from), model, run)
    network = train_colorize.build_model(model, optim)
    layout = BatchFormat.of_model(network.config)
    assert activation_bytes(network, layout, data.resolution, 1, 1) > 0
    assert data.datasets and run.output_dir
    head = file.read_text().split("\n\n")[0]
    for word in (
        r"(train_colorize\.py --config|recipe\.py) configs/",
        "Hardware:",
        "Time:",
        "Result:|Expected:",
    ):
        assert re.search(word, file.read_text()), f"the head says no {word}: {head}"


def test_batchnorm_is_synchronised_by_option():
    optim = config.OptimizerConfig(sync_batchnorm=True, channels_last=False)
    seed = config.ModelConfig(model={"block_out_channels": [8, 8], "layers_per_block": 1})
    network = train_colorize.build_model(seed, optim)
    plain = train_colorize.build_model(seed, dataclasses.replace(optim, sync_batchnorm=False))
    kinds = {type(module) for module in network.modules()}
    assert torch.nn.SyncBatchNorm in kinds and torch.nn.BatchNorm2d not in kinds
    assert network.state_dict().keys() == plain.state_dict().keys()


# Learning rate


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_learning_rate_equals_diffusers(name):
    optim = config.OptimizerConfig(learning_rate=0.5, lr_schedule=name, lr_warmup_steps=10)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    reference = get_scheduler(name, optimizer, num_warmup_steps=10, num_training_steps=100)
    ours, theirs = [], []
    for step in range(100):
        ours.append(train_colorize.learning_rate(optim, step, 100))
        theirs.append(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()
    # Theirs begins the warm-up at 0, which wastes a step.
    assert ours[:10] == pytest.approx([0.05 * step for step in range(1, 11)])
    assert ours[10:] == pytest.approx(theirs[10:], abs=1e-6)


def test_learning_rate_decays_at_the_end_to_the_floor():
    optim = config.OptimizerConfig(
        learning_rate=1.0, lr_schedule="linear", lr_warmup_steps=0, lr_decay_steps=10, lr_floor=0.05
    )
    rates = [train_colorize.learning_rate(optim, step, 100) for step in range(101)]
    assert rates[:91] == pytest.approx([1.0] * 91)
    assert rates[95] == pytest.approx(0.525) and rates[100] == pytest.approx(0.05)
    constant = dataclasses.replace(optim, lr_schedule="constant")
    assert train_colorize.learning_rate(constant, 99, 100) == 1.0


# Resuming


def test_resumed_run_equals_the_uninterrupted_one_to_the_last_bit(pictures, tmp_path):
    whole = train(
        pictures, tmp_path / "a", checkpointing_steps=3, checkpoints_total_limit=9, workers=1
    )
    resumed = train(pictures, tmp_path / "b", resume_from_checkpoint=str(whole / "checkpoint-3"))
    expected = {step: loss for step, loss in losses(whole).items() if step > 3}
    assert len(expected) == 3 and losses(resumed) == expected
    assert_same(released(whole), released(resumed))
    for name in ("model.safetensors", "ema.safetensors"):
        files = [load_file(run / "checkpoint-6" / name) for run in (whole, resumed)]
        assert_same(*files)
    optimizers = [
        torch.load(run / "checkpoint-6" / "optimizer.bin")["state"] for run in (whole, resumed)
    ]
    assert_same(optimizers[0][0], optimizers[1][0])


def test_a_step_may_be_cut_into_other_passes_when_it_is_resumed(pictures, tmp_path):
    whole = train(pictures, tmp_path / "a", checkpointing_steps=3)
    halves = {"batch_size": 2, "gradient_accumulation_steps": 2}
    again = train(
        pictures, tmp_path / "b", **halves, resume_from_checkpoint=str(whole / "checkpoint-3")
    )
    expected = {step: loss for step, loss in losses(whole).items() if step > 3}
    assert losses(again) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_a_network_with_dropout_is_resumed_to_the_last_bit(pictures, tmp_path):
    network = {
        "in_channels": 4,
        "out_channels": 3,
        "block_out_channels": [8, 8],
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D"] * 2,
        "up_block_types": ["UpBlock2D"] * 2,
        "dropout": 0.3,
    }
    stock = {"model_class": "UNet2DModel", "model": network}
    whole = train(pictures, tmp_path / "a", checkpointing_steps=3, **stock)
    again = train(
        pictures, tmp_path / "b", resume_from_checkpoint=str(whole / "checkpoint-3"), **stock
    )
    assert_same(released(whole), released(again))


@pytest.mark.slow
def test_workers_read_the_same_stream(pictures, tmp_path):
    stream = {"streaming": True, "shuffle_buffer": 5, "max_train_steps": 3}
    alone = train(pictures, tmp_path / "a", **stream)
    assert losses(train(pictures, tmp_path / "b", workers=2, **stream)) == losses(alone)


def test_going_back_does_not_leave_a_later_checkpoint_behind(pictures, tmp_path):
    run = train(pictures, tmp_path, checkpointing_steps=2)
    with pytest.raises(ValueError, match="checkpoint-6, which is later than .*checkpoint-4"):
        train(pictures, tmp_path, resume_from_checkpoint=str(run / "checkpoint-4"))


def test_other_folders_are_no_checkpoints(pictures, tmp_path):
    run = train(pictures, tmp_path, max_train_steps=1)
    for name in ("checkpoint-1-good", "checkpoint-best"):
        (run / name).mkdir()
    train(
        pictures,
        tmp_path,
        max_train_steps=4,
        checkpointing_steps=1,
        checkpoints_total_limit=1,
        resume_from_checkpoint="latest",
    )
    assert (run / "checkpoint-1-good").is_dir() and checkpoint.newest(run).name == "checkpoint-4"


def test_a_run_beyond_its_last_step_is_complete(pictures, tmp_path):
    run = train(pictures, tmp_path)
    shutil.rmtree(run / "model")
    train(pictures, tmp_path, max_train_steps=3, resume_from_checkpoint="latest")
    assert (run / "model").is_dir()


def test_wrong_values_are_refused_before_anything_is_built(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(train_colorize, "make_accelerator", lambda *_: pytest.fail("built"))
    with pytest.raises(ValueError, match="`max_train_steps` must be at least 1, not 0"):
        train(pictures, tmp_path, max_train_steps=0)


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_scheduler_that_only_samples_is_not_trained_with(pictures, tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} only samples"):
        train(pictures, tmp_path, scheduler_class=name, scheduler={})


def test_memory_of_synchronised_batchnorm_is_estimated_among_processes(tmp_path):
    optim = config.OptimizerConfig(sync_batchnorm=True)
    model = config.ModelConfig(model={"block_out_channels": [8, 8], "layers_per_block": 1})
    network = train_colorize.build_model(model, optim)
    layout = BatchFormat.of_model(network.config)
    alone = activation_bytes(network, layout, 16, 2, 1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    try:
        assert activation_bytes(network, layout, 16, 2, 1) == alone > 0
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_run_with_muon_and_guidance_is_resumed_to_the_last_bit(pictures, tmp_path):
    options = {"optimizer": "muon", "condition_dropout": 0.5, "guidance_weight": 0.3}
    whole = train(pictures, tmp_path / "a", checkpointing_steps=3, **options)
    resumed = train(
        pictures, tmp_path / "b", resume_from_checkpoint=str(whole / "checkpoint-3"), **options
    )
    assert_same(released(whole), released(resumed))
    plain = train(pictures, tmp_path / "c")
    assert not torch.equal(*(released(run)["conv_in.weight"] for run in (whole, plain)))


@pytest.mark.slow
def test_guidance_begins_at_its_step(pictures, tmp_path):
    guidance = {"condition_dropout": 0.5, "guidance_weight": 0.3, "checkpointing_steps": 2}
    late = train(pictures, tmp_path / "a", guidance_start=3, **guidance)
    plain = train(pictures, tmp_path / "b", condition_dropout=0.5)
    guided = train(pictures, tmp_path / "c", **guidance)
    assert [losses(late)[step] == losses(plain)[step] for step in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert losses(late)[1] != losses(guided)[1]


def test_the_third_stage_ends_at_the_rate_that_was_planned_for_it():
    *_, stage, _ = parse(["--config", str(ROOT / "configs" / "default" / "stage-3.yaml")])
    planned = dataclasses.replace(stage, max_train_steps=5000, lr_decay_steps=4900, lr_floor=0.0)
    for step in (0, 99, 100, 1000, 2420):
        ours = train_colorize.learning_rate(stage, step, 2421)
        assert ours == pytest.approx(train_colorize.learning_rate(planned, step, 5000), rel=1e-3)


def test_checkpoints_from_before_early_stopping_are_resumed(pictures, tmp_path):
    whole = train(pictures, tmp_path / "a", checkpointing_steps=3, checkpoints_total_limit=9)
    file = whole / "checkpoint-3" / "state.json"
    content = json.loads(file.read_text())
    first = ("step", "seconds", "smooth_loss", "best_loss", "epoch_loss")
    content["progress"] = {name: content["progress"][name] for name in first}
    file.write_text(json.dumps(content))
    resumed = train(pictures, tmp_path / "b", resume_from_checkpoint=str(file.parent))
    assert_same(released(whole), released(resumed))


def test_a_run_with_another_batch_is_not_resumed_and_none_is_overwritten(pictures, tmp_path):
    train(pictures, tmp_path, max_train_steps=1)
    with pytest.raises(ValueError, match="already holds a run"):
        train(pictures, tmp_path, max_train_steps=1)
    with pytest.raises(ValueError, match="pictures_per_step 4, not 8"):
        train(pictures, tmp_path, batch_size=8, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="no checkpoint"):
        train(pictures, tmp_path, resume_from_checkpoint=str(tmp_path))


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_built(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            ValueError, match="`output_dir` .* cannot be written: .*file is no folder"
        ):
            checkpoint.find(folder, None)
    assert checkpoint.find(tmp_path / "new" / "run", None) is None


def test_a_resolution_that_the_network_cannot_take_is_named(pictures, tmp_path):
    with pytest.raises(ValueError, match="`resolution` must be a multiple of .*, not 51"):
        train(pictures, tmp_path, resolution=51, max_train_steps=1)


@pytest.fixture(scope="module")
def processes():
    """Starts processes that have the libraries loaded already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["train_colorize"])
        yield context


def run_main(argv: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    train_colorize.main(argv)


def start(processes, argv, environment=None):
    process = processes.Process(target=run_main, args=(argv, environment or {}))
    process.start()
    return process


def kill_and_resume(processes, pictures, folder, kills, **changes) -> Path:
    """Train with `kills` kill -9 at random moments, resuming each time."""
    moments = np.random.default_rng(1)
    argv = arguments(pictures, folder, resume_from_checkpoint="latest", **changes)
    run = folder / "run"
    for _ in range(kills):
        before = checkpoint.newest(run) if run.exists() else None
        process = start(processes, argv)
        deadline = time.monotonic() + 60
        # Killing is random within what follows the next checkpoint, or else nothing would advance.
        while process.is_alive() and time.monotonic() < deadline:
            if run.exists() and checkpoint.newest(run) != before:
                break
            time.sleep(0.005)
        time.sleep(float(moments.uniform(0, 0.15)))
        assert process.is_alive(), "the run is too short to be killed so often"
        process.kill()
        process.join()
    process = start(processes, argv)
    process.join()
    assert process.exitcode == 0
    return run


def test_killed_runs_end_with_the_weights_of_the_uninterrupted_one(processes, pictures, tmp_path):
    kills = int(os.environ.get("COLORIZE_TEST_KILLS", "2"))
    long = {"max_train_steps": 40 * kills + 40, "checkpointing_steps": 3}
    killed = kill_and_resume(processes, pictures, tmp_path / "killed", kills, **long)
    whole = train(pictures, tmp_path / "whole", **long)
    assert_same(released(killed), released(whole))
    assert losses(killed) == losses(whole)
    kept = checkpoint.checkpoints(killed)
    assert len(kept) == 2 and not list(killed.glob(".*.partial"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_exits_cleanly(processes, pictures, tmp_path, number):
    argv = arguments(pictures, tmp_path, max_train_steps=100_000)
    process = start(processes, argv)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.is_alive() and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.02)
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 0
    saved = checkpoint.newest(tmp_path / "run")
    assert saved.name == f"checkpoint-{max(losses(tmp_path / 'run'))}"
    assert not (tmp_path / "run" / "model").exists()


# Early stopping


@pytest.fixture
def validation_by_step(monkeypatch):
    """Prescribe validation losses, and keep the averaged weights that each was of."""
    losses, weights = {4: 0.9, 8: 0.5, 12: 0.7, 16: 0.6, 20: 0.1}, {}

    def validate(run):
        step = run.progress.step
        weights[step] = {n: x.clone() for n, x in run.ema.model.state_dict().items()}
        return {"validation_loss": losses[step]}

    monkeypatch.setattr(train_colorize, "validate", validate)
    return weights


STOPPING = {
    "max_train_steps": 20,
    "validation_epochs": 1,
    "early_stopping_patience": 2,
    "checkpointing_steps": 4,
    "checkpoints_total_limit": 9,
}


def test_a_run_stops_where_validation_no_longer_improves(pictures, tmp_path, validation_by_step):
    run = train(pictures, tmp_path, **STOPPING)
    assert max(losses(run)) == 16
    assert_same(released(run), validation_by_step[8])
    card = " ".join((run / "model" / "README.md").read_text().split())
    assert "stopped at step 16" in card and "8 steps, 32 pictures" in card


@pytest.mark.slow
def test_patience_outlasts_an_interruption(pictures, tmp_path, validation_by_step):
    whole = train(pictures, tmp_path / "a", **STOPPING)
    for step in (12, 16):  # one validation to go; none to go
        again = train(
            pictures,
            tmp_path / str(step),
            **STOPPING,
            resume_from_checkpoint=str(whole / f"checkpoint-{step}"),
        )
        assert_same(released(again), released(whole))
        assert list(losses(again)) == list(range(step + 1, 17)) if step < 16 else True
    longer = {**STOPPING, "early_stopping_patience": 3}
    again = train(
        pictures, tmp_path / "c", **longer, resume_from_checkpoint=str(whole / "checkpoint-16")
    )
    assert max(losses(again)) == 20
    assert_same(released(again), validation_by_step[20])


def test_early_stopping_needs_something_to_go_by(pictures, tmp_path):
    with pytest.raises(ValueError, match="`early_stopping_patience` needs validation pictures"):
        train(pictures, tmp_path, validation_pictures=0, **STOPPING)


# Processes


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def start_two(processes, argv) -> list:
    common = {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    common["MASTER_PORT"] = str(free_port())
    return [
        start(processes, argv, common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "muon", "condition_dropout": 0.5, "guidance_weight": 0.3}]
)
def test_two_processes_equal_one_with_twice_the_batch(processes, pictures, tmp_path, options):
    one = train(pictures, tmp_path / "one", batch_size=8, **options)
    argv = arguments(pictures, tmp_path / "two", batch_size=4, **options)
    for process in start_two(processes, argv):
        process.join(120)
        assert process.exitcode == 0
    two = tmp_path / "two" / "run"
    state = json.loads((two / "checkpoint-6" / "state.json").read_text())
    assert state["run"]["pictures_per_step"] == 8
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    halves = {"batch_size": 4, "gradient_accumulation_steps": 2}
    accumulated = train(pictures, tmp_path / "three", **halves, **options)
    assert losses(accumulated) == pytest.approx(losses(one), rel=1e-4)


def test_a_signal_to_one_process_stops_all_in_the_same_step(processes, pictures, tmp_path):
    ranks = start_two(processes, arguments(pictures, tmp_path, max_train_steps=100_000))
    metrics = tmp_path / "run" / "metrics.jsonl"
    while ranks[0].is_alive() and not (metrics.exists() and metrics.read_text().count("\n") > 2):
        time.sleep(0.02)
    os.kill(ranks[1].pid, signal.SIGTERM)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    (saved,) = checkpoint.checkpoints(tmp_path / "run")
    assert saved.name == f"checkpoint-{max(losses(tmp_path / 'run'))}"
    assert {"random_states_0.pkl", "random_states_1.pkl"} <= {p.name for p in saved.iterdir()}


def test_two_processes_stop_early_together(processes, pictures, tmp_path):
    # Weights that do not move validate alike ever after the first time.
    still = {"learning_rate": 0.0, "weight_decay": 0.0, "max_train_steps": 100_000}
    argv = arguments(pictures, tmp_path, **{**STOPPING, **still})
    for process in start_two(processes, argv):
        process.join(300)
        assert process.exitcode == 0
    run = tmp_path / "run"
    assert checkpoint.newest(run).name == "checkpoint-6"  # 2 steps an epoch
    assert len(released(run)) > 0


# Watching and release


def test_end_of_a_run(pictures, tmp_path):
    run = train(pictures, tmp_path, validation_epochs=1, report_to="tensorboard", grid_epochs=1)
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    wanted = {"loss", "learning_rate", "grad_norm", "images_per_second", "data_wait"}
    wanted |= {"validation_loss", "validation_noise_1of4", "loss_noise_4of4"}
    assert wanted <= last.keys()
    pipe = ColorizationPipeline.from_pretrained(run / "model", torch_dtype=torch.float32)
    image = pipe(Image.new("L", (20, 16), 99), num_inference_steps=2).images[0]
    assert image.size == (20, 16)
    card = " ".join((run / "model" / "README.md").read_text().split())
    assert "6 steps, 24 pictures at 16 px" in card
    assert f"weights {last['validation_loss']:.4f}" in card and str(pictures) not in card
    grid = Image.open(run / "grids" / "step-0000006.png")
    assert grid.size == (3 * 16, 16)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "colorize"))
    events.Reload()
    recorded = {event.step: event.value for event in events.Scalars("loss")}
    assert recorded == pytest.approx(losses(run))
    assert [event.step for event in events.Images("grid")] == [4, 6]


def wandb_records(file: Path):
    """The records of an offline run: a LevelDB log behind a header of 7 bytes."""
    content, record, place = file.read_bytes(), b"", 7
    while place + 7 <= len(content):
        rest = 32768 - place % 32768  # of the block, which ends in padding
        if rest < 7:
            place += rest
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield record
            record = b""


@pytest.mark.slow
def test_wandb_offline_has_the_losses_and_the_grid(pictures, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_DIR", raising=False)
    for name, value in {"MODE": "offline", "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = train(pictures, tmp_path, max_train_steps=3, report_to="wandb")
    assert not (tmp_path / "wandb").exists()
    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    recorded, deadline = {}, time.monotonic() + 60
    while recorded.keys() != losses(run).keys() and time.monotonic() < deadline:
        time.sleep(0.1)  # its own process may still be writing
        for content in wandb_records(file):
            items = Record.FromString(content).history.item
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
            if "loss" in row:
                recorded[row["_step"]] = row["loss"]
    assert recorded == pytest.approx(losses(run))
    assert list(run.glob("wandb/offline-run-*/files/media/images/grid_*.png"))


def test_trackio_has_the_losses_and_the_grid(processes, pictures, tmp_path):
    pytest.importorskip("trackio")
    argv = arguments(pictures, tmp_path, max_train_steps=3, report_to="trackio")
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1"}
    process = start(processes, argv, environment)
    process.join(120)
    assert process.exitcode == 0
    with sqlite3.connect(tmp_path / "trackio" / "colorize.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics").fetchall()
    rows = [(step, json.loads(metrics)) for step, metrics in rows]
    recorded = {step: metrics["loss"] for step, metrics in rows if "loss" in metrics}
    assert recorded == pytest.approx(losses(tmp_path / "run"))
    assert any("grid" in metrics for _, metrics in rows)


def test_dry_run_trains_nothing(pictures, tmp_path, capsys):
    train(pictures, tmp_path, dry_run=True)
    output = capsys.readouterr().out
    assert "6 steps of 4 pictures, 4 an epoch" in output and "MB activations" in output
    assert not (tmp_path / "run").exists()

    large = {"large_datasets": [str(pictures)], "large_resolution": 1024}
    train(pictures, tmp_path, dry_run=True, **large)
    decoded = re.search(r"(\d+) MB decoded", capsys.readouterr().out)[1]
    assert int(decoded) >= 3 * 9  # some are for validation


@pytest.mark.slow
def test_some_steps_see_larger_pictures_and_a_resumed_run_the_same_ones(pictures, tmp_path):
    folder = tmp_path / "large"
    folder.mkdir()
    for file in pictures.iterdir():
        Image.open(file).resize((40, 32)).save(folder / file.name)
    large = {"large_datasets": [str(folder)], "large_resolution": 32, "large_share": 0.5}
    whole = train(pictures, tmp_path / "whole", **large, checkpointing_steps=3)
    resumed = train(
        pictures, tmp_path / "b", **large, resume_from_checkpoint=str(whole / "checkpoint-3")
    )
    assert_same(released(whole), released(resumed))
    plain = train(pictures, tmp_path / "plain")
    assert losses(whole) != losses(plain)
    last = json.loads((whole / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["validation_large_32"] > 0 and last[f"validation_{pictures.name}"] > 0
    card = (whole / "model" / "README.md").read_text()
    assert "16 px (50% of the steps: fewer, of large, at 32 px)" in card and str(folder) not in card


def test_init_from_starts_from_released_weights(pictures, tmp_path):
    run = train(pictures, tmp_path / "a", max_train_steps=2)
    again = train(
        pictures,
        tmp_path / "b",
        max_train_steps=1,
        learning_rate=0.0,
        weight_decay=0.0,
        init_from=str(run / "model"),
    )
    assert_same(released(run), released(again))
    lines = [json.loads(line) for line in (again / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 0
    assert lines[0]["validation_loss"] == pytest.approx(lines[1]["validation_loss"])


def test_pushing_sends_the_model_and_its_card(pictures, tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(train_colorize, "full_name", lambda name: name)
    monkeypatch.setattr(train_colorize, "publish_model", lambda *given, **_: pushed.append(given))
    train(pictures, tmp_path, max_train_steps=1, push_to_hub=True, hub_model_id="me/colours")
    ((folder, name, _),) = pushed
    assert name == "me/colours"
    assert (folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert "# me/colours" in (folder / "README.md").read_text()


def test_a_wrong_token_is_found_before_the_first_step(pictures, tmp_path, monkeypatch):
    def refuse(name):
        raise OSError(f"{name} was not published: the Hub does not accept the token.")

    monkeypatch.setattr(train_colorize, "full_name", refuse)
    with pytest.raises(OSError, match="me/colours was not published.*token"):
        train(pictures, tmp_path, push_to_hub=True, hub_model_id="me/colours")
    assert not (tmp_path / "run").exists()


def test_a_wrong_name_is_found_before_the_first_step(pictures, tmp_path):
    for name in ("my colours", "me/my/colours", "me/colours--new"):
        with pytest.raises(OSError, match=f"^{name} was not published: .*[Rr]epo.id"):
            train(pictures, tmp_path, push_to_hub=True, hub_model_id=name)
    assert not (tmp_path / "run").exists()


def test_a_model_that_ships_is_a_start_by_its_name(pictures, tmp_path):
    left_open = {"model": {}, "scheduler": {}, "resolution": 64, "noise_levels": 1}
    left_open["doubtful_probability"] = 0.5
    still = {"learning_rate": 0.0, "weight_decay": 0.0, "max_train_steps": 1}
    run = train(pictures, tmp_path, init_from="default", **left_open, **still)
    shipped = ColorizationPipeline.from_pretrained("default", torch_dtype=torch.float32)
    assert_same(released(run), shipped.unet.state_dict())
    trained = ColorizationPipeline.from_pretrained(run / "model", torch_dtype=torch.float32)
    assert trained.unet.config["hint_channels"] == 3
    assert trained.unet.config["doubtful_hints"] and shipped.unet.config["doubtful_hints"]
    assert trained.scheduler.config.prediction_type == "v_prediction"
    names = [name for name in shipped.config if name.startswith(("default_", "chroma_"))]
    assert len(names) > 5
    assert all(trained.config[name] == shipped.config[name] for name in names)
    # A resolved configuration alone begins the same run.
    *_, model, _, _ = parse(["--config", str(run / "config.yaml")])
    assert model.model["block_out_channels"] == shipped.unet.config["block_out_channels"]


@pytest.mark.slow
def test_terms_go_on_with_the_weights(pictures, tmp_path):
    left_open = {"model": {}, "scheduler": {}, "resolution": 32, "noise_levels": 1}
    first = train(pictures, tmp_path / "a", init_from="faces-lab", max_train_steps=1, **left_open)
    again = train(
        pictures, tmp_path / "b", init_from=str(first / "model"), max_train_steps=1, **left_open
    )
    folder = Path(pipeline_colorize.__file__).parent / "models" / "faces-lab"
    for run in (first, again):
        card = ModelCard.load(run / "model" / "README.md")
        assert card.data.license_name == "non-commercial-research"
        assert card.data.to_dict()["base_model"] == ["faces-lab"]
        assert "started from faces-lab, whose terms go on to apply" in " ".join(card.text.split())
        assert (run / "model" / "LICENSE").read_text() == (folder / "LICENSE").read_text()
    plain = train(pictures, tmp_path / "c", max_train_steps=1)
    card = ModelCard.load(plain / "model" / "README.md")
    assert "base_model" not in card.data.to_dict() and "license" not in card.data.to_dict()


@pytest.mark.parametrize(
    "name, changes, message",
    [
        ("nowhere/at-all", {}, "'nowhere/at-all' cannot be loaded"),
        (
            "default",
            {"model": {"block_out_channels": [8, 16, 24, 32]}},
            r"`block_out_channels` \[32, 64, 128, 192\], not \[8, 16, 24, 32\]",
        ),
        (
            "driving-regression",
            {"model_class": "ColorizationUNet"},
            "is a RegressionUNet; `model_class` asks for ColorizationUNet",
        ),
    ],
)
def test_a_start_that_does_not_fit_says_why(pictures, tmp_path, name, changes, message):
    with pytest.raises(ValueError, match=message):
        train(pictures, tmp_path, **{"model": {}, "scheduler": {}, "init_from": name, **changes})


def test_early_stopping_can_go_by_the_colours(pictures, tmp_path, monkeypatch):
    distances = iter([0.4, 0.3, 0.5, 0.6, 0.1, 0.1])

    def figures(pipeline, squares):
        assert len(squares) == 1
        return {"validation_colorfulness": 1.0, "validation_histogram": next(distances)}

    monkeypatch.setattr(train_colorize, "color_figures", figures)
    run = train(
        pictures,
        tmp_path,
        **STOPPING,
        validation_colors=4,
        early_stopping_metric="validation_histogram",
    )
    state = json.loads((run / "checkpoint-16" / "state.json").read_text())
    assert state["progress"]["best_step"] == 8 and max(losses(run)) == 16


def test_colours_are_measured_against_the_truth(pictures):
    squares = [torch.from_numpy(np.array(Image.open(pictures / "1.png"))).permute(2, 0, 1)]

    def colour(dulled):
        def pipeline(images, generator):
            grey = [np.asarray(image.convert("L").convert("RGB"), float) for image in images]
            mixed = [g + dulled * (np.asarray(i) - g) for g, i in zip(grey, images, strict=True)]
            return types.SimpleNamespace(images=[x.astype(np.uint8) for x in mixed])

        return color_figures(pipeline, squares)

    assert colour(1.0)["validation_colorfulness"] == pytest.approx(1.0, abs=1e-2)
    assert colour(1.0)["validation_histogram"] < 0.05
    assert colour(0.5)["validation_colorfulness"] == pytest.approx(0.5, abs=0.05)
    assert colour(0.0)["validation_histogram"] > 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {
            "model_class": "ColorizationUNet",
            "scheduler": {},
            "model": {"block_out_channels": [8, 8], "layers_per_block": 1, "time_embedding_dim": 8},
        },
        {
            "model_class": "UNet2DModel",
            "scheduler_class": "DDPMScheduler",
            "scheduler": {},
            "model": {
                "in_channels": 4,
                "out_channels": 3,
                "block_out_channels": [8, 8],
                "norm_num_groups": 4,
                "layers_per_block": 1,
                "down_block_types": ["DownBlock2D"] * 2,
                "up_block_types": ["UpBlock2D"] * 2,
            },
        },
        {"scheduler_class": "none"},
        {
            "model_class": "RegressionUNet",
            "scheduler_class": "none",
            "scheduler": {},
            "model": {"block_out_channels": [4, 8]},
        },
    ],
    ids=["seed-rgb", "stock", "one-pass", "regression"],
)
def test_other_systems_train_and_colorize(pictures, tmp_path, changes):
    run = train(pictures, tmp_path, max_train_steps=2, **changes)
    pipe = ColorizationPipeline.from_pretrained(run / "model", torch_dtype=torch.float32)
    assert pipe(Image.new("L", (16, 16), 99), num_inference_steps=2).images[0].size == (16, 16)


LAB = {**TINY["model"], "hint_channels": 0, "chroma_stride": 1}
ENCODER = {"encoder_block_out_channels": [8, 8], "encoder_layers_per_block": 1}


def test_a_grey_autoencoder_pretrains_the_encoder(pictures, tmp_path):
    ours = {**ENCODER, "norm_num_groups": 4}
    grey = train(
        pictures,
        tmp_path / "grey",
        model_class="GreyAutoencoder",
        model=ours,
        scheduler={},
        scheduler_class="none",
        grid_epochs=1,
        degrade_probability=1.0,
    )
    assert losses(grey)[6] < losses(grey)[1] and not (grey / "grids").exists()
    stored = load_file(grey / "model" / "diffusion_pytorch_model.safetensors")
    colorizer = train(
        pictures,
        tmp_path / "colours",
        model={**LAB, **ENCODER},
        max_train_steps=1,
        learning_rate=0.0,
        weight_decay=0.0,
        init_encoder_from=str(grey / "model"),
    )
    encoder = {name: x for name, x in released(colorizer).items() if name.startswith("encoder.")}
    assert_same(encoder, {name: x for name, x in stored.items() if name in encoder})


@pytest.mark.slow
def test_a_run_with_a_teacher_is_resumed_to_the_last_bit_and_released_without_it(
    pictures, tmp_path
):
    settings = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(settings).save_pretrained(tmp_path / "resnet")
    options = {
        "model": {**TINY["model"], **ENCODER},
        "teacher": str(tmp_path / "resnet"),
        "teacher_weight": 1.0,
        "optimizer": "muon",
        "condition_dropout": 0.2,
        "guidance_weight": 0.3,
        "checkpointing_steps": 3,
    }
    whole = train(pictures, tmp_path / "a", **options)
    again = train(
        pictures, tmp_path / "b", **options, resume_from_checkpoint=str(whole / "checkpoint-3")
    )
    assert_same(released(whole), released(again))
    plain = train(pictures, tmp_path / "c", **{**options, "teacher": None})
    assert released(plain).keys() == released(whole).keys()
    name = "encoder.conv_in.weight"
    assert not torch.equal(released(plain)[name], released(whole)[name])
    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["teacher_loss"] > 0 and lines[0]["loss"] == losses(plain)[1]


@pytest.mark.slow
def test_a_frozen_backbone_in_the_encoder_s_place_trains_and_resumes(pictures, tmp_path):
    settings = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic"
    )
    transformers.ResNetModel(settings).save_pretrained(tmp_path / "resnet")
    frozen = load_file(tmp_path / "resnet" / "model.safetensors")
    model = {
        **LAB,
        "encoder_block_out_channels": [8, 8],
        "encoder_backbone": str(tmp_path / "resnet"),
        "cross_attention": True,
    }
    options = {"model": model, "max_train_steps": 4, "checkpointing_steps": 2}
    whole = train(pictures, tmp_path / "a", **options)
    again = train(
        pictures, tmp_path / "b", **options, resume_from_checkpoint=str(whole / "checkpoint-2")
    )
    assert_same(released(whole), released(again))
    prefix = "encoder.backbone."
    names = {name for name in released(whole) if name.startswith(prefix)}
    assert names and all(
        torch.equal(released(whole)[name], frozen[name.removeprefix(prefix)]) for name in names
    )
    shutil.rmtree(tmp_path / "resnet")
    pipe = ColorizationPipeline.from_pretrained(whole / "model", torch_dtype=torch.float32)
    assert pipe(Image.new("L", (16, 16), 99), num_inference_steps=2).images[0].size == (16, 16)


@pytest.mark.parametrize("backbone", BACKBONES, indirect=True)
def test_configurations_with_a_backbone_train(pictures, tmp_path, backbone):
    name, folder = backbone
    argv = arguments(pictures, tmp_path)
    small = {
        "base": str(ROOT / "configs" / f"{name}.yaml"),
        "resolution": 32,
        "batch_size": 2,
        "max_train_steps": 2,
        "validation_pictures": 0,
        "grid_epochs": 1000,
        "datasets": [str(pictures)],
        "output_dir": str(tmp_path / "run"),
        "model": {"encoder_backbone": folder},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small))
    train_colorize.main(argv)
    pipe = ColorizationPipeline.from_pretrained(tmp_path / "run" / "model")
    assert pipe.unet.config["cross_attention"] == (name == "cross-attention")
    assert pipe(Image.new("L", (32, 32), 99), num_inference_steps=2).images[0].size == (32, 32)


@pytest.mark.slow
def test_the_next_default_begins_with_the_weights_of_the_present_one(pictures, tmp_path):
    argv = arguments(pictures, tmp_path)
    small = {
        "base": str(ROOT / "configs" / "next" / "general-256.yaml"),
        "datasets": [str(pictures)],
        "output_dir": str(tmp_path / "run"),
        "dataset_weights": [],
        "resolution": 64,
        "load_size": 64,
        "batch_size": 4,
        "noise_levels": 1,
        "max_train_steps": 2,
        "guidance_start": 1,
        "mixed_precision": "no",
        "epoch_pictures": 8,
        "grid_epochs": 1000,
        "checkpointing_steps": None,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(small))
    train_colorize.main(argv)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    first, *_, last = [json.loads(line)["validation_loss"] for line in (lines[0], lines[-1])]
    assert last == pytest.approx(first, rel=0.2)  # two steps of a warm-up do not spoil it
    model = ColorizationPipeline.from_pretrained(tmp_path / "run" / "model")
    assert model.unet.config["hint_channels"] == 3


def test_muon_does_not_take_shards_of_a_weight():
    model = torch.nn.Conv2d(2, 2, 3)
    settings = config.OptimizerConfig(optimizer="muon")
    parameters = list(model.parameters())
    assert isinstance(train_colorize.make_optimizer(parameters, settings), torch.optim.Optimizer)
    with pytest.raises(ValueError, match="needs whole weights"):
        train_colorize.make_optimizer(parameters, settings, sharded=True)


@pytest.mark.parametrize("name", ["RegressionUNet", "GreyAutoencoder"])
def test_a_network_of_one_pass_is_not_trained_on_noise(pictures, tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} does not denoise"):
        train(pictures, tmp_path, model_class=name, model={})


def test_regression_states_its_error_in_lab_units(pictures, tmp_path):
    run = train(
        pictures,
        tmp_path,
        model_class="RegressionUNet",
        scheduler_class="none",
        scheduler={},
        model={"block_out_channels": [4, 8], "ab_scale": 50.0},
        validation_epochs=1,
        learning_rate=0.0,
        weight_decay=0.0,
        ema_decay=0.0,
        crop_probability=0.0,
        max_train_steps=4,
    )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = lines[-1]
    assert last["epoch_ab_mse"] == pytest.approx(np.mean([x["loss"] for x in lines]) * 50**2)
    # The released model on the one validation picture, in the pipeline's own units.
    pipe = ColorizationPipeline.from_pretrained(run / "model", torch_dtype=torch.float32)
    splits = open_splits(str(pictures), config.DataConfig())
    _, held = split_validation(splits, str(pictures), config.DataConfig())
    errors = []
    for record in held:
        picture = decode(record["image"], 16)
        square = cut_square(picture, 16)
        truth = bytes_to_lab(square[None])[0, 1:]
        given = Image.fromarray(square.permute(1, 2, 0).numpy())
        errors.append((pipe(given, output_type="latent").images[0] - truth).square().mean().item())
    assert last["validation_ab_mse"] == pytest.approx(np.mean(errors), rel=1e-3)


# When things go wrong


def test_a_diverging_run_stops_with_what_to_do(pictures, tmp_path):
    with pytest.raises(SystemExit, match=r"step \d+: loss nan.*checkpoint: .*checkpoint-1\b"):
        train(
            pictures,
            tmp_path,
            learning_rate=1e30,
            max_grad_norm=1e30,
            checkpointing_steps=1,
            lr_warmup_steps=0,
        )


def test_a_run_that_diverges_before_its_first_checkpoint_says_that_there_is_none(
    pictures, tmp_path
):
    with pytest.raises(SystemExit, match=r"There is no checkpoint yet\. Lower learning_rate"):
        train(pictures, tmp_path, learning_rate=1e30, max_grad_norm=1e30, lr_warmup_steps=0)


def test_a_loss_far_above_its_best_average_is_divergence():
    progress = checkpoint.Progress(step=101, smooth_loss=0.1)
    logs = {"loss": 0.1, "grad_norm": 1.0, "learning_rate": 1e-3}
    assert divergence(progress, logs, 5.0, False) is None
    progress.smooth_loss = 0.6
    assert "average 0.6, best average 0.1" in divergence(progress, logs, 5.0, False)
    assert divergence(progress, logs, 7.0, False) is None
    logs["grad_norm"] = math.inf
    assert divergence(progress, logs, 7.0, True) is None
    assert divergence(progress, logs, 7.0, False)


def test_a_resolution_that_does_not_fit_is_refused_before_training(pictures, tmp_path):
    with pytest.raises(ValueError, match="multiple of 4"):
        train(pictures, tmp_path, resolution=18)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_tracker_that_is_not_installed_is_said(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(ValueError, match="pip install wandb"):
        train(pictures, tmp_path, report_to="wandb")


@pytest.mark.parametrize("precision, dtype", [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_forward_pass(pictures, tmp_path, precision, dtype, monkeypatch):
    seen = set()
    build = train_colorize.build_model

    def build_and_listen(*configs):
        model = build(*configs)
        model.conv_out.register_forward_hook(lambda module, x, y: seen.add(y.dtype))
        return model

    monkeypatch.setattr(train_colorize, "build_model", build_and_listen)
    run = train(pictures, tmp_path, max_train_steps=1, mixed_precision=precision)
    assert seen == {dtype, torch.float32}  # training and validation; then the grid
    assert all(value.dtype == torch.float32 for value in released(run).values())


def test_estimated_activations_are_those_that_a_real_pass_keeps():
    _data, model, optim, _ = parse(["--config", str(ROOT / "configs" / "tiny.yaml")])
    network = train_colorize.build_model(model, optim)
    layout = BatchFormat.of_model(network.config)
    estimate = activation_bytes(network, layout, 64, 3, 2)
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(6, 2, 16, 16), torch.zeros(6), torch.randn(3, 1, 64, 64))
    assert estimate == pytest.approx(sum(kept.values()), rel=0.05)


def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(pictures, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    train(pictures, tmp_path, max_train_steps=1)
    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(SystemExit, match="No space left.*checkpoint-1"):
        train(pictures, tmp_path, max_train_steps=2, resume_from_checkpoint="latest")
    assert [path.name for path in (tmp_path / "run").glob("*checkpoint*")] == ["checkpoint-1"]


def test_a_run_that_leaves_cores_idle_says_so(monkeypatch):
    alone, pair = (
        types.SimpleNamespace(device=torch.device("cpu"), num_processes=number) for number in (1, 2)
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert "1 of 8 cores; OMP_NUM_THREADS=8 lets" in idle_cores_advice(alone)
    assert idle_cores_advice(pair) is None
    torch.set_num_threads(2)
    assert idle_cores_advice(alone) is None
    torch.set_num_threads(1)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert idle_cores_advice(alone) is None


def test_too_little_memory_says_what_to_lower():
    with pytest.raises(SystemExit, match="Lower batch_size"), memory_advice("batch_size"):
        raise torch.OutOfMemoryError("2 GiB")
    with pytest.raises(RuntimeError, match="other"), memory_advice("batch_size"):
        raise RuntimeError("other")


def test_the_manual_shows_the_whole_loop_as_it_is():
    source = inspect.getsource(train_colorize.train)
    loop = source[source.index("    for batch in") : source.index("    bar.close()")]
    manual = (ROOT / "docs" / "training.md").read_text()
    rows = re.findall(r"^\| (`.*?`) \| ", manual[manual.index("## Beside diffusers") :], re.M)
    shown = [line.replace(r"\|", "|") for row in rows[1:] for line in re.findall("`(.+?)`", row)]
    assert shown == [line.strip() for line in loop.splitlines()]
    lines = len((ROOT / "train_colorize.py").read_text().splitlines())
    (claimed,) = re.findall(r"in (\d+) lines, the loop", manual)
    assert lines == pytest.approx(int(claimed), abs=10)


@pytest.mark.slow
def test_benchmark_measures_script_bare_loop_and_stock_network(capsys):
    argv = ["training", "--config", str(ROOT / "configs" / "tiny.yaml"), "--batch_size", "2"]
    argv += ["--steps", "1", "--rounds", "1", "--stock-batch", "1"]
    load_script("benchmark").main(argv, standalone_mode=False)
    output = capsys.readouterr().out
    for words in ("script against bare loop", "UNet2DModel", "EMA", "data"):
        assert words in output
