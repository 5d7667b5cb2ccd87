"""Time the training script against a bare loop, part by part, and against diffusers' UNet2DModel.

Pictures are made up, so no data set is needed; what is measured begins at decoded pictures in
memory. Script and bare loop take turns, so that a machine that is busy now and then does not favour
either.
"""

import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2]))

import train_colorize
from pipeline_colorize.training import checkpoint
from pipeline_colorize.training.batches import BatchFormat, Division, TrainingBatches
from pipeline_colorize.training.config import parse
from pipeline_colorize.training.objectives import denoising_loss


@dataclasses.dataclass(frozen=True)
class BenchmarkOptions:
    """What is measured, beside the script against the bare loop.

    Args:
        steps: of each turn.
        rounds: turns of each.
        stock_batch: pictures a step for the stock network; 0 leaves it out.
        settings: also compare precisions, memory formats and torch.compile.
        profile: also list the operators that take most time.
    """

    steps: int = 8
    rounds: int = 5
    stock_batch: int = 8
    settings: bool = False
    profile: bool = False


def made_up_pictures(folder: Path, side: int, count: int = 64) -> None:
    """Write smooth random colour pictures."""
    generator = np.random.default_rng(0)
    for number in range(count):
        small = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.png")


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class BareLoop:
    """Forward, backward and optimizer step on one batch that lies ready: nothing could be less."""

    def __init__(self, model, losses, batch: dict, precision: str, device: torch.device):
        self.model, self.losses, self.device = model.to(device).train(), losses, device
        self.batch = {name: tensor.to(device) for name, tensor in batch.items()}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        self.autocast = torch.autocast(device.type, dtype, enabled=precision != "no")

    def step(self) -> None:
        """Take one optimizer step."""
        with self.autocast:
            loss = self.losses(self.model, self.batch).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def run(self, steps: int) -> float:
        """Take so many steps; returns the seconds of one."""
        synchronize(self.device)
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        synchronize(self.device)
        return (time.perf_counter() - started) / steps


def run_script(run: train_colorize.Run, steps: int) -> float:
    """Time a step of the script's loop in seconds, with logging and without checkpoints."""
    run.total_steps = run.progress.step + steps
    started = time.perf_counter()
    train_colorize.train(run)
    return (time.perf_counter() - started) / steps


def against_bare_loop(run, bare: BareLoop, bench: BenchmarkOptions) -> tuple[list, list]:
    """Time script and bare loop turn by turn, in seconds a step, after a turn to warm up."""
    run.is_due = lambda *_: False
    turns = [(run_script(run, bench.steps), bare.run(bench.steps)) for _ in range(bench.rounds + 1)]
    script, loop = zip(*turns[1:], strict=True)
    return list(script), list(loop)


def by_part(run, steps: int) -> dict[str, float]:
    """Time data, forward, backward, optimizer and EMA one after another, in seconds a step."""
    optim, device = run.optim, run.accelerator.device
    batches = iter(run.loader(run.progress.step, steps))
    seconds = dict.fromkeys(("data", "forward", "backward", "clip and optimizer", "EMA"), 0.0)
    marks = []

    def mark():
        synchronize(device)
        marks.append(time.perf_counter())

    for _ in range(steps):
        marks.clear()
        mark()
        batch = {name: tensor.to(device) for name, tensor in next(batches).items()}
        mark()
        loss = run.losses(run.model, batch).mean()
        mark()
        run.accelerator.backward(loss)
        mark()
        run.accelerator.clip_grad_norm_(run.model.parameters(), optim.max_grad_norm)
        run.optimizer.step()
        run.optimizer.zero_grad()
        mark()
        run.ema.update(run.bare)
        mark()
        for name, spent in zip(seconds, np.diff(marks), strict=True):
            seconds[name] += spent / steps
    return seconds


def stock_network(parameters: int) -> UNet2DModel:
    """Make diffusers' network of about so many parameters, for RGB from RGB and luminance."""
    best = (parameters, 0)
    for width in range(8, 256, 8):
        with torch.device("meta"):
            model = UNet2DModel(**_stock_arguments(width))
        difference = abs(sum(p.numel() for p in model.parameters()) - parameters)
        if best[1] and difference > best[0]:
            break
        best = (difference, width)
    return UNet2DModel(**_stock_arguments(best[1]))


def _stock_arguments(width: int) -> dict:
    return {
        "in_channels": 4,
        "out_channels": 3,
        "block_out_channels": (width, 2 * width, 3 * width, 4 * width),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D", "UpBlock2D"),
    }


def time_stock_network(run, bench: BenchmarkOptions) -> tuple[float, int]:
    """Count pictures a second and parameters of the stock network at the same resolution."""
    parameters = sum(parameter.numel() for parameter in run.bare.parameters())
    model = stock_network(parameters).to(memory_format=torch.channels_last)
    layout = BatchFormat.of_model(model.config)
    division = Division(bench.stock_batch)
    batch = TrainingBatches(run.pictures, layout, run.data, seed=0, division=division)[0]
    scheduler = DDPMScheduler()
    loop = BareLoop(
        model,
        lambda network, batch: denoising_loss(network, scheduler, batch),
        batch,
        run.accelerator.mixed_precision,
        run.accelerator.device,
    )
    loop.run(1)
    seconds = loop.run(max(bench.steps // 4, 1))
    return bench.stock_batch / seconds, sum(parameter.numel() for parameter in model.parameters())


def compare_settings(run, batch: dict, steps: int) -> dict[str, float]:
    """Count pictures a second of the bare loop by precision, memory format and compilation."""
    result = {}
    for precision, channels_last, compiled in itertools.product(
        ("no", "bf16"), (False, True), (False, True)
    ):
        if compiled and not (precision == "bf16" and channels_last):
            continue  # compiling takes minutes: only the best of the others
        optim = dataclasses.replace(run.optim, channels_last=channels_last)
        model = train_colorize.build_model(run.model_config, optim)
        model = torch.compile(model) if compiled else model
        loop = BareLoop(model, run.losses, batch, precision, run.accelerator.device)
        loop.run(2)
        name = f"{precision.replace('no', 'fp32')}, channels_last {channels_last}"
        result[name + ", compiled" * compiled] = run.optim.batch_size / loop.run(steps)
    return result


def operators(bare: BareLoop, steps: int = 3) -> str:
    """List the operators that take most time by themselves."""
    with torch.profiler.profile(record_shapes=False) as profile:
        bare.run(steps)
    device = "cuda" if bare.device.type == "cuda" else "cpu"
    table = profile.key_averages().table(
        sort_by=f"self_{device}_time_total", row_limit=14, max_name_column_width=48
    )
    return table


def report(run, bare: BareLoop, bench: BenchmarkOptions) -> None:
    """Measure and print."""
    pictures = run.pictures_per_step
    script, loop = against_bare_loop(run, bare, bench)
    ratios = [theirs / ours for ours, theirs in zip(script, loop, strict=True)]
    ours, theirs = (pictures / statistics.median(seconds) for seconds in (script, loop))
    print(f"script     {ours:8.1f} pictures/s")
    print(f"bare loop  {theirs:8.1f} pictures/s")
    print(
        f"script against bare loop, median of {len(ratios)} turns: "
        f"{100 * statistics.median(ratios):.1f} % ({100 * min(ratios):.1f} to "
        f"{100 * max(ratios):.1f})"
    )
    if bench.stock_batch:
        speed, parameters = time_stock_network(run, bench)
        ours_parameters = sum(parameter.numel() for parameter in run.bare.parameters())
        print(
            f"UNet2DModel {speed:7.1f} pictures/s in a bare loop ({parameters:,} parameters, not "
            f"{ours_parameters:,}; {run.data.resolution} px): {theirs / speed:.1f} times slower"
        )
    seconds = by_part(run, bench.steps)
    total = sum(seconds.values())
    for name, spent in seconds.items():
        print(f"  {name:20} {1000 * spent:8.1f} ms {100 * spent / total:5.1f} %")
    if bench.settings:
        for name, speed in compare_settings(run, bare.batch, bench.steps).items():
            print(f"  {name:38} {speed:8.1f} pictures/s")
    if bench.profile:
        print(operators(bare))


def benchmark(argv: list[str], bench: BenchmarkOptions) -> None:
    """Measure the training of a configuration and print the figures.

    Args:
        argv: `--config FILE` and fields over it, as for train_colorize.py.
        bench: what is measured.
    """
    pictures, model, optim, config = parse(argv, train_colorize.PARTS, "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        made_up_pictures(folder / "pictures", pictures.load_size or pictures.resolution)
        pictures = dataclasses.replace(
            pictures,
            datasets=[str(folder / "pictures")],
            dataset_weights=[],
            validation_pictures=0,
            streaming=False,
        )
        quiet = {"report_to": "none", "early_stopping_patience": None}
        config = dataclasses.replace(config, output_dir=str(folder), **quiet)
        run = train_colorize.Run([pictures, model, optim, config])
        run.progress = checkpoint.Progress()
        batch = next(iter(run.loader(0, 1)))
        fresh = train_colorize.build_model(model, optim)
        precision = run.accelerator.mixed_precision
        bare = BareLoop(fresh, run.losses, batch, precision, run.accelerator.device)
        report(run, bare, bench)
