"""The objectives against diffusers, closed forms and invariants."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import nn

from pipeline_colorize.core.scheduler import OffsetCosineScheduler, clean_estimate
from pipeline_colorize.training import objectives

KINDS = ["epsilon", "sample", "v_prediction"]


class Oracle(nn.Module):
    """Knows the clean colour and predicts what the scheduler asks for, plus a constant error."""

    def __init__(self, scheduler, color, error=0.0):
        super().__init__()
        self.scheduler, self.color, self.error = scheduler, color, error
        self.config = SimpleNamespace(sample_channels=2, num_train_timesteps=1000)

    def forward(self, noisy, timesteps, condition):
        color = self.color.repeat_interleave(len(noisy) // len(self.color), 0)
        signal, rate = objectives.signal_and_noise_rates(self.scheduler, timesteps, noisy)
        noise = (noisy - signal * color) / rate
        kind = self.scheduler.config.prediction_type
        target = {"epsilon": noise, "sample": color, "v_prediction": signal * noise - rate * color}
        return SimpleNamespace(sample=target[kind] + self.error)


def make_batch(pictures=3, levels=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "condition": torch.rand(pictures, 1, 8, 8, generator=generator),
        "color": torch.randn(pictures, 2, 8, 8, generator=generator),
        "noise": torch.randn(pictures * levels, 2, 8, 8, generator=generator),
        "timesteps": torch.randint(0, 1000, (pictures * levels,), generator=generator),
    }


def schedulers(kind):
    return [OffsetCosineScheduler(prediction_type=kind), DDPMScheduler(prediction_type=kind)]


class Aware(Oracle):
    """An oracle whose word is `error` off, but for a condition of zeros."""

    def forward(self, noisy, timesteps, condition):
        sample = super().forward(noisy, timesteps, condition).sample
        return SimpleNamespace(sample=sample if condition.any() else sample - self.error)


@pytest.mark.parametrize("kind", KINDS)
def test_an_oracle_has_no_loss_and_a_constant_error_its_square(kind):
    batch = make_batch()
    for scheduler in schedulers(kind):
        perfect = objectives.denoising_loss(Oracle(scheduler, batch["color"]), scheduler, batch)
        assert perfect.shape == (6,) and perfect.max() < 1e-4
        off = Oracle(scheduler, batch["color"], error=0.5)
        assert objectives.denoising_loss(off, scheduler, batch) == pytest.approx(0.25, abs=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_guidance_moves_the_target_by_what_the_condition_adds(kind):
    batch = make_batch()
    for scheduler in schedulers(kind):
        model = Aware(scheduler, batch["color"], error=0.5)
        loss = objectives.denoising_loss(model, scheduler, batch, guidance_weight=0.4)
        assert loss == pytest.approx((0.5 - 0.4 * 0.5) ** 2, abs=1e-2)
        unknown = batch | {"condition": torch.zeros_like(batch["condition"])}
        loss = objectives.denoising_loss(model, scheduler, unknown, guidance_weight=0.4)
        assert loss.max() < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_clean_estimate_inverts_the_target(kind):
    batch = make_batch(levels=1)
    for scheduler in schedulers(kind):
        noisy = scheduler.add_noise(batch["color"], batch["noise"], batch["timesteps"])
        target = objectives.prediction_target(
            scheduler, batch["color"], batch["noise"], batch["timesteps"]
        )
        rates = objectives.signal_and_noise_rates(scheduler, batch["timesteps"], noisy)
        clean = clean_estimate(kind, target, noisy, *rates)
        assert torch.allclose(clean, batch["color"], atol=2e-4)


def test_stratified_timesteps_cover_the_schedule_evenly():
    timesteps = objectives.stratified_timesteps(50, 2, 1000, np.random.default_rng(0))
    assert timesteps.shape == (50, 2)
    assert (timesteps.flatten().sort().values // 10).tolist() == list(range(100))
    assert (timesteps[:, 0] < 500).all() and (timesteps[:, 1] >= 500).all()
    assert timesteps[:, 0].tolist() != sorted(timesteps[:, 0].tolist())


def test_a_stock_network_gets_the_condition_as_channels():
    torch.manual_seed(0)
    model = UNet2DModel(
        in_channels=3,
        out_channels=2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    batch = make_batch()
    scheduler = DDPMScheduler()
    losses = objectives.denoising_loss(model, scheduler, batch)
    noisy = scheduler.add_noise(
        batch["color"].repeat_interleave(2, 0), batch["noise"], batch["timesteps"]
    )
    stacked = torch.cat([noisy, batch["condition"].repeat_interleave(2, 0)], 1)
    expected = (model(stacked, batch["timesteps"]).sample - batch["noise"]).square()
    assert torch.allclose(losses, expected.flatten(1).mean(1))


def test_regression_is_one_pass_from_grey():
    batch = make_batch()
    seen = {}

    class Spy(nn.Module):
        config = SimpleNamespace(sample_channels=2, num_train_timesteps=500)

        def forward(self, sample, timestep, condition):
            seen.update(sample=sample, timestep=timestep, condition=condition)
            return SimpleNamespace(sample=batch["color"] + 2)

    assert objectives.regression_loss(Spy(), batch) == pytest.approx(4.0)
    assert not seen["sample"].any() and seen["timestep"].tolist() == [499] * 3
    assert seen["condition"] is batch["condition"]


def test_no_objective_draws_random_numbers():
    scheduler = OffsetCosineScheduler()
    batch = make_batch()
    model = Oracle(scheduler, batch["color"], 0.1)
    state = torch.get_rng_state()
    first = objectives.denoising_loss(model, scheduler, batch)
    assert torch.equal(first, objectives.denoising_loss(model, scheduler, batch))
    assert torch.equal(state, torch.get_rng_state())
