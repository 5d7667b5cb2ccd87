"""How long does a mend take, and how much better is the place afterwards?

In each photograph, a circle is given a strong colour at equal light, and a larger one is mended.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.color import deltaE_ciede2000
from tqdm import tqdm

from pipeline_colorize.core.luminance import see
from pipeline_colorize.core.mending import with_light_of
from pipeline_colorize.evaluation.metrics import to_lab
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline

from .photographs import read_some, resized

# Radius of the place that is wrong, and of the mask, as shares of the short side.
WRONG, MASK = 0.15, 0.2
COLORS = ((190, 40, 40), (40, 60, 190), (50, 150, 60), (170, 60, 170))


@dataclass(frozen=True)
class MendOptions:
    """What is mended.

    Args:
        photographs: evenly spaced over those that there are.
        longest: long side of a photograph, in pixels.
        candidates: numbers of candidates to try beside the model's own.
        seed: of the mends.
    """

    photographs: int = 8
    longest: int = 1024
    candidates: tuple[int, ...] = (8, 4)
    seed: int = 5


def load(folder: Path, options: MendOptions) -> Iterator[np.ndarray]:
    """Load photographs as (H, W, 3), uint8.

    Raises:
        ValueError: if there are none.
    """
    for picture in read_some(folder, options.photographs):
        yield np.asarray(resized(picture, options.longest / max(picture.size)))


@dataclass(frozen=True)
class Way:
    """A way to mend.

    Args:
        pipe: an `ORTColorizationPipeline`.
        dials: options of the call.
        is_kept: whether the pipeline has coloured the same photograph just before, so that it need
            not encode it again.
    """

    pipe: Any
    dials: dict[str, Any] = field(default_factory=dict)
    is_kept: bool = True

    def prepare(self, grey: np.ndarray) -> None:
        """Let the pipeline see the photograph, or another one."""
        self.pipe(grey if self.is_kept else grey[:, ::-1], num_inference_steps=1, num_candidates=1)


def settings(model: str, options: MendOptions) -> dict[str, Way]:
    """Name the ways to mend."""
    pipe = ORTColorizationPipeline.from_pretrained(model)
    quick = ORTColorizationPipeline.from_pretrained(model, variant="int8")
    found = {"as it is": Way(pipe), "as it is, a new photograph": Way(pipe, is_kept=False)}
    for count in options.candidates:
        found[f"{count} candidates"] = Way(pipe, {"num_candidates": count})
    found["one look"] = Way(pipe, {"second_look": 1.0})
    found["8 bits"] = Way(quick)
    for count in options.candidates:
        found[f"8 bits, {count} candidates"] = Way(quick, {"num_candidates": count})
    return found


def mend_all(
    truth: np.ndarray, number: int, ways: dict[str, Way], seed: int
) -> dict[str, list[float]]:
    """Make a place of a photograph wrong and mend it in all ways.

    Returns:
        For each way, CIEDE2000 to the truth inside, how far pixels outside moved at most, seconds,
        and processor seconds; for "before" and "wrong", CIEDE2000 alone.
    """
    grey = np.asarray(Image.fromarray(truth).convert("L"))
    pipe = ways["as it is"].pipe
    before = np.asarray(pipe(grey, generator=TorchGenerator().manual_seed(0)).images[0])
    inside, mask = (circle(grey.shape, number, share) for share in (WRONG, MASK))
    color = np.full_like(before, COLORS[number % len(COLORS)])
    wrong = np.where(inside[..., None], with_light_of(color, see(grey).luminance), before)
    given = {"color_image": Image.fromarray(wrong), "mask_image": mask.astype(np.float32)}
    figures = {
        name: [error(one, truth, inside)] for name, one in (("before", before), ("wrong", wrong))
    }
    for name, way in ways.items():
        way.prepare(grey)
        began = time.perf_counter(), time.process_time()
        generator = TorchGenerator().manual_seed(seed)
        mended = np.asarray(way.pipe(grey, generator=generator, **given, **way.dials).images[0])
        spent = time.perf_counter() - began[0], time.process_time() - began[1]
        moved = np.abs(mended.astype(int) - wrong)[~mask].max()
        figures[name] = [error(mended, truth, inside), float(moved), *spent]
    return figures


def circle(shape: tuple[int, ...], number: int, share: float) -> np.ndarray:
    """Return a circle (H, W) of which another place is taken for each photograph, as bool."""
    height, width = shape
    down, across = np.random.default_rng(number).uniform(0.3, 0.7, 2)
    y, x = np.mgrid[:height, :width]
    return np.hypot(y - down * height, x - across * width) < share * min(shape)


def error(result: np.ndarray, truth: np.ndarray, place: np.ndarray) -> float:
    """Mean CIEDE2000 at equal light over a place (H, W)."""
    ours, lab = to_lab(result)[place], to_lab(truth)[place]
    return float(deltaE_ciede2000(lab, np.concatenate([lab[:, :1], ours[:, 1:]], axis=1)).mean())


def run(folder: Path, model: str, options: MendOptions) -> str:
    """Mend a place of each photograph in all ways, and return a table of means and medians.

    Args:
        folder: of photographs in colour.
        model: a name that ships, or a folder.
        options: of the study.

    Raises:
        ValueError: if there is no such model or photograph.
    """
    ways = settings(model, options)
    found = [
        mend_all(truth, number, ways, options.seed)
        for number, truth in enumerate(tqdm(load(folder, options), total=options.photographs))
    ]
    lines = ["| way | CIEDE2000 inside | moved outside | seconds | processor seconds |"]
    lines.append("|---|---|---|---|---|")
    for name in found[0]:
        rows = np.array([each[name] for each in found])
        cells = [f"{rows[:, 0].mean():.2f}"]
        if rows.shape[1] > 1:
            seconds = np.median(rows[:, 2:], axis=0)
            cells += [f"{rows[:, 1].max():.0f}", *(f"{one:.2f}" for one in seconds)]
        lines.append(f"| {name} | " + " | ".join(cells + [""] * (4 - len(cells))) + " |")
    return "\n".join(lines)
