"""Train a model that colorizes, on any colour pictures.

    accelerate launch train_colorize.py --config configs/tiny.yaml [--field value ...]

Read it from top to bottom: construction, the loop, watching, release. What has a mathematical or
file contract is in `pipeline_colorize.training`: `config` (the fields, with what they mean),
`sources`, `batches`, `objectives`, `ema`, `checkpoint`, `meter`. How to train on a folder of one's
own: docs/training.md.
"""

import dataclasses
import functools
import inspect
import json
import math
import signal
import sys
import traceback
from pathlib import Path

import diffusers
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import nn
from tqdm.auto import tqdm

import pipeline_colorize
from pipeline_colorize.core.pipeline import ColorizationPipeline
from pipeline_colorize.hub import publish_model
from pipeline_colorize.training import checkpoint, grids
from pipeline_colorize.training.batches import (
    BatchFormat,
    TrainingBatches,
    batch_loader,
    sample_squares,
    validation_batches,
)
from pipeline_colorize.training.card import model_card
from pipeline_colorize.training.config import (
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    as_closer,
    construct,
    learning_rate,
    parse,
    refuse_unknown,
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
from pipeline_colorize.training.optimizers import ConvolutionMuon
from pipeline_colorize.training.sources import load_training_pictures
from pipeline_colorize.training.teacher import Lesson

# What `--help` lists; a configuration file is flat and does not know of the parts.
PARTS = [DataConfig, ModelConfig, OptimizerConfig, RunConfig]
# Networks that go with no noise schedule; the second is there for its encoder.
ONE_PASS = ["RegressionUNet", "GreyAutoencoder"]

# --- Construction -------------------------------------------------------------------------------


def build_model(config: ModelConfig, optim: OptimizerConfig) -> nn.Module:
    """The network, with fresh weights or those of `init_from` and `init_encoder_from`."""
    if config.model_class in ONE_PASS and config.scheduler_class != "none":
        raise ValueError(f"{config.model_class} denoises nothing: set `scheduler_class` to none.")
    model = construct(config.model_class, config.model, [pipeline_colorize, diffusers])
    if config.init_from:
        checkpoint.load_network(model, config.init_from)
    if config.init_encoder_from:
        checkpoint.load_encoder(model, config.init_encoder_from)
    if optim.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if optim.sync_batchnorm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model.to(memory_format=torch.channels_last) if optim.channels_last else model


def make_optimizer(
    parameters: list[nn.Parameter], config: OptimizerConfig, sharded: bool = False
) -> torch.optim.Optimizer:
    """AdamW, or Muon for the convolutions and AdamW for the rest, where no weight is in shards."""
    betas = (config.adam_beta1, config.adam_beta2)
    how = {"lr": config.learning_rate, "betas": betas, "weight_decay": config.weight_decay}
    if config.optimizer == "muon":
        if sharded:
            raise ValueError("`optimizer` muon needs whole weights; FSDP has them in shards.")
        return ConvolutionMuon(parameters, **how)
    return torch.optim.AdamW(parameters, fused=True, **how)


def make_accelerator(config: RunConfig, optim: OptimizerConfig) -> Accelerator:
    """Devices, processes, precision and trackers."""
    name = None if config.report_to == "none" else config.report_to
    accelerator = Accelerator(
        mixed_precision=optim.mixed_precision,
        gradient_accumulation_steps=optim.gradient_accumulation_steps,
        log_with=name,
        project_dir=config.output_dir,
        dynamo_backend="inductor" if optim.compile else None,
    )
    if name and not accelerator.log_with:
        raise ValueError(f"`report_to` {name} needs a package: pip install {name}.")
    return accelerator


class Run:
    """Everything that a run consists of, built from the four parts of its configuration."""

    def __init__(self, configs: list):
        self.data, self.model_config, self.optim, self.config = configs
        self.configs, optim = configs, self.optim
        self.folder = Path(self.config.output_dir)
        known = list(inspect.signature(ColorizationPipeline).parameters)
        refuse_unknown(self.config.pipeline, known, "pipeline")
        if self.config.checkpoints_total_limit < 1:
            limit = self.config.checkpoints_total_limit
            raise ValueError(f"`checkpoints_total_limit` must be at least 1, not {limit}.")
        self.accelerator = make_accelerator(self.config, optim)
        set_seed(self.config.seed % 2**32)  # all that numpy takes
        self.scheduler, self.timesteps = None, None
        if self.model_config.scheduler_class != "none":
            name, arguments = self.model_config.scheduler_class, self.model_config.scheduler
            self.scheduler = construct(name, arguments, [pipeline_colorize, diffusers])
            self.timesteps = self.scheduler.config.num_train_timesteps
            check_noise(self.scheduler)
        self.bare = build_model(self.model_config, optim)
        self.parameters = sum(parameter.numel() for parameter in self.bare.parameters())
        layout = BatchFormat.of_model(self.bare.config)
        self.layout = dataclasses.replace(layout, picture=bool(self.model_config.teacher))
        levels = self.model_config.noise_levels if self.scheduler else 1
        self.activation_bytes = activation_bytes(
            self.bare, self.layout, self.data.resolution, optim.batch_size, levels
        )
        quiet = not self.accelerator.is_main_process
        bar = functools.partial(tqdm, desc="reading pictures", leave=False, disable=quiet)
        per_process = optim.batch_size * optim.gradient_accumulation_steps
        self.pictures_per_step = per_process * self.accelerator.num_processes
        self.pictures, self.steps_per_epoch, self.validation = load_training_pictures(
            self.data, self.config.seed, self.pictures_per_step, bar
        )
        self.closer, self.closer_validation = None, {}
        if self.data.closer_datasets:
            left = self.data.cache_gigabytes - self.pictures.held_gigabytes
            closer = dataclasses.replace(as_closer(self.data), cache_gigabytes=left)
            self.closer, _, self.closer_validation = load_training_pictures(
                closer, self.config.seed, self.pictures_per_step, bar
            )
        patience = self.config.early_stopping_patience
        if patience is not None and not (patience > 0 and self.validation):
            raise ValueError(
                "`early_stopping_patience` must be at least 1, with validation pictures to go by; "
                f"it is {patience}, with {sum(map(len, self.validation.values()))} of them."
            )
        guidance = self.model_config.guidance_weight
        if not 0 <= guidance < 1:
            raise ValueError(
                f"`guidance_weight` is from 0 to below 1, not {guidance}: 1 - 1 / s for a guidance "
                "scale of s."
            )
        if guidance and not (self.scheduler and self.data.condition_dropout):
            raise ValueError(
                "`guidance_weight` needs a noise schedule, and a network that also learns without "
                "its condition: set `condition_dropout`, to .1 for example."
            )
        self.total_steps = optim.max_train_steps or optim.num_train_epochs * self.steps_per_epoch
        self.ema = ExponentialMovingAverage(self.bare, optim.ema_decay, optim.ema_warmup)
        self.ema.model.to(self.accelerator.device)
        sharded = self.accelerator.distributed_type == DistributedType.FSDP
        parameters, self.lesson = list(self.bare.parameters()), None
        if self.model_config.teacher:
            self.lesson = Lesson(self.bare, self.model_config.teacher)
            self.lesson.teacher.to(self.accelerator.device)
            parameters += self.lesson.heads.parameters()
        optimizer = make_optimizer(parameters, optim, sharded)
        self.model, self.optimizer = self.accelerator.prepare(self.bare, optimizer)
        if self.lesson:
            self.lesson.heads = self.accelerator.prepare(self.lesson.heads)
        self.progress, self.best = checkpoint.Progress(), {}
        self.squares = None  # of grids
        self.identity = {"seed": self.config.seed, "pictures_per_step": self.pictures_per_step}

    def loader(self, first_step: int, steps: int) -> torch.utils.data.DataLoader:
        """This process's micro-batches of some steps."""
        accumulation, accelerator = self.optim.gradient_accumulation_steps, self.accelerator
        batches = TrainingBatches(
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
            closer=self.closer,
        )
        span = (first_step * accumulation, steps * accumulation)
        on_gpu = accelerator.device.type == "cuda"
        return batch_loader(batches, *span, self.data.workers, pin_memory=on_gpu)

    def losses(self, model: nn.Module, batch: dict, guided: bool = False) -> torch.Tensor:
        """The configured objective, one loss a noisy sample; guidance is left to training."""
        config = self.model_config
        if self.scheduler is None:
            return regression_loss(model, batch, config.loss, config.gradient_weight)
        guidance = config.guidance_weight if guided else 0.0
        terms = (config.loss, config.snr_gamma, config.gradient_weight, guidance)
        return denoising_loss(model, self.scheduler, batch, *terms)

    def teaching(self, batch: dict, meter: Meter) -> torch.Tensor | float:
        """What the encoder could not foretell of its teacher in the last pass, weighted."""
        if self.lesson is None:
            return 0.0
        with self.accelerator.autocast():
            unlearned = self.lesson.losses(batch).mean()
        meter.teacher_losses.append(unlearned.detach())
        return self.model_config.teacher_weight * unlearned

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
    """From the run's step to its last, or to SIGTERM or Ctrl-C."""
    accelerator, progress, optim, config = run.accelerator, run.progress, run.optim, run.config
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: accelerator.set_trigger())
    bar = tqdm(
        total=run.total_steps, initial=progress.step, disable=not accelerator.is_main_process
    )
    meter = Meter(progress, accelerator, run.pictures_per_step, run.steps_per_epoch, run.timesteps)
    run.model.train()
    for batch in run.loader(progress.step, run.total_steps - progress.step):
        meter.data_arrived()
        batch = {name: x.to(accelerator.device, non_blocking=True) for name, x in batch.items()}
        with accelerator.accumulate(run.model):
            losses = run.losses(run.model, batch, guided=True)
            accelerator.backward(losses.mean() + run.teaching(batch, meter))
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
    """End the run where its loss is no number any more, or far above what it has been."""
    fp16 = run.optim.mixed_precision == "fp16"
    problem = divergence(run.progress, logs, run.config.divergence_factor, fp16)
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
    losses, timesteps = {}, []
    sets = [(name, pictures, run.data) for name, pictures in run.validation.items()]
    closer = as_closer(run.data)
    sets += [
        (f"{name}_{closer.resolution}", pictures, closer)
        for name, pictures in run.closer_validation.items()
    ]
    for name, pictures, config in sets:
        losses[name] = []
        how = (run.layout, config, run.optim.batch_size, run.timesteps)
        for batch in validation_batches(pictures, *how):
            batch = {key: tensor.to(run.accelerator.device) for key, tensor in batch.items()}
            with run.accelerator.autocast():
                losses[name].append(run.losses(run.ema.model, batch))
            timesteps.append(batch.get("timesteps"))
    return validation_figures(losses, timesteps, run.timesteps)


def keep_best(run: Run, logs: dict) -> None:
    """Keep the weights with the lowest validation loss; end the run where it stays above that."""
    if run.config.early_stopping_patience is None or "validation_loss" not in logs:
        return
    if run.progress.is_best(logs["validation_loss"]):
        weights = run.ema.model.state_dict()
        run.best = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}
    if run.is_complete:
        run.accelerator.set_trigger()  # which all processes see


def log(run: Run, logs: dict) -> None:
    """To the tracker and `metrics.jsonl`, where of a step's lines the last counts."""
    logs = logs | lab_errors(logs, run.model_config, run.layout)
    figures = {name: value for name, value in logs.items() if name != "step"}
    run.accelerator.log(figures, step=logs["step"])
    if run.accelerator.is_main_process:
        with open(run.folder / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(logs) + "\n")


def draw_grid(run: Run) -> None:
    """`grids/step-N.png`, and to the tracker."""
    if not run.accelerator.is_main_process or run.layout.color_channels == 1:
        return
    side = min(run.data.load_size or run.data.resolution, 256)
    if run.squares is None:  # only once: a stream is read again from its start
        run.squares = sample_squares(run.validation, run.pictures, run.config.grid_pictures, side)
    file = run.folder / "grids" / f"step-{run.progress.step:07d}.png"
    grid = grids.draw_grid(run.pipeline(), run.squares, file)
    for tracker in run.accelerator.trackers:
        grids.track_grid(tracker, grid, file, run.progress.step)


# --- Release ------------------------------------------------------------------------------------


def release(run: Run) -> None:
    """`model/`: a diffusers folder with the averaged weights and a card; pushed if asked."""
    if not run.accelerator.is_main_process:
        return
    config, folder = run.config, run.folder / "model"
    if run.best and config.early_stopping_patience is not None:
        run.ema.model.load_state_dict(run.best)
    if run.layout.color_channels == 1:  # it colorizes nothing; `init_encoder_from` takes it
        run.ema.model.save_pretrained(folder)
        return run.accelerator.print(f"The encoder is in {folder}.")
    loss = validate(run).get("validation_loss", math.nan)
    where, figures = config.hub_model_id or str(folder), (run.pictures_per_step, run.parameters)
    card = model_card(where, run.configs, run.progress, *figures, loss)
    pipeline = run.pipeline()
    if config.release_dtype == "float16":
        pipeline.unet.half()
    pipeline.save_pretrained(folder)
    (folder / "README.md").write_text(card, encoding="utf-8")
    run.accelerator.print(f"The model is in {folder}.")
    if config.push_to_hub:
        name = config.hub_model_id or run.folder.name
        publish_model(folder, name, "Upload model", generated_card=True)


# --- Main ---------------------------------------------------------------------------------------


def dry_run(configs: list) -> None:
    """Print the whole configuration, the length of the run and the memory it takes."""
    pictures, *others = configs
    run = Run([dataclasses.replace(pictures, cache_gigabytes=0), *others])
    held = []
    if not pictures.streaming:
        held.append((sum(run.pictures.sizes), pictures.load_size or pictures.resolution))
        if run.closer:
            held.append((sum(run.closer.sizes), pictures.closer_resolution))
    memory = memory_estimate(configs, run.parameters, run.activation_bytes, held)
    run.accelerator.print(
        f"{to_yaml(configs)}\n{run.parameters:,} parameters; {run.total_steps:,} steps of "
        f"{run.pictures_per_step} pictures, {run.steps_per_epoch:,} an epoch\n"
        f"memory a process, estimated: {memory}"
    )


def main(argv: list[str]) -> None:
    configs = parse(argv, PARTS, __doc__.split("\n")[0])
    *_, model, _, config = configs
    if config.dry_run:
        return dry_run(configs)
    with memory_advice(settings_of_memory(configs)):
        found = checkpoint.find(Path(config.output_dir), config.resume_from_checkpoint)
        run = Run(configs)
        if advice := idle_cores_advice(run.accelerator):
            run.accelerator.print(advice)
        if found:
            run.progress, run.best = checkpoint.load(run.accelerator, run.ema, run.identity, found)
        if run.accelerator.is_main_process:
            run.folder.mkdir(parents=True, exist_ok=True)
            (run.folder / "config.yaml").write_text(to_yaml(configs), encoding="utf-8")
        settings = {name: str(value) for part in configs for name, value in vars(part).items()}
        run.accelerator.init_trackers("colorize", settings)
        if model.init_from and not found:
            log(run, {"step": 0} | validate(run))  # what is to be improved on
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


if __name__ == "__main__":
    main(sys.argv[1:])
