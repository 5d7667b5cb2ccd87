"""What training minimises: (model, scheduler, batch) -> one squared error for each noisy sample.

A batch is a dict of tensors:

- `condition` (B, K, H, W): luminance L/50 - 1 and, where the model has them, hints;
- `color` (B, C, h, w): the true colour in the network's scale, or the true luminance for a grey
  autoencoder, whose objective is one-pass regression on it;
- `noise` (B * n, C, h, w) and `timesteps` (B * n,): n noise levels for each picture, those of one
  picture side by side. One-pass regression needs neither.

Nothing here draws random numbers: the noise comes with the batch, so that a loss depends on the
weights and the batch alone.
"""

from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline_colorize.core.sampling import run_network


def stratified_timesteps(
    batch: int, levels: int, num_train_timesteps: int, generator: np.random.Generator
) -> torch.Tensor:
    """Draw timesteps, one from each of `batch * levels` equal strata, and shuffle them.

    Each timestep is uniform by itself; together they cover the schedule evenly, which removes much
    of the variance that the choice of noise level brings (Kingma et al. 2021, section 4.2).

    Returns:
        (batch, levels); the levels of a picture come from different parts of the schedule.
    """
    points = (np.arange(batch * levels) + generator.random()) / (batch * levels)
    # Row k, before it is shuffled, lies in the k-th part of the schedule.
    rows = generator.permuted(points.reshape(levels, batch), axis=1)
    timesteps = torch.from_numpy(rows.T * num_train_timesteps).long()
    return timesteps.clamp(max=num_train_timesteps - 1)


def signal_and_noise_rates(
    scheduler: Any, timesteps: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of colour and noise at `timesteps` (B,), shaped to multiply `like`."""
    alphas_cumprod = scheduler.alphas_cumprod.to(like.device)[timesteps]
    alphas_cumprod = alphas_cumprod.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
    return alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()


def check_noise(scheduler: Any) -> None:
    """Refuse a scheduler that does not add noise in the way that the objective expects.

    Raises:
        ValueError: for schedulers that keep the signal at 1 or count timesteps in another way.
    """
    one, timesteps = torch.ones(3, 1), torch.tensor([0, 1, 2])
    timesteps = timesteps * (scheduler.config.num_train_timesteps - 1) // 2
    try:
        signal, rate = signal_and_noise_rates(scheduler, timesteps, one)
        fits = torch.allclose(scheduler.add_noise(one, one, timesteps), signal + rate, atol=1e-3)
    except (AttributeError, IndexError):
        fits = False
    if not fits:
        raise ValueError(
            f"{type(scheduler).__name__} only samples: train with OffsetCosineScheduler, "
            "DDPMScheduler or DDIMScheduler, and give it to the pipeline afterwards."
        )


def prediction_target(
    scheduler: Any, color: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Return what the network should predict, by the scheduler's `prediction_type`."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return color
    return scheduler.get_velocity(color, noise, timesteps)


def bare_module(model: nn.Module) -> nn.Module:
    """Return the network inside the wrappers of data-parallel training and compilation."""
    while inner := getattr(model, "module", None) or getattr(model, "_orig_mod", None):
        model = inner
    return model


def predict(
    model: nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor
) -> torch.Tensor:
    """Run the network on `noisy` (B * n, C, h, w), given `condition` (B, K, H, W)."""
    return run_network(model, bare_module(model).config, noisy, timesteps, condition)


def squared_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of each sample, (B,), computed in float32."""
    return F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)


def denoising_loss(
    model: nn.Module,
    scheduler: Any,
    batch: dict[str, torch.Tensor],
    guidance_weight: float = 0.0,
) -> torch.Tensor:
    """Return the squared error of the prediction at the batch's noise levels, (B * n,).

    Args:
        model: predicts what the scheduler's `prediction_type` says; the features of a picture are
            computed once and serve all of its noise levels.
        scheduler: any diffusers scheduler with `alphas_cumprod`, `add_noise` and `get_velocity`.
        batch: see the head of this file.
        guidance_weight: w of model guidance (Tang et al. 2025): the target moves on by w times what
            the condition adds to the prediction. A network that also learns without its condition
            then samples, in one pass a step, as with a guidance scale of 1 / (1 - w).
    """
    noise, timesteps = batch["noise"], batch["timesteps"]
    color = batch["color"].repeat_interleave(len(noise) // len(batch["color"]), 0)
    noisy = scheduler.add_noise(color, noise, timesteps)
    prediction = predict(model, noisy, timesteps, batch["condition"])
    target = prediction_target(scheduler, color, noise, timesteps)
    if guidance_weight:
        # After the pass with gradients: autocast keeps the weights that it has rounded.
        with torch.no_grad():
            alone = predict(model, noisy, timesteps, torch.zeros_like(batch["condition"][:1]))
        target = target + guidance_weight * (prediction.detach() - alone)
    return squared_error(prediction, target)


def regression_loss(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the squared error of a network that gives colour in one pass, (B,).

    As in use, it gets a grey sample at the last timestep.
    """
    color = batch["color"]
    last = getattr(bare_module(model).config, "num_train_timesteps", 1000) - 1
    timesteps = torch.full((len(color),), last, device=color.device)
    prediction = predict(model, torch.zeros_like(color), timesteps, batch["condition"])
    return squared_error(prediction, color)
