r"""Which steps, candidates and colour dials should a model have? One row of figures a setting.

    python scripts/study_candidates.py --data ~/faces --data "~/old/fsa-*.jpg" \
        --setting "12 steps, 4 candidates" --setting "3 steps, 16 candidates, saturation 1.2"

A setting is the model with other defaults: the study writes it as an ONNX file, colours every
picture with onnxruntime, and measures the answers as `scripts/evaluate.py` does: those that are
asked for one at a time, with --seeds seeds, and the best and the differences of --samples answers
that are asked for together. Large pictures are
brought to --side pixels on the short side first, so that they are looked at twice and yet are quick
to measure. Figures are added to figures.jsonl one by one, and a second run goes on where the first
was stopped.
"""

import json
import re
import tempfile
import time
from glob import glob
from pathlib import Path

import click
import numpy as np
import torch
from evaluate import chosen, load_pictures
from PIL import Image
from tqdm import tqdm

from pipeline_colorize.core.image_processor import ColorizationImageProcessor
from pipeline_colorize.evaluation import metrics
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
    """Read "3 steps, saturation 1.2" as properties of the model; "" leaves all as they are."""
    result = {}
    for part in filter(None, (one.strip() for one in setting.split(","))):
        words = re.fullmatch(r"([a-z_]+) +([\d.]+)|([\d.]+) +([a-z_]+)", part)
        name, value = (words[1] or words[4], words[2] or words[3]) if words else ("", "")
        if name not in DIALS:
            known = ", ".join(DIALS)
            raise click.ClickException(f"--setting: {part!r} is not a number of one of {known}.")
        result[DIALS[name]] = int(value) if name in WHOLE else float(value)
    return result


def write_with(folder: Path, dials: dict[str, float], file: Path) -> None:
    """The model of `folder` as an ONNX file, with other values of some of its properties."""
    with tempfile.TemporaryDirectory() as copy:
        for part in ("unet", "scheduler"):
            Path(copy, part).symlink_to((folder / part).resolve())
        index = json.loads((folder / "model_index.json").read_text("utf-8"))
        Path(copy, "model_index.json").write_text(json.dumps(index | dials), "utf-8")
        write_model(Path(copy), file)


def load(source: str, split: str, limit: int, side: int) -> list[np.ndarray]:
    """Up to `limit` pictures (H, W, 3) in 8-bit sRGB, evenly spaced over those that there are.

    Args:
        source: a folder or data set of `evaluate.load_pictures`, or a pattern of files.
        split: of a data set.
        limit: pictures.
        side: pixels that the short side of a picture has at most; larger pictures are made smaller.
    """
    if "*" in source:
        paths = sorted(glob(str(Path(source).expanduser())))
        files = [Path(one) for one in paths if Path(one).suffix.lower() in READABLE]
        if not files:
            raise click.ClickException(f"--data: no photographs match {source}.")
        return [reduced(open_picture(files[i]), side) for i in chosen(len(files), limit)]
    pictures = load_pictures(source, split)
    return [reduced(pictures[index], side) for index in chosen(len(pictures), limit)]


def reduced(picture: Image.Image, side: int) -> np.ndarray:
    """8-bit sRGB (H, W, 3) with at most `side` pixels on the short side."""
    picture = to_srgb(picture)
    scale = side / min(picture.size)
    if scale < 1:
        size = [round(scale * length) for length in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(picture)


def measure(pipe: ORTColorizationPipeline, pictures: list[np.ndarray], how: dict) -> dict:
    """`metrics.summarize` of a set, with the seconds that an answer takes.

    Args:
        pipe: the model with the setting.
        pictures: of the set.
        how: "seeds", with which answers are asked for one at a time; and "samples", asked for
            together with the first of them.
    """
    processor = ColorizationImageProcessor(pipe.properties["chroma_stride"])
    records, histograms, clock = [], {}, 0.0
    for index, truth in enumerate(pictures):
        seeds = [seed * 1_000_003 + index for seed in range(how["seeds"])]
        started = time.perf_counter()
        alone = torch.cat([answers(pipe, truth, seed, 1) for seed in seeds])
        clock += time.perf_counter() - started
        together = answers(pipe, truth, seeds[0], how["samples"])
        luminance = processor.to_luminance(truth)
        grey, mean, *own = (
            processor.colorize(luminance, one).numpy()
            for one in (torch.zeros(2, 1, 1), together.mean(0), *alone, *together)
        )
        views = grey, own[: len(alone)], own[len(alone) :], mean
        record = metrics.measure_picture(truth, *views)
        for kind, counts in record.pop("histograms").items():
            histograms[kind] = histograms.get(kind, 0) + counts
        records.append(record)
    seconds = clock / (len(pictures) * how["seeds"])
    return metrics.summarize(records, histograms) | {"seconds": seconds}


def answers(pipe, truth: np.ndarray, seed: int, samples: int) -> torch.Tensor:
    """Chroma (samples, 2, h, w) of one call."""
    generator = [TorchGenerator().manual_seed(seed)]
    called = pipe([truth], num_samples=samples, generator=generator, output_type="latent")
    return torch.from_numpy(np.stack(called.images))


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def to_markdown(lines: list[dict], samples: int) -> str:
    """A table with a row for each setting and a cell for each figure, its values set by set."""
    columns = [head.format(samples=samples) for head in FIGURES]
    rows = [["setting", *columns, "s an answer"]]
    for line in lines:
        sets = [with_variation(one) for one in line["sets"].values()]
        seconds = " / ".join(f"{one['seconds']:.2f}" for one in sets)
        cells = [" / ".join(cell.format(**one) for one in sets) for cell in FIGURES.values()]
        rows.append([line["setting"] or "as it is", *cells, seconds])
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    sets = " / ".join(lines[0]["sets"]) if lines else "no set"
    return "\n".join([f"Sets: {sets}.", "", head, "|---" * len(rows[0]) + "|", *body]) + "\n"


def with_variation(summary: dict) -> dict:
    """And how much colour varies where L* is even, as a share of the truth's."""
    blotches = summary["blotches"]
    return summary | {"variation": blotches["sample"] / (blotches["truth"] or float("nan"))}


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--model", default="default", show_default=True, help="Shipped name or folder.")
@click.option("--data", multiple=True, required=True, help="Folder or files; repeatable.")
@click.option("--split", default="validation", show_default=True)
@click.option("--limit", default=40, show_default=True, help="Pictures a set, evenly spaced.")
@click.option("--side", default=256, show_default=True, help="Largest short side of a picture.")
@click.option("--setting", multiple=True, help="Of the model; repeatable. Default: as it is.")
@click.option("--seeds", default=2, show_default=True, help="Answers that are drawn one by one.")
@click.option("--samples", default=4, show_default=True, help="Answers that are drawn together.")
@click.option(
    "--output", default="runs/candidates", show_default=True, type=click.Path(path_type=Path)
)
def main(model, data, split, limit, side, setting, seeds, samples, output):
    try:
        folder = model_folder(model)
    except ValueError as error:
        raise click.ClickException(f"--model: {error}.") from error
    settings = {one: parse(one) for one in setting or ("",)}
    sets = {Path(one).name: load(one, split, limit, side) for one in data}
    output.mkdir(parents=True, exist_ok=True)
    file = output / "figures.jsonl"
    how = {"sets": list(sets), "split": split, "limit": limit, "side": side}
    how |= {"seeds": seeds, "samples": samples}
    done = [line["setting"] for line in read(file) if line["how"] == how]
    for name in tqdm([one for one in settings if one not in done], unit="setting"):
        write_with(folder, settings[name], output / "model.onnx")
        pipe = ORTColorizationPipeline(output / "model.onnx")
        figures = {key: measure(pipe, pictures, how) for key, pictures in sets.items()}
        with open(file, "a") as out:
            out.write(json.dumps({"setting": name, "how": how, "sets": figures}) + "\n")
    report = to_markdown([one for one in read(file) if one["how"] == how], samples)
    (output / "candidates.md").write_text(report)
    click.echo(report)


if __name__ == "__main__":
    main()
