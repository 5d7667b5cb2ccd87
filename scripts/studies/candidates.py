"""Which steps, candidates and colour dials should a model have? One row of figures a setting.

A setting is the model with other defaults: the study writes it as an ONNX file, colours every
picture with onnxruntime, and measures the answers as `scripts/evaluate.py` does: those that are
asked for one at a time, with several seeds, and the best and the differences of some that are asked
for together. Large pictures are made smaller first, so that they are looked at twice and yet are
quick to measure. Figures are added to figures.jsonl one by one, and a second run continues where
the first was stopped.
"""

import json
import re
import tempfile
import time
from dataclasses import asdict, dataclass
from glob import glob
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from pipeline_colorize.core.image_processor import ColorizationImageProcessor
from pipeline_colorize.evaluation import metrics
from pipeline_colorize.evaluation.protocol import load_pictures, spread_indices
from pipeline_colorize.onnx.graph import write_model
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.photo import READABLE, open_picture, to_srgb
from pipeline_colorize.registry import model_folder

DIALS = {
    "steps": "default_num_inference_steps",
    "candidates": "default_num_candidates",
    "eta": "default_eta",
    "temperature": "default_temperature",
    "saturation": "default_saturation",
    "second_look": "default_second_look",
    "balance": "chroma_balance",
    "texture": "chroma_texture",
    "coring": "chroma_coring",
}
WHOLE = ("steps", "candidates")
FIGURES = {  # of a summary of `metrics.summarize`, in the order of the columns
    "CIEDE2000 of grey's": "{sample[ciede2000_ratio]:.3f}",
    "best of {samples}": "{best[ciede2000_ratio]:.3f}",
    "colourfulness": "{colorfulness[share]:.2f}",
    "odd": "{odd[sample]:.1%}",
    "pale": "{pale[sample]:.1%}",
    "histogram": "{histogram_distance[sample]:.3f}",
    "variation": "{variation:.2f}",
    "diversity": "{diversity:.1f}",
}


def parse(setting: str) -> dict[str, float]:
    """Read "3 steps, saturation 1.2" as properties of the model; "" leaves all as they are.

    Raises:
        ValueError: if a part is not a number of a dial.
    """
    result: dict[str, float] = {}
    for part in filter(None, (one.strip() for one in setting.split(","))):
        words = re.fullmatch(r"([a-z_]+) +([\d.]+)|([\d.]+) +([a-z_]+)", part)
        name, value = (words[1] or words[4], words[2] or words[3]) if words else ("", "")
        if name not in DIALS:
            dials = ", ".join(DIALS)
            raise ValueError(f"{part!r} in a setting is not a number of one of {dials}.")
        result[DIALS[name]] = int(value) if name in WHOLE else float(value)
    return result


def write_with(folder: Path, dials: dict[str, float], file: Path) -> None:
    """Write the model of `folder` as an ONNX file, with other values of some properties."""
    with tempfile.TemporaryDirectory() as copy:
        for part in ("unet", "scheduler"):
            Path(copy, part).symlink_to((folder / part).resolve())
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        Path(copy, "model_index.json").write_text(json.dumps(index | dials), "utf-8")
        write_model(Path(copy), file)


def load(source: str, split: str, limit: int, side: int) -> list[np.ndarray]:
    """Load up to `limit` pictures (H, W, 3) in 8-bit sRGB, evenly spaced over those that there are.

    Args:
        source: a folder or data set, as for `load_pictures`, or a pattern of files.
        split: of a data set.
        limit: pictures.
        side: pixels that the short side of a picture has at most; larger pictures are made smaller.

    Raises:
        ValueError: if there are no pictures.
    """
    if "*" in source:
        paths = sorted(glob(str(Path(source).expanduser())))
        files = [Path(one) for one in paths if Path(one).suffix.lower() in READABLE]
        if not files:
            raise ValueError(f"No photographs match {source}.")
        return [reduced(open_picture(files[i]), side) for i in spread_indices(len(files), limit)]
    pictures = load_pictures(source, split)
    return [reduced(pictures[index], side) for index in spread_indices(len(pictures), limit)]


def reduced(picture: Image.Image, side: int) -> np.ndarray:
    """Bring a picture to 8-bit sRGB (H, W, 3) with at most `side` pixels on the short side."""
    picture = to_srgb(picture)
    scale = side / min(picture.size)
    if scale < 1:
        size = [round(scale * length) for length in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(picture)


@dataclass(frozen=True)
class StudyOptions:
    """How settings are measured.

    Args:
        split: of data sets.
        limit: pictures of a set, evenly spaced.
        side: largest short side of a picture, in pixels.
        seeds: answers that are asked for one at a time.
        samples: answers that are asked for together, with the first of the seeds.
    """

    split: str = "validation"
    limit: int = 40
    side: int = 256
    seeds: int = 2
    samples: int = 4


def measure(
    pipe: ORTColorizationPipeline, pictures: list[np.ndarray], options: StudyOptions
) -> dict:
    """Compute `metrics.summarize` of a set, with the seconds that an answer takes."""
    processor = ColorizationImageProcessor(pipe.properties["chroma_stride"])
    records: list[dict] = []
    histograms: dict[str, np.ndarray] = {}
    clock = 0.0
    for index, truth in enumerate(pictures):
        seeds = [seed * 1_000_003 + index for seed in range(options.seeds)]
        started = time.perf_counter()
        alone = torch.cat([answers(pipe, truth, seed, 1) for seed in seeds])
        clock += time.perf_counter() - started
        together = answers(pipe, truth, seeds[0], options.samples)
        luminance = processor.to_luminance(truth)
        grey, mean, *results = (
            processor.colorize(luminance, one).numpy()
            for one in (torch.zeros(2, 1, 1), together.mean(0), *alone, *together)
        )
        views = grey, results[: len(alone)], results[len(alone) :], mean
        record = metrics.measure_picture(truth, *views)
        for kind, counts in record.pop("histograms").items():
            histograms[kind] = histograms.get(kind, 0) + counts
        records.append(record)
    seconds = clock / (len(pictures) * options.seeds)
    return metrics.summarize(records, histograms) | {"seconds": seconds}


def answers(pipe, truth: np.ndarray, seed: int, samples: int) -> torch.Tensor:
    """Ask for answers in one call; returns chroma (samples, 2, h, w)."""
    generator = [TorchGenerator().manual_seed(seed)]
    called = pipe([truth], num_samples=samples, generator=generator, output_type="latent")
    return torch.from_numpy(np.stack(called.images))


def read(file: Path) -> list[dict]:
    """Read the lines of a file of figures, if it is there."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def to_markdown(lines: list[dict], samples: int) -> str:
    """Write a row for each setting and a cell for each figure, with its values set by set."""
    columns = [head.format(samples=samples) for head in FIGURES]
    rows = [["setting", *columns, "s an answer"]]
    for line in lines:
        sets = [with_variation(one) for one in line["sets"].values()]
        seconds = " / ".join(f"{one['seconds']:.2f}" for one in sets)
        cells = [" / ".join(cell.format(**one) for one in sets) for cell in FIGURES.values()]
        rows.append([line["setting"] or "as it is", *cells, seconds])
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    names = " / ".join(lines[0]["sets"]) if lines else "no set"
    return "\n".join([f"Sets: {names}.", "", head, "|---" * len(rows[0]) + "|", *body]) + "\n"


def with_variation(summary: dict) -> dict:
    """Add how much colour varies where L* is even, as a share of the truth's."""
    blotches = summary["blotches"]
    return summary | {"variation": blotches["sample"] / (blotches["truth"] or float("nan"))}


def run(
    model: str,
    data: tuple[str, ...],
    settings: tuple[str, ...],
    output: Path,
    options: StudyOptions,
) -> str:
    """Measure the settings that are not measured yet, and write and return the report.

    Args:
        model: a name that ships, or a folder.
        data: folders, data sets or patterns of files.
        settings: as `parse` reads them; the model as it is if there are none.
        output: a folder.
        options: how.

    Raises:
        ValueError: if there is no such model or picture, or a setting is none.
    """
    folder = model_folder(model)
    dials = {one: parse(one) for one in settings or ("",)}
    sets = {Path(one).name: load(one, options.split, options.limit, options.side) for one in data}
    output.mkdir(parents=True, exist_ok=True)
    file, how = output / "figures.jsonl", {"sets": list(sets), **asdict(options)}
    done = [line["setting"] for line in read(file) if line["how"] == how]
    for name in tqdm([one for one in dials if one not in done], unit="setting"):
        write_with(folder, dials[name], output / "model.onnx")
        pipe = ORTColorizationPipeline(output / "model.onnx")
        figures = {key: measure(pipe, pictures, options) for key, pictures in sets.items()}
        with open(file, "a") as out:
            out.write(json.dumps({"setting": name, "how": how, "sets": figures}) + "\n")
    report = to_markdown([one for one in read(file) if one["how"] == how], options.samples)
    (output / "candidates.md").write_text(report)
    return report
