"""Train a model that colorizes, on any colour pictures.

    accelerate launch train_colorize.py --config configs/tiny.yaml [--field value ...]

Read it from top to bottom: configuration, construction, the loop (`train`), checkpoints, release.
What has a mathematical contract is in the package: `objectives`, `ema`, `data`. The fields of the
configuration, and how to train on a folder of one's own, are explained in docs/training.md.
"""

import contextlib
import copy
import dataclasses
import difflib
import inspect
import json
import math
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Literal

import diffusers
import numpy as np
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm
from transformers import HfArgumentParser

import pipeline_colorize.scheduler
import pipeline_colorize.unet
from pipeline_colorize import data
from pipeline_colorize.color import merge_luminance
from pipeline_colorize.data import DataConfig, option
from pipeline_colorize.ema import ExponentialMovingAverage
from pipeline_colorize.objectives import denoising_loss, predict, regression_loss
from pipeline_colorize.pipeline import ColorizationPipeline

# --- Configuration ------------------------------------------------------------------------------


@dataclasses.dataclass
class ModelConfig:
    """The network, its noise schedule and what is minimised."""

    _argument_group_name = "model"

    model_class: str = option("ColorizationUNet", "a network of this project or of diffusers")
    model: dict = option({}, "its arguments; as flags: --model.ARGUMENT VALUE")
    scheduler_class: str = option(
        "OffsetCosineScheduler", "a schedule of this project or of diffusers; none: one-pass model"
    )
    scheduler: dict = option({}, "its arguments; as flags: --scheduler.ARGUMENT VALUE")
    init_from: str | None = option(None, "start from the weights of this diffusers folder")
    loss: Literal["mse", "l1", "huber"] = option("mse", "error of the prediction")
    snr_gamma: float | None = option(None, "weight by the capped signal-to-noise ratio, e.g. 5")
    gradient_weight: float = option(0.0, "factor of the colour-gradient term, against bleeding")
    noise_levels: int = option(1, "noisy samples a picture, whose features are computed once")


@dataclasses.dataclass
class OptimizerConfig:
    """How the weights are moved."""

    _argument_group_name = "optimization"

    batch_size: int = option(64, "pictures a process and forward pass")
    gradient_accumulation_steps: int = option(1, "forward passes a step")
    max_train_steps: int | None = option(None, "length of the run; none: num_train_epochs")
    num_train_epochs: int = option(100, "length of the run where max_train_steps is none")
    learning_rate: float = option(2e-4, "peak learning rate")
    lr_schedule: Literal["constant", "linear", "cosine"] = option("cosine", "after the warm-up")
    lr_warmup_steps: int = option(200, "steps of linear warm-up")
    lr_decay_steps: int | None = option(None, "decay over the last so many steps; none: all")
    lr_floor: float = option(0.0, "end of the decay, as a part of the peak")
    adam_beta1: float = option(0.9, "AdamW")
    adam_beta2: float = option(0.99, "AdamW")
    weight_decay: float = option(0.01, "AdamW")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm")
    ema_decay: float = option(0.999, "of the averaged weights, which are the ones released")
    ema_warmup: bool = option(True, "smaller decay at first")
    mixed_precision: Literal["no", "bf16", "fp16"] = option("no", "arithmetic of the forward pass")
    gradient_checkpointing: bool = option(False, "less memory, a third more time")
    channels_last: bool = option(True, "memory format of the weights")
    sync_batchnorm: bool = option(False, "BatchNorm statistics over all GPUs")
    compile: bool = option(False, "torch.compile the network")


@dataclasses.dataclass
class RunConfig:
    """Seeds, checkpoints, logging and release."""

    _argument_group_name = "run"

    output_dir: str = option("runs/colorizer", "everything that the run writes")
    seed: int = option(0, "of weights, order, augmentation and noise")
    resume_from_checkpoint: str | None = option(None, "a checkpoint folder, or latest")
    checkpointing_steps: int | None = option(None, "save every so many steps")
    checkpointing_epochs: int | None = option(50, "save every so many epochs")
    checkpoints_total_limit: int = option(2, "checkpoints kept")
    validation_epochs: int = option(1, "validate every so many epochs")
    grid_epochs: int = option(10, "draw a grid every so many epochs")
    grid_pictures: int = option(4, "validation pictures of each set in the grid")
    report_to: Literal["tensorboard", "wandb", "trackio", "none"] = option("none", "tracker")
    divergence_factor: float = option(5.0, "stop when the loss is so many times its best average")
    release_dtype: Literal["float32", "float16"] = option("float32", "of the released weights")
    push_to_hub: bool = option(False, "push the released model to the Hub")
    hub_model_id: str | None = option(None, "where to, user/name")
    dry_run: bool = option(False, "print what would be done, and stop")


@dataclasses.dataclass
class Config:
    """The whole configuration, one part a dataclass."""

    data: DataConfig
    model: ModelConfig
    optim: OptimizerConfig
    run: RunConfig

    def as_dict(self) -> dict:
        """All fields, flat, as a configuration file has them."""
        parts = (self.data, self.model, self.optim, self.run)
        return {name: value for part in parts for name, value in dataclasses.asdict(part).items()}


def refuse_unknown(names, valid, where: str) -> None:
    """Raise a ValueError that gives, for the first unknown name, the nearest valid one."""
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, 1, 0.0)
            raise ValueError(f"{where} has no field {name!r}; did you mean {near[0]!r}?")


def parse_config(argv: list[str]) -> Config:
    """YAML file first (`--config`), flags over it; unknown names are refused."""
    parts = (DataConfig, ModelConfig, OptimizerConfig, RunConfig)
    parser = HfArgumentParser(parts, allow_abbrev=False, description=__doc__.split("\n")[0])
    parser.add_argument("--config", metavar="FILE", help="YAML file; flags go over it")
    valid = [field.name for part in parts for field in dataclasses.fields(part)]
    known, _ = parser.parse_known_args(argv)
    content = yaml.safe_load(Path(known.config).read_text(encoding="utf-8")) if known.config else {}
    refuse_unknown(content, valid, f"{known.config}:")
    nested = {name: content.pop(name, None) or {} for name in ("model", "scheduler")}
    flags = []
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if value is not None and value != []:
            flags += [f"--{name}", *map(str, values)]
    *configs, _, rest = parser.parse_args_into_dataclasses(
        flags + argv, return_remaining_strings=True, look_for_args_file=False
    )
    for name, value in group_flags(rest):
        part, _, argument = name.partition(".")
        if part not in nested or not argument:
            refuse_unknown([name], [*valid, "config"], "The command line")
        nested[part][argument] = value
    config = Config(*configs)
    config.model.model, config.model.scheduler = nested["model"], nested["scheduler"]
    return config


def group_flags(tokens: list[str]) -> list[tuple[str, object]]:
    """["--a.b", "1", "2", "--c=x"] to [("a.b", [1, 2]), ("c", "x")]: values are read as YAML."""
    groups = []
    for token in tokens:
        if token.startswith("--"):
            name, _, value = token[2:].partition("=")
            groups.append((name, [value] if value else []))
        elif not groups:
            raise ValueError(f"Unexpected {token!r} on the command line; fields start with `--`.")
        else:
            groups[-1][1].append(token)
    values = [(name, [yaml.safe_load(value) for value in values]) for name, values in groups]
    return [(name, value[0] if len(value) == 1 else value) for name, value in values]


# --- Construction -------------------------------------------------------------------------------


def construct(class_name: str, arguments: dict):
    """An object of a class of this project or of diffusers, its arguments checked by name."""
    for module in (pipeline_colorize.unet, pipeline_colorize.scheduler, diffusers):
        if hasattr(module, class_name):
            break
    else:
        raise ValueError(f"Neither this project nor diffusers has a class {class_name!r}.")
    chosen = getattr(module, class_name)
    refuse_unknown(arguments, list(inspect.signature(chosen.__init__).parameters), class_name)
    return chosen(**arguments)


def build_model(config: Config) -> nn.Module:
    """The network, with fresh weights or those of `init_from`."""
    model = construct(config.model.model_class, config.model.model)
    if config.model.init_from:
        folder = Path(config.model.init_from)
        folder = folder / "unet" if (folder / "unet").is_dir() else folder
        trained = type(model).from_pretrained(folder, torch_dtype=torch.float32)
        model.load_state_dict(trained.state_dict())
    if config.optim.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if config.optim.sync_batchnorm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    if config.optim.channels_last:
        model = model.to(memory_format=torch.channels_last)
    return model


def build_scheduler(config: Config):
    """The noise schedule; `None` for a one-pass model."""
    if config.model.scheduler_class == "none":
        return None
    return construct(config.model.scheduler_class, config.model.scheduler)


def batch_losses(model: nn.Module, scheduler, batch: dict, config: ModelConfig) -> torch.Tensor:
    """The configured objective: one loss a noisy sample."""
    if scheduler is None:
        return regression_loss(model, batch, config.loss, config.gradient_weight)
    return denoising_loss(
        model, scheduler, batch, config.loss, config.snr_gamma, config.gradient_weight
    )


def activation_bytes(model: nn.Module, layout: data.BatchFormat, config: Config) -> int:
    """What one forward pass keeps for the backward pass, found without computing anything.

    Raises:
        ValueError: if the network cannot take the resolution.
    """
    side, pictures = config.data.resolution, config.optim.batch_size
    channels, grid = layout.color_channels, side // layout.chroma_stride
    noisy = torch.empty(pictures * config.model.noise_levels, channels, grid, grid, device="meta")
    condition = torch.empty(pictures, 1 + layout.hint_channels, side, side, device="meta")
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    skeleton = copy.deepcopy(model).to("meta").train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        try:
            output = predict(skeleton, noisy, torch.zeros(len(noisy), device="meta"), condition)
        except RuntimeError as error:
            raise ValueError(f"The network cannot take `resolution` {side}: {error}") from error
    if output.shape != noisy.shape:
        raise ValueError(f"The network makes {tuple(output.shape)} of {tuple(noisy.shape)}.")
    return sum(kept.values())


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """At step 0 to `total` - 1: linear warm-up, then constant, then the decay towards the floor."""
    warmup = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    decay_steps = config.lr_decay_steps or max(total - config.lr_warmup_steps, 1)
    left = 1.0 if config.lr_schedule == "constant" else min(1.0, (total - step) / decay_steps)
    shape = (1 - math.cos(math.pi * left)) / 2 if config.lr_schedule == "cosine" else left
    return config.learning_rate * warmup * (config.lr_floor + (1 - config.lr_floor) * shape)


class Run:
    """Everything that a run consists of, and where it stands (`state`)."""

    def __init__(self, config: Config):
        self.config = config
        optim = config.optim
        self.accelerator = accelerator = Accelerator(
            mixed_precision=optim.mixed_precision,
            gradient_accumulation_steps=optim.gradient_accumulation_steps,
            log_with=None if config.run.report_to == "none" else config.run.report_to,
            project_dir=config.run.output_dir,
            dynamo_backend="inductor" if optim.compile else None,
        )
        set_seed(config.run.seed)
        self.scheduler = build_scheduler(config)
        self.bare = build_model(config)
        self.layout = data.BatchFormat.of_model(self.bare.config)
        self.activation_bytes = activation_bytes(self.bare, self.layout, config)
        self.parameters = sum(parameter.numel() for parameter in self.bare.parameters())
        accumulated = optim.batch_size * optim.gradient_accumulation_steps
        self.draws_per_step = accumulated * accelerator.num_processes
        self.pictures, self.steps_per_epoch, self.validation = data.load_training_pictures(
            config.data, config.run.seed, self.draws_per_step
        )
        self.total_steps = optim.max_train_steps or optim.num_train_epochs * self.steps_per_epoch
        self.ema = ExponentialMovingAverage(self.bare, optim.ema_decay, optim.ema_warmup)
        self.ema.model.to(accelerator.device)
        optimizer = torch.optim.AdamW(
            self.bare.parameters(),
            lr=optim.learning_rate,
            betas=(optim.adam_beta1, optim.adam_beta2),
            weight_decay=optim.weight_decay,
            fused=True,
        )
        self.model, self.optimizer = accelerator.prepare(self.bare, optimizer)
        self.state = {
            "step": 0,
            "seconds": 0.0,
            "smooth_loss": None,
            "best_loss": math.inf,
            "epoch_loss": 0.0,
            "ema_updates": 0,
            "seed": config.run.seed,
            "pictures_per_step": self.draws_per_step,
        }

    @property
    def timesteps(self) -> int | None:
        """Number of noise levels; `None` for a one-pass model."""
        return self.scheduler and self.scheduler.config.num_train_timesteps

    def loader(self) -> torch.utils.data.DataLoader:
        """This process's micro-batches from the run's step to its end."""
        optim, accelerator = self.config.optim, self.accelerator
        accumulation = optim.gradient_accumulation_steps
        batches = data.TrainingBatches(
            self.pictures, self.layout, self.config.data, self.config.run.seed, optim.batch_size,
            self.config.model.noise_levels, self.timesteps, accumulation,
            accelerator.process_index, accelerator.num_processes,
        )  # fmt: skip
        return torch.utils.data.DataLoader(
            batches,
            batch_size=None,
            sampler=range(self.state["step"] * accumulation, self.total_steps * accumulation),
            num_workers=self.config.data.workers,
            worker_init_fn=ignore_signals,
            pin_memory=accelerator.device.type == "cuda",
        )

    def pipeline(self) -> ColorizationPipeline:
        """What is released: the averaged weights and the schedule."""
        pipeline = ColorizationPipeline(
            self.ema.model,
            self.scheduler,
            default_processing_resolution=self.config.data.resolution,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def is_due(self, steps: int | None, epochs: int | None) -> bool:
        """Whether something is to be done after this step: every so many steps, epochs, or last."""
        step = self.state["step"]
        whole_epochs, rest = divmod(step, self.steps_per_epoch)
        at_epoch = epochs and rest == 0 and whole_epochs % epochs == 0
        return bool(steps and step % steps == 0 or at_epoch or step == self.total_steps)


def ignore_signals(worker: int) -> None:
    """Leave it to the main process to end a worker, after the checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


# --- The loop -----------------------------------------------------------------------------------


def train(run: Run) -> bool:
    """From the run's step to its last; returns whether that was reached."""
    config, accelerator, state = run.config, run.accelerator, run.state
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: accelerator.set_trigger())
    bar = tqdm(
        total=run.total_steps, initial=state["step"], disable=not accelerator.is_main_process
    )
    run.model.train()
    meter = Meter(run)
    for batch in run.loader():
        meter.data_arrived()
        batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
        with accelerator.accumulate(run.model):
            losses = batch_losses(run.model, run.scheduler, batch, config.model)
            accelerator.backward(losses.mean())
            meter.add(losses, batch)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(
                    run.model.parameters(), config.optim.max_grad_norm
                )
                lr = learning_rate(config.optim, state["step"], run.total_steps)
                for group in run.optimizer.param_groups:
                    group["lr"] = lr
            run.optimizer.step()
            run.optimizer.zero_grad()
        if not accelerator.sync_gradients:
            continue
        run.ema.update(run.bare)
        state["step"] += 1
        logs = meter.finish_step(norm, lr)
        stop_if_diverged(run, logs)
        if run.is_due(None, config.run.validation_epochs):
            logs |= validate(run)
        log(run, logs, bar)
        if run.is_due(None, config.run.grid_epochs):
            draw_grid(run)
        stopping = accelerator.check_trigger()
        if stopping or run.is_due(config.run.checkpointing_steps, config.run.checkpointing_epochs):
            save_checkpoint(run)
        if stopping:
            break
        meter.start_step()
    bar.close()
    return state["step"] >= run.total_steps


# --- Watching -----------------------------------------------------------------------------------


def by_noise_level(losses: torch.Tensor, batch: dict, timesteps: int, prefix: str) -> dict:
    """Mean loss in each quarter of the schedule, from little noise to much."""
    quarter = batch["timesteps"] * 4 // timesteps
    chosen = [losses[quarter == number] for number in range(4)]
    return {
        f"{prefix}_noise_{number + 1}of4": part.mean().item()
        for number, part in enumerate(chosen)
        if len(part)
    }


class Meter:
    """Times and averages the steps."""

    def __init__(self, run: Run):
        self.run = run
        self.start_step()

    def start_step(self) -> None:
        self.started = self.asked = time.perf_counter()
        self.waited, self.losses, self.batches = 0.0, [], []

    def data_arrived(self) -> None:
        self.waited += time.perf_counter() - self.asked

    def add(self, losses: torch.Tensor, batch: dict) -> None:
        self.losses.append(losses.detach())
        self.batches.append(batch.get("timesteps"))
        self.asked = time.perf_counter()

    def finish_step(self, norm: torch.Tensor, lr: float) -> dict:
        """The step's figures; the loss is the mean over all processes."""
        run, state = self.run, self.run.state
        losses = torch.cat(self.losses)
        loss = run.accelerator.reduce(losses.mean(), "mean").item()
        seconds = time.perf_counter() - self.started
        smooth = loss if state["smooth_loss"] is None else state["smooth_loss"]
        state["smooth_loss"] = 0.98 * smooth + 0.02 * loss
        state["seconds"] += seconds
        state["epoch_loss"] += loss
        logs = {"step": state["step"], "loss": loss, "learning_rate": lr, "grad_norm": float(norm)}
        logs["images_per_second"] = run.draws_per_step / seconds
        logs["data_wait"] = self.waited / seconds
        if run.scheduler is not None:
            timesteps = {"timesteps": torch.cat(self.batches)}
            logs |= by_noise_level(losses, timesteps, run.timesteps, "loss")
        epoch, rest = divmod(state["step"], run.steps_per_epoch)
        if rest == 0:
            logs |= {"epoch": epoch, "epoch_loss": state["epoch_loss"] / run.steps_per_epoch}
            state["epoch_loss"] = 0.0
        return logs


def log(run: Run, logs: dict, bar: tqdm) -> None:
    """To the progress bar, `metrics.jsonl` and the tracker. In a resumed run's file, of two lines
    of one step the later counts.
    """
    bar.update()
    bar.set_postfix(loss=f"{run.state['smooth_loss']:.4f}", lr=f"{logs['learning_rate']:.1e}")
    run.accelerator.log(logs, step=logs["step"])
    if run.accelerator.is_main_process:
        with open(Path(run.config.run.output_dir) / "metrics.jsonl", "a") as file:
            file.write(json.dumps(logs) + "\n")


def stop_if_diverged(run: Run, logs: dict) -> None:
    """End the run where its loss is no number any more, or far above what it has been."""
    state, factor = run.state, run.config.run.divergence_factor
    if state["step"] > 100:
        state["best_loss"] = min(state["best_loss"], state["smooth_loss"])
    finite = math.isfinite(logs["loss"])
    if run.config.optim.mixed_precision != "fp16":  # whose overflows are skipped steps
        finite = finite and math.isfinite(logs["grad_norm"])
    if finite and state["smooth_loss"] <= factor * state["best_loss"]:
        return
    good = newest_checkpoint(run) or "none"
    raise SystemExit(
        f"Stopped at step {state['step']}: loss {logs['loss']:.4g} (average "
        f"{state['smooth_loss']:.4g}, best {state['best_loss']:.4g}), gradient norm "
        f"{logs['grad_norm']:.4g}, learning rate {logs['learning_rate']:.3g}. Last good "
        f"checkpoint: {good}. Resume from it with a lower learning_rate, or more lr_warmup_steps."
    )


@torch.no_grad()
def validate(run: Run) -> dict:
    """Losses of the averaged weights on each validation set, with the same noise every time."""
    if not run.validation or not run.accelerator.is_main_process:
        return {}
    config, device, result, every, levels = run.config, run.accelerator.device, {}, [], []
    for name, pictures in run.validation.items():
        losses = []
        for batch in data.validation_batches(
            pictures, run.layout, config.data, config.optim.batch_size, run.timesteps
        ):
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            with run.accelerator.autocast():
                losses.append(batch_losses(run.ema.model, run.scheduler, batch, config.model))
            levels.append(batch.get("timesteps"))
        every += losses
        result[f"validation_{name}"] = torch.cat(losses).mean().item()
    result["validation_loss"] = torch.cat(every).mean().item()
    if run.scheduler is not None:
        timesteps = {"timesteps": torch.cat(levels)}
        result |= by_noise_level(torch.cat(every), timesteps, run.timesteps, "validation")
    return result


def grey_of(square: torch.Tensor) -> Image.Image:
    """The 8-bit picture (3, H, W) with its CIE luminance and no colour."""
    luminance = data.bytes_to_lab(square[None])[:, :1]
    grey = merge_luminance(luminance, luminance.new_zeros(1, 2, *luminance.shape[2:]))[0]
    return Image.fromarray((grey * 255).round().byte().permute(1, 2, 0).numpy())


def draw_grid(run: Run) -> None:
    """`grids/step-N.png`: one row a picture, grey / colorized by the averaged weights / truth."""
    if not run.accelerator.is_main_process:
        return
    sets = run.validation.values() or run.pictures.sets[:1]
    side = min(run.config.data.load_size or run.config.data.resolution, 256)
    squares = [
        data.cut_square(pictures[index], side)
        for pictures in sets
        for index in range(min(run.config.run.grid_pictures, len(pictures)))
    ]
    truth = [Image.fromarray(square.permute(1, 2, 0).numpy()) for square in squares]
    generators = [torch.Generator().manual_seed(index) for index in range(len(truth))]
    colorized = run.pipeline()(truth, generator=generators).images
    greys = [grey_of(square) for square in squares]
    rows = [
        np.concatenate([np.asarray(image) for image in row], axis=1)
        for row in zip(greys, colorized, truth, strict=True)
    ]
    grid = np.concatenate(rows, axis=0)
    folder = Path(run.config.run.output_dir) / "grids"
    folder.mkdir(exist_ok=True)
    Image.fromarray(grid).save(folder / f"step-{run.state['step']:07d}.png")
    for tracker in run.accelerator.trackers:
        options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
        tracker.log_images({"grid": grid[None]}, step=run.state["step"], **options)


# --- Checkpoints --------------------------------------------------------------------------------


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in a run's folder, oldest first."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def newest_checkpoint(run: Run) -> Path | None:
    """The last whole checkpoint of the run."""
    return next(reversed(checkpoints(Path(run.config.run.output_dir))), None)


def save_checkpoint(run: Run) -> None:
    """Write a checkpoint under another name, rename it, and only then remove old ones.

    Whatever stops the process, the newest `checkpoint-N` is whole.
    """
    accelerator, folder = run.accelerator, Path(run.config.run.output_dir)
    final = folder / f"checkpoint-{run.state['step']}"
    partial = folder / f".{final.name}.partial"
    if final.exists():
        return
    try:
        accelerator.save_state(partial)
        if accelerator.is_main_process:
            averaged = run.ema.state_dict()
            run.state["ema_updates"] = averaged["updates"]
            tensors = {name: tensor.contiguous() for name, tensor in averaged["model"].items()}
            save_file(tensors, partial / "ema.safetensors")
            (partial / "state.json").write_text(json.dumps(run.state))
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        good = newest_checkpoint(run) or "none"
        raise SystemExit(
            f"{final} was not saved: {error}. Last good checkpoint: {good}."
        ) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        partial.rename(final)
        for old in checkpoints(folder)[: -run.config.run.checkpoints_total_limit]:
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.partial")))
    accelerator.wait_for_everyone()


def resume(run: Run) -> None:
    """Go on where the checkpoint named by `resume_from_checkpoint` was made, if there is one."""
    folder, wanted = Path(run.config.run.output_dir), run.config.run.resume_from_checkpoint
    newest = newest_checkpoint(run)
    if wanted is None and newest:
        raise ValueError(
            f"{folder} holds a run already, up to {newest.name}. Go on with it by "
            "`--resume_from_checkpoint latest`, or choose another `--output_dir`."
        )
    checkpoint = newest if wanted == "latest" else wanted and Path(wanted)
    if checkpoint is None:
        return
    if not (checkpoint / "state.json").is_file():
        raise ValueError(f"{checkpoint} is no checkpoint; {folder} has {checkpoints(folder)}.")
    state = json.loads((checkpoint / "state.json").read_text())
    for name in ("seed", "pictures_per_step"):
        if state[name] != run.state[name]:
            raise ValueError(
                f"{checkpoint} was made with {name} {state[name]}, this run has {run.state[name]}: "
                "the order of the pictures would not go on. Use `init_from` to start from weights."
            )
    run.accelerator.load_state(checkpoint)
    averaged = load_file(checkpoint / "ema.safetensors", device=str(run.accelerator.device))
    run.ema.load_state_dict({"model": averaged, "updates": state["ema_updates"]})
    run.state.update(state)


# --- Release ------------------------------------------------------------------------------------

CARD = """---
library_name: diffusers
pipeline_tag: image-to-image
tags: [colorization, diffusers]
---

# {name}

Gives black-and-white photographs their colours; trained with `train_colorize.py`.

```python
from pipeline_colorize.pipeline import ColorizationPipeline

pipe = ColorizationPipeline.from_pretrained("{name}")
pipe(image).images[0].save("colorized.png")
```

The colours are invented: believable, not known.

| | |
|---|---|
| data | {data} |
| network | {network}, {parameters:,} parameters |
| resolution in training | {resolution} px |
| training | {steps:,} steps, {pictures:,} pictures, {hours:.2f} h |
| loss, average of the last steps | {loss:.4f} |
| validation loss of the released weights | {validation} |

The terms of the data apply to these weights; add them here before sharing the model.

## Configuration

```yaml
{config}```
"""


def write_card(run: Run, folder: Path, validation: dict) -> None:
    """`README.md` of the released model, from what the run knows."""
    config, state = run.config, run.state
    text = CARD.format(
        name=config.run.hub_model_id or Path(config.run.output_dir).name,
        data=", ".join(Path(name).name for name in config.data.datasets),
        network=config.model.model_class,
        parameters=run.parameters,
        resolution=config.data.resolution,
        steps=state["step"],
        pictures=state["step"] * run.draws_per_step,
        hours=state["seconds"] / 3600,
        loss=state["smooth_loss"] or math.nan,
        validation=validation.get("validation_loss", "not measured"),
        config=yaml.safe_dump(config.as_dict(), sort_keys=False),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def release(run: Run) -> None:
    """`model/`: a diffusers folder with the averaged weights and a card; pushed if asked."""
    if not run.accelerator.is_main_process:
        return
    folder = Path(run.config.run.output_dir) / "model"
    pipeline = run.pipeline().to(dtype=getattr(torch, run.config.run.release_dtype))
    pipeline.save_pretrained(folder)
    write_card(run, folder, validate(run))
    run.accelerator.print(f"The model is in {folder}.")
    if run.config.run.push_to_hub:
        repository = run.config.run.hub_model_id or Path(run.config.run.output_dir).name
        pipeline.push_to_hub(repository)
        ModelCard.load(folder / "README.md").push_to_hub(repository)


# --- Main ---------------------------------------------------------------------------------------


def describe(run: Run) -> str:
    """What `--dry_run` prints."""
    config, gigabyte = run.config, 2**30
    weights = run.parameters * 20  # weights, gradients, two moments, average: 4 bytes each
    half = 1 if config.optim.mixed_precision == "no" else 2
    epochs = run.total_steps / run.steps_per_epoch
    return (
        f"{yaml.safe_dump(config.as_dict(), sort_keys=False)}\n"
        f"parameters: {run.parameters:,}\n"
        f"steps: {run.total_steps:,} of {run.draws_per_step} pictures; {run.steps_per_epoch} an "
        f"epoch, {epochs:.1f} epochs\n"
        f"memory, estimated: {weights / gigabyte:.2f} GB for weights and optimizer, "
        f"{run.activation_bytes / half / gigabyte:.2f} GB for activations, "
        f"up to {config.data.cache_gigabytes} GB for decoded pictures"
    )


@contextlib.contextmanager
def memory_advice(config: Config):
    """Too little memory ends the run with what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not full and "allocate memory" not in str(error):
            raise
        raise SystemExit(
            f"Too little memory: {error}\nLower batch_size (now {config.optim.batch_size}; raise "
            f"gradient_accumulation_steps by the same factor), noise_levels "
            f"({config.model.noise_levels}), resolution ({config.data.resolution}) or "
            f"cache_gigabytes ({config.data.cache_gigabytes}); or set gradient_checkpointing, or "
            "mixed_precision bf16."
        ) from error


def main(argv: list[str]) -> None:
    config = parse_config(argv)
    if config.run.dry_run:
        config.data.cache_gigabytes, kept = 0, config.data.cache_gigabytes
        run = Run(config)
        config.data.cache_gigabytes = kept
        run.accelerator.print(describe(run))
        return
    with memory_advice(config):
        run = Run(config)
        resume(run)
        if run.accelerator.is_main_process:
            folder = Path(config.run.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            content = yaml.safe_dump(config.as_dict(), sort_keys=False)
            (folder / "config.yaml").write_text(content, encoding="utf-8")
        hyperparameters = {name: str(value) for name, value in config.as_dict().items()}
        run.accelerator.init_trackers("colorize", hyperparameters)
        finished = train(run)
        if finished:
            release(run)
        else:
            run.accelerator.print(
                f"Stopped at step {run.state['step']} of {run.total_steps}; go on with "
                "--resume_from_checkpoint latest."
            )
        run.accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1:])
