import itertools
import math

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from pipeline_colorize.core.scheduler import OffsetCosineScheduler

PREDICTIONS = ["epsilon", "sample", "v_prediction"]

# Those that end at a clean sample for every prediction, and those that know only two of them.
COMPATIBLE = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
]
COMPATIBLE_WITHOUT_SAMPLE = [
    "EulerAncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
]
PAIRS = [(name, kind) for name in COMPATIBLE for kind in PREDICTIONS]
PAIRS += [(n, kind) for n in COMPATIBLE_WITHOUT_SAMPLE for kind in ("epsilon", "v_prediction")]


def noise_like(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def prediction(kind, sample, clean, signal, rate):
    """What a network that knows the clean sample would say."""
    noise = (sample - signal * clean) / rate
    return {"epsilon": noise, "sample": clean, "v_prediction": signal * noise - rate * clean}[kind]


def rates_at(scheduler, timestep):
    """Signal and noise rate, at fractions of a timestep too, as some solvers ask for them."""
    alphas = scheduler.alphas_cumprod.double().numpy()
    log_sigma = np.log((1 - alphas) / alphas) / 2
    sigma = math.exp(np.interp(float(timestep), np.arange(len(alphas)), log_sigma))
    return 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)


def run_with_oracle(scheduler, kind, clean, steps):
    scheduler.set_timesteps(steps)
    sample = noise_like(*clean.shape) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(sample, timestep)
        output = prediction(kind, seen, clean, *rates_at(scheduler, timestep))
        sample = scheduler.step(output, timestep, sample).prev_sample
    return sample


# --- the schedule ---


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_signal_and_noise_power_add_up_to_one(shift):
    scheduler = OffsetCosineScheduler(shift=shift)
    power = scheduler.signal_rates**2 + scheduler.noise_rates**2
    assert power.dtype == torch.float32
    assert (power - 1).abs().max() <= 2 * torch.finfo(torch.float32).eps
    alphas = scheduler.alphas_cumprod
    torch.testing.assert_close(scheduler.signal_rates**2, alphas, rtol=1e-5, atol=0)


def test_the_angle_runs_evenly_between_the_two_rates():
    scheduler = OffsetCosineScheduler(
        num_train_timesteps=11, max_signal_rate=0.9, min_signal_rate=0.1
    )
    angle = torch.atan2(scheduler.noise_rates, scheduler.signal_rates)
    expected = torch.linspace(math.acos(0.9), math.acos(0.1), 11)
    torch.testing.assert_close(angle, expected, atol=1e-6, rtol=0)
    assert len(scheduler) == 11
    default = OffsetCosineScheduler().alphas_cumprod
    assert default[0].item() == pytest.approx(0.9025, abs=1e-6)
    assert default[-1].item() == pytest.approx(0.0004, abs=1e-7)


def test_shift_multiplies_the_noise_to_signal_ratio():
    plain, shifted = OffsetCosineScheduler(), OffsetCosineScheduler(shift=3.0)
    ratio = plain.noise_rates / plain.signal_rates
    torch.testing.assert_close(shifted.noise_rates / shifted.signal_rates, 3 * ratio)


@pytest.mark.parametrize("spacing", ["trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 333, 999, 1000])
def test_any_number_of_steps(spacing, steps):
    scheduler = OffsetCosineScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps
    assert len(timesteps) == steps == scheduler.num_inference_steps
    assert timesteps[0] == 999
    assert timesteps[-1] >= 0
    assert (timesteps.diff() < 0).all()
    if spacing == "linspace" and steps > 1:
        assert timesteps[-1] == 0


@pytest.mark.parametrize("steps", [5, 20, 250, 1000])
def test_trailing_timesteps_are_those_of_diffusers(steps):
    scheduler = OffsetCosineScheduler()
    oracle = DDIMScheduler.from_config(scheduler.config)
    scheduler.set_timesteps(steps)
    oracle.set_timesteps(steps)
    assert scheduler.timesteps.tolist() == oracle.timesteps.tolist()


# --- noise and velocity ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_noise_and_velocity_equal_diffusers(dtype):
    scheduler = OffsetCosineScheduler()
    oracle = DDIMScheduler(trained_betas=scheduler.config.trained_betas)
    clean, noise = noise_like(4, 2, 3, 3).to(dtype), noise_like(4, 2, 3, 3, seed=1).to(dtype)
    timesteps = torch.tensor([0, 10, 500, 999])
    tolerance = (
        {"atol": 2e-2, "rtol": 2e-2} if dtype == torch.bfloat16 else {"atol": 1e-5, "rtol": 0}
    )
    for method in ("add_noise", "get_velocity"):
        ours = getattr(scheduler, method)(clean, noise, timesteps)
        assert ours.dtype == dtype
        theirs = getattr(oracle, method)(clean, noise, timesteps)
        torch.testing.assert_close(ours, theirs, **tolerance)


def test_velocity_leads_back_to_clean_and_noise():
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    clean, noise = noise_like(3, 2, 4, 4), noise_like(3, 2, 4, 4, seed=1)
    timesteps = torch.tensor([3, 400, 999])
    noisy = scheduler.add_noise(clean, noise, timesteps)
    velocity = scheduler.get_velocity(clean, noise, timesteps)
    signal, rate = (
        rates[timesteps].view(3, 1, 1, 1)
        for rates in (scheduler.signal_rates, scheduler.noise_rates)
    )
    torch.testing.assert_close(signal * noisy - rate * velocity, clean, atol=1e-5, rtol=0)
    torch.testing.assert_close(rate * noisy + signal * velocity, noise, atol=1e-5, rtol=0)
    scheduler.set_timesteps(1)
    step = scheduler.step(velocity[2:], 999, noisy[2:])
    torch.testing.assert_close(step.pred_original_sample, clean[2:], atol=1e-5, rtol=0)


# --- sampling ---


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_steps_equal_diffusers_ddim(kind, eta, clip):
    scheduler = OffsetCosineScheduler(prediction_type=kind, clip_sample=clip, clip_sample_range=0.8)
    oracle = DDIMScheduler(
        trained_betas=scheduler.config.trained_betas,
        prediction_type=kind,
        timestep_spacing="trailing",
        clip_sample=clip,
        clip_sample_range=0.8,
    )
    scheduler.set_timesteps(20)
    oracle.set_timesteps(20)
    sample = noise_like(2, 2, 4, 4, dtype=torch.float64)
    for index, timestep in enumerate(scheduler.timesteps):
        output = noise_like(2, 2, 4, 4, seed=100 + index, dtype=torch.float64)
        fresh = noise_like(2, 2, 4, 4, seed=200 + index, dtype=torch.float64)
        ours = scheduler.step(output, timestep, sample, eta=eta, variance_noise=fresh)
        theirs = oracle.step(
            output,
            timestep,
            sample,
            eta=eta,
            use_clipped_model_output=clip,
            variance_noise=fresh if eta else None,
        )
        torch.testing.assert_close(
            ours.pred_original_sample, theirs.pred_original_sample, rtol=1e-3, atol=1e-4
        )
        torch.testing.assert_close(ours.prev_sample, theirs.prev_sample, rtol=1e-3, atol=1e-4)
        sample = theirs.prev_sample


def test_fresh_noise_comes_from_the_generator():
    scheduler = OffsetCosineScheduler()
    scheduler.set_timesteps(4)
    sample, output = noise_like(2, 2, 4, 4), noise_like(2, 2, 4, 4, seed=1)

    def step(seeds, **options):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return scheduler.step(output, 749, sample, generator=generators, **options).prev_sample

    assert torch.equal(step([1, 2], eta=1.0), step([1, 2], eta=1.0))
    # One generator a sample: the second keeps its noise whatever the first one draws.
    assert torch.equal(step([1, 2], eta=1.0)[1], step([5, 2], eta=1.0)[1])
    assert not torch.equal(step([1, 2], eta=1.0), step([3, 4], eta=1.0))
    assert torch.equal(step([1, 2]), step([3, 4]))


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_last_step_returns_the_clean_estimate(kind):
    scheduler = OffsetCosineScheduler(prediction_type=kind)
    scheduler.set_timesteps(10)
    sample, output = noise_like(1, 2, 4, 4), noise_like(1, 2, 4, 4, seed=1)
    last = scheduler.step(output, scheduler.timesteps[-1], sample, eta=1.0)
    assert torch.equal(last.prev_sample, last.pred_original_sample)
    first = scheduler.step(output, scheduler.timesteps[0], sample)
    assert not torch.equal(first.prev_sample, first.pred_original_sample)
    as_tuple = scheduler.step(output, scheduler.timesteps[0], sample, return_dict=False)
    assert torch.equal(as_tuple[0], first.prev_sample)
    assert torch.equal(as_tuple[1], first.pred_original_sample)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("steps", [1, 2, 3, 13])
def test_an_exact_oracle_is_recovered_in_few_steps(kind, eta, steps):
    scheduler = OffsetCosineScheduler(prediction_type=kind)
    scheduler.set_timesteps(steps)
    clean = noise_like(2, 2, 4, 4, seed=9)
    sample = noise_like(2, 2, 4, 4)
    generator = torch.Generator().manual_seed(0)
    for timestep in scheduler.timesteps:
        output = prediction(kind, sample, clean, *rates_at(scheduler, timestep))
        sample = scheduler.step(output, timestep, sample, eta, generator).prev_sample
    torch.testing.assert_close(sample, clean, atol=2e-4, rtol=0)


class GaussianDenoiser:
    """The ideal denoiser of data N(mean, deviation^2), where everything is known.

    x_t = signal x_0 + rate n has variance signal^2 deviation^2 + rate^2, and the posterior mean of
    the noise is rate (x_t - signal mean) / variance.
    """

    def __init__(self, scheduler, mean, deviation):
        self.rates = [r.double() for r in (scheduler.signal_rates, scheduler.noise_rates)]
        self.mean, self.deviation = mean, deviation

    def at(self, timestep):
        signal, rate = (rates[timestep].item() for rates in self.rates)
        return signal, rate, (signal * self.deviation) ** 2 + rate**2

    def noise(self, sample, timestep):
        signal, rate, variance = self.at(timestep)
        return rate * (sample - signal * self.mean) / variance

    def expected_moments(self, timesteps, eta):
        """Factor on the starting deviation from the mean, and variance added by fresh noise."""
        factor, added = 1.0, 0.0
        for here, there in itertools.pairwise(timesteps):
            signal, rate, variance = self.at(here)
            next_signal, next_rate, _ = self.at(there)
            alpha = (signal / next_signal) ** 2
            sigma = eta * next_rate / rate * math.sqrt(1 - alpha)
            towards = math.sqrt(next_rate**2 - sigma**2)
            gain = (next_signal * signal * self.deviation**2 + towards * rate) / variance
            factor, added = factor * gain, added * gain**2 + sigma**2
        signal, _, variance = self.at(timesteps[-1])
        gain = signal * self.deviation**2 / variance
        return factor * gain, added * gain**2

    def sample(self, scheduler, start, eta=0.0):
        generator = torch.Generator().manual_seed(1)
        for timestep in scheduler.timesteps:
            output = self.noise(start, timestep)
            start = scheduler.step(output, timestep, start, eta, generator).prev_sample
        return start


@pytest.mark.parametrize("steps", [1, 2, 10, 100, 1000])
@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.0])
def test_ddim_on_gaussian_data_is_the_closed_form(steps, deviation):
    scheduler = OffsetCosineScheduler()
    scheduler.set_timesteps(steps)
    ideal = GaussianDenoiser(scheduler, 0.7, deviation)
    start = torch.linspace(-3, 3, 7, dtype=torch.float64)
    result = ideal.sample(scheduler, start)
    factor, _ = ideal.expected_moments(scheduler.timesteps.tolist(), 0.0)
    signal, _, _ = ideal.at(999)
    expected = 0.7 + factor * (start - signal * 0.7)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=1e-4)


def test_ddim_follows_the_probability_flow_as_steps_grow():
    # The flow keeps (x - signal mean) / sqrt(variance); the last step jumps from the timestep 0 to
    # the clean estimate.
    scheduler = OffsetCosineScheduler(timestep_spacing="linspace")
    ideal = GaussianDenoiser(scheduler, 0.7, 0.3)
    start = torch.tensor([1.5], dtype=torch.float64)
    _, _, first = ideal.at(999)
    signal, _, last = ideal.at(0)
    kept = (start - 0.02 * 0.7) / math.sqrt(first)
    flow_end = 0.7 + signal * 0.3**2 / last * kept * math.sqrt(last)
    errors = []
    for steps in (50, 1000):
        scheduler.set_timesteps(steps)
        errors.append((ideal.sample(scheduler, start) - flow_end).abs().item())
    assert errors[1] < 2e-3
    assert errors[1] < errors[0] / 5


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ancestral_sampling_of_gaussian_data_has_the_closed_form_s_moments(eta):
    scheduler = OffsetCosineScheduler()
    scheduler.set_timesteps(25)
    ideal = GaussianDenoiser(scheduler, -0.4, 0.5)
    signal, _, variance = ideal.at(999)
    start = noise_like(200_000, dtype=torch.float64) * math.sqrt(variance) - signal * 0.4
    result = ideal.sample(scheduler, start, eta)
    factor, added = ideal.expected_moments(scheduler.timesteps.tolist(), eta)
    expected = math.sqrt(factor**2 * variance + added)
    assert result.mean().item() == pytest.approx(-0.4, abs=5e-3)
    assert result.std().item() == pytest.approx(expected, rel=1e-2)
    # Normal: skewness 0, kurtosis 3.
    unit = (result - result.mean()) / result.std()
    assert abs((unit**3).mean().item()) < 0.03
    assert (unit**4).mean().item() == pytest.approx(3, abs=0.1)


# --- other schedulers ---


@pytest.fixture(params=["memory", "config", "saved", "direct"])
def as_other(request, tmp_path):
    """The ways from our scheduler to a scheduler of diffusers."""

    def convert(scheduler, name):
        other = getattr(diffusers, name)
        if request.param == "memory":
            return other.from_config(scheduler.config)
        if request.param == "config":
            return other.from_config(dict(scheduler.config))
        scheduler.save_pretrained(tmp_path)
        if request.param == "direct":
            return other.from_pretrained(tmp_path)
        return other.from_config(OffsetCosineScheduler.from_pretrained(tmp_path).config)

    return convert


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, of NumPy
@pytest.mark.parametrize("name, kind", PAIRS)
def test_compatible_schedulers_run_the_same_schedule(name, kind, as_other):
    ours = OffsetCosineScheduler(prediction_type=kind)
    other = as_other(ours, name)
    assert other.config.prediction_type == kind
    torch.testing.assert_close(other.alphas_cumprod, ours.alphas_cumprod, atol=1e-5, rtol=0)
    clean = noise_like(2, 2, 4, 4, seed=5).clamp(-1, 1)
    result = run_with_oracle(other, kind, clean, 20)
    torch.testing.assert_close(result, clean, atol=2e-3, rtol=0)


def test_compatibles_are_those_tested():
    names = {name for name, _ in PAIRS}
    assert set(OffsetCosineScheduler._compatibles) == names
    assert {cls.__name__ for cls in OffsetCosineScheduler().compatibles} == names


@pytest.mark.parametrize("name", ["DDIMScheduler", "UniPCMultistepScheduler"])
def test_other_rates_and_shift_arrive_too(name, as_other):
    ours = OffsetCosineScheduler(
        num_train_timesteps=400, max_signal_rate=0.99, min_signal_rate=0.01, shift=2.0
    )
    other = as_other(ours, name)
    torch.testing.assert_close(other.alphas_cumprod, ours.alphas_cumprod, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift", [1.0, 2.0])
def test_saving_and_loading_keeps_the_schedule(tmp_path, shift):
    scheduler = OffsetCosineScheduler(shift=shift, prediction_type="v_prediction")
    scheduler.save_pretrained(tmp_path)
    loaded = OffsetCosineScheduler.from_pretrained(tmp_path)
    assert torch.equal(loaded.alphas_cumprod, scheduler.alphas_cumprod)
    assert loaded.config.shift == shift
    assert loaded.config.prediction_type == "v_prediction"
    again = OffsetCosineScheduler.from_config(scheduler.config)
    assert torch.equal(again.alphas_cumprod, scheduler.alphas_cumprod)


def test_there_and_back_again():
    ours = OffsetCosineScheduler(shift=2.0, prediction_type="sample")
    there = DDIMScheduler.from_config(ours.config)
    back = OffsetCosineScheduler.from_config(there.config)
    assert torch.equal(back.alphas_cumprod, ours.alphas_cumprod)
    assert back.config.prediction_type == "sample"


# --- errors ---


@pytest.mark.parametrize(
    "config, message",
    [
        ({"max_signal_rate": 1.0}, "1.0"),
        ({"min_signal_rate": 0.0}, "0.0"),
        ({"min_signal_rate": 0.96}, "0.96"),
        ({"prediction_type": "flow"}, "'flow'"),
        ({"timestep_spacing": "leading"}, "'leading'"),
        ({"trained_betas": [0.1] * 3}, "not 3"),
        ({"shift": 0.0}, "0.0"),
    ],
)
def test_schedules_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        OffsetCosineScheduler(**config)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_numbers_of_steps_that_cannot_be_are_refused(steps):
    with pytest.raises(ValueError, match=f"between 1 and 1000, not {steps}"):
        OffsetCosineScheduler().set_timesteps(steps)


def test_a_step_needs_timesteps():
    with pytest.raises(ValueError, match="set_timesteps"):
        OffsetCosineScheduler().step(torch.zeros(1), 0, torch.zeros(1))
