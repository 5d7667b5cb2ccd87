"""The offset cosine noise schedule, with its DDIM and ancestral samplers.

The file travels to the Hub with the weights, so it imports only torch, numpy and diffusers.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor


def clean_estimate(
    prediction_type: str,
    prediction: torch.Tensor,
    sample: torch.Tensor,
    signal: torch.Tensor,
    noise: torch.Tensor,
) -> torch.Tensor:
    """Return the clean sample that a prediction stands for (Salimans and Ho 2022, section 4).

    Args:
        prediction_type: "epsilon", "sample" or "v_prediction".
        prediction: (B, ...), what the network gave for `sample`.
        sample: (B, ...), signal * clean + noise * standard normal noise.
        signal: rate of the clean sample, shaped to multiply it.
        noise: rate of the noise, likewise.
    """
    if prediction_type == "epsilon":
        return (sample - noise * prediction) / signal
    if prediction_type == "v_prediction":
        return signal * sample - noise * prediction
    return prediction


@dataclass
class OffsetCosineSchedulerOutput(BaseOutput):
    """What one step returns.

    Args:
        prev_sample (`torch.Tensor`): the sample at the next, less noisy timestep.
        pred_original_sample (`torch.Tensor`): the estimate of the clean sample at this step.
    """

    prev_sample: torch.Tensor
    pred_original_sample: torch.Tensor | None = None


class OffsetCosineScheduler(SchedulerMixin, ConfigMixin):
    r"""Variance-preserving schedule whose angle runs evenly between two signal rates.

        angle(i) = start + i / (T - 1) * (end - start),  i = 0 .. T - 1
        start = acos(max_signal_rate),  end = acos(min_signal_rate)
        signal = cos(angle),  noise = sin(angle),  alphas_cumprod = signal^2

    (Béres 2022, Keras "Denoising Diffusion Implicit Models"; the cosine is Nichol and Dhariwal's,
    2021.) The offsets keep a little noise at the first step and a little signal at the last.

    Its `config` lists the betas that follow from it, so that other diffusers schedulers made by
    `from_config(scheduler.config)` run the same schedule.

    >>> scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    >>> scheduler.set_timesteps(4)
    >>> scheduler.timesteps.tolist()
    [999, 749, 499, 249]
    """

    order = 1
    init_noise_sigma = 1.0
    _compatibles = [
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "UniPCMultistepScheduler",
    ]

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,  # T
        max_signal_rate: float = 0.95,  # signal at the first timestep
        min_signal_rate: float = 0.02,  # signal at the last timestep
        shift: float = 1.0,  # above 1: more timesteps at high noise (Hoogeboom et al. 2023)
        trained_betas: list[float] | None = None,  # follows from the rates; None: computed
        prediction_type: str = "epsilon",  # "epsilon", "sample" or "v_prediction"
        clip_sample: bool = False,  # clip the clean estimate at every step
        clip_sample_range: float = 1.0,  # to plus and minus this
        set_alpha_to_one: bool = True,  # read by other schedulers: the last step ends at no noise
        timestep_spacing: str = "trailing",  # "trailing" or "linspace"
        steps_offset: int = 0,  # read by other schedulers
    ):
        self._check_config()
        start, end = math.acos(max_signal_rate), math.acos(min_signal_rate)
        angle = torch.linspace(start, end, num_train_timesteps, dtype=torch.float64)
        angle = torch.atan(shift * torch.tan(angle))
        alphas_cumprod = torch.cos(angle) ** 2
        # Rates in fp32 come from fp64, so that signal^2 + noise^2 = 1 to float precision.
        self.alphas_cumprod = alphas_cumprod.float()
        self.signal_rates = torch.cos(angle).float()
        self.noise_rates = torch.sin(angle).float()

        previous = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
        self.register_to_config(trained_betas=(1 - alphas_cumprod / previous).tolist())
        # Keys listed here are dropped by any `from_config`. The betas must not be; those that only
        # this class knows may be, where they were left at their defaults.
        if defaults := self.config.get("_use_default_values"):
            own = {"max_signal_rate", "min_signal_rate", "shift"}
            self.register_to_config(_use_default_values=sorted(own.intersection(defaults)))

        self.num_inference_steps: int | None = None
        self.timesteps = torch.arange(num_train_timesteps - 1, -1, -1)

    def _check_config(self) -> None:
        config, betas = self.config, self.config.trained_betas
        if not 0 < config.min_signal_rate < config.max_signal_rate < 1:
            raise ValueError(
                "Signal rates must satisfy 0 < `min_signal_rate` < `max_signal_rate` < 1, "
                f"not {config.min_signal_rate} and {config.max_signal_rate}."
            )
        if not config.shift > 0:
            raise ValueError(f"`shift` must be positive, not {config.shift}.")
        if config.prediction_type not in ("epsilon", "sample", "v_prediction"):
            raise ValueError(
                "`prediction_type` is 'epsilon', 'sample' or 'v_prediction', "
                f"not {config.prediction_type!r}."
            )
        if config.timestep_spacing not in ("trailing", "linspace"):
            raise ValueError(
                f"`timestep_spacing` is 'trailing' or 'linspace', not {config.timestep_spacing!r}."
            )
        if betas is not None and len(betas) != config.num_train_timesteps:
            raise ValueError(
                f"`trained_betas` must have `num_train_timesteps`, {config.num_train_timesteps}, "
                f"values, not {len(betas)}."
            )

    def __len__(self) -> int:
        return self.config.num_train_timesteps

    def scale_model_input(self, sample: torch.Tensor, timestep: int | None = None) -> torch.Tensor:
        """Return `sample` as it is: this schedule preserves variance."""
        return sample

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None):
        """Choose the timesteps of a sampling run, from noisy to clean.

        Args:
            num_inference_steps: 1 to `num_train_timesteps`.
            device: where `timesteps` is put.
        """
        total = self.config.num_train_timesteps
        if not 1 <= num_inference_steps <= total:
            raise ValueError(
                f"`num_inference_steps` must be between 1 and {total}, not {num_inference_steps}."
            )
        if self.config.timestep_spacing == "trailing":
            # Lin et al. 2023, table 2: starts at the noisiest timestep for any number of steps.
            steps = np.round(total - np.arange(num_inference_steps) * total / num_inference_steps)
            steps = steps - 1
        else:
            steps = np.linspace(total - 1, 0, num_inference_steps).round()
        self.num_inference_steps = num_inference_steps
        self.timesteps = torch.from_numpy(steps.astype(np.int64)).to(device)

    def _rates(
        self, timesteps: torch.Tensor, like: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Signal and noise rate at `timesteps` (scalar or (B,)), shaped to multiply `like`."""
        shape = (-1,) + (1,) * (like.ndim - 1)
        timesteps = torch.as_tensor(timesteps).to("cpu", torch.long)
        signal = self.signal_rates[timesteps].to(like.device, like.dtype).view(shape)
        noise = self.noise_rates[timesteps].to(like.device, like.dtype).view(shape)
        return signal, noise

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """signal * original + noise_rate * noise; (B, ...) and timesteps (B,)."""
        signal, rate = self._rates(timesteps, original_samples)
        return signal * original_samples + rate * noise

    def get_velocity(
        self, sample: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """signal * noise - noise_rate * sample (Salimans and Ho 2022, section 4)."""
        signal, rate = self._rates(timesteps, sample)
        return signal * noise - rate * sample

    def _clean_and_noise(
        self, output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the estimates of the clean sample and of the noise that make up `sample`."""
        signal, rate = self._rates(timestep, sample)
        clean = clean_estimate(self.config.prediction_type, output, sample, signal, rate)
        if self.config.clip_sample:
            clean = clean.clamp(-self.config.clip_sample_range, self.config.clip_sample_range)
        return clean, (sample - signal * clean) / rate

    def step(
        self,
        model_output: torch.Tensor,
        timestep: int | torch.Tensor,
        sample: torch.Tensor,
        eta: float = 0.0,
        generator: torch.Generator | list[torch.Generator] | None = None,
        variance_noise: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> OffsetCosineSchedulerOutput | tuple[torch.Tensor, torch.Tensor]:
        """From one timestep to the next (Song et al. 2021, DDIM, eq. 12 and 16).

        Args:
            model_output: (B, ...), what the network predicted.
            timestep: one of `timesteps`.
            sample: (B, ...), the sample at `timestep`.
            eta: 0 for deterministic DDIM to 1 for ancestral DDPM.
            generator: for the fresh noise of `eta` > 0.
            variance_noise: that noise itself, in place of `generator`.
            return_dict: `False` for the tuple (prev_sample, pred_original_sample).
        """
        if self.num_inference_steps is None:
            raise ValueError("Call `set_timesteps` before `step`.")
        timestep = torch.as_tensor(timestep).cpu()
        clean, noise = self._clean_and_noise(model_output, timestep, sample)
        later = self.timesteps.cpu()[self.timesteps.cpu() < timestep]
        if len(later) == 0:  # the last step ends at the clean estimate
            previous = clean
        else:
            previous = self._towards(
                clean, noise, timestep, later[0], eta, generator, variance_noise
            )
        if not return_dict:
            return previous, clean
        return OffsetCosineSchedulerOutput(previous, clean)

    def _towards(self, clean, noise, timestep, target, eta, generator, variance_noise):
        """Return the sample at timestep `target`, given the estimates at `timestep`."""
        _, rate = self._rates(timestep, clean)
        target_signal, target_rate = self._rates(target, clean)
        if eta == 0:
            return target_signal * clean + target_rate * noise
        alpha = self.alphas_cumprod[timestep] / self.alphas_cumprod[target]
        sigma = eta * (target_rate / rate) * (1 - alpha).sqrt().to(clean)  # eq. 16
        if variance_noise is None:
            variance_noise = randn_tensor(clean.shape, generator, clean.device, clean.dtype)
        direction = (target_rate**2 - sigma**2).clamp(min=0).sqrt()
        return target_signal * clean + direction * noise + sigma * variance_noise  # eq. 12
