"""What is minimised in training: (model, scheduler, batch, generator) -> loss per noise level.

A batch is a dict of `condition` (B, K, H, W), luminance and hints as the network takes them, and
`color` (B, C, h, w), the true colour in the network's scale.
"""

import torch


def stratified_timesteps(
    batch: int, levels: int, num_train_timesteps: int, generator: torch.Generator | None
) -> torch.Tensor:
    """Uniform timesteps, one from each of `batch * levels` equal strata, shuffled.

    Each timestep is uniform by itself; together they cover the schedule evenly, which takes out
    much of the variance that comes from the choice of noise level (Kingma et al. 2021).
    Returns (batch * levels,), picture by picture, each picture's levels from different strata.
    """
    count = batch * levels
    offset = torch.rand(1, generator=generator)
    points = (torch.arange(count) + offset) / count
    # (levels, batch): row k lies in the k-th part of the schedule.
    rows = points.view(levels, batch)
    order = torch.stack([torch.randperm(batch, generator=generator) for _ in range(levels)])
    points = rows.gather(1, order).T.reshape(-1)
    return (points * num_train_timesteps).long().clamp(max=num_train_timesteps - 1)


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


def denoising_loss(
    model,
    scheduler,
    batch: dict[str, torch.Tensor],
    generator: torch.Generator | None = None,
    noise_levels: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error of the prediction, at `noise_levels` timesteps a picture.

    The features of a picture are computed once and serve all of its noise levels.

    Returns:
        The losses and their timesteps, both (B * noise_levels,).
    """
    color = batch["color"].repeat_interleave(noise_levels, 0)
    timesteps = stratified_timesteps(
        len(batch["color"]), noise_levels, scheduler.config.num_train_timesteps, generator
    ).to(color.device)
    noise = torch.randn(color.shape, generator=generator).to(color)
    noisy = scheduler.add_noise(color, noise, timesteps)
    prediction = model(noisy, timesteps, batch["condition"]).sample
    target = prediction_target(scheduler, color, noise, timesteps)
    losses = (prediction.float() - target).square().flatten(1).mean(1)
    return losses, timesteps
