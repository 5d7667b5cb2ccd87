"""diffusers' own tests of schedulers, run on the offset cosine schedule."""

import tempfile

import pytest
import torch
from upstream import load

from pipeline_colorize.core.scheduler import OffsetCosineScheduler

SchedulerCommonTest = load("schedulers.test_schedulers").SchedulerCommonTest
pytestmark = pytest.mark.filterwarnings("ignore")


class OffsetCosineSchedulerTest(SchedulerCommonTest):
    scheduler_classes = (OffsetCosineScheduler,)
    forward_default_kwargs = (("eta", 0.0), ("num_inference_steps", 50))

    def get_scheduler_config(self, **kwargs):
        return {"num_train_timesteps": 1000, "clip_sample": True, **kwargs}

    def test_trained_betas(self):
        # Upstream hands over two betas for a thousand timesteps. Ours follow from the rates, and a
        # wrong number of them is refused.
        scheduler = OffsetCosineScheduler(**self.get_scheduler_config())
        with tempfile.TemporaryDirectory() as folder:
            scheduler.save_pretrained(folder)
            loaded = OffsetCosineScheduler.from_pretrained(folder)
        assert scheduler.config.trained_betas == loaded.config.trained_betas

    def full_loop(self, eta=0.0, **config):
        scheduler = OffsetCosineScheduler(**self.get_scheduler_config(**config))
        model, sample = self.dummy_model(), self.dummy_sample_deter
        scheduler.set_timesteps(10)
        generator = torch.Generator().manual_seed(0)
        for timestep in scheduler.timesteps:
            residual = model(sample, timestep)
            sample = scheduler.step(residual, timestep, sample, eta, generator).prev_sample
        return sample

    def test_timesteps(self):
        for timesteps in (100, 500, 1000):
            self.check_over_configs(num_train_timesteps=timesteps)

    def test_rates(self):
        for least, most in ((0.001, 0.9), (0.02, 0.95), (0.1, 0.999)):
            self.check_over_configs(min_signal_rate=least, max_signal_rate=most)

    def test_shift(self):
        for shift in (0.5, 1.0, 3.0):
            self.check_over_configs(shift=shift)

    def test_prediction_type(self):
        for prediction_type in ("epsilon", "sample", "v_prediction"):
            self.check_over_configs(prediction_type=prediction_type)

    def test_clip_sample(self):
        for clip_sample in (True, False):
            self.check_over_configs(clip_sample=clip_sample)
        for clip_sample_range in (1, 5, 10):
            self.check_over_configs(clip_sample_range=clip_sample_range)

    def test_timestep_spacing(self):
        for timestep_spacing in ("trailing", "linspace"):
            self.check_over_configs(timestep_spacing=timestep_spacing)

    def test_time_indices(self):
        for timestep in (1, 10, 49):
            self.check_over_forward(time_step=timestep)

    def test_inference_steps(self):
        for timestep, steps in zip((1, 10, 50), (10, 50, 500), strict=True):
            self.check_over_forward(time_step=timestep, num_inference_steps=steps)

    def test_eta(self):
        for timestep, eta in zip((1, 10, 49), (0.0, 0.5, 1.0), strict=True):
            self.check_over_forward(time_step=timestep, eta=eta)

    def test_full_loops_stay_finite(self):
        for eta in (0.0, 1.0):
            for prediction_type in ("epsilon", "sample", "v_prediction"):
                sample = self.full_loop(eta, prediction_type=prediction_type)
                assert sample.isfinite().all() and sample.abs().max() <= 1


del SchedulerCommonTest  # else it would be collected, without a scheduler
