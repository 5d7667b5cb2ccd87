"""From noise to the colours that a picture gets: the network's part of the pipeline."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch.nn import functional as F

from .agreement import agree, agreement_weights, warmth_order
from .color import core_chroma, rgb_to_lab, undo_coring
from .image_processor import lift_texture, meet_hints
from .looks import Look
from .options import ColorizationOptions
from .sizes import look_schedule


@dataclass(frozen=True)
class ChromaDials:
    """How the network's chroma becomes the chroma that is shown.

    Args:
        balance: see `agreement_weights`.
        texture: see `lift_texture`.
        coring: see `core_chroma`.
        saturation: factor on chroma.
    """

    balance: float = 0.0
    texture: float = 1.0
    coring: float = 0.0
    saturation: float = 1.0

    def show(self, chroma: torch.Tensor, influence: np.ndarray | None = None) -> torch.Tensor:
        """Bring chroma (N, 2, h, w) to what is shown, with hints as they were given."""
        near_hints = None if influence is None else torch.from_numpy(influence)
        chroma = lift_texture(chroma, self.texture, near_hints)
        return core_chroma(chroma, self.coring) * self.saturation

    def undo(self, chroma: torch.Tensor, saturation: float) -> torch.Tensor:
        """Return the chroma that `show` turns into `chroma` at a saturation, apart from texture."""
        return undo_coring(chroma / saturation, self.coring)


def shown_chroma(look: Look, chroma: torch.Tensor, dials: ChromaDials) -> torch.Tensor:
    """Bring chroma (N, 2, h, w) to what is shown, with the colours that are kept as they were."""
    shown = dials.show(chroma, look.influence)
    if look.mend is None or look.free is None:
        return shown
    given = look.mend.chroma_on(chroma.shape[2:], look.frame)
    return torch.where(look.free > 0, shown, torch.from_numpy(given))


@dataclass
class SamplingStep:
    """The state of a batch after one step of the network."""

    batch: list[Look]
    timestep: torch.Tensor | int
    latents: torch.Tensor  # (B * drawn, C, h, w), in the network's units
    clean: torch.Tensor  # the estimate of the clean colour, with the hints met


class ColorSampler:
    """Draws the colours of pictures of one working size.

    Args:
        unet: the network; see `ColorizationPipeline`.
        scheduler: `None` for a network that gives clean colour in one pass.
        options: of the call.
        dials: how chroma is shown, with the saturation that the call asks for.
        model_saturation: the model's own part of that saturation, which hints are met in spite of.
        device: where the network computes.
        on_step: called after each step; returns the latents to go on with.
        interrupted: whether to stop before the next step.
    """

    def __init__(
        self,
        unet,
        scheduler,
        options: ColorizationOptions,
        dials: ChromaDials,
        model_saturation: float,
        device: torch.device,
        on_step: Callable[[SamplingStep], torch.Tensor],
        interrupted: Callable[[], bool],
    ):
        self.unet, self.scheduler, self.device = unet, scheduler, device
        self.options, self.dials, self.model_saturation = options, dials, model_saturation
        self.on_step, self.interrupted = on_step, interrupted

    # --- a batch ----------------------------------------------------------------------------------

    def color(self, batch: list[Look], grid: tuple[int, int]) -> None:
        """Set the colours of each look in a batch.

        Args:
            batch: looks with one size of `working`.
            grid: rows and columns of the chroma grid.
        """
        hints = self._scaled_hints(batch)
        condition = self._condition(batch, hints).to(self.device, self.unet.dtype)
        if hasattr(self.unet, "encode"):
            condition = self.unet.encode(condition)  # once a picture, for all steps and samples
        drawn = self._drawn(batch)
        if hints is not None:
            hints = hints.repeat_interleave(drawn, 0).to(self.device) if hints[:, 2].any() else None
        estimates: list[torch.Tensor] = []
        if self.scheduler is None:
            clean = self._predict_once(batch, grid, condition, hints)
        else:
            clean, estimates = self._denoise(batch, grid, condition, hints)
        split = [self.to_chroma(one).split(drawn) for one in (clean, *estimates)]
        for index, look in enumerate(batch):
            self._finish(look, *(chroma[index] for chroma in split))

    def count_steps(self, second_look: bool) -> int:
        """Return how many steps a batch takes in one of the looks."""
        return 1 if self.scheduler is None else len(self._timesteps(second_look))

    def shown(self, step: SamplingStep) -> torch.Tensor:
        """Return the colours of each result after a step as they are shown, (B * samples, 2, h, w).

        They cover the whole picture, with zeros in its margins.
        """
        results = []
        chromas = self.to_chroma(step.clean).split(self._drawn(step.batch))
        for look, chroma in zip(step.batch, chromas, strict=True):
            order, weights = self._agreement(look, chroma)
            shown = shown_chroma(look, agree(chroma[order], weights), self.dials)
            results.append(torch.from_numpy(look.frame.place(shown.numpy())))
        return torch.cat(results)

    def to_chroma(self, color: torch.Tensor) -> torch.Tensor:
        """Return the network's colour (N, 2 or 3, h, w) as a*b* (N, 2, h, w), on the CPU."""
        color = color.float().cpu()
        if color.shape[1] == 3:
            return rgb_to_lab((color / 2 + 0.5).clamp(0, 1))[:, 1:]
        return color * chroma_scale(self.unet)

    def _finish(self, look: Look, chroma: torch.Tensor, *estimates: torch.Tensor) -> None:
        """Let the candidates of each result agree, and note how far all of them differ."""
        influence = look.influence
        order, weights = self._agreement(look, chroma)
        if look.previous is not None:
            look.spread = look.previous.spread
        elif len(chroma) > 1:
            look.spread = self.dials.show(chroma, influence).var(dim=0).sum(0).sqrt()
        look.chroma = agree(chroma[order], weights)
        look.estimates = [
            self.dials.show(agree(one[order], weights), influence) for one in estimates
        ]
        if look.previous is not None:
            look.estimates = look.previous.estimates + look.estimates

    def _drawn(self, batch: list[Look]) -> int:
        """Return the number of colourings that are drawn for each picture of a batch."""
        return self.options.drawn(second_look=batch[0].previous is not None)

    def _agreement(self, look: Look, chroma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the order of the candidates, result by result, and their weights in that order."""
        second = look.previous is not None
        candidates, drawn = self.options.candidates_each(second), chroma.numpy()
        order = np.arange(len(drawn)) if second else warmth_order(drawn, candidates)
        toning = self.options.toning(self.dials.balance, second)
        weights = agreement_weights(
            drawn[order], candidates, toning[0], look.certain, toning[1], look.kept
        )
        return torch.from_numpy(order), torch.from_numpy(weights)

    # --- what the network gets --------------------------------------------------------------------

    def _scaled_hints(self, batch: list[Look]) -> torch.Tensor | None:
        """Return the hints (B, 3, h, w) in the network's units; `None` for models without."""
        if batch[0].hints is None:
            return None
        hints = torch.cat([look.hints for look in batch if look.hints is not None])
        # The network has to give the colour that the dials turn into the one of the hint.
        hints[:, :2] = self.dials.undo(hints[:, :2], self.model_saturation)
        hints[:, :2] /= chroma_scale(self.unet)
        return hints

    @staticmethod
    def _condition(batch: list[Look], hints: torch.Tensor | None) -> torch.Tensor:
        """Join luminance as L/50 - 1 and, where the model has them, hints: (B, K, H, W)."""
        luminance = torch.cat([look.working for look in batch]) / 50 - 1
        if hints is None:
            return luminance
        return torch.cat([luminance, F.interpolate(hints, luminance.shape[2:])], dim=1)

    def predict(self, latents: torch.Tensor, timestep, condition) -> torch.Tensor:
        """Call the network; returns its output in float32."""
        sample = latents.to(self.unet.dtype)
        return run_network(self.unet, self.unet.config, sample, timestep, condition).float()

    # --- from noise to colour ---------------------------------------------------------------------

    def _predict_once(self, batch, grid, condition, hints) -> torch.Tensor:
        last = getattr(self.unet.config, "num_train_timesteps", 1000) - 1
        zeros = torch.zeros(len(batch), color_channels(self.unet), *grid, device=self.device)
        clean = self.predict(zeros, last, condition).repeat_interleave(self._drawn(batch), 0)
        step = SamplingStep(batch, last, clean, _meet(clean, hints))
        return _meet(self.on_step(step), hints)

    def _denoise(self, batch, grid, condition, hints) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Draw the clean colour (B * drawn, C, h, w), with estimates of it if they are wanted."""
        generators = self._generators(batch)
        estimates: list[torch.Tensor] = []
        shape = (len(batch) * self._drawn(batch), color_channels(self.unet), *grid)

        def make_noise() -> torch.Tensor:
            noise = randn_tensor(shape, generators, self.device, torch.float32)
            return self.options.temperature * noise

        noise = make_noise()
        latents, timesteps = self._start(batch, grid, noise)
        keep = self._keeper(batch, noise)
        clean = latents = keep(latents, timesteps[:1])
        for index, timestep in enumerate(timesteps):
            if index > 0 and self.interrupted():
                latents = clean  # what is there is colours with noise
                break
            scaled = self.scheduler.scale_model_input(latents, timestep)
            output = self.predict(scaled, timestep, condition)
            extra = self._step_arguments(index, generators, make_noise)
            output = self.scheduler.step(output, timestep, latents, **extra)
            latents, estimate = output.prev_sample, getattr(output, "pred_original_sample", None)
            if estimate is not None and index == len(timesteps) - 1:
                # DDIM goes down by a fixed stride, which may end at the first timestep's noise.
                latents = estimate
            clean = keep(_meet(latents if estimate is None else estimate, hints))
            latents = keep(latents, timesteps[index + 1 : index + 2])
            if self.options.output_intermediates:
                estimates.append(clean)
            latents = self.on_step(SamplingStep(batch, timestep, latents, clean))
        return keep(_meet(latents, hints)), estimates

    def _generators(self, batch: list[Look]) -> list[torch.Generator | None] | None:
        if not any(look.generator for look in batch):
            return None
        return [look.generator for look in batch for _ in range(self._drawn(batch))]

    def _start(self, batch, grid, noise) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents to begin with, and the timesteps from there on.

        A second look begins with the colours of the first, brought to its finer grid and to the
        noise at `SECOND_LOOK_START` (Meng et al. 2022, SDEdit).
        """
        second = batch[0].previous is not None
        timesteps = self._timesteps(second)
        if not second and self.options.strength == 1:
            return noise * self.scheduler.init_noise_sigma, timesteps
        start = torch.cat([_colors_before(look, grid) for look in batch])
        start = (start / chroma_scale(self.unet)).to(self.device)
        start = start.repeat_interleave(len(noise) // len(start), 0)
        return self._with_noise(start, noise, timesteps[:1]), timesteps

    def _with_noise(self, clean, noise, timestep: torch.Tensor) -> torch.Tensor:
        """Return colours at the noise of a timestep (1,), or as they are if there is none (0,)."""
        if len(timestep) == 0:
            return clean
        return self.scheduler.add_noise(clean, noise, timestep.expand(len(clean)))

    def _keeper(self, batch: list[Look], noise) -> Callable[..., torch.Tensor]:
        """Return what puts given colours back outside the mask, at the noise of a timestep.

        So the network sees them at each step, and what it invents agrees with them (Lugmayr et al.
        2022, RePaint, eq. 8).
        """
        pairs = [(one.given, one.free) for one in batch if one.given is not None]
        if not pairs:
            return lambda color, timestep=(): color
        drawn = self._drawn(batch)
        given, free = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        given = given / chroma_scale(self.unet)
        given, free = (x.to(self.device).repeat_interleave(drawn, 0) for x in (given, free))

        def keep(color: torch.Tensor, timestep=()) -> torch.Tensor:
            return torch.where(free > 0, color, self._with_noise(given, noise, timestep))

        return keep

    def _timesteps(self, second_look: bool) -> torch.Tensor:
        """Set the scheduler up for a look; returns the timesteps that it runs through."""
        scheduler, options = self.scheduler, self.options
        steps, share = look_schedule(options.num_inference_steps, second_look, options.strength)
        scheduler.set_timesteps(steps, device=self.device)
        if share == math.inf:
            return scheduler.timesteps
        begin = int((scheduler.timesteps >= share * scheduler.config.num_train_timesteps).sum())
        begin += begin % scheduler.order
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(begin)
        return scheduler.timesteps[begin:]

    def _step_arguments(self, index: int, generators, make_noise) -> dict:
        """Return the arguments that this scheduler's `step` takes beside the usual three."""
        accepted, eta = inspect.signature(self.scheduler.step).parameters, self.options.eta
        extra = {"eta": eta, "generator": generators}
        if eta > 0 and "variance_noise" in accepted:  # DDIM refuses a generator beside the noise
            extra = {"eta": eta, "variance_noise": make_noise()}
        # LMS counts the steps from the start of the schedule, not from ours.
        extra["order"] = min(index + 1, 4)
        return {name: value for name, value in extra.items() if name in accepted}


class StepReport:
    """Tells the progress bar and the caller's callback of each step of the network."""

    def __init__(self, pipe, callback: Callable | None, tensor_inputs: list[str]):
        self.pipe = pipe
        self.progress: Any = None  # while the network works, a bar of tqdm
        self.callback, self.tensor_inputs = callback, tensor_inputs
        self.count = 0

    def __call__(self, step: SamplingStep, sampler: ColorSampler) -> torch.Tensor:
        """Returns the latents to go on with, which the callback may have changed."""
        latents = step.latents
        if self.callback is not None:
            offered = {
                "latents": lambda: step.latents,
                "pred_original_sample": lambda: step.clean,
                "chroma": lambda: sampler.shown(step),
            }
            tensors = {name: offered[name]() for name in self.tensor_inputs}
            changed = self.callback(self.pipe, self.count, step.timestep, tensors) or {}
            latents = changed.pop("latents", latents)
        self.count += 1
        self.progress.update()
        return latents


def run_network(
    network, config, sample: torch.Tensor, timestep, condition: torch.Tensor
) -> torch.Tensor:
    """Return the network's prediction; training and sampling call it in this one way.

    Args:
        network: takes the condition beside the sample, or, if it is a stock one of diffusers, as
            further channels behind it.
        config: of the network, which may be wrapped.
        sample: (B * n, C, h, w), noisy colour; the n samples of a picture lie side by side.
        timestep: a number, or (B * n,).
        condition: (B, K, H, W).

    Returns:
        (B * n, C, h, w).
    """
    if hasattr(config, "sample_channels"):
        return network(sample, timestep, condition).sample
    condition = condition.repeat_interleave(len(sample) // len(condition), 0)
    return network(torch.cat([sample, condition], dim=1), timestep).sample


def color_channels(unet) -> int:
    """Return the channels of the colour that a network gives: 2 for chroma a*b*, 3 for RGB."""
    return getattr(unet.config, "sample_channels", None) or unet.config.out_channels


def chroma_scale(unet) -> float:
    """Return what a network's chroma is multiplied by to be a*b*."""
    return getattr(unet.config, "ab_scale", 110.0)


def _meet(color: torch.Tensor, hints: torch.Tensor | None) -> torch.Tensor:
    return color if hints is None else meet_hints(color, hints)


def _colors_before(look: Look, grid: tuple[int, int]) -> torch.Tensor:
    """Find the colours (N, 2, h, w) that a look begins with: the first look's, or given ones.

    Where there are both, what the first look has changed is added to the given colours, which so
    keep what its coarse grid does not hold.
    """
    first = look.previous
    if first is None:
        assert look.given is not None  # there is no strength without colours
        return look.given
    if look.given is None or first.given is None:
        return _on_grid(first.chroma, grid)
    return look.given + _on_grid(first.chroma - first.given, grid)


def _on_grid(chroma: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Bring chroma (N, 2, h, w) to a grid of another size."""
    return F.interpolate(chroma, grid, mode="bilinear", antialias=True, align_corners=False)
