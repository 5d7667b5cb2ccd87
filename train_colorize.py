"""Train a model that colorizes, on any colour pictures.

    accelerate launch train_colorize.py --config configs/tiny.yaml [--field value ...]

Read it from top to bottom: configuration, construction, the loop, validation, release. What has a
mathematical or file contract is in the package: `data`, `objectives`, `ema`, `checkpoint`. How to
train on a folder of one's own, and the fields of the configuration: docs/training.md.
"""

import dataclasses
import inspect
import json
import math
import signal
import sys
from pathlib import Path
from typing import Literal

import diffusers
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from tqdm.auto import tqdm

from pipeline_colorize import checkpoint, data, monitor, regression_unet, scheduler, unet
from pipeline_colorize.config import construct, option, parse, refuse_unknown, to_yaml
from pipeline_colorize.data import DataConfig
from pipeline_colorize.ema import ExponentialMovingAverage
from pipeline_colorize.hub import publish
from pipeline_colorize.objectives import denoising_loss, regression_loss
from pipeline_colorize.pipeline import ColorizationPipeline

# --- Configuration (with `DataConfig`) ----------------------------------------------------------


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
    grid_pictures: int = option(4, "pictures of each set in a grid")
    report_to: Literal["tensorboard", "wandb", "trackio", "none"] = option("none", "tracker")
    divergence_factor: float = option(5.0, "stop when the loss is so many times its best average")
    pipeline: dict = option({}, "defaults of the release; as flags: --pipeline.NAME VALUE")
    release_dtype: Literal["float32", "float16"] = option("float32", "of the released weights")
    push_to_hub: bool = option(False, "push the released model to the Hub")
    hub_model_id: str | None = option(None, "where to, user/name")
    dry_run: bool = option(False, "print what would be done, and stop")


PARTS = [DataConfig, ModelConfig, OptimizerConfig, RunConfig]


# --- Construction -------------------------------------------------------------------------------


def build_model(config: ModelConfig, optim: OptimizerConfig) -> nn.Module:
    """The network, with fresh weights or those of `init_from`."""
    model = construct(config.model_class, config.model, [unet, regression_unet, diffusers])
    if config.init_from:
        folder = Path(config.init_from)
        folder = folder / "unet" if (folder / "unet").is_dir() else folder
        model.load_state_dict(type(model).from_pretrained(folder).float().state_dict())
    if optim.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if optim.sync_batchnorm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model.to(memory_format=torch.channels_last) if optim.channels_last else model


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """At step 0 to `total` - 1: linear warm-up, then constant, then the decay towards the floor."""
    warmup = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    decay_steps = config.lr_decay_steps or max(total - config.lr_warmup_steps, 1)
    left = 1.0 if config.lr_schedule == "constant" else min(1.0, (total - step) / decay_steps)
    shape = (1 - math.cos(math.pi * left)) / 2 if config.lr_schedule == "cosine" else left
    return config.learning_rate * warmup * (config.lr_floor + (1 - config.lr_floor) * shape)


class Run:
    """Everything that a run consists of, built from the four parts of its configuration."""

    def __init__(self, configs: list):
        self.data, self.model_config, self.optim, self.config = configs
        self.configs, optim = configs, self.optim
        self.folder = Path(self.config.output_dir)
        known = list(inspect.signature(ColorizationPipeline).parameters)
        refuse_unknown(self.config.pipeline, known, "pipeline")
        self.accelerator = Accelerator(
            mixed_precision=optim.mixed_precision,
            gradient_accumulation_steps=optim.gradient_accumulation_steps,
            log_with=None if self.config.report_to == "none" else self.config.report_to,
            project_dir=self.folder,
            dynamo_backend="inductor" if optim.compile else None,
        )
        if self.config.report_to != "none" and not self.accelerator.log_with:
            name = self.config.report_to
            raise ValueError(f"`report_to` {name} needs a package: pip install {name}.")
        set_seed(self.config.seed)
        self.scheduler, self.timesteps = None, None
        if self.model_config.scheduler_class != "none":
            name, arguments = self.model_config.scheduler_class, self.model_config.scheduler
            self.scheduler = construct(name, arguments, [scheduler, diffusers])
            self.timesteps = self.scheduler.config.num_train_timesteps
        self.bare = build_model(self.model_config, optim)
        self.layout = data.BatchFormat.of_model(self.bare.config)
        levels = self.model_config.noise_levels if self.scheduler else 1
        self.activation_bytes = monitor.activation_bytes(
            self.bare, self.layout, self.data.resolution, optim.batch_size, levels
        )
        per_process = optim.batch_size * optim.gradient_accumulation_steps
        self.pictures_per_step = per_process * self.accelerator.num_processes
        self.pictures, self.steps_per_epoch, self.validation = data.load_training_pictures(
            self.data, self.config.seed, self.pictures_per_step, self.bar_of_reading
        )
        self.total_steps = optim.max_train_steps or optim.num_train_epochs * self.steps_per_epoch
        self.ema = ExponentialMovingAverage(self.bare, optim.ema_decay, optim.ema_warmup)
        self.ema.model.to(self.accelerator.device)
        optimizer = torch.optim.AdamW(
            self.bare.parameters(),
            lr=optim.learning_rate,
            betas=(optim.adam_beta1, optim.adam_beta2),
            weight_decay=optim.weight_decay,
            fused=True,
        )
        self.model, self.optimizer = self.accelerator.prepare(self.bare, optimizer)
        self.progress = checkpoint.Progress()
        self.identity = {"seed": self.config.seed, "pictures_per_step": self.pictures_per_step}

    def bar_of_reading(self, dataset):
        """A progress bar over the pictures of a data set."""
        silent = not self.accelerator.is_main_process
        return tqdm(dataset, "reading pictures", leave=False, disable=silent)

    def loader(self, first_step: int, steps: int) -> torch.utils.data.DataLoader:
        """This process's micro-batches of some steps."""
        accumulation, accelerator = self.optim.gradient_accumulation_steps, self.accelerator
        batches = data.TrainingBatches(
            self.pictures,
            self.layout,
            self.data,
            seed=self.config.seed,
            batch_size=self.optim.batch_size,
            noise_levels=self.model_config.noise_levels,
            num_train_timesteps=self.timesteps,
            accumulation=accumulation,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        return torch.utils.data.DataLoader(
            batches,
            batch_size=None,
            sampler=range(first_step * accumulation, (first_step + steps) * accumulation),
            num_workers=self.data.workers,
            worker_init_fn=ignore_signals,
            pin_memory=accelerator.device.type == "cuda",
        )

    def losses(self, model: nn.Module, batch: dict) -> torch.Tensor:
        """The configured objective: one loss a noisy sample."""
        config = self.model_config
        if self.scheduler is None:
            return regression_loss(model, batch, config.loss, config.gradient_weight)
        terms = (config.loss, config.snr_gamma, config.gradient_weight)
        return denoising_loss(model, self.scheduler, batch, *terms)

    def pipeline(self) -> ColorizationPipeline:
        """What is released: the averaged weights and the schedule."""
        resolution = self.data.resolution
        defaults = {"default_processing_resolution": resolution, **self.config.pipeline}
        pipeline = ColorizationPipeline(self.ema.model, self.scheduler, **defaults)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def is_due(self, epochs: int | None, steps: int | None = None) -> bool:
        """Whether something is to be done after this step: every so many steps, epochs, or last."""
        step = self.progress.step
        epoch, rest = divmod(step, self.steps_per_epoch)
        at_epoch = epochs and rest == 0 and epoch % epochs == 0
        return bool(at_epoch or (steps and step % steps == 0) or step == self.total_steps)

    def save(self) -> None:
        """Write a checkpoint."""
        limit = self.config.checkpoints_total_limit
        where = (self.identity, self.folder, limit)
        checkpoint.save(self.accelerator, self.ema, self.progress, *where)


def ignore_signals(worker: int) -> None:
    """Leave it to the main process to end a worker, after the checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


# --- The loop -----------------------------------------------------------------------------------


def train(run: Run) -> None:
    """From the run's step to its last, or to SIGTERM or Ctrl-C."""
    accelerator, progress, optim, config = run.accelerator, run.progress, run.optim, run.config
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: accelerator.set_trigger())
    bar = tqdm(
        total=run.total_steps, initial=progress.step, disable=not accelerator.is_main_process
    )
    meter = monitor.Meter(
        progress, accelerator, run.pictures_per_step, run.steps_per_epoch, run.timesteps
    )
    run.model.train()
    for batch in run.loader(progress.step, run.total_steps - progress.step):
        meter.data_arrived()
        batch = {name: x.to(accelerator.device, non_blocking=True) for name, x in batch.items()}
        with accelerator.accumulate(run.model):
            losses = run.losses(run.model, batch)
            accelerator.backward(losses.mean())
            meter.add(losses, batch)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(run.model.parameters(), optim.max_grad_norm)
                rate = learning_rate(optim, progress.step, run.total_steps)
                for group in run.optimizer.param_groups:
                    group["lr"] = rate
            run.optimizer.step()
            run.optimizer.zero_grad()
        meter.batch_done()
        if not accelerator.sync_gradients:
            continue
        run.ema.update(run.bare)
        logs = meter.finish_step(norm, rate)
        stop_if_diverged(run, logs)
        if run.is_due(config.validation_epochs):
            logs |= validate(run)
        log(run, logs)
        bar.update()
        bar.set_postfix(loss=f"{progress.smooth_loss:.4f}", lr=f"{rate:.1e}")
        if run.is_due(config.grid_epochs):
            draw_grid(run)
        stopping = accelerator.check_trigger()
        if stopping or run.is_due(config.checkpointing_epochs, config.checkpointing_steps):
            run.save()
        if stopping:
            break
        meter.start_step()
    bar.close()


# --- Watching -----------------------------------------------------------------------------------


def stop_if_diverged(run: Run, logs: dict) -> None:
    """End the run where its loss is no number any more, or far above what it has been."""
    fp16 = run.optim.mixed_precision == "fp16"
    problem = monitor.divergence(run.progress, logs, run.config.divergence_factor, fp16)
    if problem:
        raise SystemExit(
            f"{problem} Last good checkpoint: {checkpoint.newest(run.folder)}. Resume from it with "
            "a lower learning_rate or longer lr_warmup_steps."
        )


@torch.no_grad()
def validate(run: Run) -> dict[str, float]:
    """Losses of the averaged weights on each validation set, with the same noise every time."""
    if not run.validation or not run.accelerator.is_main_process:
        return {}
    result, losses, timesteps = {}, [], []
    for name, pictures in run.validation.items():
        first = len(losses)
        for batch in data.validation_batches(
            pictures, run.layout, run.data, run.optim.batch_size, run.timesteps
        ):
            batch = {name: tensor.to(run.accelerator.device) for name, tensor in batch.items()}
            with run.accelerator.autocast():
                losses.append(run.losses(run.ema.model, batch))
            timesteps.append(batch.get("timesteps"))
        result[f"validation_{name}"] = torch.cat(losses[first:]).mean().item()
    losses = torch.cat(losses)
    result["validation_loss"] = losses.mean().item()
    if run.scheduler is not None:
        steps = torch.cat(timesteps)
        result |= monitor.by_noise_level(losses, steps, run.timesteps, "validation")
    return result


def log(run: Run, logs: dict) -> None:
    """To the tracker and `metrics.jsonl`, where of a step's lines the last counts."""
    figures = {name: value for name, value in logs.items() if name != "step"}
    run.accelerator.log(figures, step=logs["step"])
    if run.accelerator.is_main_process:
        with open(run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(logs) + "\n")


def draw_grid(run: Run) -> None:
    """`grids/step-N.png`, and to the tracker."""
    if not run.accelerator.is_main_process:
        return
    side = min(run.data.load_size or run.data.resolution, 256)
    squares = [
        data.cut_square(pictures[index], side)
        for pictures in run.validation.values()
        for index in range(min(run.config.grid_pictures, len(pictures)))
    ]
    if not squares:
        squares = [data.cut_square(run.pictures[draw], side) for draw in range(4)]
    file = run.folder / "grids" / f"step-{run.progress.step:07d}.png"
    grid = monitor.draw_grid(run.pipeline(), squares, file)
    for tracker in run.accelerator.trackers:
        monitor.track_grid(tracker, grid, file, run.progress.step)


# --- Release ------------------------------------------------------------------------------------

CARD = """---
library_name: diffusers
pipeline_tag: image-to-image
tags: [colorization]
---

# {name}

Gives black-and-white photographs colours: believable ones, not known ones.

```python
from pipeline_colorize import ColorizationPipeline

pipe = ColorizationPipeline.from_pretrained("{where}")
pipe(image).images[0].save("colorized.png")
```

{network}, {parameters:,} parameters, trained with `train_colorize.py` on {data}: {steps:,} steps,
{pictures:,} pictures at {resolution} px, {hours:.2f} hours. Training loss {loss:.4f} (average of
the last steps), validation loss of these weights {validation:.4f}.

The terms of the training pictures apply to the weights: state them here before sharing them.

```yaml
{config}```
"""


def release(run: Run) -> None:
    """`model/`: a diffusers folder with the averaged weights and a card; pushed if asked."""
    if not run.accelerator.is_main_process:
        return
    config, folder = run.config, run.folder / "model"
    name = config.hub_model_id or run.folder.name
    # Names, not paths: the card may become public.
    sources = [Path(source).name for source in run.data.datasets]
    card = CARD.format(
        name=name,
        where=config.hub_model_id or folder,
        data=", ".join(sources),
        network=run.model_config.model_class,
        parameters=sum(parameter.numel() for parameter in run.ema.model.parameters()),
        resolution=run.data.resolution,
        steps=run.progress.step,
        pictures=run.progress.step * run.pictures_per_step,
        hours=run.progress.seconds / 3600,
        loss=run.progress.smooth_loss,
        validation=validate(run).get("validation_loss", math.nan),
        config=to_yaml([dataclasses.replace(run.data, datasets=sources), *run.configs[1:3]]),
    )
    pipeline = run.pipeline()
    if config.release_dtype == "float16":
        pipeline.unet.half()
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    run.accelerator.print(f"The model is in {folder}.")
    if config.push_to_hub:
        publish(folder, name, "Upload model", replace=("unet/*", "scheduler/*"))


# --- Main ---------------------------------------------------------------------------------------


def describe(run: Run) -> str:
    """What `--dry_run` prints."""
    parameters = sum(parameter.numel() for parameter in run.bare.parameters())
    half = 1 if run.optim.mixed_precision == "no" else 2
    side = run.data.load_size or run.data.resolution
    cached = 0 if run.data.streaming else sum(run.pictures.sizes) * 3 * side**2
    megabytes = {
        # Weights, gradients, two moments and the average, 4 bytes each.
        "weights and optimizer": 20 * parameters,
        "activations": run.activation_bytes / half,
        "decoded pictures": min(cached, run.data.cache_gigabytes * 2**30),
    }
    memory = ", ".join(f"{value / 2**20:,.0f} MB {what}" for what, value in megabytes.items())
    return (
        f"{to_yaml(run.configs)}\n{parameters:,} parameters; {run.total_steps:,} steps of "
        f"{run.pictures_per_step} pictures, {run.steps_per_epoch:,} an epoch\n"
        f"memory a process, estimated: {memory}"
    )


def main(argv: list[str]) -> None:
    configs = parse(argv, PARTS, __doc__.split("\n")[0])
    pictures, model, optim, config = configs
    if config.dry_run:
        run = Run([dataclasses.replace(pictures, cache_gigabytes=0), model, optim, config])
        run.configs, run.data = configs, pictures
        run.accelerator.print(describe(run))
        return
    with monitor.memory_advice(
        f"batch_size ({optim.batch_size}; raise gradient_accumulation_steps to make up for it), "
        f"noise_levels ({model.noise_levels}), resolution ({pictures.resolution}) or "
        f"cache_gigabytes ({pictures.cache_gigabytes}); or set gradient_checkpointing or "
        "mixed_precision."
    ):
        found = checkpoint.find(Path(config.output_dir), config.resume_from_checkpoint)
        run = Run(configs)
        if found:
            run.progress = checkpoint.load(run.accelerator, run.ema, run.identity, found)
        if run.accelerator.is_main_process:
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / "config.yaml").write_text(to_yaml(configs), encoding="utf-8")
        settings = {name: str(value) for part in configs for name, value in vars(part).items()}
        run.accelerator.init_trackers("colorize", settings)
        if model.init_from and not found:
            log(run, {"step": 0} | validate(run))  # what is to be improved on
        train(run)
        if run.progress.step < run.total_steps:
            where = f"step {run.progress.step} of {run.total_steps}"
            run.accelerator.print(
                f"Stopped at {where}; go on with --resume_from_checkpoint latest."
            )
        else:
            release(run)
        run.accelerator.end_training()


if __name__ == "__main__":
    main(sys.argv[1:])
