"""Losses that a model has to beat on its objective: those of guesses that see no picture.

A denoiser that knows only the mean and the variance of the training colours, the same in every
pixel, makes the best of a noisy sample by Wiener's filter: that is what leaving a picture grey, or
giving it the mean colour, comes to at every noise level. A one-pass model is held against grey and
the mean colour themselves.
"""

import itertools
from types import SimpleNamespace

import torch
from torch import nn

from ..core.color import lab_to_rgb
from .augmentation import cut_square
from .batches import BatchFormat, make_batch, validation_batches
from .config import DataConfig
from .objectives import (
    denoising_loss,
    prediction_target,
    regression_loss,
    signal_and_noise_rates,
)

PICTURES = 2000  # of a training set, for its mean and variance
BATCH = 50


def grey_color(condition: torch.Tensor, channels: int) -> torch.Tensor:
    """Make the colour of the picture left grey, (B, channels, H, W), in the network's scale.

    Args:
        condition: (B, K, H, W), luminance L/50 - 1 first.
        channels: 2 for a*, b*, 3 for RGB in [-1, 1].
    """
    luminance = 50 * (condition[:, :1].float() + 1)
    chroma = torch.zeros_like(luminance).expand(-1, 2, -1, -1)
    if channels == 2:
        return chroma
    return lab_to_rgb(torch.cat([luminance, chroma], 1)).clamp(0, 1) * 2 - 1


def color_moments(
    pictures: list, layout: BatchFormat, config: DataConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute mean and mean square, (C,), of what colour adds to grey, over all pixels.

    Args:
        pictures: 8-bit (3, H, W) each.
        layout: what the network takes.
        config: for the resolution.
    """
    mean = square = torch.zeros(())
    for first in range(0, len(pictures), BATCH):
        squares = [cut_square(one, config.resolution) for one in pictures[first:][:BATCH]]
        batch = make_batch(torch.stack(squares), layout, config)
        height, width = batch["color"].shape[2:]
        condition = nn.functional.adaptive_avg_pool2d(batch["condition"], (height, width))
        added = batch["color"] - grey_color(condition, layout.color_channels)
        mean = mean + added.double().mean((2, 3)).sum(0) / len(pictures)
        square = square + added.double().square().mean((2, 3)).sum(0) / len(pictures)
    return mean, square


class Guess(nn.Module):
    """Stands in for a network, but sees only the mean and the variance of the colours.

    Args:
        scheduler: of the model it is held against; `None` for a one-pass model.
        mean: (C,), what colour adds to grey on average.
        variance: (C,), of what it adds.
    """

    def __init__(self, scheduler, mean: torch.Tensor, variance: torch.Tensor):
        super().__init__()
        self.config = SimpleNamespace(sample_channels=len(mean))
        self.scheduler = scheduler
        self.mean, self.variance = (x.float()[:, None, None] for x in (mean, variance))

    def forward(self, sample, timesteps, condition):
        """Predict from noisy colour (B * n, C, h, w) what the scheduler wants, as networks do."""
        condition = nn.functional.adaptive_avg_pool2d(condition[:, :1], sample.shape[2:])
        condition = condition.repeat_interleave(len(sample) // len(condition), 0)
        prior = grey_color(condition, sample.shape[1]) + self.mean
        if self.scheduler is None:
            return SimpleNamespace(sample=prior)
        signal, rate = signal_and_noise_rates(self.scheduler, timesteps, sample)
        share = signal * self.variance / (signal**2 * self.variance + rate**2)
        clean = prior + share * (sample - signal * prior)
        noise = (sample - signal * clean) / rate
        target = prediction_target(self.scheduler, clean, noise, timesteps)
        return SimpleNamespace(sample=target)


@torch.no_grad()
def validation_losses(run) -> dict[str, float]:
    """Compute the validation loss of grey and of the mean colour, as train_colorize.py counts it.

    Args:
        run: a `train_colorize.Run`.
    """
    sets = run.pictures.sets
    pictures = [
        pictures[index] for pictures in sets for index in range(min(len(pictures), PICTURES))
    ]
    mean, square = color_moments(pictures, run.layout, run.data)
    guesses = {
        "grey": Guess(run.scheduler, torch.zeros_like(mean), square),
        "mean colour": Guess(run.scheduler, mean, square - mean**2),
    }
    batches = list(
        itertools.chain.from_iterable(
            validation_batches(pictures, run.layout, run.data, BATCH, run.timesteps)
            for pictures in run.validation.values()
        )
    )
    result = {}
    for name, guess in guesses.items():
        losses = [
            denoising_loss(guess, run.scheduler, batch)
            if run.scheduler
            else regression_loss(guess, batch)
            for batch in batches
        ]
        result[name] = torch.cat(losses).mean().item()
    return result
