"""Two of the recipes beside the settings that their systems were published with, in one run.

Colours a grey picture of 64x64 pixels, with everything from picture to picture where it is ours.
The published settings are timed by a few steps of networks with their widths and random weights
(systems.py), multiplied by their number of steps. All in the same precision.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.core.saving import native_dtype

from .systems import System, measure
from .systems import systems as others

SIDE = 64
PUBLISHED = {
    "faces-lab": ("Color-diffusion's settings", 350),
    "flowers-ddpm": ("Flowers-Colorization's settings", 1000),
}


class EncodedAtEveryStep(nn.Module):
    """A network that hides its encoder, so that its pipeline cannot run it once beforehand."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet, self.config = unet, unet.config
        self.device, self.dtype = unet.device, unet.dtype

    def forward(self, sample, timestep, condition, return_dict=True):
        """Do as the network does, from the condition and not from its features."""
        return self.unet(sample, timestep, condition, return_dict)


def whole(steps: int) -> Callable[[ColorizationPipeline, int], Callable[[], object]]:
    """Call the pipeline with so many steps."""

    def prepare(pipe: ColorizationPipeline, side: int) -> Callable[[], object]:
        pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
        return lambda: pipe(pixels, num_inference_steps=steps, processing_resolution=side)

    return prepare


def load(model: str, every_step: bool = False) -> ColorizationPipeline:
    """Load a model; with `every_step`, its encoder runs at each step."""
    pipe = ColorizationPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    if every_step:
        pipe.register_modules(unet=EncodedAtEveryStep(pipe.unet).eval())
    return pipe


def systems(models: dict[str, str]) -> dict[str, System]:
    """List what is compared, by name."""
    result = {}
    for name, model in models.items():
        published, most = PUBLISHED[name]
        default = load(model).config.default_num_inference_steps

        def ours(steps: int, every_step: bool = False, model=model) -> System:
            build = lambda: load(model, every_step)  # noqa: E731
            return System("", 1, build, whole(steps), lambda side: side)

        result[f"{name}, {default} steps"] = ours(default)
        if name == "faces-lab":
            result[f"{name}, {default} steps, encoder at each"] = ours(default, True)
        result[f"{name}, {most} steps"] = ours(most)
        if name == "faces-lab":
            result[f"{name}, {most} steps, encoder at each"] = ours(most, True)
        result[f"{published}, {most} steps"] = others(model, 1)[published]
    return result


def to_markdown(results: dict[str, dict]) -> str:
    """Write the table of `compare`."""
    lines = ["| at 64x64 | parameters | seconds a picture |", "|---|---|---|"]
    lines += [
        f"| {name} | {one['parameters'] / 1e6:.1f} M | {one['seconds']:.3f} |"
        for name, one in results.items()
    ]
    return "\n".join(lines)


def compare(models: dict[str, str], least: float) -> dict:
    """Measure the systems, print the table, and return the figures.

    Args:
        models: folders or names of models, by the names of their recipes.
        least: seconds to spend on each.

    Raises:
        ValueError: if there is no recipe of such a name.
    """
    if unknown := set(models) - set(PUBLISHED):
        raise ValueError(f"There are no recipes {sorted(unknown)}; there are {list(PUBLISHED)}.")
    results = {}
    for name, system in systems(models).items():
        print(f"{name} ...", file=sys.stderr)
        figures = measure(system, [SIDE], least)
        results[name] = {"parameters": figures["parameters"], **figures[str(SIDE)]}
    dtype = str(native_dtype()).removeprefix("torch.")
    print(f"{torch.get_num_threads()} threads, {dtype}\n\n{to_markdown(results)}")
    return {"threads": torch.get_num_threads(), "dtype": dtype, "systems": results}
