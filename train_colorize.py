"""Train a model that colorizes, on any colour pictures.

    accelerate launch train_colorize.py --config configs/tiny.yaml [--field value ...]

Read it from top to bottom: construction, the loop, watching, release. What has a mathematical or
file contract is in `pipeline_colorize.training`: `config` (the fields, with what they mean),
`checks`, `build`, `sources`, `batches`, `objectives`, `ema`, `checkpoint`, `meter`. Where the
package is installed without a checkout, `accelerate launch -m train_colorize` is the same program.
How to train on a folder of your own: docs/training.md.
"""

import dataclasses
import functools
import json
import math
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, set_seed
from torch import nn
from tqdm.auto import tqdm

from pipeline_colorize.core.pipeline import ColorizationPipeline
from pipeline_colorize.hub import full_name, publish_model
from pipeline_colorize.training import build, checkpoint, grids
from pipeline_colorize.training.batches import (
    BatchFormat,
    Division,
    TrainingBatches,
    batch_loader,
    sample_squares,
    validation_batches,
)
from pipeline_colorize.training.build import build_model, make_accelerator, make_optimizer
from pipeline_colorize.training.card import model_card
from pipeline_colorize.training.checks import check_configs, check_resolutions
from pipeline_colorize.training.colors import color_figures
from pipeline_colorize.training.config import (
    PARTS,
    DataConfig,
    for_large_pictures,
    parse,
    to_yaml,
)
from pipeline_colorize.training.ema import ExponentialMovingAverage
from pipeline_colorize.training.memory import (
    activation_bytes,
    idle_cores_advice,
    memory_advice,
    memory_estimate,
    settings_of_memory,
)
from pipeline_colorize.training.meter import Meter, divergence, lab_errors, validation_figures
from pipeline_colorize.training.objectives import check_noise, denoising_loss, regression_loss
from pipeline_colorize.training.optimizers import learning_rate
from pipeline_colorize.training.sources import load_training_pictures
from pipeline_colorize.training.teacher import Distillation
from pipeline_colorize.training.terms import inherited_terms

# --- Construction -------------------------------------------------------------------------------


class Run:
    """All parts of a run, built from the four parts of its configuration."""

    def __init__(self, configs: list):
        configs = [dataclasses.replace(config) for config in configs]  # some fields are filled in
        check_configs(configs)
        self.configs = configs
        self.data, self.model_config, self.optim, self.config = configs
        self.folder = Path(self.config.output_dir)
        self.accelerator = make_accelerator(self.config, self.optim)
        self.is_main = self.accelerator.is_main_process
        self.repository = self._check_repository()
        set_seed(self.config.seed % 2**32)  # all that numpy takes
        self._build_network()
        self._open_pictures()
        self._prepare()
        self.progress = checkpoint.Progress()
        self.best: dict[str, torch.Tensor] = {}
        self.squares: list[torch.Tensor] | None = None  # of grids
        self.identity = {"seed": self.config.seed, "pictures_per_step": self.pictures_per_step}

    def _check_repository(self) -> str | None:
        """Find the repository to push to, and so try the token before the first step."""
        config = self.config
        if not config.push_to_hub or not self.is_main or config.dry_run:
            return None
        return full_name(config.hub_model_id or self.folder.name)

    def _build_network(self) -> None:
        config, initial = self.model_config, None
        if config.init_from:
            initial = build.load_initial_model(config.init_from)
            build.adopt(initial, config, self.config)
        build.refuse_unknown_defaults(self.config.pipeline)
        self.scheduler, self.timesteps = build.build_scheduler(config), None
        if self.scheduler is not None:
            check_noise(self.scheduler)
            self.timesteps = self.scheduler.config.num_train_timesteps
        self.bare = build_model(config, self.optim, initial)
        if self.data.doubtful_probability and "doubtful_hints" in self.bare.config:
            self.bare.register_to_config(doubtful_hints=True)
        check_resolutions(self.data, self.bare)
        self.parameters = sum(parameter.numel() for parameter in self.bare.parameters())
        layout = BatchFormat.of_model(self.bare.config)
        self.layout = dataclasses.replace(layout, picture=bool(config.teacher))
        levels = config.noise_levels if self.scheduler is not None else 1
        self.activation_bytes = activation_bytes(
            self.bare, self.layout, self.data.resolution, self.optim.batch_size, levels
        )

    def _open_pictures(self) -> None:
        per_process = self.optim.batch_size * self.optim.gradient_accumulation_steps
        self.pictures_per_step = per_process * self.accelerator.num_processes
        self.pictures, self.steps_per_epoch, self.validation = self._load(self.data)
        self.large, self.large_validation = None, {}
        if self.data.large_datasets:
            left = self.data.cache_gigabytes - self.pictures.cached_gigabytes
            data = dataclasses.replace(for_large_pictures(self.data), cache_gigabytes=left)
            self.large, _, self.large_validation = self._load(data)
        if self.config.early_stopping_patience is not None and not self.validation:
            raise ValueError(
                "`early_stopping_patience` needs validation pictures, and there are none."
            )
        optim = self.optim
        self.total_steps = optim.max_train_steps or optim.num_train_epochs * self.steps_per_epoch

    def _load(self, data: DataConfig):
        bar = functools.partial(
            tqdm, desc="reading pictures", leave=False, disable=not self.is_main
        )
        return load_training_pictures(data, self.config.seed, self.pictures_per_step, bar)

    def _prepare(self) -> None:
        """Bring the network, its average, its teacher and the optimizer to the device."""
        accelerator, config = self.accelerator, self.model_config
        self.ema = ExponentialMovingAverage(self.bare, self.optim.ema_decay, self.optim.ema_warmup)
        self.ema.model.to(accelerator.device)
        parameters, self.distillation = list(self.bare.parameters()), None
        if config.teacher:
            self.distillation = Distillation(self.bare, config.teacher)
            self.distillation.teacher.to(accelerator.device)
            parameters += self.distillation.heads.parameters()
        sharded = accelerator.distributed_type == DistributedType.FSDP
        optimizer = make_optimizer(parameters, self.optim, sharded)
        self.model, self.optimizer = accelerator.prepare(self.bare, optimizer)
        if self.distillation:
            self.distillation.heads = accelerator.prepare(self.distillation.heads)

    def loader(self, first_step: int, steps: int) -> torch.utils.data.DataLoader:
        """Load this process's micro-batches of some steps."""
        accumulation, accelerator = self.optim.gradient_accumulation_steps, self.accelerator
        batches = TrainingBatches(
            self.pictures,
            self.layout,
            self.data,
            seed=self.config.seed,
            division=Division(
                self.optim.batch_size,
                accumulation,
                accelerator.process_index,
                accelerator.num_processes,
            ),
            noise_levels=self.model_config.noise_levels,
            num_train_timesteps=self.timesteps,
            large=self.large,
        )
        span = (first_step * accumulation, steps * accumulation)
        on_gpu = accelerator.device.type == "cuda"
        return batch_loader(batches, *span, self.data.workers, pin_memory=on_gpu)

    def losses(self, model: nn.Module, batch: dict, guided: bool = False) -> torch.Tensor:
        """Return the error of each noisy sample; only training moves its target by guidance."""
        if self.scheduler is None:
            return regression_loss(model, batch)
        config = self.model_config
        guided = guided and self.progress.step >= config.guidance_start
        weight = config.guidance_weight if guided else 0.0
        return denoising_loss(model, self.scheduler, batch, weight)

    def teacher_loss(self, batch: dict, meter: Meter) -> torch.Tensor | float:
        """Return the weighted error of the last pass in predicting the teacher's features."""
        if self.distillation is None:
            return 0.0
        with self.accelerator.autocast():
            error = self.distillation.losses(batch).mean()
        meter.teacher_losses.append(error.detach())
        return self.model_config.teacher_weight * error

    def pipeline(self) -> ColorizationPipeline:
        """Make the pipeline that is released: the averaged weights and the schedule."""
        resolution = self.data.resolution
        defaults = {"default_processing_resolution": resolution, **self.config.pipeline}
        pipeline: Any = ColorizationPipeline(self.ema.model, self.scheduler, **defaults)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @property
    def square_side(self) -> int:
        """Side, in pixels, of the validation pictures that are coloured to look at."""
        return min(self.data.load_size or self.data.resolution, 256)

    def is_due(self, epochs: int | None, steps: int | None = None) -> bool:
        """Say whether something that is done every so many steps or epochs, or last, is due now."""
        step = self.progress.step
        epoch, rest = divmod(step, self.steps_per_epoch)
        at_epoch = epochs and rest == 0 and epoch % epochs == 0
        return bool(at_epoch or (steps and step % steps == 0) or step == self.total_steps)

    @property
    def is_complete(self) -> bool:
        """Whether it came to its last step, or validation has not improved for long enough."""
        patience = self.config.early_stopping_patience
        exhausted = patience is not None and self.progress.stale_validations >= patience
        return exhausted or self.progress.step >= self.total_steps

    def save(self) -> None:
        """Write a checkpoint."""
        limit = self.config.checkpoints_total_limit
        where = (self.identity, self.folder, limit)
        checkpoint.save(self.accelerator, self.ema, self.progress, *where, self.best)


# --- The loop -----------------------------------------------------------------------------------


def train(run: Run) -> None:
    """Train from the run's step to its last, or until SIGTERM or Ctrl-C."""
    accelerator, progress, optim, config = run.accelerator, run.progress, run.optim, run.config
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: accelerator.set_trigger())
    bar = tqdm(total=run.total_steps, initial=progress.step, disable=not run.is_main)
    meter = Meter(progress, accelerator, run.pictures_per_step, run.steps_per_epoch, run.timesteps)
    run.model.train()
    for batch in run.loader(progress.step, run.total_steps - progress.step):
        meter.data_arrived()
        batch = {name: x.to(accelerator.device, non_blocking=True) for name, x in batch.items()}
        with accelerator.accumulate(run.model):
            losses = run.losses(run.model, batch, guided=True)
            accelerator.backward(losses.mean() + run.teacher_loss(batch, meter))
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
            keep_best(run, logs)
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
    """End the run where its loss is not a number any more, or far above its best average."""
    fp16 = run.accelerator.mixed_precision == "fp16"
    problem = divergence(run.progress, logs, run.config.divergence_factor, fp16)
    if problem:
        raise SystemExit(
            f"{problem} {checkpoint.name_newest(run.folder)} Lower learning_rate or raise "
            "lr_warmup_steps, and resume or begin again."
        )


@torch.no_grad()
def validate(run: Run) -> dict[str, float]:
    """Measure the averaged weights on each validation set, with the same noise every time."""
    if not run.validation or not run.is_main:
        return {}
    losses: dict[str, list[torch.Tensor]] = {}
    timesteps = []
    large = for_large_pictures(run.data)
    sets = [(name, pictures, run.data) for name, pictures in run.validation.items()]
    sets += [
        (f"{name}_{large.resolution}", pictures, large)
        for name, pictures in run.large_validation.items()
    ]
    for name, pictures, config in sets:
        losses[name] = []
        how = (run.layout, config, run.optim.batch_size, run.timesteps)
        for batch in validation_batches(pictures, *how):
            batch = {key: tensor.to(run.accelerator.device) for key, tensor in batch.items()}
            with run.accelerator.autocast():
                losses[name].append(run.losses(run.ema.model, batch))
            timesteps.append(batch.get("timesteps"))
    figures = validation_figures(losses, timesteps, run.timesteps)
    if count := run.config.validation_colors:
        squares = sample_squares(run.validation, run.pictures, count, run.square_side)
        figures |= color_figures(run.pipeline(), squares)
    return figures


def keep_best(run: Run, logs: dict) -> None:
    """Keep the weights that did best in validation; end the run where none has for long enough."""
    metric = run.config.early_stopping_metric
    if run.config.early_stopping_patience is None or metric not in logs:
        return
    if run.progress.is_best(logs[metric]):
        weights = run.ema.model.state_dict()
        run.best = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}
    if run.is_complete:
        run.accelerator.set_trigger()  # which all processes see


def log(run: Run, logs: dict) -> None:
    """Write to the tracker and `metrics.jsonl`; of a step's lines in it, the last counts."""
    logs = logs | lab_errors(logs, run.model_config, run.layout)
    figures = {name: value for name, value in logs.items() if name != "step"}
    run.accelerator.log(figures, step=logs["step"])
    if run.is_main:
        with open(run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(logs) + "\n")


def draw_grid(run: Run) -> None:
    """Draw `grids/step-N.png`, and give it to the tracker."""
    if not run.is_main or run.layout.color_channels == 1:
        return
    if run.squares is None:  # only once: a stream is read again from its start
        count = run.config.grid_pictures
        run.squares = sample_squares(run.validation, run.pictures, count, run.square_side)
    file = run.folder / "grids" / f"step-{run.progress.step:07d}.png"
    grid = grids.draw_grid(run.pipeline(), run.squares, file)
    for tracker in run.accelerator.trackers:
        grids.track_grid(tracker, grid, file, run.progress.step)


# --- Release ------------------------------------------------------------------------------------


def release(run: Run) -> None:
    """Write `model/`, a diffusers folder with the averaged weights and a card; push it if asked."""
    if not run.is_main:
        return
    config, folder = run.config, run.folder / "model"
    if run.best and config.early_stopping_patience is not None:
        run.ema.model.load_state_dict(run.best)
    if run.layout.color_channels == 1:  # it colorizes nothing; `init_encoder_from` takes it
        network: Any = run.ema.model
        network.save_pretrained(folder)
        run.accelerator.print(f"The encoder is in {folder}.")
        return
    write_model(run, folder)
    run.accelerator.print(f"The model is in {folder}.")
    if run.repository:
        private = config.hub_private or None
        publish_model(folder, run.repository, "Upload model", generated_card=True, private=private)


def write_model(run: Run, folder: Path) -> None:
    """Write the released model with its card, and the licence of the models it started from."""
    loss = validate(run).get("validation_loss", math.nan)
    terms = inherited_terms(run.model_config)
    where, figures = run.repository or str(folder), (run.pictures_per_step, run.parameters)
    card = model_card(where, run.configs, run.progress, *figures, loss, terms)
    pipeline: Any = run.pipeline()
    if run.config.release_dtype == "float16":
        pipeline.unet.half()
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    if terms.text:
        (folder / "LICENSE").write_text(terms.text, encoding="utf-8")


# --- Main ---------------------------------------------------------------------------------------


def dry_run(configs: list) -> None:
    """Print the whole configuration, the length of the run and the memory it takes."""
    pictures, *others = configs
    run = Run([dataclasses.replace(pictures, cache_gigabytes=0), *others])
    held = []
    if not pictures.streaming:
        held.append((run.pictures.pictures, pictures.load_size or pictures.resolution))
        if run.large:
            held.append((run.large.pictures, pictures.large_resolution))
    memory = memory_estimate(configs, run.parameters, run.activation_bytes, held)
    run.accelerator.print(
        f"{to_yaml([pictures, *run.configs[1:]])}\n{run.parameters:,} parameters; "
        f"{run.total_steps:,} steps of {run.pictures_per_step} pictures, "
        f"{run.steps_per_epoch:,} an epoch\nmemory a process, estimated: {memory}"
    )


def start(run: Run, found: Path | None) -> None:
    """Restore a checkpoint, if one was found, and begin to write."""
    accelerator = run.accelerator
    for advice in (idle_cores_advice(accelerator), build.precision_advice(accelerator)):
        if advice:
            accelerator.print(advice)
    if found:
        run.progress, run.best = checkpoint.load(accelerator, run.ema, run.identity, found)
    if run.is_main:
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "config.yaml").write_text(to_yaml(run.configs), encoding="utf-8")
    settings = {name: str(value) for part in run.configs for name, value in vars(part).items()}
    accelerator.init_trackers("colorize", settings, {"wandb": {"dir": str(run.folder)}})
    if run.model_config.init_from and not found:
        log(run, {"step": 0} | validate(run))  # what is to be improved on


def train_to_the_end(run: Run) -> None:
    """Train and release, or say how to go on."""
    if not run.is_complete:
        try:
            train(run)
        except Exception as error:
            # Or else they keep the loader, whose workers would be waited for in vain.
            traceback.clear_frames(error.__traceback__)
            raise
    if run.is_complete:
        release(run)
    else:
        where = f"step {run.progress.step} of {run.total_steps}"
        run.accelerator.print(f"Stopped at {where}; --resume_from_checkpoint latest goes on.")
    run.accelerator.end_training()


def main(argv: list[str] | None = None) -> None:
    """Run the program on a command line, or on that of the process."""
    argv = sys.argv[1:] if argv is None else argv
    configs = parse(argv, PARTS, (__doc__ or "").split("\n")[0])
    config = configs[-1]
    if config.dry_run:
        return dry_run(configs)
    with memory_advice(settings_of_memory(configs)):
        found = checkpoint.find(Path(config.output_dir), config.resume_from_checkpoint)
        run = Run(configs)
        start(run, found)
        train_to_the_end(run)


if __name__ == "__main__":
    main()
