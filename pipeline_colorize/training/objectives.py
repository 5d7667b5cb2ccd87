"""What is minimised in training: (model, scheduler, batch) -> one loss a noisy sample.

A batch is a dict of tensors:

- `condition` (B, K, H, W): luminance L/50 - 1 and, where the model has them, hints;
- `color` (B, C, h, w): the true colour in the network's scale, or the true luminance for a grey
  autoencoder, whose objective is one-pass regression on it;
- `noise` (B * n, C, h, w) and `timesteps` (B * n,): n noise levels a picture, those of one picture
  side by side. One-pass regression needs neither.

Nothing here draws random numbers: the noise comes with the batch, so that a loss depends on the
weights and the batch alone.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline_colorize.core.scheduler import clean_estimate


def stratified_timesteps(
    batch: int, levels: int, num_train_timesteps: int, generator: np.random.Generator
) -> torch.Tensor:
    """Uniform timesteps, one from each of `batch * levels` equal strata, shuffled.

    Each timestep is uniform by itself; together they cover the schedule evenly, which takes out
    much of the variance that the choice of noise level brings (Kingma et al. 2021, section 4.2).
    Returns (batch, levels); the levels of a picture come from different parts of the schedule.
    """
    points = (np.arange(batch * levels) + generator.random()) / (batch * levels)
    # Row k, before it is shuffled, lies in the k-th part of the schedule.
    rows = generator.permuted(points.reshape(levels, batch), axis=1)
    timesteps = torch.from_numpy(rows.T * num_train_timesteps).long()
    return timesteps.clamp(max=num_train_timesteps - 1)


def signal_and_noise_rates(
    scheduler, timesteps: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of colour and noise at `timesteps` (B,), shaped to multiply `like` (B, ...)."""
    alphas_cumprod = scheduler.alphas_cumprod.to(like.device)[timesteps]
    alphas_cumprod = alphas_cumprod.to(like.dtype).view(-1, *[1] * (like.ndim - 1))
    return alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()


def check_noise(scheduler) -> None:
    """Refuse a scheduler that does not add noise as the objective takes it to.

    Raises:
        ValueError: for those that keep the signal at 1, or count timesteps in another way.
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
            f"{type(scheduler).__name__} is one to sample with: train with OffsetCosineScheduler, "
            "DDPMScheduler or DDIMScheduler, and give it to the pipeline afterwards."
        )


def prediction_target(
    scheduler, color: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the network should predict, by the scheduler's `prediction_type`."""
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return noise
    if kind == "sample":
        return color
    return scheduler.get_velocity(color, noise, timesteps)


def elementwise_loss(prediction: torch.Tensor, target: torch.Tensor, kind: str) -> torch.Tensor:
    """Squared error ("mse"), absolute error ("l1") or "huber" (quadratic below 1), unreduced."""
    losses = {"mse": F.mse_loss, "l1": F.l1_loss, "huber": F.huber_loss}
    if kind not in losses:
        raise ValueError(f"`loss` is one of {sorted(losses)}, not {kind!r}.")
    return losses[kind](prediction.float(), target.float(), reduction="none")


def min_snr_weights(scheduler, timesteps: torch.Tensor, gamma: float) -> torch.Tensor:
    """Loss weights (B,) that cap the signal-to-noise ratio at `gamma` (Hang et al. 2023, eq. 5).

    The cap is defined for the error of the clean colour, min(SNR, gamma); noise and velocity
    errors are that error times SNR and SNR + 1.
    """
    alphas_cumprod = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alphas_cumprod / (1 - alphas_cumprod)
    scale = {"sample": 1.0, "epsilon": snr, "v_prediction": snr + 1}
    return snr.clamp(max=gamma) / scale[scheduler.config.prediction_type]


def gradient_loss(estimate: torch.Tensor, color: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of the colour gradients, (B, C, h, w) twice to (B,).

    It sees colour that bleeds over an edge, which a mean error over the picture hardly does.
    """
    difference = estimate.float() - color.float()
    horizontal = difference.diff(dim=-1).abs().flatten(1).mean(1)
    vertical = difference.diff(dim=-2).abs().flatten(1).mean(1)
    return horizontal + vertical


def bare_module(model: nn.Module) -> nn.Module:
    """The network inside the wrappers of data-parallel training and compilation."""
    while hasattr(model, "module") or hasattr(model, "_orig_mod"):
        model = model.module if hasattr(model, "module") else model._orig_mod
    return model


def predict(
    model: nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, condition: torch.Tensor
) -> torch.Tensor:
    """The network's prediction for `noisy` (B * n, C, h, w) given `condition` (B, K, H, W).

    A network that knows no condition, such as diffusers' `UNet2DModel`, gets it as further channels
    behind the noisy colour.
    """
    if hasattr(bare_module(model).config, "sample_channels"):
        return model(noisy, timesteps, condition).sample
    condition = condition.repeat_interleave(len(noisy) // len(condition), 0)
    return model(torch.cat([noisy, condition], dim=1), timesteps).sample


def denoising_loss(
    model: nn.Module,
    scheduler,
    batch: dict[str, torch.Tensor],
    loss: str = "mse",
    snr_gamma: float | None = None,
    gradient_weight: float = 0.0,
    guidance_weight: float = 0.0,
) -> torch.Tensor:
    """Error of the prediction at the batch's noise levels, (B * n,).

    Args:
        model: predicts what the scheduler's `prediction_type` says; the features of a picture are
            computed once and serve all of its noise levels.
        scheduler: any diffusers scheduler with `alphas_cumprod`, `add_noise` and `get_velocity`.
        batch: see the head of this file.
        loss: "mse", "l1" or "huber".
        snr_gamma: weight by `min_snr_weights`, 5 in the paper; `None`: weights of 1.
        gradient_weight: factor of `gradient_loss`, which is also weighted by the signal's share of
            the variance: where there is hardly any signal, edges cannot be known.
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
    losses = elementwise_loss(prediction, target, loss).flatten(1).mean(1)
    if snr_gamma is not None:
        losses = losses * min_snr_weights(scheduler, timesteps, snr_gamma)
    if gradient_weight:
        rates = signal_and_noise_rates(scheduler, timesteps, noisy)
        estimate = clean_estimate(scheduler.config.prediction_type, prediction, noisy, *rates)
        share = scheduler.alphas_cumprod.to(timesteps.device)[timesteps]
        losses = losses + gradient_weight * share * gradient_loss(estimate, color)
    return losses


def regression_loss(
    model: nn.Module,
    batch: dict[str, torch.Tensor],
    loss: str = "mse",
    gradient_weight: float = 0.0,
) -> torch.Tensor:
    """Error of a network that maps the condition to colour in one pass, (B,).

    As in use, it is given a grey sample at the last timestep.
    """
    color = batch["color"]
    last = getattr(bare_module(model).config, "num_train_timesteps", 1000) - 1
    timesteps = torch.full((len(color),), last, device=color.device)
    prediction = predict(model, torch.zeros_like(color), timesteps, batch["condition"])
    losses = elementwise_loss(prediction, color, loss).flatten(1).mean(1)
    if gradient_weight:
        losses = losses + gradient_weight * gradient_loss(prediction, color)
    return losses
