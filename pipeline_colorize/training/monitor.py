"""What a training run lets one see: figures of each step, grids, memory, the model's card."""

import contextlib
import copy
import dataclasses
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from .checkpoint import Progress
from .config import ModelConfig, to_yaml
from .data import BatchFormat, grey_version
from .objectives import predict


def by_noise_level(
    losses: torch.Tensor, timesteps: torch.Tensor, num_train_timesteps: int, prefix: str
) -> dict[str, float]:
    """Mean loss in each quarter of the schedule, from little noise to much."""
    quarter = timesteps * 4 // num_train_timesteps
    parts = {number: losses[quarter == number] for number in range(4)}
    return {
        f"{prefix}_noise_{number + 1}of4": part.mean().item()
        for number, part in parts.items()
        if len(part)
    }


class Meter:
    """Times and averages the steps of a run.

    Args:
        progress: where the run stands; its averages are kept up to date.
        accelerator: for means over the processes.
        pictures_per_step: of all processes.
        steps_per_epoch: after which `epoch_loss` is given.
        num_train_timesteps: of the schedule; `None` for a one-pass model.
    """

    def __init__(
        self,
        progress: Progress,
        accelerator,
        pictures_per_step: int,
        steps_per_epoch: int,
        num_train_timesteps: int | None,
    ):
        self.progress = progress
        self.accelerator = accelerator
        self.pictures_per_step = pictures_per_step
        self.steps_per_epoch = steps_per_epoch
        self.num_train_timesteps = num_train_timesteps
        self.start_step()

    def start_step(self) -> None:
        """Begin to time a step."""
        self.started = self.asked = time.perf_counter()
        self.waited, self.losses, self.timesteps, self.teacher_losses = 0.0, [], [], []

    def data_arrived(self) -> None:
        """The loader has given a batch: what has passed since it was asked was waiting."""
        self.waited += time.perf_counter() - self.asked

    def add(self, losses: torch.Tensor, batch: dict) -> None:
        """Take in the losses of one forward pass."""
        self.losses.append(losses.detach())
        if "timesteps" in batch:
            self.timesteps.append(batch["timesteps"])

    def batch_done(self) -> None:
        """The loader is asked for the next batch."""
        self.asked = time.perf_counter()

    def finish_step(self, norm: torch.Tensor, learning_rate: float) -> dict[str, float]:
        """Count the step and return its figures; the loss is the mean over all processes."""
        progress, losses = self.progress, torch.cat(self.losses)
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # FSDP
        loss = self.accelerator.reduce(losses.mean(), "mean").item()
        seconds = time.perf_counter() - self.started
        smooth = loss if math.isnan(progress.smooth_loss) else progress.smooth_loss
        progress.smooth_loss = 0.98 * smooth + 0.02 * loss
        progress.step += 1
        progress.seconds += seconds
        progress.epoch_loss += loss
        logs = {
            "step": progress.step,
            "loss": loss,
            "learning_rate": learning_rate,
            "grad_norm": float(norm),
            "images_per_second": self.pictures_per_step / seconds,
            "data_wait": self.waited / seconds,
        }
        if self.num_train_timesteps is not None:
            timesteps = torch.cat(self.timesteps)
            logs |= by_noise_level(losses, timesteps, self.num_train_timesteps, "loss")
        if self.teacher_losses:
            logs["teacher_loss"] = torch.stack(self.teacher_losses).mean().item()
        epoch, rest = divmod(progress.step, self.steps_per_epoch)
        if rest == 0:
            logs |= {"epoch": epoch, "epoch_loss": progress.epoch_loss / self.steps_per_epoch}
            progress.epoch_loss = 0.0
        return logs


def validation_figures(
    losses: dict[str, list[torch.Tensor]], timesteps: list, num_train_timesteps: int | None
) -> dict[str, float]:
    """Mean losses, by set, altogether and, for a denoising model, by noise level.

    Args:
        losses: of each set, one tensor a batch.
        timesteps: of all batches, in the same order.
        num_train_timesteps: of the schedule; `None` for a one-pass model.
    """
    figures = {f"validation_{name}": torch.cat(part).mean().item() for name, part in losses.items()}
    every = torch.cat([tensor for part in losses.values() for tensor in part])
    figures["validation_loss"] = every.mean().item()
    if num_train_timesteps is not None:
        steps = torch.cat(timesteps)
        figures |= by_noise_level(every, steps, num_train_timesteps, "validation")
    return figures


def lab_errors(logs: dict, model: ModelConfig, layout: BatchFormat) -> dict[str, float]:
    """Mean squared errors of a*, b* that a one-pass model's losses amount to, if they are such.

    In squared Lab units, the mean over pixels and over the two channels: of an epoch's training
    pictures, augmented and seen while the weights changed, and of the validation pictures.
    """
    least_squares = model.loss == "mse" and not model.gradient_weight
    if model.scheduler_class != "none" or not least_squares or layout.color_channels != 2:
        return {}
    names = {"epoch_loss": "epoch_ab_mse", "validation_loss": "validation_ab_mse"}
    return {new: logs[old] * layout.ab_scale**2 for old, new in names.items() if old in logs}


def divergence(progress: Progress, logs: dict, factor: float, overflows: bool) -> str | None:
    """What is wrong with a step's loss, if anything.

    Args:
        progress: where the run stands; its lowest average is kept up to date.
        logs: figures of the step.
        factor: how many times its best average the average loss may be.
        overflows: whether infinite gradients are skipped steps, as in fp16, and no fault.
    """
    if progress.step > 100:
        progress.best_loss = min(progress.best_loss, progress.smooth_loss)
    norm = 0.0 if overflows else logs["grad_norm"]
    if math.isfinite(logs["loss"] + norm) and progress.smooth_loss <= factor * progress.best_loss:
        return None
    return (
        f"Stopped at step {progress.step}: loss {logs['loss']:.4g} (average "
        f"{progress.smooth_loss:.4g}, best average {progress.best_loss:.4g}), gradient norm "
        f"{logs['grad_norm']:.4g}, learning rate {logs['learning_rate']:.3g}."
    )


def draw_grid(pipeline, squares: list[torch.Tensor], file: Path) -> np.ndarray:
    """One row a picture: grey, colorized, truth; written to `file` and returned as (H, W, 3).

    Args:
        pipeline: a `ColorizationPipeline`.
        squares: 8-bit pictures (3, S, S), all of one size.
        file: a PNG.
    """
    truth = [Image.fromarray(square.permute(1, 2, 0).numpy()) for square in squares]
    generators = [torch.Generator().manual_seed(index) for index in range(len(truth))]
    colorized = pipeline(truth, generator=generators).images
    rows = [
        np.concatenate([grey_version(square).expand(3, -1, -1).permute(1, 2, 0), image, true], 1)
        for square, image, true in zip(squares, colorized, truth, strict=True)
    ]
    grid = np.concatenate(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(file)
    return grid


def track_grid(tracker, grid: np.ndarray, file: Path, step: int) -> None:
    """Give a grid (H, W, 3), which is also in `file`, to one of Accelerate's trackers."""
    if tracker.name == "trackio":  # which Accelerate has no `log_images` for
        import trackio

        tracker.log({"grid": trackio.Image(str(file))}, step=step)
    elif tracker.name == "tensorboard":
        tracker.log_images({"grid": grid[None]}, step=step, dataformats="NHWC")
    else:
        tracker.log_images({"grid": grid[None]}, step=step)


def activation_bytes(
    model: nn.Module, layout: BatchFormat, resolution: int, pictures: int, noise_levels: int
) -> int:
    """What one forward pass in fp32 keeps for the backward pass, found without computing it.

    Raises:
        ValueError: if the network cannot take the resolution.
    """
    grid = resolution // layout.chroma_stride
    samples = pictures * noise_levels
    noisy = torch.empty(samples, layout.color_channels, grid, grid, device="meta")
    channels = 1 + layout.hint_channels
    condition = torch.empty(pictures, channels, resolution, resolution, device="meta")
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    skeleton = copy.deepcopy(model).to("meta").train()
    for module in skeleton.modules():
        if isinstance(module, nn.SyncBatchNorm):  # which works on GPUs alone
            module.__class__ = nn.BatchNorm2d
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        try:
            output = predict(skeleton, noisy, torch.zeros(samples, device="meta"), condition)
        except RuntimeError as error:
            message = f"The network cannot take `resolution` {resolution}: {error}"
            raise ValueError(message) from error
    if output.shape != noisy.shape:
        raise ValueError(f"The network makes {tuple(output.shape)} of {tuple(noisy.shape)}.")
    return sum(kept.values())


def idle_cores_advice(accelerator) -> str | None:
    """A line on a run whose launcher leaves all cores but one idle; `None` where it does not.

    `accelerate launch` gives a process one thread, unless OMP_NUM_THREADS says otherwise.
    """
    cores, alone = os.cpu_count() or 1, accelerator.num_processes == 1
    if accelerator.device.type != "cpu" or not alone or torch.get_num_threads() > 1 or cores == 1:
        return None
    return f"This run uses one of {cores} cores; OMP_NUM_THREADS={cores} lets it use all of them."


def settings_of_memory(parts: list) -> str:
    """What to lower where memory does not suffice, as it stands."""
    pictures, model, optim, _ = parts
    return (
        f"batch_size ({optim.batch_size}; raise gradient_accumulation_steps to make up for it), "
        f"noise_levels ({model.noise_levels}), resolution ({pictures.resolution}) or "
        f"cache_gigabytes ({pictures.cache_gigabytes}); or set gradient_checkpointing or "
        "mixed_precision."
    )


@contextlib.contextmanager
def memory_advice(settings: str):
    """End with `settings`, what to lower, where memory does not suffice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not full and "allocate memory" not in str(error):
            raise
        raise SystemExit(f"Too little memory: {error}\nLower {settings}") from error


def memory_estimate(
    parts: list, parameters: int, activations: int, pictures_held: list[tuple[int, int]]
) -> str:
    """A line about what a process will need.

    Args:
        parts: the four parts of the configuration.
        parameters: of the network.
        activations: what `activation_bytes` says.
        pictures_held: (how many, short side) of those that are to be kept decoded.
    """
    pictures, _, optim, _ = parts
    decoded = sum(3 * number * side**2 for number, side in pictures_held)
    megabytes = {
        # Weights, gradients, two moments and the average, 4 bytes each.
        "weights and optimizer": 20 * parameters,
        "activations": activations / (1 if optim.mixed_precision == "no" else 2),
        "decoded pictures": min(decoded, pictures.cache_gigabytes * 2**30),
    }
    return ", ".join(f"{value / 2**20:,.0f} MB {what}" for what, value in megabytes.items())


_CARD = """---
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
{pictures:,} pictures at {size}, {hours:.2f} hours. Training loss {loss:.4f} (average of
the last steps), validation loss of these weights {validation:.4f}.{stopped}

The terms of the training pictures apply to the weights: state them here before sharing them.

```yaml
{config}```
"""


def model_card(
    where: str,
    parts: list,
    progress: Progress,
    pictures_per_step: int,
    parameters: int,
    validation: float,
) -> str:
    """The card of a trained model, in Markdown; it names data sets, not their paths.

    Args:
        where: for `from_pretrained` in its example.
        parts: the four parts of the configuration.
        progress: where the run ended.
        pictures_per_step: of all processes.
        parameters: of the network.
        validation: loss of the weights that are released.
    """
    pictures, model, optim, run = parts
    sources, closer = (
        [Path(source).name for source in sets]
        for sets in (pictures.datasets, pictures.closer_datasets)
    )
    size, steps, stopped = f"{pictures.resolution} px", progress.step, ""
    if run.early_stopping_patience is not None:
        steps = progress.best_step
        stopped = f" Training stopped at step {progress.step:,}; these did best in validation."
    if closer:
        size += (
            f" ({pictures.closer_share:.0%} of the steps: fewer, of {', '.join(closer)}, at "
            f"{pictures.closer_resolution} px)"
        )
    named = dataclasses.replace(pictures, datasets=sources, closer_datasets=closer)
    return _CARD.format(
        name=run.hub_model_id or Path(run.output_dir).name,
        where=where,
        network=model.model_class,
        parameters=parameters,
        data=", ".join(sources),
        steps=steps,
        pictures=steps * pictures_per_step,
        size=size,
        hours=progress.seconds / 3600,
        loss=progress.smooth_loss,
        validation=validation,
        stopped=stopped,
        config=to_yaml([named, model, optim]),
    )
