"""Measure the steps of a training run, and notice when they go wrong."""

import math
import time

import torch

from .batches import BatchFormat
from .checkpoint import Progress
from .config import ModelConfig


def by_noise_level(
    losses: torch.Tensor, timesteps: torch.Tensor, num_train_timesteps: int, prefix: str
) -> dict[str, float]:
    """Average the losses in each quarter of the schedule, from little noise to much."""
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
        self.waited = 0.0
        self.losses: list[torch.Tensor] = []
        self.timesteps: list[torch.Tensor] = []
        self.teacher_losses: list[torch.Tensor] = []

    def data_arrived(self) -> None:
        """Count the time since the loader was asked for this batch as waiting."""
        self.waited += time.perf_counter() - self.asked

    def add(self, losses: torch.Tensor, batch: dict) -> None:
        """Add the losses of one forward pass."""
        self.losses.append(losses.detach())
        if "timesteps" in batch:
            self.timesteps.append(batch["timesteps"])

    def batch_done(self) -> None:
        """Note that the loader is now asked for the next batch."""
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
    """Average the losses by set, over all sets and, for a denoising model, by noise level.

    Args:
        losses: of each set, a tensor for each batch.
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
    """Convert the losses of a one-pass model to mean squared errors of a*, b*, in Lab units.

    They are means over pixels and over both channels: of an epoch's training pictures, augmented
    and seen while the weights changed, and of the validation pictures.
    """
    if model.scheduler_class != "none" or layout.color_channels != 2:
        return {}
    names = {"epoch_loss": "epoch_ab_mse", "validation_loss": "validation_ab_mse"}
    return {new: logs[old] * layout.ab_scale**2 for old, new in names.items() if old in logs}


def divergence(progress: Progress, logs: dict, factor: float, overflows: bool) -> str | None:
    """Say what is wrong with the loss of a step; `None` where it is fine.

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
