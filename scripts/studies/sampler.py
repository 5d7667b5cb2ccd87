"""How many steps, of which sampler? Quality against network calls, with a plot.

Colours the same pictures, twice each, by every scheduler that reproduces the model's noise
schedule, at 1 to 1000 steps; then by the model's own at several shares of fresh noise (eta) and
temperatures. Figures are added to figures.jsonl one by one, and a second run goes on where the
first was stopped.

The main figure is the energy score in a*b* (Gneiting and Raftery 2007): the mean distance of a
sample to the truth less half of that between two samples. It is least where the samples are spread
as the truth is: unlike CIEDE2000 it rewards neither a dull mean nor any one lucky guess.
"""

import itertools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000
from torch.nn import functional as F
from tqdm import tqdm

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.evaluation import metrics
from pipeline_colorize.evaluation.protocol import load_pictures, prepare, spread_indices
from pipeline_colorize.registry import sampler_class

STEPS = (1, 2, 4, 5, 8, 10, 12, 16, 20, 50, 100, 1000)
OTHERS = ("ddim", "ddpm", "dpm++", "unipc", "euler", "heun", "lcm")  # of `registry.SAMPLERS`
# Up to how many steps each is taken. With more, the solvers come to what DDIM gives, which is our
# scheduler with eta 0, as DDPM is ours with eta 1; LCM has 50 steps at most.
MOST = dict.fromkeys(OTHERS, 100) | {"lcm": 50}
ETAS, TEMPERATURES = (0.0, 0.25, 0.5, 0.75, 1.0), (0.0, 0.6, 0.8, 0.9, 1.0)
MODELS = "model's, eta 1"
TOLERANCE = 1.01
FIGURES = {
    "energy_score": "energy score in a*b* (less is better)",
    "ciede2000_ratio": "CIEDE2000 of one sample, of grey's",
    "colorfulness_share": "colourfulness, of the truth's",
    "histogram_distance": "distance of the a*b* histograms",
}


@dataclass(frozen=True)
class Setting:
    """One point of the study."""

    sampler: str  # MODELS, "model's, eta 0", or a name in OTHERS
    steps: int
    eta: float
    temperature: float = 1.0

    @property
    def calls(self) -> int:
        """Calls of the network for one sample."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps


def study(default_steps: int) -> list[Setting]:
    """List all points, the quick ones first."""
    points = [
        Setting(f"model's, eta {eta:g}", steps, eta) for steps in STEPS for eta in (1.0, 0.0)
    ] + [
        Setting(name, steps, 0.0)
        for name, steps in itertools.product(OTHERS, STEPS)
        if steps <= MOST[name]
    ]
    points += [
        Setting(f"model's, eta {eta:g}", default_steps, eta, temperature)
        for eta, temperature in itertools.product(ETAS, TEMPERATURES)
    ]
    return sorted(dict.fromkeys(points), key=lambda one: one.calls)


# --- measuring ----------------------------------------------------------------------------------


@dataclass
class Truth:
    """Pictures of a set: `pictures` for the model, `halves` of the size to be measured."""

    pictures: list[np.ndarray]  # (H, W, 3) uint8
    halves: list[np.ndarray]


def load(path: str, split: str, limit: int) -> Truth:
    """Load `limit` pictures, evenly spaced over the split."""
    column = load_pictures(path, split)
    pictures = [prepare(column[index], None) for index in spread_indices(len(column), limit)]
    halves = [np.asarray(Image.fromarray(one).reduce(2)) for one in pictures]
    return Truth(pictures, halves)


def sample(pipe: Any, scheduler, setting: Setting, truth: Truth) -> list[torch.Tensor]:
    """Draw two samples of the chroma of each picture, (2, 2, h, w) each.

    What the network says is measured: one look, one candidate, no dial of colour.
    """
    pipe.scheduler = scheduler
    pipe.register_to_config(default_saturation=1.0, chroma_coring=0.0, chroma_texture=1.0)
    if setting.sampler in OTHERS:
        pipe.scheduler = sampler_class(setting.sampler).from_config(scheduler.config)
    chroma = pipe(
        truth.pictures,
        num_inference_steps=setting.steps,
        num_samples=2,
        num_candidates=1,
        second_look=1,
        eta=setting.eta,
        temperature=setting.temperature,
        generator=[torch.Generator().manual_seed(index) for index in range(len(truth.pictures))],
        batch_size=32,
        output_type="latent",
    ).images
    pipe.scheduler = scheduler
    return list(torch.stack(list(chroma)).split(2))


def energy_score(chroma: torch.Tensor, truth: np.ndarray) -> float:
    """Score two samples (2, 2, h, w); distances are root mean squares over the picture, in a*b*."""
    lab = torch.from_numpy(metrics.to_lab(truth)[..., 1:]).float().movedim(-1, 0)
    true = F.interpolate(lab[None], chroma.shape[2:], mode="area")[0]

    def distance(first: torch.Tensor, second: torch.Tensor) -> float:
        return (first - second).square().sum(0).mean().sqrt().item()

    nearness = (distance(chroma[0], true) + distance(chroma[1], true)) / 2
    return nearness - distance(chroma[0], chroma[1]) / 2


def measure(pipe: ColorizationPipeline, chromas: list[torch.Tensor], truth: Truth) -> dict:
    """Average over a set: energy score; CIEDE2000 and colourfulness as ratios to grey and truth."""
    names = ("energy", "error", "grey", "color", "true_color")
    figures: dict[str, list[float]] = {name: [] for name in names}
    histogram, true_histogram = np.zeros(()), np.zeros(())
    for chroma, true in zip(chromas, truth.halves, strict=True):
        luminance, lab = pipe.image_processor.to_luminance(true), metrics.to_lab(true)
        results = [pipe.image_processor.colorize(luminance, one).numpy() for one in chroma]
        figures["energy"].append(energy_score(chroma, true))
        figures["error"] += [deltaE_ciede2000(lab, metrics.to_lab(one)).mean() for one in results]
        figures["grey"].append(deltaE_ciede2000(lab, lab * [1, 0, 0]).mean())
        figures["color"] += [metrics.colorfulness(one) for one in results]
        figures["true_color"].append(metrics.colorfulness(true))
        histogram = histogram + sum(metrics.chroma_histogram(one) for one in results)
        true_histogram = true_histogram + metrics.chroma_histogram(true)
    mean = {name: float(np.mean(values)) for name, values in figures.items()}
    return {
        "energy_score": mean["energy"],
        "ciede2000_ratio": mean["error"] / mean["grey"],
        "colorfulness_share": mean["color"] / mean["true_color"],
        "histogram_distance": metrics.histogram_distance(histogram, true_histogram),
    }


def measure_all(pipe: ColorizationPipeline, points: list[Setting], sets: dict, file: Path) -> None:
    """Add a line for each point that the file lacks."""
    scheduler, done = pipe.scheduler, {Setting(**one["setting"]) for one in read(file)}
    for setting in tqdm([one for one in points if one not in done], unit="point"):
        started, figures = time.perf_counter(), {}
        for name, truth in sets.items():
            figures[name] = measure(pipe, sample(pipe, scheduler, setting, truth), truth)
        mean = {
            key: float(np.mean([one[key] for one in figures.values()])) for key in figures[name]
        }
        line = {"setting": asdict(setting), "mean": mean, "sets": figures}
        with open(file, "a") as out:
            seconds = round(time.perf_counter() - started, 1)
            out.write(json.dumps(line | {"seconds": seconds}) + "\n")


def read(file: Path) -> list[dict]:
    """Read the lines of a file of figures, if it is there."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


# --- report -------------------------------------------------------------------------------------


def by_sampler(lines: list[dict]) -> dict[str, list[tuple[Setting, dict]]]:
    """Sort the points at temperature 1 by sampler and steps."""
    result: dict[str, list] = {}
    for line in lines:
        setting = Setting(**line["setting"])
        if setting.temperature == 1 and setting.eta in (0, 1):
            result.setdefault(setting.sampler, []).append((setting, line["mean"]))
    return {name: sorted(ones, key=lambda one: one[0].steps) for name, ones in result.items()}


def fewest_steps(curve: list[tuple[Setting, dict]]) -> int:
    """Find from which number on the energy score stays within 1 % of that at the most steps."""
    limit = TOLERANCE * curve[-1][1]["energy_score"]
    enough = curve[-1][0].steps
    for setting, figures in reversed(curve):
        if figures["energy_score"] > limit:
            break
        enough = setting.steps
    return enough


def to_markdown(lines: list[dict]) -> str:
    """Write energy scores by sampler and steps, then the model's figures by steps and dial."""
    curves = by_sampler(lines)
    steps = sorted({one.steps for curve in curves.values() for one, _ in curve})
    rows = [["sampler", *map(str, steps), "enough"]]
    for name, curve in curves.items():
        at = {setting.steps: figures["energy_score"] for setting, figures in curve}
        cells = [f"{at[step]:.2f}" if step in at else "" for step in steps]
        rows.append([name, *cells, str(fewest_steps(curve))])
    by_steps = [[f"{MODELS}: steps", *[name.replace("_", " ") for name in FIGURES]]]
    by_steps += [[str(one.steps), *_cells(figures)] for one, figures in curves[MODELS]]
    dial = [["steps, eta, temperature", *by_steps[0][1:]]]
    settings = [(Setting(**line["setting"]), line["mean"]) for line in lines]
    turned = {setting.steps for setting, _ in settings if setting.temperature != 1}
    for one, figures in sorted(settings, key=lambda pair: (pair[0].eta, pair[0].temperature)):
        if one.steps in turned and one.sampler.startswith("model's"):
            dial.append([f"{one.steps}, {one.eta:g}, {one.temperature:g}", *_cells(figures)])
    return "\n\n".join(_table(one) for one in (rows, by_steps, dial)) + "\n"


def _cells(figures: dict) -> list[str]:
    return [f"{figures[name]:.3f}" for name in FIGURES]


def _table(rows: list[list[str]]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" * len(rows[0]) + "|", *body])


def draw(lines: list[dict], file: Path) -> None:
    """Draw four figures against network calls, a line a sampler."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained", sharex=True)
    for axis, (name, title) in zip(axes.flat, FIGURES.items(), strict=True):
        for sampler, curve in by_sampler(lines).items():
            calls = [setting.calls for setting, _ in curve]
            is_models = sampler == MODELS
            values = [figures[name] for _, figures in curve]
            style: dict[str, Any] = (
                {"color": "black", "linewidth": 2.2} if is_models else {"linewidth": 1.1}
            )
            if sampler in ("ddim", "ddpm"):  # the same curves as the model's, on top of them
                style["linestyle"] = "--"
            axis.plot(calls, values, marker="o", markersize=3, label=sampler, **style)
        axis.set(xscale="log", title=title)
        axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("network calls a sample")
    axes[0, 0].legend(fontsize=8, ncols=2)
    figure.savefig(file, dpi=110)


def run(model: str, sets: dict[str, Truth], most: int, output: Path) -> str:
    """Measure what is not measured yet, and write the report and the plot; returns the report.

    Args:
        model: a name that ships, a folder or a repository of the Hub.
        sets: of pictures, by name.
        most: steps; points with more are left out.
        output: a folder.
    """
    diffusers.utils.logging.set_verbosity_error()  # other schedulers lack two of our fields
    pipe = ColorizationPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    output.mkdir(parents=True, exist_ok=True)
    points = [one for one in study(pipe.config.default_num_inference_steps) if one.steps <= most]
    measure_all(pipe, points, sets, output / "figures.jsonl")
    lines = read(output / "figures.jsonl")
    report = to_markdown(lines)
    (output / "sampler.md").write_text(report)
    draw(lines, output / "sampler.png")
    return report
