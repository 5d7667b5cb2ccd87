"""Speed and memory beside what one could use instead, all in one run.

Each system colours grey pictures of 128, 512 and 1024 pixels a side, in a process of its own, with
random weights unless it is this project's: speed does not depend on them. Of a sampler with many
steps a few are timed and multiplied. All run in bfloat16 where the CPU computes it natively, else
in float32, with channels-last weights.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from pipeline_colorize import ColorizationPipeline, ColorizationUNet
from pipeline_colorize.core.saving import native_dtype

OURS = "this project"


@dataclass
class System:
    """A colorizer to be timed.

    Args:
        note: what it is, and what stands in for what.
        steps: network calls a picture that `prepare` multiplies; 1 where its function does all.
        build: () -> network, or pipeline.
        prepare: (network, picture side) -> function that makes one step.
        side: picture side -> side at which the network works.
    """

    note: str
    steps: int
    build: Callable[[], Any]
    prepare: Callable[[Any, int], Callable[[], object]]
    side: Callable[[int], int]


# --- the networks -------------------------------------------------------------------------------


def stock_unet() -> UNet2DModel:
    """Make diffusers' stock network about as large as the default model, from L*a*b* to a*b*."""
    return UNet2DModel(
        in_channels=3,
        out_channels=2,
        block_out_channels=(32, 64, 128, 160),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
    )


def wide_unet_with_encoder() -> ColorizationUNet:
    """Make widths 128 to 384 and a grey encoder as wide, with attention at the coarsest level."""
    widths = (128, 256, 384, 384)
    return ColorizationUNet(
        sample_channels=2,
        block="scale_shift",
        time_embedding="timestep",
        time_embedding_dim=256,
        attention=True,
        block_out_channels=widths,
        layers_per_block=2,
        encoder_block_out_channels=widths,
    )


def unet_with_attention_everywhere() -> UNet2DModel:
    """Make widths 64 to 256 with attention at all levels."""
    return UNet2DModel(
        in_channels=3,
        out_channels=2,
        block_out_channels=(64, 128, 256),
        layers_per_block=2,
        down_block_types=("AttnDownBlock2D",) * 3,
        up_block_types=("AttnUpBlock2D",) * 3,
        attention_head_dim=32,
    )


class OnePassNetwork(nn.Module):
    """ConvNeXt-T and a pixel-shuffle decoder, of the published size of DDColor-tiny: 55 million."""

    def __init__(self):
        super().__init__()
        from transformers import ConvNextBackbone, ConvNextConfig

        stages = ["stage1", "stage2", "stage3", "stage4"]
        self.encoder = ConvNextBackbone(
            ConvNextConfig(hidden_sizes=[96, 192, 384, 768], out_features=stages)
        )
        widths, skips = (768, 512, 256, 256), (384, 192, 96)
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        for before, after, skip in zip(widths[:-1], widths[1:], skips, strict=True):
            self.up.append(nn.Conv2d(before, 4 * after, 3, padding=1))
            self.merge.append(nn.Conv2d(after + skip, after, 3, padding=1))
        self.head = nn.Conv2d(widths[-1], 2 * 16, 1)

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        """Predict (B, 2, H, W) from (B, 3, H, W)."""
        *skips, h = self.encoder(picture).feature_maps
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            h = F.pixel_shuffle(F.relu(up(h)), 2)
            h = F.relu(merge(torch.cat([h, skip], dim=1)))
        return F.pixel_shuffle(self.head(h), 4)


# --- one step of each ---------------------------------------------------------------------------


def whole_pipeline(pipe: ColorizationPipeline, side: int) -> Callable[[], object]:
    """Do everything from the grey picture to the picture in colour."""
    picture = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    return lambda: pipe(picture)


def denoising_step(scheduler, steps: int):
    """Call a network once and take one step of its sampler, on a picture of `side`."""

    def prepare(network: Any, side: int) -> Callable[[], object]:
        scheduler.set_timesteps(steps)
        timestep, dtype = scheduler.timesteps[steps // 2], next(network.parameters()).dtype
        stock = isinstance(network, UNet2DModel)
        channels = network.config.out_channels if stock else network.config.sample_channels
        sample = torch.randn(1, channels, side, side)
        grey = torch.rand(1, 1, side, side).to(dtype)

        def step():
            noisy = sample.to(dtype)
            given = (torch.cat([noisy, grey], 1), timestep) if stock else (noisy, timestep, grey)
            predicted = network(*given, return_dict=False)[0].float()
            scheduler.step(predicted, timestep, sample)

        return step

    return prepare


def one_pass(network: nn.Module, side: int) -> Callable[[], None]:
    """Call a network once on a colour picture of `side`."""
    picture = torch.rand(1, 3, side, side).to(next(network.parameters()).dtype)
    return lambda: network(picture)


def systems(model: str, steps: int) -> dict[str, System]:
    """List what is compared; `steps` is the number that this project's model takes by default."""
    linear = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    short = DDPMScheduler(num_train_timesteps=350, **linear)

    def same(side: int) -> int:
        return side

    return {
        OURS: System(
            "the whole pipeline at its defaults, reading and writing of files left out",
            1,
            lambda: ColorizationPipeline.from_pretrained(model),
            whole_pipeline,
            same,
        ),
        "UNet2DModel + DDPM": System(
            "diffusers' stock classes at full size, with as many steps as this project's default",
            steps,
            stock_unet,
            denoising_step(DDPMScheduler(**linear), steps),
            same,
        ),
        "seed U-Net, 100 steps": System(
            "1,955,331 parameters, DDIM; made for 128 pixels, here at full size",
            100,
            ColorizationUNet,
            denoising_step(DDIMScheduler(**linear), 100),
            same,
        ),
        "Color-diffusion's settings": System(
            "64 pixels out whatever comes in, 350 steps, grey encoder run again at each; stands in "
            "with its widths, but 47 of its 61 million parameters and attention at one level only",
            350,
            wide_unet_with_encoder,
            denoising_step(short, 350),
            lambda side: 64,
        ),
        "Flowers-Colorization's settings": System(
            "64 pixels out whatever comes in, 1000 ancestral steps, attention at all levels; here "
            "with 16 of its 19 million parameters",
            1000,
            unet_with_attention_everywhere,
            denoising_step(DDPMScheduler(**linear), 1000),
            lambda side: 64,
        ),
        "one pass, DDColor-tiny's size": System(
            "ConvNeXt-T and a convolutional decoder, 55 million parameters, at its 512 pixels",
            1,
            OnePassNetwork,
            one_pass,
            lambda side: 512,
        ),
    }


# --- measuring ----------------------------------------------------------------------------------


def seconds_of(step: Callable[[], object], least: float) -> float:
    """Take the median seconds of at least three runs and `least` seconds, after a warm-up."""
    step()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return median(times)


@torch.inference_mode()
def measure(system: System, sides: list[int], least: float) -> dict:
    """Measure one system, in a process that has run nothing else."""
    torch.manual_seed(0)
    network: Any = system.build()
    module: Any
    if isinstance(network, nn.Module):
        module = network.eval().to(native_dtype())
        module = module.to(memory_format=torch.channels_last)
    else:
        network.set_progress_bar_config(disable=True)
        module = network.unet
    result: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in module.parameters())
    }
    for side in sorted(sides):  # ascending, as the peak never falls
        step = system.prepare(network, system.side(side))
        seconds = system.steps * seconds_of(step, least)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        with FlopCounterMode(display=False) as counter:
            step()
        work = system.steps * counter.get_total_flops() / 2
        result[str(side)] = {"seconds": seconds, "peak_mib": peak, "multiply_adds": work}
    return result


def measure_apart(name: str, model: str, sides: list[int], least: float) -> dict:
    """Run `measure` in a new process, so that the peak of memory is that of the system alone."""
    request = json.dumps({"name": name, "model": model, "sides": sides, "least": least})
    command = [sys.executable, __file__, request]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed, see above.")
    return json.loads(done.stdout.splitlines()[-1])


def default_steps(model: str) -> int:
    """Read how many steps a model takes by default."""
    return ColorizationPipeline.from_pretrained(model).config.default_num_inference_steps


# --- report -------------------------------------------------------------------------------------


def to_markdown(results: dict, sides: list[int], notes: dict[str, str]) -> str:
    """Write the table of all systems, with ratios to this project, and the notes."""
    heads = ["", "parameters", *[f"{side} px: s" for side in sides]]
    heads += [f"{side} px: ratio" for side in sides]
    heads += [f"{side} px: 10^9 multiply-adds" for side in sides] + ["peak memory"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, result in results.items():
        at = [result[str(side)] for side in sides]
        ratios = [
            one["seconds"] / results[OURS][str(side)]["seconds"]
            for one, side in zip(at, sides, strict=True)
        ]
        cells = [name, f"{result['parameters'] / 1e6:.1f} M"]
        cells += [f"{one['seconds']:.2f}" for one in at] + [f"{ratio:.1f}" for ratio in ratios]
        cells += [f"{one['multiply_adds'] / 1e9:.0f}" for one in at]
        lines.append("| " + " | ".join([*cells, f"{at[-1]['peak_mib']:.0f} MiB"]) + " |")
    lines += ["", *[f"- {name}: {note}." for name, note in notes.items()]]
    return "\n".join(lines)


def compare(model: str, sides: list[int], only: tuple[str, ...], least: float) -> dict:
    """Measure the systems, print the table, and return the figures.

    Args:
        model: of this project.
        sides: of the pictures, in pixels.
        only: names of systems beside this project; all if there are none.
        least: seconds to spend on each.

    Raises:
        ValueError: if there is no system of such a name.
    """
    chosen = systems(model, default_steps(model))
    if unknown := set(only) - set(chosen):
        raise ValueError(f"There are no systems {sorted(unknown)}; there are {list(chosen)}.")
    chosen = {key: one for key, one in chosen.items() if not only or key in (OURS, *only)}
    results = {}
    for name in chosen:
        print(f"{name} ...", file=sys.stderr)
        results[name] = measure_apart(name, model, sorted(sides), least)
    dtype = str(native_dtype()).removeprefix("torch.")
    print(f"{torch.get_num_threads()} threads, {dtype}, torch {torch.__version__}\n")
    print(to_markdown(results, sorted(sides), {key: one.note for key, one in chosen.items()}))
    return {"cpus": os.cpu_count(), "dtype": dtype, "systems": results}


if __name__ == "__main__":  # the process that `measure_apart` starts
    asked = json.loads(sys.argv[1])
    system = systems(asked["model"], default_steps(asked["model"]))[asked["name"]]
    print(json.dumps(measure(system, asked["sides"], asked["least"])))
