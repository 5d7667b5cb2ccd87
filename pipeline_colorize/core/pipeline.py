"""The colorization pipeline: a photograph in, the same photograph in colour out.

`save_pretrained` writes this file into the model's folder with its siblings inlined, so that plain
diffusers can load it from there.
"""

import ast
import importlib
import inspect
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch.nn import functional as F

from ..hub import address_card, fetch, full_name, publish
from .agreement import agree, agreement_weights
from .color import core_chroma, rgb_to_lab, undo_coring
from .hints import hint_influence
from .image_processor import (
    ColorizationImageProcessor,
    Hint,
    lift_texture,
    meet_hints,
)
from .sizes import SECOND_LOOK_START, check_sides, look_resolutions, second_look_steps

# Models that ship with the package; a pipeline file loaded from the Hub has none beside it.
_SHIPPED = Path(__file__).parents[1] / "models"
# Networks that are in another file of the package than unet.py; in a release, each is unet/unet.py.
_FILES = {"RegressionUNet": "regression_unet"}
# Whether this file is part of a release, in the hands of plain diffusers.
_RELEASED = "_SOURCE" in globals()
# What goes along with a model that is published again.
_COMPANIONS = ("README.md", "LICENSE", "evaluation.json", "*.jpg", "*.png", "*.webp")
_CARD = """---
library_name: diffusers
pipeline_tag: image-to-image
tags: [colorization]
---

# {repo_id}

Gives black-and-white photographs colours: believable ones, not known ones.

```python
{imports}

pipe = ColorizationPipeline.from_pretrained("{repo_id}")
pipe(image).images[0].save("colorized.png")
```

The terms of its training pictures apply to a model: state them here.
"""


@dataclass
class ColorizationPipelineOutput(BaseOutput):
    """What the pipeline returns.

    Args:
        images: as `output_type` says, flat: picture by picture, sample by sample. A list of PIL
            pictures; an array (N, H, W, 3) or tensor (N, 3, H, W) in [0, 1]; chroma (N, 2, h, w).
            Arrays and tensors of different sizes are a list of N instead.
        uncertainty: one array (H, W) a picture: the standard deviation of the chroma of all that
            was drawn for it, in units of a*b*; `None` unless asked for.
        intermediates: one list of small PIL pictures for each of `images`, a picture a step.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor | list[np.ndarray | torch.Tensor]
    uncertainty: list[np.ndarray] | None = None
    intermediates: list[list[PIL.Image.Image]] | None = None


@dataclass
class _Picture:
    """A picture on its way through the pipeline."""

    luminance: torch.Tensor  # (1, H, W), L* at full size
    resolution: float  # of this look
    working: torch.Tensor  # (1, 1, h, w), L* as the network sees it
    hints: torch.Tensor | None  # (1, 3, h, w)
    generator: torch.Generator | None
    first: "_Picture | None" = None  # where this is a closer look: the one before
    chroma: torch.Tensor | None = None  # (samples, 2, h, w), a*b*
    known: torch.Tensor | None = None  # (h, w), how much of it hints tell
    spread: torch.Tensor | None = None  # (h, w), of all candidates
    steps: list[torch.Tensor] | None = None  # chroma after each step


def native_dtype() -> torch.dtype:
    """bfloat16 where this CPU computes it natively, else float32."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    native = "AMX" in capabilities or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _stack(images: list) -> list | np.ndarray | torch.Tensor:
    """Arrays or tensors of one size as a batch; anything else as the list it is."""
    shapes = {getattr(image, "shape", None) for image in images}
    if shapes == {None} or len(shapes) > 1:
        return images
    return torch.stack(images) if torch.is_tensor(images[0]) else np.stack(images)


# Stands in each code file of a release, behind its first docstring. diffusers gives the code of
# every folder one module name and one file, and runs the next release in the same module, so that
# the functions of the first one would call those of the second from then on.
_OWN_NAME = """
# Added when this file was saved: it takes a module name of its own, since diffusers loads the code
# of every folder under the same one, and keeps its source to be saved again.
import hashlib
import sys
from pathlib import Path

_SOURCE = Path(__file__).read_text("utf-8")
if __name__.startswith("diffusers_modules."):
    # Bytecode is found by size and second, which another version can share.
    Path(__spec__.cached).unlink(missing_ok=True)
    _own_name = f"{__name__}_{hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]}"
    sys.modules[_own_name] = sys.modules.pop(__name__)
    __name__ = _own_name

"""


def _without_local_path(file: Path) -> dict:
    """The configuration in a file, without the path of this machine that diffusers puts there."""
    config = json.loads(file.read_text("utf-8"))
    config.pop("_name_or_path", None)
    return config


def _write_json(file: Path, config: dict) -> None:
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _travelling_source(module) -> str:
    """The source of a module as a release holds it: self-contained, with a name of its own."""
    if hasattr(module, "_SOURCE"):  # it came from a release
        return module._SOURCE
    source = _inlined_source(Path(module.__file__))
    end = ast.parse(source).body[0].end_lineno
    lines = source.splitlines(keepends=True)
    return "".join([*lines[:end], _OWN_NAME, *lines[end:]])


def _inlined_source(file: Path, done: set[str] | None = None) -> str:
    """The source of `file`, with the source of each sibling in place of its first import."""
    done = set() if done is None else done
    source = file.read_text(encoding="utf-8")
    lines, pieces, position = source.splitlines(keepends=True), [], 0
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.module is None or any(alias.asname for alias in node.names):
                raise ValueError(f"{file.name}: only `from .sibling import name` can be inlined.")
            pieces += lines[position : node.lineno - 1]
            position = node.end_lineno
            if node.module not in done:
                done.add(node.module)
                folder = file.parents[node.level - 1]
                pieces.append(_inlined_source(folder / f"{node.module}.py", done))
    return "".join(pieces + lines[position:])


class ColorizationPipeline(DiffusionPipeline):
    r"""Gives black-and-white photographs their colours; their luminance is kept as it is.

    Args:
        unet ([`ColorizationUNet`] or [`~diffusers.UNet2DModel`]):
            Predicts colour from noisy colour and luminance. A stock `UNet2DModel` takes both
            concatenated. Two output channels are chroma a*b*, three are RGB in [-1, 1].
        scheduler ([`OffsetCosineScheduler`] or a compatible diffusers scheduler, *optional*):
            `None` makes it a one-pass model: the network is called once, with a sample of zeros at
            the last timestep, and returns the clean colour.
        default_num_inference_steps: steps when a call does not say.
        default_processing_resolution: short side of the working picture when a call does not say.
        default_refinement: how many times as fine the second look at a picture is when a call does
            not say; 1 for none.
        default_num_candidates: colourings drawn for each result when a call does not say.
        default_eta: share of fresh noise in each step when a call does not say.
        default_temperature: scale of all noise when a call does not say.
        default_saturation: positive factor on chroma that a call's `saturation` multiplies.
        chroma_balance: how far, as a share of it, chroma that three or more candidates are sure of
            is toned down before that, and chroma that they are not sure of made stronger:
            `agreement.balance_factor`; 0 leaves it.
        chroma_texture: by how much fine and faint variation of chroma is then made stronger:
            `image_processor.lift_texture`; 1 leaves it.
        chroma_coring: C* of which half is then taken back, and of what is stronger, less:
            `color.core_chroma`. Hints come out as given in spite of all four.

    Example:

    ```python
    >>> from PIL import Image
    >>> from pipeline_colorize import ColorizationPipeline

    >>> pipe = ColorizationPipeline.from_pretrained("default")
    >>> pipe(Image.open("photograph.jpg")).images[0].save("colorized.png")
    ```
    """

    model_cpu_offload_seq = "unet"
    _optional_components = ["scheduler"]
    _callback_tensor_inputs = ["latents", "pred_original_sample"]

    def __init__(
        self,
        unet,
        scheduler=None,
        default_num_inference_steps: int = 20,
        default_processing_resolution: int = 128,
        default_refinement: float = 1.0,
        default_num_candidates: int = 1,
        default_eta: float = 0.0,
        default_temperature: float = 1.0,
        default_saturation: float = 1.0,
        chroma_coring: float = 0.0,
        chroma_texture: float = 1.0,
        chroma_balance: float = 0.0,
    ):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.register_to_config(
            default_num_inference_steps=default_num_inference_steps,
            default_processing_resolution=default_processing_resolution,
            default_refinement=default_refinement,
            default_num_candidates=default_num_candidates,
            default_eta=default_eta,
            default_temperature=default_temperature,
            default_saturation=default_saturation,
            chroma_coring=chroma_coring,
            chroma_texture=chroma_texture,
            chroma_balance=chroma_balance,
        )
        config = unet.config
        chroma_stride = getattr(config, "chroma_stride", 1)
        levels = len(config.block_out_channels) - 1 if hasattr(config, "block_out_channels") else 0
        stride = getattr(unet, "stride", chroma_stride * 2**levels)
        self.image_processor = ColorizationImageProcessor(chroma_stride, stride)

    # --- the call -------------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        image,
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        num_candidates: int | None = None,
        eta: float | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        processing_resolution: int | None = None,
        refinement: float | None = None,
        match_input_resolution: bool = True,
        hints: list[Hint] | list[list[Hint]] | None = None,
        saturation: float = 1.0,
        temperature: float | None = None,
        batch_size: int | None = None,
        output_type: str = "pil",
        output_uncertainty: bool = False,
        output_intermediates: bool = False,
        callback_on_step_end: Callable | None = None,
        callback_on_step_end_tensor_inputs: list[str] = ["latents"],  # noqa: B006, as in diffusers
        return_dict: bool = True,
    ) -> ColorizationPipelineOutput | tuple:
        r"""Colorize one picture or several.

        Args:
            image: PIL picture, array (H, W[, C]) or tensor ([C, ]H, W), a list of these (their
                sizes may differ), or a batch. Colour input is taken as its luminance.
            num_inference_steps: denoising steps; `None` is the model's default.
            num_samples: colourings of each picture.
            num_candidates: colourings drawn for each of these, which has at each place what most
                of them agree on: it leaves out odd tints, and with many candidates rare colours,
                too. 1 keeps whatever comes, which is how the model's own distribution is sampled;
                `None` is the model's default. Two are as good as one.
            eta: 0 for deterministic DDIM to 1 for ancestral sampling, whose fresh noise lets later
                steps mend what earlier ones got wrong; `None` is the model's default. Schedulers
                without it ignore it.
            generator: one a picture, or one for all. With one a picture, a picture's result does
                not depend on the others in the call.
            processing_resolution: short side at which colours are invented, in luminance pixels;
                `None` is the model's default, 0 the picture's own size. Both sides are rounded to
                what the network can take.
            refinement: a second look at pictures whose short side has so many times the processing
                resolution, at that size: from part of the way back to noise, colours are drawn
                again, with what can be seen there (Meng et al. 2022, SDEdit). It mends tints and
                tells small things from what surrounds them. 1 for one look; `None` is the model's
                default.
            match_input_resolution: `False` returns small pictures, with the short side at the
                resolution of the last look.
            hints: known colours, which the result has at their places: a list of [`Hint`] for one
                picture, else one such list a picture.
            saturation: factor on chroma; 1 is what the model believes in.
            temperature: scale of the starting noise, and of the fresh noise where the scheduler
                takes it from outside: 1 samples, 0 gives the one most expected colouring; `None`
                is the model's default.
            batch_size: pictures through the network at a time; `None`: all of one size.
            output_type: "pil", "np" (H, W, 3), "pt" (3, H, W) or "latent": chroma a*b* (2, h, w).
            output_uncertainty: also return where the colourings disagree; two or more have to be
                drawn for a picture.
            output_intermediates: also return the clean estimate after each step, small.
            callback_on_step_end: called as `callback(pipe, step, timestep, tensors)` after each
                step; may return changed tensors.
            callback_on_step_end_tensor_inputs: names of the tensors it gets: "latents", and
                "pred_original_sample", the clean estimate (the latents, from schedulers that do
                not tell it); both of all candidates.
            return_dict: `False` for the tuple (images, uncertainty, intermediates).

        Returns:
            [`ColorizationPipelineOutput`]
        """
        # 1. Defaults and checks
        images = self.image_processor.as_list(image)
        steps = num_inference_steps or self.config.default_num_inference_steps
        if num_candidates is None:
            num_candidates = self.config.default_num_candidates
        if eta is None:
            eta = self.config.default_eta
        if temperature is None:
            temperature = self.config.default_temperature
        if processing_resolution is None:
            processing_resolution = self.config.default_processing_resolution
        if refinement is None:
            refinement = self.config.default_refinement
        hints = self._hints_by_picture(hints, len(images))
        self._check_inputs(
            num_inference_steps, num_samples, num_candidates, eta, generator,
            processing_resolution, refinement, temperature, saturation, batch_size, output_type,
            output_uncertainty, output_intermediates, callback_on_step_end_tensor_inputs,
            len(images),
        )  # fmt: skip
        steps, num_samples, num_candidates = map(int, (steps, num_samples, num_candidates))
        self._interrupt = False

        # 2. Luminance, resized for the network; of large pictures, for a closer look as well
        generators = generator if isinstance(generator, list) else [generator] * len(images)
        looks = [
            self._prepare(*one, processing_resolution, refinement)
            for one in zip(images, hints, generators, strict=True)
        ]

        # 3. Colour, for pictures of one working size together
        firsts, seconds = (
            self._batches([look[k] for look in looks if k < len(look)], batch_size) for k in (0, 1)
        )
        self._num_timesteps = len(firsts) * (steps if self.scheduler else 1)
        self._num_timesteps += len(seconds) * int(SECOND_LOOK_START * second_look_steps(steps))
        with self.progress_bar(total=self._num_timesteps) as progress:
            for batch in firsts + seconds:
                closer = batch[0].first is not None
                if closer and self._interrupt:
                    break
                self._invent_chroma(
                    batch, second_look_steps(steps) if closer else steps,
                    num_samples * num_candidates, eta, temperature, output_intermediates, progress,
                    callback_on_step_end, callback_on_step_end_tensor_inputs,
                )  # fmt: skip
                for picture in batch:
                    self._agree(picture, num_candidates, saturation)
        pictures = [look[-1] if look[-1].chroma is not None else look[0] for look in looks]

        # 4. Full size, with the luminance of the input
        uncertainty = intermediates = None
        if output_uncertainty:
            uncertainty = [self._spread(picture, match_input_resolution) for picture in pictures]
        if output_intermediates:
            intermediates = [
                self._film(picture, sample) for picture in pictures for sample in range(num_samples)
            ]
        images = [
            self._finish(picture, chroma, match_input_resolution, output_type)
            for picture in pictures
            for chroma in self._saturate(picture.chroma, saturation, picture.known)
        ]
        images = _stack(images)
        self.maybe_free_model_hooks()
        if not return_dict:
            return images, uncertainty, intermediates
        return ColorizationPipelineOutput(images, uncertainty, intermediates)

    @property
    def num_timesteps(self) -> int:
        """Denoising steps of the call in progress, over all of its batches."""
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        """Set `pipe._interrupt = True` in a callback to stop after the step."""
        return self._interrupt

    def _hints_by_picture(self, hints, count: int) -> list[list[Hint]]:
        if hints is None or len(hints) == 0:
            return [[] for _ in range(count)]
        if isinstance(hints[0], Hint):
            hints = [hints]
        if len(hints) != count:
            raise ValueError(f"`hints` needs one list a picture, {count}, but has {len(hints)}.")
        if any(hints) and not getattr(self.unet.config, "hint_channels", 0):
            raise ValueError(
                "This model takes no colour hints: its `hint_channels` is 0. The model 'default' "
                "takes them."
            )
        return [list(one) for one in hints]

    def _check_inputs(
        self, num_inference_steps, num_samples, num_candidates, eta, generator,
        processing_resolution, refinement, temperature, saturation, batch_size, output_type,
        output_uncertainty, output_intermediates, tensor_inputs, count,
    ) -> None:  # fmt: skip
        for name, value, least in (
            ("num_inference_steps", num_inference_steps, 1),
            ("num_samples", num_samples, 1),
            ("num_candidates", num_candidates, 1),
            ("batch_size", batch_size, 1),
            ("processing_resolution", processing_resolution, 0),
        ):
            if value is not None and (not isinstance(value, Integral) or value < least):
                raise ValueError(
                    f"`{name}` must be a whole number of at least {least}, not {value}."
                )
        if not 0 <= eta <= 1:
            raise ValueError(f"`eta` lies between 0 and 1, not {eta}.")
        for name, value in (("temperature", temperature), ("saturation", saturation)):
            if value < 0:
                raise ValueError(f"`{name}` must not be negative, but is {value}.")
        if refinement < 1:
            raise ValueError(f"`refinement` is 1 or more, not {refinement}.")
        if refinement > 1 and (self.scheduler is None or self._colors != 2):
            raise ValueError(
                "Only a model that denoises chroma looks a second time: `refinement` must be 1."
            )
        if output_type not in ("pil", "np", "pt", "latent"):
            raise ValueError(
                f"`output_type` is 'pil', 'np', 'pt' or 'latent', not {output_type!r}."
            )
        if isinstance(generator, list) and len(generator) != count:
            raise ValueError(
                f"`generator` needs one generator a picture, {count}, but has {len(generator)}."
            )
        if output_uncertainty and num_samples * num_candidates < 2:
            raise ValueError(
                "`output_uncertainty` compares colourings: `num_samples` or `num_candidates` must "
                "be over 1."
            )
        if output_intermediates and self.scheduler is None:
            raise ValueError("A one-pass model has no intermediate steps to return.")
        unknown = set(tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            raise ValueError(
                f"`callback_on_step_end_tensor_inputs` may name {self._callback_tensor_inputs}, "
                f"not {sorted(unknown)}."
            )

    # --- the parts of the call --------------------------------------------------------------------

    def _prepare(
        self, image, hints: list[Hint], generator, resolution: int, refinement: float
    ) -> list[_Picture]:
        """One look at a picture, and a closer one where it has so many pixels."""
        luminance = self.image_processor.to_luminance(image)
        check_sides(*luminance.shape[1:])
        looks = []
        for size in look_resolutions(*luminance.shape[1:], resolution, refinement):
            working = self.image_processor.preprocess(luminance, size)
            raster = None
            if getattr(self.unet.config, "hint_channels", 0):
                raster = self.image_processor.rasterize_hints(hints, luminance.shape[1:], size)
            looks.append(_Picture(luminance, size, working, raster, generator, *looks))
        return looks

    @staticmethod
    def _batches(pictures: list[_Picture], batch_size: int | None) -> list[list[_Picture]]:
        by_size: dict[tuple, list[_Picture]] = {}
        for picture in pictures:
            by_size.setdefault(tuple(picture.working.shape), []).append(picture)
        return [
            group[start : start + (batch_size or len(group))]
            for group in by_size.values()
            for start in range(0, len(group), batch_size or len(group))
        ]

    def _known(self, batch: list[_Picture]) -> torch.Tensor | None:
        """The hints (B, 3, h, w) in the network's units; `None` for models without."""
        if batch[0].hints is None:
            return None
        hints = torch.cat([picture.hints for picture in batch])
        # As the network would have to say it so that the result has it.
        known = hints[:, :2] / self.config.default_saturation
        hints[:, :2] = undo_coring(known, self.config.chroma_coring) / self._ab_scale
        return hints

    @staticmethod
    def _condition(batch: list[_Picture], hints: torch.Tensor | None) -> torch.Tensor:
        """(B, K, H, W): luminance L/50 - 1, then the hints where the model has them."""
        luminance = torch.cat([picture.working for picture in batch]) / 50 - 1
        if hints is None:
            return luminance
        return torch.cat([luminance, F.interpolate(hints, luminance.shape[2:])], dim=1)

    @property
    def _colors(self) -> int:
        return getattr(self.unet.config, "sample_channels", None) or self.unet.config.out_channels

    @property
    def _ab_scale(self) -> float:
        return getattr(self.unet.config, "ab_scale", 110.0)

    def _invent_chroma(
        self, batch, steps, num_samples, eta, temperature, keep_steps, progress, callback, inputs
    ) -> None:
        """Run the network for pictures of one working size and set their `chroma`."""
        device, dtype = self._execution_device, self.unet.dtype
        hints = self._known(batch)
        condition = self._condition(batch, hints).to(device, dtype)
        if hasattr(self.unet, "encode"):
            condition = self.unet.encode(condition)  # once a picture, for all steps and samples
        stride = self.image_processor.chroma_stride
        height, width = (side // stride for side in batch[0].working.shape[2:])
        shape = (num_samples, self._colors, height, width)
        films, known, start = [], None, None
        if batch[0].first:
            start = torch.cat([self._finer(picture, (height, width)) for picture in batch])
            start = start.repeat_interleave(num_samples // len(batch[0].first.chroma), 0).to(device)
        if hints is not None and hints[:, 2].any():
            known = hints.repeat_interleave(num_samples, 0).to(device)

        def meet(color: torch.Tensor) -> torch.Tensor:
            return color if known is None else meet_hints(color, known)

        if self.scheduler is None:
            last = getattr(self.unet.config, "num_train_timesteps", 1000) - 1
            zeros = torch.zeros(len(batch), *shape[1:], device=device)
            clean = meet(self._predict(zeros, last, condition).repeat_interleave(num_samples, 0))
            progress.update()
        else:
            generators = None
            if any(picture.generator for picture in batch):
                generators = [p.generator for p in batch for _ in range(num_samples)]

            def make_noise() -> torch.Tensor:
                full = (len(batch) * num_samples, *shape[1:])
                return temperature * randn_tensor(full, generators, device, torch.float32)

            clean = self._denoise(
                start, make_noise, condition, meet, steps, eta, generators,
                films if keep_steps else None, progress, callback, inputs,
            )  # fmt: skip
        chroma = self._to_chroma(clean).split(num_samples)
        films = list(
            zip(*(self._to_chroma(film).split(num_samples) for film in films), strict=True)
        )
        for index, picture in enumerate(batch):
            picture.chroma = chroma[index]
            if films:
                picture.steps = list(films[index])

    def _finer(self, picture: _Picture, grid: tuple[int, int]) -> torch.Tensor:
        """What the first look saw (samples, 2, h, w), in the network's units on a finer grid."""
        chroma = F.interpolate(
            picture.first.chroma, grid, mode="bilinear", antialias=True, align_corners=False
        )
        return chroma / self._ab_scale

    def _denoise(
        self, start, make_noise, condition, meet, steps, eta, generators, films, progress, callback,
        inputs,
    ) -> torch.Tensor:  # fmt: skip
        """From noise (B * samples, C, h, w) to clean colour that meets the hints.

        With `start`, colour of the same shape, from the noise at `SECOND_LOOK_START`.
        """
        scheduler, latents = self.scheduler, make_noise()
        scheduler.set_timesteps(steps, device=latents.device)
        timesteps = scheduler.timesteps
        if start is None:
            latents = latents * scheduler.init_noise_sigma
        else:
            begin = int(
                (timesteps >= SECOND_LOOK_START * scheduler.config.num_train_timesteps).sum()
            )
            begin += begin % scheduler.order
            timesteps = timesteps[begin:]
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(begin)
            latents = scheduler.add_noise(start, latents, timesteps[:1].expand(len(start)))
        accepted = inspect.signature(scheduler.step).parameters
        extra = {"eta": eta, "generator": generators}
        takes_noise = eta > 0 and "variance_noise" in accepted
        if takes_noise:
            extra = {"eta": eta}  # DDIM refuses a generator beside the noise
        extra = {name: value for name, value in extra.items() if name in accepted}
        for index, timestep in enumerate(timesteps):
            if self._interrupt:
                break
            if takes_noise:
                extra["variance_noise"] = make_noise()
            if "order" in accepted:  # LMS counts the steps from the schedule's start, not from ours
                extra["order"] = min(index + 1, 4)
            scaled = scheduler.scale_model_input(latents, timestep)
            output = scheduler.step(
                self._predict(scaled, timestep, condition), timestep, latents, **extra
            )
            latents = output.prev_sample
            clean = getattr(output, "pred_original_sample", None)
            if clean is not None and index == len(timesteps) - 1:
                # DDIM goes down by a fixed stride, which may end at the first timestep's noise.
                latents = clean
            clean = meet(latents if clean is None else clean)
            if films is not None:
                films.append(clean)
            if callback is not None:
                offered = {"latents": latents, "pred_original_sample": clean}
                tensors = {name: offered[name] for name in inputs}
                latents = callback(self, index, timestep, tensors).pop("latents", latents)
            progress.update()
        return meet(latents)

    def _predict(self, latents, timestep, condition) -> torch.Tensor:
        """The network's word, in float32. Ours takes the condition; a stock one, concatenated."""
        sample = latents.to(self.unet.dtype)
        if hasattr(self.unet.config, "sample_channels"):
            return self.unet(sample, timestep, condition, return_dict=False)[0].float()
        repeated = condition.repeat_interleave(len(sample) // len(condition), 0)
        stacked = torch.cat([sample, repeated], dim=1)
        return self.unet(stacked, timestep, return_dict=False)[0].float()

    def _agree(self, picture: _Picture, candidates: int, saturation: float) -> None:
        """Make one colouring of each `candidates`, and note how all differ, as they are shown."""
        if picture.hints is not None:
            picture.known = torch.from_numpy(hint_influence(picture.hints.numpy()))
        closer = picture.first is not None
        weights = self._agreement(picture.chroma, candidates, picture.known, closer)
        if closer:
            picture.spread = picture.first.spread
        elif len(picture.chroma) > 1:
            shown = self._saturate(picture.chroma, saturation, picture.known)
            picture.spread = shown.var(dim=0).sum(0).sqrt()
        picture.chroma = agree(picture.chroma, weights)
        picture.steps = [
            self._saturate(agree(step, weights), saturation, picture.known)
            for step in picture.steps or []
        ]
        if closer:
            picture.steps = picture.first.steps + picture.steps

    def _agreement(
        self,
        chroma: torch.Tensor,
        candidates: int,
        known: torch.Tensor | None = None,
        closer: bool = False,
    ) -> torch.Tensor:
        """As of `agreement_weights`, with the model's balance."""
        known, balance = None if known is None else known.numpy(), self.config.chroma_balance
        return torch.from_numpy(
            agreement_weights(chroma.numpy(), candidates, balance, known, closer)
        )

    def _saturate(
        self, chroma: torch.Tensor, saturation: float, known: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The network's chroma (N, 2, h, w) as it is shown; `known` as of `lift_texture`."""
        chroma = lift_texture(chroma, self.config.chroma_texture, known)
        factor = saturation * self.config.default_saturation
        return core_chroma(chroma, self.config.chroma_coring) * factor

    def _to_chroma(self, color: torch.Tensor) -> torch.Tensor:
        """The network's colour (N, 2 or 3, h, w) to a*b* (N, 2, h, w), on the CPU."""
        color = color.float().cpu()
        if color.shape[1] == 3:
            return rgb_to_lab((color / 2 + 0.5).clamp(0, 1))[:, 1:]
        return color * self._ab_scale

    def _size(self, picture: _Picture, full: bool) -> torch.Tensor:
        """The luminance (1, H, W) that the result gets."""
        if full:
            return picture.luminance
        return self.image_processor.preview(picture.luminance, picture.resolution)

    def _finish(self, picture: _Picture, chroma: torch.Tensor, full: bool, output_type: str):
        if output_type == "latent":
            return chroma
        luminance = self._size(picture, full)
        if output_type == "pil":
            return PIL.Image.fromarray(self.image_processor.colorize(luminance, chroma).numpy())
        rgb = self.image_processor.colorize_float(luminance, chroma)
        return rgb if output_type == "pt" else rgb.movedim(0, -1).numpy()

    def _spread(self, picture: _Picture, full: bool) -> np.ndarray:
        """Standard deviation of the chroma of all that was drawn, (H, W)."""
        size = self._size(picture, full).shape[1:]
        return F.interpolate(picture.spread[None, None], size, mode="bilinear")[0, 0].numpy()

    def _film(self, picture: _Picture, sample: int) -> list[PIL.Image.Image]:
        luminance = self._size(picture, full=False)
        return [
            PIL.Image.fromarray(self.image_processor.colorize(luminance, step[sample]).numpy())
            for step in picture.steps
        ]

    # --- files ------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs):
        """Load a model that ships (`"default"`), a folder, or a repository of the Hub.

        No code of the folder or repository is run, whatever `trust_remote_code` says, and nothing
        is unpickled. As in diffusers, but for two things: without `dtype`, weights are bfloat16
        where the CPU computes that natively and float32 elsewhere; on a CPU, convolutions get
        channels-last weights, which is what is quick there.
        """
        name = str(pretrained_model_name_or_path)
        there = os.path.isfile(os.path.join(name, "model_index.json"))
        if (_SHIPPED / name / "model_index.json").is_file() and not there:
            name = str(_SHIPPED / name)
        if kwargs.get("use_safetensors") is False:
            raise ValueError("`use_safetensors=False` would unpickle files, which can run code.")
        kwargs["use_safetensors"] = True
        if not _RELEASED:
            kwargs.pop("trust_remote_code", None)
        rounded = "torch_dtype" not in kwargs and "dtype" not in kwargs
        if rounded:
            kwargs["dtype"] = native_dtype()
        pipe = super().from_pretrained(name, **kwargs)
        pipe.unet.to(memory_format=torch.channels_last)
        if rounded and "unet" not in kwargs:
            pipe._stored_variant = kwargs.get("variant") or ""
        return pipe

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, **kwargs):
        """As in diffusers, with the network of another pipeline whatever its class.

        It is shared, and keeps its precision unless `dtype` says another.
        """
        parts = ("unet", "scheduler")
        shared = {name: one for name, one in pipeline.components.items() if name in parts}
        if "torch_dtype" not in kwargs:
            kwargs.setdefault("dtype", pipeline.dtype)
        return super().from_pipe(pipeline, **{**shared, **kwargs})

    @classmethod
    def load_config(cls, pretrained_model_name_or_path, **kwargs):
        """As in diffusers, with our classes for the files of the same name in the folder."""
        loaded = super().load_config(pretrained_model_name_or_path, **kwargs)
        config = loaded[0] if isinstance(loaded, tuple) else loaded
        if _RELEASED:  # diffusers itself brings the folder's code together
            return loaded
        package = __name__.rpartition(".")[0]
        for key in ("unet", "scheduler"):
            module, name = config.get(key) or (None, None)
            if module == key:
                module = f"{package}.{_FILES.get(name, key)}"
                importlib.import_module(module)
            if module and module.partition(".")[0] not in (package.partition(".")[0], "diffusers"):
                raise ValueError(
                    f"The {key} is a {name} of {module!r}, which is neither of this package nor of "
                    "diffusers. `DiffusionPipeline` of diffusers can load it, by running code that "
                    "comes with it."
                )
            if module:
                config[key] = [module, name]
        if isinstance(config.get("_class_name"), list):
            config["_class_name"] = config["_class_name"][1]
        return loaded

    @classmethod
    def download(cls, pretrained_model_name, **kwargs) -> str:
        """Fetch a repository's configuration and weights, and nothing that could run.

        Every file is compared with its checksum.
        """
        if _RELEASED:
            return super().download(pretrained_model_name, **kwargs)
        names = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "token")
        options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        variant = f".{kwargs['variant']}" if kwargs.get("variant") else ""
        weights = [f"*_model{variant}.safetensors", f"*_model{variant}-*.safetensors"]
        return fetch(pretrained_model_name, ["*.json", *weights], options)

    def _as_stored(self):
        """The network as its files hold it, where nothing but loading has changed it."""
        unet, variant = self.unet, getattr(self, "_stored_variant", None)
        unet = getattr(unet, "_orig_mod", unet)  # behind torch.compile
        folder = unet.config.get("_name_or_path", "")
        if variant is None or unet.dtype != torch.bfloat16 or not os.path.isdir(folder):
            return unet
        stored = type(unet).from_pretrained(folder, variant=variant or None, use_safetensors=True)
        rounded = stored.state_dict()
        for name, tensor in unet.state_dict().items():
            if not torch.equal(rounded[name].to(tensor), tensor):
                return unet
        return stored

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        **kwargs,
    ):
        """As in diffusers, which can open the folder without this package.

        Weights become safetensors, not pickles, whatever `safe_serialization` says. Those that were
        only rounded by `from_pretrained`, to what the CPU computes quickly, are written as they
        were stored, unless they get a name of their own (`variant`).
        """
        names = ("commit_message", "private", "token", "create_pr")
        options = {name: kwargs.pop(name) for name in names if name in kwargs}
        repo_id = kwargs.pop("repo_id", Path(save_directory).name)
        unet = self.unet
        if variant is None:
            self.unet = self._as_stored()
        try:
            super().save_pretrained(save_directory, variant=variant, **kwargs)
        finally:
            self.unet = unet
        if push_to_hub:
            self.push_to_hub(repo_id, variant=variant, **options)

    def save_config(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs):
        """Write `model_index.json` and the code that plain diffusers needs to load the folder."""
        super().save_config(save_directory, push_to_hub=False, **kwargs)
        folder = Path(save_directory)
        index = _without_local_path(folder / self.config_name)
        index["_class_name"] = ["pipeline", type(self).__name__]
        for name in ("unet", "scheduler"):
            component = getattr(self, name)
            component = getattr(component, "_orig_mod", component)  # behind torch.compile
            module = type(component).__module__
            if component is None or module.startswith("diffusers."):
                continue
            index[name] = [name, type(component).__name__]
            (folder / name).mkdir(parents=True, exist_ok=True)
            source = _travelling_source(sys.modules[module])
            (folder / name / f"{name}.py").write_text(source, "utf-8")
        source = _travelling_source(sys.modules[ColorizationPipeline.__module__])
        (folder / "pipeline.py").write_text(source, "utf-8")
        _write_json(folder / self.config_name, index)
        for file in folder.glob("*/*config.json"):
            _write_json(file, _without_local_path(file))

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        variant: str | None = None,
    ) -> str:
        """Publish the model: all of it in one commit, or nothing.

        The card, its pictures and the licence come from the folder that the model was loaded from.
        Where that has no card, a card in the repository stays; where there is none either, a short
        one is written.

        Args:
            repo_id: "user/name"; the repository is made if there is none.
            commit_message: one line for the history.
            private: whether a repository that is made here is private; `None`: as the account has
                it.
            token: as in diffusers; `None` takes HF_TOKEN or that of `hf auth login`.
            create_pr: propose the change instead of making it.
            variant: add the weights under this name, such as "fp16", beside those that are there.

        Returns:
            "user/name@commit".

        Raises:
            OSError: one line about what went wrong; then nothing has been published.
        """
        repo_id = full_name(repo_id, token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, variant=variant)
            # Not inside the card: diffusers takes a line that starts so for an import of this file.
            imports = "from pipeline_colorize import ColorizationPipeline"
            card = _CARD.format(repo_id=repo_id, imports=imports)
            Path(folder, "README.md").write_text(card, "utf-8")
            companions = self._companions(repo_id, token)
            for file in companions:
                shutil.copyfile(file, Path(folder, file.name))
            address_card(Path(folder, "README.md"), repo_id)
            keep = () if "README.md" in [file.name for file in companions] else ("README.md",)
            # Weights under other names would now be those of another model.
            replace = (f"unet/*.{variant}*",) if variant else ("unet/*", "scheduler/*", "*.onnx")
            return publish(
                folder, repo_id, commit_message or "Upload model", private=private, token=token,
                keep=keep, replace=replace, create_pr=create_pr,
            )[0]  # fmt: skip

    def _companions(self, repo_id: str, token: str | None) -> list[Path]:
        """Card, pictures and licence of the folder or other repository that this came from."""
        source = str(self.config.get("_name_or_path") or "")
        if source and source != repo_id and not os.path.isdir(source):
            weights = Path(self.unet.config.get("_name_or_path") or "")
            ours = f"models--{source.replace('/', '--')}" in weights.parts
            commit = weights.parent.name if ours else None  # the network may be another's
            options = {"revision": commit, "token": token}
            source = fetch(source, list(_COMPANIONS), options)
        if not os.path.isdir(source):
            return []
        return [file for one in _COMPANIONS for file in sorted(Path(source).glob(one))]
