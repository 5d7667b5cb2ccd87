"""What makes the pipeline quick on a CPU, and where its time goes.

Every setting colours the same photograph in turns, so that a machine that is busy now and then
favours none; times are medians, in one process, files left out. Then the parts of the default
setting, for a 1024x768 and a 12-megapixel photograph.
"""

import copy
import time
from collections.abc import Callable
from contextlib import contextmanager
from statistics import median
from typing import Any

import diffusers
import numpy as np
import torch

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.core.color import merge_luminance
from pipeline_colorize.core.image_processor import fit_guided_upsampling
from pipeline_colorize.core.options import SECOND_LOOK_CANDIDATES
from pipeline_colorize.core.saving import native_dtype
from pipeline_colorize.core.sizes import SECOND_LOOK_START, look_resolutions, second_look_steps

SIZES = {"1024x768": (768, 1024), "12 megapixels": (3000, 4000)}


def photograph(height: int, width: int) -> np.ndarray:
    """Make a grey picture with something in it at every scale, (height, width) uint8."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width]
    waves = sum(np.sin(rows / n + columns / (1.7 * n)) for n in (3, 17, 90, 400))
    return (110 + 25 * waves + generator.normal(0, 4, (height, width))).clip(0, 255).astype("u1")


def load(model: str, dtype: torch.dtype) -> Any:
    """Load a model without progress bars."""
    pipe = ColorizationPipeline.from_pretrained(model, dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def compiled(pipe: Any) -> Any:
    """Compile encoder and denoiser."""
    pipe.unet.encode = torch.compile(pipe.unet.encode)
    pipe.unet.forward = torch.compile(pipe.unet.forward)
    return pipe


def encoding_each_step(pipe: Any) -> Any:
    """Run the encoder at each step, as samplers do to which a condition is an input like others."""
    forward, encode, kept = pipe.unet.forward, pipe.unet.encode, {}

    def remember(condition):
        kept["condition"] = condition
        return encode(condition)

    def forward_with_encoder(sample, timestep, features, return_dict=True):
        return forward(sample, timestep, encode(kept["condition"]), return_dict)

    pipe.unet.encode, pipe.unet.forward = remember, forward_with_encoder
    return pipe


@contextmanager
def threads(count: int):
    """Let torch use `count` threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def settings(model: str) -> dict[str, tuple[Callable[[], object], int]]:
    """List what is compared: a function that colours, and how many results it makes, by name."""
    native, other = native_dtype(), torch.float32
    if native == torch.float32:
        other = torch.bfloat16
    pipe, picture = load(model, native), photograph(*SIZES["1024x768"])
    other_pipe = load(model, other)
    contiguous = load(model, native)
    contiguous.unet.to(memory_format=torch.contiguous_format)
    fast, slow = compiled(load(model, native)), encoding_each_step(load(model, native))

    def on_one_thread():
        with threads(1):
            pipe(picture)

    return {
        f"default: {_name(native)}, channels-last": (lambda: pipe(picture), 1),
        "one look": (lambda: pipe(picture, second_look=1), 1),
        "one candidate": (lambda: pipe(picture, num_candidates=1), 1),
        _name(other): (lambda: other_pipe(picture), 1),
        "contiguous weights": (lambda: contiguous(picture), 1),
        "torch.compile": (lambda: fast(picture), 1),
        "encoder at every step": (lambda: slow(picture), 1),
        "one thread": (on_one_thread, 1),
        "4 samples, together": (lambda: pipe(picture, num_samples=4), 4),
        "8 samples, together": (lambda: pipe(picture, num_samples=8), 8),
        "4 photographs, together": (lambda: pipe([picture] * 4), 4),
        "16 photographs, together": (lambda: pipe([picture] * 16), 16),
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def in_turns(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Take the median seconds of each, without the first turn, which compiles and fills caches."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds + 1):
        for name, function in functions.items():
            started = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - started)
    return {name: median(times[1:]) for name, times in seconds.items()}


def one_look(
    pipe: ColorizationPipeline,
    luminance: torch.Tensor,
    resolution: float,
    timesteps: torch.Tensor,
    candidates: int,
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Make the two parts of what the network does at a working size: encoder and denoiser."""
    unet: Any
    unet, scheduler = pipe.unet, copy.deepcopy(pipe.scheduler)
    condition = pipe.image_processor.preprocess(luminance, resolution) / 50 - 1
    if hints := getattr(unet.config, "hint_channels", 0):
        empty = condition.new_zeros(1, hints, *condition.shape[2:])
        condition = torch.cat([condition, empty], dim=1)
    condition = condition.to(unet.dtype)
    features = unet.encode(condition)
    scheduler.set_timesteps(len(timesteps))
    scheduler.timesteps = timesteps
    cells = features[0].shape[2:]

    def denoise():
        latents = torch.zeros(candidates, unet.config.sample_channels, *cells)
        for timestep in timesteps:
            predicted = unet(latents.to(unet.dtype), timestep, features, return_dict=False)[0]
            latents = scheduler.step(predicted.float(), timestep, latents, eta=1.0).prev_sample

    return lambda: unet.encode(condition), denoise


def parts(pipe: ColorizationPipeline, size: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """Take the default setting apart into parts that can be timed alone."""
    picture, processor, config = photograph(*size), pipe.image_processor, pipe.config
    luminance = processor.to_luminance(picture)
    resolution, scheduler = config.default_processing_resolution, copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(config.default_num_inference_steps)
    candidates = config.default_num_candidates
    encode, denoise = one_look(pipe, luminance, resolution, scheduler.timesteps, candidates)
    looks = {
        "grey encoder, once": encode,
        f"denoiser, {len(scheduler.timesteps)} steps of {candidates}": denoise,
    }
    sizes = *size, resolution, config.default_second_look
    finest = look_resolutions(*sizes, processor.chroma_stride)[-1]
    if finest > resolution:
        scheduler.set_timesteps(second_look_steps(config.default_num_inference_steps))
        start = SECOND_LOOK_START * scheduler.config.num_train_timesteps
        timesteps = scheduler.timesteps[scheduler.timesteps < start]
        candidates = min(candidates, SECOND_LOOK_CANDIDATES)
        encode, denoise = one_look(pipe, luminance, finest, timesteps, candidates)
        looks["second look: encoder"] = encode
        looks[f"second look: denoiser, {len(timesteps)} steps of {candidates}"] = denoise
        resolution = finest
    cells = (side // processor.chroma_stride for side in processor.working_size(*size, resolution))
    chroma = 20 * torch.rand(2, *cells)
    full = processor.upsample_chroma(luminance, chroma)
    return {
        "picture to luminance": lambda: processor.to_luminance(picture),
        "luminance to working size": lambda: processor.preprocess(luminance, resolution),
        **looks,
        "guided filter, fitted on the grid": lambda: fit_guided_upsampling(luminance, chroma),
        "chroma to full size (with the fit)": lambda: processor.upsample_chroma(luminance, chroma),
        "gamut and Lab to sRGB": lambda: merge_luminance(luminance, full.clone()),
        "from chroma to bytes, all of it": lambda: processor.colorize(luminance, chroma),
        "all": lambda: pipe(picture),
    }


def table(rows: list[list[str]]) -> str:
    """Write rows as a Markdown table, the first as its head."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


@torch.no_grad()
def compare(model: str, rounds: int) -> None:
    """Time the settings and the parts in `rounds` turns, and print the tables."""
    diffusers.utils.logging.disable_progress_bar()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}\n")
    choices = settings(model)
    seconds = in_turns({name: function for name, (function, _) in choices.items()}, rounds)
    default = next(iter(seconds.values()))
    rows = [["1024x768", "s", "s a result", "of the default's"]]
    for name, (_, results) in choices.items():
        each = seconds[name] / results
        rows.append([name, f"{seconds[name]:.3f}", f"{each:.3f}", f"{each / default:.2f}"])
    print(table(rows) + "\n")
    pipe, rows = load(model, native_dtype()), [["part", *[f"{size}: s" for size in SIZES]]]
    columns = [in_turns(parts(pipe, size), rounds) for size in SIZES.values()]
    for part in columns[0]:
        rows.append([part, *[f"{column[part]:.4f}" for column in columns]])
    print(table(rows))
