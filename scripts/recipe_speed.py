"""Two of the recipes beside the settings that their systems were published with, in one run.

    python scripts/recipe_speed.py [--model NAME=FOLDER ...] [--output FILE]

Colours a grey picture of 64x64 pixels, with everything from picture to picture where it is ours.
The published settings are timed by a few steps of networks with their widths and random weights
(scripts/benchmark.py), multiplied by their number of steps. All in the same precision.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import benchmark
import click
import numpy as np
import torch
from torch import nn

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.core.saving import native_dtype

SIDE = 64
PUBLISHED = {
    "faces-lab": ("Color-diffusion's settings", 350),
    "flowers-ddpm": ("Flowers-Colorization's settings", 1000),
}


class EncodedAtEveryStep(nn.Module):
    """A network whose pipeline cannot have the condition encoded beforehand."""

    def __init__(self, unet: nn.Module):
        super().__init__()
        self.unet, self.config = unet, unet.config
        self.device, self.dtype = unet.device, unet.dtype

    def forward(self, sample, timestep, condition, return_dict=True):
        """As the network itself, from the condition and not from its features."""
        return self.unet(sample, timestep, condition, return_dict)


def whole(steps: int) -> Callable[[ColorizationPipeline, int], Callable[[], None]]:
    """A call of the pipeline with so many steps."""

    def prepare(pipe: ColorizationPipeline, side: int) -> Callable[[], None]:
        pixels = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
        return lambda: pipe(pixels, num_inference_steps=steps, processing_resolution=side)

    return prepare


def load(model: str, every_step: bool = False) -> ColorizationPipeline:
    pipe = ColorizationPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    if every_step:
        pipe.register_modules(unet=EncodedAtEveryStep(pipe.unet).eval())
    return pipe


def systems(models: dict[str, str]) -> dict[str, benchmark.System]:
    """What is compared, by name."""
    result = {}
    for name, model in models.items():
        published, most = PUBLISHED[name]
        default = load(model).config.default_num_inference_steps

        def ours(steps: int, every_step: bool = False, model=model) -> benchmark.System:
            build = lambda: load(model, every_step)  # noqa: E731
            return benchmark.System("", 1, build, whole(steps), lambda side: side)

        result[f"{name}, {default} steps"] = ours(default)
        if name == "faces-lab":
            result[f"{name}, {default} steps, encoder at each"] = ours(default, True)
        result[f"{name}, {most} steps"] = ours(most)
        if name == "faces-lab":
            result[f"{name}, {most} steps, encoder at each"] = ours(most, True)
        result[f"{published}, {most} steps"] = replace(benchmark.systems(model, 1)[published])
    return result


def to_markdown(results: dict[str, dict]) -> str:
    lines = ["| at 64x64 | parameters | seconds a picture |", "|---|---|---|"]
    lines += [
        f"| {name} | {one['parameters'] / 1e6:.1f} M | {one['seconds']:.3f} |"
        for name, one in results.items()
    ]
    return "\n".join(lines)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--model", "models", multiple=True, metavar="NAME=FOLDER", help="Of a recipe.")
@click.option("--seconds", "least", default=1.0, show_default=True, help="Time for each.")
@click.option("--output", type=click.Path(path_type=Path), help="JSON file for the figures.")
def main(models, least, output):
    chosen = dict(one.split("=", 1) for one in models) or {name: name for name in PUBLISHED}
    if unknown := set(chosen) - set(PUBLISHED):
        raise click.BadParameter(f"{sorted(unknown)}; there are {list(PUBLISHED)}.")
    results = {}
    for name, system in systems(chosen).items():
        click.echo(f"{name} ...", err=True)
        figures = benchmark.measure(system, [SIDE], least)
        results[name] = {"parameters": figures["parameters"], **figures[str(SIDE)]}
    dtype = str(native_dtype()).removeprefix("torch.")
    click.echo(f"{torch.get_num_threads()} threads, {dtype}\n\n{to_markdown(results)}")
    if output is not None:
        report = {"threads": torch.get_num_threads(), "dtype": dtype, "systems": results}
        output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
