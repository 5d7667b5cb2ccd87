"""Evaluate a model on colour pictures: what a colorization paper would report.

    python scripts/evaluate.py --model default --data PATH [--data PATH ...]

Each picture is made grey (CIE L*), coloured several times, and compared with its true colours.
Prints tables, and writes results.json, results.md, pictures.jsonl and one PNG a set to --output.
On several processes, with the same figures as on one: `accelerate launch scripts/evaluate.py ...`.
FID, KID and LPIPS join in where their networks are; else the report says what to download.
"""

import hashlib
import importlib.metadata
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import diffusers
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Image as ImageColumn
from datasets import load_dataset
from huggingface_hub import EvalResult, ModelCard
from PIL import Image, ImageDraw, ImageOps
from tqdm import tqdm

from pipeline_colorize import ColorizationPipeline, Hint, OffsetCosineScheduler
from pipeline_colorize.core.sizes import look_resolutions
from pipeline_colorize.evaluation import metrics
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.photo import to_srgb
from pipeline_colorize.training.decoding import open_record

PROTOCOL = """\
- Grey is CIE L* (D65) of the sRGB picture; results keep it, and are judged as 8-bit sRGB.
- Pictures are {crop}; {order}.
- *one sample*: {one}; *mean of {samples}*: the picture
  with the mean chroma of its samples; *best of {samples}*: the sample nearest to the truth.
- CIEDE2000, squared error of a\\*b\\*, SSIM, PSNR: mean over a picture's pixels, then over
  pictures. In brackets: as a ratio to the picture left grey.
- Colourfulness: Hasler and Suesstrunk's M3, mean over pictures; *DDColor's* is its variant with
  absolute opponent channels. *difference*: of the means, signed / mean |difference| of a picture.
- Histogram: total variation between joint a\\*b\\* histograms (24x24 bins over -100..100) of all
  pictures of a set, of one sample each.
- Diversity: mean distance of two samples in a\\*b\\*. Calibration: rank correlation of the samples'
  spread with the error of their mean, within pictures / between pictures.
- Blotches: deviation of a\\*b\\* where L* is even. Edge focus: gradient of a\\*b\\* at the edges
  of L* over its mean; below the truth's, colours bleed."""
# What a report says that is as old as the figures of odd pixels, and what an older one says.
ONE_SAMPLE = "asked for by itself, the {samples} samples together"
ONE_OF_MANY = "mean over {samples} colourings of each picture"
HINT_PROTOCOL = """\
- Colour hints: true colours of cells of the chroma grid, at random places, one sample each from the
  noise that there is without them. *missed by*: CIEDE2000 between a hint and its cell, in brackets
  the share under 5; *on the grid* is what the network says, *in the picture* the mean of the cell's
  pixels. *Change*: distance in a\\*b\\* between the pictures with one hint and with none, by
  distance from the hint in shares of the short side."""
ODD_PROTOCOL = """\
- Odd: share of the pixels whose a\\*b\\* is off by more than 20, with more chroma than the truth
  has; pale: likewise with less."""
CONSTANT_PROTOCOL = """\
- One colour everywhere: the mean a\\*b\\* of {pictures} pictures of the split `{split}`."""
CONSTANT_PICTURES = 1000  # that the mean colour is taken of, evenly spaced

# Title, then columns: a head and the format of its cells, of a set's summary.
DIFFERENCE = "{%s[difference_of_means]:+.1f} / {%s[mean_of_differences]:.1f}"
CIEDE2000 = "{%s[ciede2000]:.2f} ({%s[ciede2000_ratio]:.2f})"
TABLES = {
    "Overview (CIEDE2000, and its ratio to grey)": {
        "pictures": "{pictures}",
        "grey": "{grey[ciede2000]:.2f}",
        "one sample": CIEDE2000.replace("%s", "sample"),
        "mean of {k}": CIEDE2000.replace("%s", "mean"),
        "best of {k}": CIEDE2000.replace("%s", "best"),
        "colourfulness": "{colorfulness[share]:.0%}",
        "PSNR one / mean / grey": "{sample[psnr]:.1f} / {mean[psnr]:.1f} / {grey[psnr]:.1f}",
        "histogram": "{histogram_distance[sample]:.3f}",
    },
    "Colourfulness": {
        "truth": "{colorfulness[truth]:.1f}",
        "one sample": "{colorfulness[sample]:.1f}",
        "difference": DIFFERENCE.replace("%s", "colorfulness"),
        "mean of {k}": "{colorfulness[mean]:.1f}",
        "DDColor's: truth": "{colorfulness_absolute[truth]:.1f}",
        "DDColor's: one sample": "{colorfulness_absolute[sample]:.1f}",
        "DDColor's: difference": DIFFERENCE.replace("%s", "colorfulness_absolute"),
    },
    "Nearness": {
        "PSNR best of {k}": "{best[psnr]:.1f}",
        "SSIM one / mean / grey": "{sample[ssim]:.3f} / {mean[ssim]:.3f} / {grey[ssim]:.3f}",
        "a\\*b\\* RMSE one / mean / grey": (
            "{sample[ab_rmse]:.1f} / {mean[ab_rmse]:.1f} / {grey[ab_rmse]:.1f}"
        ),
        "a\\*b\\* MSE one / mean / grey": (
            "{sample[ab_mse]:.0f} / {mean[ab_mse]:.0f} / {grey[ab_mse]:.0f}"
        ),
    },
    "Samples and faults": {
        "histogram mean of {k} / grey": (
            "{histogram_distance[mean]:.3f} / {histogram_distance[grey]:.3f}"
        ),
        "diversity": "{diversity:.1f}",
        "calibration": ("{calibration[within_pictures]:.2f} / {calibration[between_pictures]:.2f}"),
        "blotches one / mean / truth": (
            "{blotches[sample]:.1f} / {blotches[mean]:.1f} / {blotches[truth]:.1f}"
        ),
        "edge focus one / mean / truth": (
            "{edge_focus[sample]:.2f} / {edge_focus[mean]:.2f} / {edge_focus[truth]:.2f}"
        ),
        "largest dL*": "{luminance_error:.3f}",
    },
}
SETTINGS = (
    "model", "split", "limit", "size", "samples", "candidates", "steps", "temperature",
    "saturation", "eta", "processing_resolution", "second_look", "scheduler", "batch_size", "seed",
    "hints", "mean_color",
)  # fmt: skip
WITH_CONSTANT = {
    "a*, b*": "{constant_chroma[0]:.1f}, {constant_chroma[1]:.1f}",
    "CIEDE2000": CIEDE2000.replace("%s", "constant"),
    "PSNR": "{constant[psnr]:.1f}",
    "SSIM": "{constant[ssim]:.3f}",
    "a\\*b\\* RMSE": "{constant[ab_rmse]:.1f}",
    "a\\*b\\* MSE": "{constant[ab_mse]:.1f}",
}
BY_FIGURE = {  # what the summary must have: the title and the columns of a table
    "odd": (
        "Colours that are far off",
        {
            "odd one / mean": "{odd[sample]:.1%} / {odd[mean]:.1%}",
            "pale one / mean / grey": "{pale[sample]:.1%} / {pale[mean]:.1%} / {pale[grey]:.1%}",
        },
    ),
    "constant": ("One colour everywhere (CIEDE2000, and its ratio to grey)", WITH_CONSTANT),
}
WITH_NETWORKS = {  # by what the summary must have
    "fid": {"FID": "{fid:.2f}", "KID x 1000": "{kid_x1000:.2f}"},
    "lpips": {
        "LPIPS one / mean / grey": "{lpips[sample]:.3f} / {lpips[mean]:.3f} / {lpips[grey]:.3f}"
    },
}


# --- pictures -----------------------------------------------------------------------------------


class Pictures(Sequence):
    """Upright pictures of an undecoded column; each is decoded when it is taken, and not kept."""

    def __init__(self, column: Sequence[dict]):
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index: int) -> Image.Image:
        with open_record(self.column[index]) as picture:
            return ImageOps.exif_transpose(picture)


def load_pictures(path: str, split: str) -> Pictures:
    """The `split` of a folder of pictures or parquet files, or of a data set of the Hub."""
    try:
        loaded = load_dataset(path, split=split)
    except (ValueError, FileNotFoundError) as error:  # no such split, no such data set
        raise click.ClickException(f"--data {path}: {error}") from error
    kinds = loaded.features.items()
    columns = [name for name, kind in kinds if isinstance(kind, ImageColumn)]
    if not columns:
        raise click.ClickException(f"--data {path} has no column of pictures: {loaded.features}")
    return Pictures(loaded.cast_column(columns[0], ImageColumn(decode=False))[columns[0]])


def chosen(count: int, limit: int | None) -> list[int]:
    """Indices of at most `limit` of `count` pictures, evenly spaced: sets are often sorted."""
    if limit is None or limit >= count:
        return list(range(count))
    return np.linspace(0, count - 1, limit).round().astype(int).tolist()


def prepare(picture: Image.Image, size: int | None) -> np.ndarray:
    """8-bit sRGB (H, W, 3); with `size`, the centre square at that size."""
    picture = to_srgb(picture)
    if size is not None:
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture)


# --- networks -----------------------------------------------------------------------------------


class Networks:
    """FID, KID and LPIPS, as far as their networks are on this machine."""

    def __init__(self, device: torch.device):
        missing = {name: metrics.missing_network(name) for name in ("FID and KID", "LPIPS")}
        self.notes = [line for line in missing.values() if line]
        self.inception = None if missing["FID and KID"] else metrics.load_inception().to(device)
        self.lpips = None if missing["LPIPS"] else metrics.load_lpips().to(device)
        self.device = device

    def _tensor(self, *views: np.ndarray) -> torch.Tensor:
        """(N, 3, H, W), uint8."""
        return torch.from_numpy(np.stack(views)).movedim(-1, 1).to(self.device)

    @torch.no_grad()
    def measure(self, truth, grey, sample, mean) -> dict:
        """What `summarize` needs of one picture."""
        record = {}
        if self.inception is not None:
            record["features"] = self.inception(self._tensor(sample, truth)).cpu()
        if self.lpips is not None:
            true = self._tensor(truth) / 255
            views = {"grey": grey, "sample": sample, "mean": mean}
            record["lpips"] = {
                kind: self.lpips(self._tensor(view) / 255, true).item()
                for kind, view in views.items()
            }
        return record

    @staticmethod
    def summarize(records: list[dict]) -> dict:
        """The figures of a set; takes the features out of the records."""
        summary = {}
        if "features" in records[0]:
            features = torch.stack([record.pop("features") for record in records])
            distances = metrics.feature_distances(features[:, 0], features[:, 1])
            summary |= {"fid": distances["fid"], "kid_x1000": 1000 * distances["kid"]}
        if "lpips" in records[0]:
            kinds = records[0]["lpips"]
            summary["lpips"] = {
                kind: float(np.mean([record["lpips"][kind] for record in records]))
                for kind in kinds
            }
        return summary


# --- onnxruntime -------------------------------------------------------------------------------


class OnnxColors:
    """A pipeline in which an ONNX file of its model invents the colours."""

    def __init__(self, pipe: ColorizationPipeline, file: Path):
        self.runtime = ORTColorizationPipeline(file)
        self.config, self.unet, self.device = pipe.config, pipe.unet, torch.device("cpu")
        self.image_processor = pipe.image_processor

    def __call__(self, images, generator: list[torch.Generator], output_type: str, **options):
        """As the pipeline, for the options that `invent` gives it."""
        own = [TorchGenerator().manual_seed(one.initial_seed()) for one in generator]
        output = self.runtime(images, generator=own, output_type=output_type, **options)
        output.images = [torch.from_numpy(one) for one in output.images]
        return output


# --- evaluation ---------------------------------------------------------------------------------


def invent(pipe, truths: list[np.ndarray], seeds: list[int], options: dict):
    """Chroma of each sample of each picture, (2, h, w)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(truths, generator=generators, output_type="latent", **options).images


def colorize(pipe, truths: list[np.ndarray], seeds: list[int], settings: dict) -> Iterator[tuple]:
    """For each picture, all 8-bit: the truth, grey, one sample, the samples and their mean.

    The one is asked for by itself, as by most people: several share their candidates.
    """
    count = settings["call"]["num_samples"]
    started = time.perf_counter()
    alone = invent(pipe, truths, seeds, settings["call"] | {"num_samples": 1})
    settings["clock"].append(time.perf_counter() - started)
    latents = invent(pipe, truths, seeds, settings["call"]) if count > 1 else alone
    processor = pipe.image_processor
    for index, truth in enumerate(truths):
        luminance = processor.to_luminance(truth)
        own = torch.stack(list(latents[index * count : (index + 1) * count]))
        views = [torch.zeros_like(own[0]), alone[index], own.mean(0), *own]
        grey, one, mean, *samples = (
            processor.colorize(luminance, chroma).numpy() for chroma in views
        )
        yield truth, grey, one, samples, mean


def evaluate_batch(
    pipe, pictures: Sequence[Image.Image], indices: list[int], settings: dict
) -> list[dict]:
    """Records of `metrics.measure_picture` and of the networks for the pictures at `indices`."""
    truths = [prepare(pictures[index], settings["size"]) for index in indices]
    seeds = [settings["seed"] * 1_000_003 + index for index in indices]
    records = []
    for index, views in zip(indices, colorize(pipe, truths, seeds, settings), strict=True):
        truth, grey, one, samples, mean = views
        record = {"index": index, **metrics.measure_picture(truth, grey, [one], samples, mean)}
        record |= settings["networks"].measure(truth, grey, one, mean)
        if settings["constant"] is not None:
            record["constant"] = metrics.compare(fill(pipe, truth, settings["constant"]), truth)
        if index in settings["shown"]:
            record["views"] = [grey, one, *samples[:3], mean, truth]
        records.append(record)
    if settings["hints"]:
        for record, hints in zip(records, with_hints(pipe, truths, seeds, settings), strict=True):
            record["hints"] = hints
    return records


def fill(pipe, truth: np.ndarray, chroma: list[float]) -> np.ndarray:
    """The light of a picture with one a*, b* everywhere."""
    luminance = pipe.image_processor.to_luminance(truth)
    return pipe.image_processor.colorize(luminance, torch.tensor(chroma).view(2, 1, 1)).numpy()


def mean_chroma(
    pictures: Sequence[Image.Image], size: int | None, state: PartialState
) -> list[float]:
    """Mean a*, b* of at most CONSTANT_PICTURES pictures, a share of them by each process."""
    indices = chosen(len(pictures), CONSTANT_PICTURES)
    means = [
        (index, metrics.to_lab(prepare(pictures[index], size))[..., 1:].mean((0, 1)).tolist())
        for index in indices[state.process_index :: state.num_processes]
    ]
    return np.mean([mean for _, mean in sorted(gather_object(means))], 0).tolist()


def grid_of(
    pipe, truth: np.ndarray, resolution: int | None, second_look: float | None = None
) -> tuple[int, int]:
    """Cells of the chroma grid of the last look, down and across."""
    if resolution is None:
        resolution = pipe.config.default_processing_resolution
    if second_look is None:
        second_look = pipe.config.default_second_look
    processor, size = pipe.image_processor, truth.shape[:2]
    working = processor.working_size(*size, look_resolutions(*size, resolution, second_look)[-1])
    return tuple(side // processor.chroma_stride for side in working)


def with_hints(pipe, truths: list[np.ndarray], seeds: list[int], settings: dict) -> list[dict]:
    """A record of `metrics.summarize_hints` for each picture."""
    counts = sorted({0, 1, *settings["hints"]})  # one is always among them, for its reach
    size = settings["processing_resolution"], settings["second_look"]
    known = [
        metrics.draw_known_colors(truth, grid_of(pipe, truth, *size), counts[-1], seed)
        for truth, seed in zip(truths, seeds, strict=True)
    ]
    records: list[dict] = [{} for _ in truths]
    plain = []
    for count in counts:
        given = [own[:count] for own in known]
        results = colorize_with(pipe, truths, seeds, given, settings["call"])
        for record, truth, own, (result, chroma) in zip(
            records, truths, given, results, strict=True
        ):
            record[count] = metrics.measure_hints(own, result, chroma, truth)
            plain += [result] * (count == 0)
        if count == 1:
            for record, own, before, (after, _) in zip(records, given, plain, results, strict=True):
                record["reach"] = metrics.hint_reach(own[0], before, after)
    return records


def colorize_with(pipe, truths, seeds, known, options: dict) -> list[tuple]:
    """For each picture: one sample with the colours that are known, 8-bit, and its chroma."""
    hints = [[Hint(*one.middle, one.color) for one in own] for own in known]
    chromas = invent(pipe, truths, seeds, options | {"num_samples": 1, "hints": hints})
    processor = pipe.image_processor
    return [
        (processor.colorize(processor.to_luminance(truth), chroma).numpy(), chroma.numpy())
        for truth, chroma in zip(truths, chromas, strict=True)
    ]


def evaluate_set(
    pipe, pictures: Sequence[Image.Image], settings: dict, state: PartialState, name: str
) -> dict:
    """Everything about one set, on the main process; batches are shared between processes.

    A picture is always in the same batch, whatever the number of processes, so that even the
    rounding of its figures is the same.
    """
    indices = chosen(len(pictures), settings["limit"])
    size = settings["batch_size"]
    settings["shown"] = set(indices[:: max(len(indices) // 8, 1)][:8])
    batches = [indices[start : start + size] for start in range(0, len(indices), size)]
    records, histograms = [], {}
    own = batches[state.process_index :: state.num_processes]
    for batch in tqdm(own, desc=name, unit="batch", disable=not state.is_main_process):
        for record in evaluate_batch(pipe, pictures, batch, settings):
            for kind, counts in record.pop("histograms").items():
                histograms[kind] = histograms.get(kind, 0) + counts
            records.append(record)
    records = sorted(gather_object(records), key=lambda record: record["index"])
    total = {}
    for one in gather_object([histograms]):
        for kind, counts in one.items():
            total[kind] = total.get(kind, 0) + counts
    views = [record.pop("views") for record in records if "views" in record]
    summary = Networks.summarize(records) | metrics.summarize(records, total)
    if settings["constant"] is not None:
        summary["constant_chroma"] = settings["constant"]
    if settings["hints"]:
        summary["hints"] = metrics.summarize_hints([record["hints"] for record in records])
    return {"records": records, "views": views, "summary": summary}


def describe(pipe, seconds: float, colorings: int) -> dict:
    """The network: its size, the checksum of its weights and its speed here."""
    folder = Path(pipe.unet.config._name_or_path)
    files = sorted(folder.glob("*.safetensors"))
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    dtype = str(pipe.unet.dtype).removeprefix("torch.")
    if isinstance(pipe, OnnxColors):
        dtype = f"ONNX with {pipe.runtime.properties['precision']} weights"
    return {
        "parameters": sum(parameter.numel() for parameter in pipe.unet.parameters()),
        "sha256": digests,
        "dtype": dtype,
        "device": str(pipe.device),
        "threads": torch.get_num_threads(),
        "seconds_per_coloring": seconds / colorings,
    }


def load_pipeline(model: str, scheduler: str | None, state: PartialState) -> ColorizationPipeline:
    """The model, on this process' device, with a diffusers scheduler by name if one is given."""
    pipe = ColorizationPipeline.from_pretrained(model).to(state.device)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    return pipe


# --- report -------------------------------------------------------------------------------------


def tables(report: dict) -> dict[str, dict[str, str]]:
    """TABLES, and what was asked for or possible besides."""
    summaries = list(report["sets"].values())
    columns = {}
    for key, more in WITH_NETWORKS.items():
        if all(key in summary for summary in summaries):
            columns |= more
    result = TABLES | ({"Networks": columns} if columns else {})
    for key, (title, more) in BY_FIGURE.items():
        if key in summaries[0]:
            result[title] = more
    if "hints" in summaries[0]:
        result |= hint_tables(summaries[0]["hints"]["counts"])
    return result


def hint_tables(counts: list[int]) -> dict[str, dict[str, str]]:
    """Columns for numbers of colour hints, the first of which is 0."""

    def cells(cell: str, first: int) -> str:
        return " / ".join(cell.replace("N", str(n)) for n in range(first, len(counts)))

    told = " / ".join(map(str, counts))
    nearness = {
        f"PSNR with {told}": cells("{hints[psnr][N]:.2f}", 0),
        f"CIEDE2000 with {told}": cells("{hints[ciede2000][N]:.2f}", 0),
    }
    given = " / ".join(map(str, counts[1:]))
    for place, where in (("grid", "on the grid"), ("picture", "in the picture")):
        cell = "{hints[PLACE][mean][N]:.1f} ({hints[PLACE][met][N]:.0%})".replace("PLACE", place)
        nearness[f"{given} missed by, {where}"] = cells(cell, 1)
    ends = [f"to {end:g}" for end in metrics.HINT_DISTANCES] + ["beyond"]
    reach = {end: f"{{hints[reach][{ring}]:.1f}}" for ring, end in enumerate(ends)}
    return {"Colour hints": nearness, "Change by one hint, by distance from it": reach}


def to_markdown(report: dict) -> str:
    """Tables of all sets, and how they were made."""
    settings, samples = report["settings"], report["settings"]["samples"]
    lines = [f"# {settings['model']} on {', '.join(report['sets'])} ({settings['split']})", ""]
    for title, columns in tables(report).items():
        heads = [head.format(k=samples) for head in columns]
        rows = [
            [name, *(cell.format(**number_ready(summary)) for cell in columns.values())]
            for name, summary in report["sets"].items()
        ]
        lines += [f"**{title}**", "", "| " + " | ".join(["set", *heads]) + " |"]
        lines.append("|---" * (len(heads) + 1) + "|")
        lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
    size, limit = settings["size"], settings["limit"]
    crop = f"centre squares resized to {size} (Lanczos)" if size else "used as they are"
    order = f"at most {limit} a set, evenly spaced" if limit else "all of the split"
    is_older = any("odd" not in summary for summary in report["sets"].values())
    one = (ONE_OF_MANY if is_older else ONE_SAMPLE).format(samples=samples)
    lines += [PROTOCOL.format(samples=samples, one=one, crop=crop, order=order)]
    if not is_older:
        lines.append(ODD_PROTOCOL)
    if settings.get("mean_color"):
        told = {"pictures": f"at most {CONSTANT_PICTURES:,}", "split": settings["mean_color"]}
        lines.append(CONSTANT_PROTOCOL.format(**told))
    if settings.get("hints"):
        lines.append(HINT_PROTOCOL)
    lines += ["", *report["notes"], ""]
    if "model" in report:  # not in older reports, which cards are held against
        lines += [model_line(report), ""]
    chosen = {key: value for key, value in settings.items() if value not in (None, [])}
    lines += ["Settings: " + ", ".join(f"{key} {value}" for key, value in chosen.items()) + "."]
    return "\n".join(lines) + "\n"


def model_line(report: dict) -> str:
    """What `describe` says, for people."""
    model, batch = report["model"], report["settings"]["batch_size"]
    digests = ", ".join(model["sha256"].values()) or "unknown"
    return (
        f"Model: {model['parameters']:,} parameters, SHA-256 of the weights {digests}. "
        f"{model['seconds_per_coloring']:.3f} s a colouring without upsampling, {batch} pictures "
        f"at a time, {model['dtype']} on {model['device']} with {model['threads']} threads."
    )


def contact_sheet(rows: list[list[np.ndarray]], side: int = 160, gap: int = 4) -> Image.Image:
    """Pictures in rows under their heads: grey, samples, mean of the samples, truth."""
    columns = max(len(row) for row in rows)
    samples = [f"sample {number + 1}" for number in range(columns - 4)]
    heads = ["grey", "one sample", *samples, "mean", "truth"]
    step, top = side + gap, 16
    size = (columns * step + gap, top + len(rows) * step + gap)
    sheet = Image.new("RGB", size, "white")
    for column, head in enumerate(heads):
        ImageDraw.Draw(sheet).text((gap + column * step, 3), head, "black")
    for number, row in enumerate(rows):
        for column, view in enumerate(row):
            tile = ImageOps.contain(Image.fromarray(view), (side, side), Image.Resampling.LANCZOS)
            sheet.paste(tile, (gap + column * step, top + gap + number * step))
    return sheet


def replaced(value, is_old: Callable, new):
    """The value with `new` for whatever in it is old."""
    if isinstance(value, dict):
        return {key: replaced(one, is_old, new) for key, one in value.items()}
    if isinstance(value, list):
        return [replaced(one, is_old, new) for one in value]
    return new if is_old(value) else value


def json_ready(value):
    """NaN, which JSON lacks, becomes null."""
    return replaced(value, lambda one: isinstance(one, float) and math.isnan(one), None)


def number_ready(value):
    """And back, where a report was read."""
    return replaced(value, lambda one: one is None, math.nan)


def write_report(report: dict, results: dict, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(json_ready(report), indent=2) + "\n")
    (output / "results.md").write_text(to_markdown(report))
    with open(output / "pictures.jsonl", "w") as file:
        for name, result in results.items():
            for record in result["records"]:
                file.write(json.dumps(json_ready({"set": name, **record})) + "\n")
    for name, result in results.items():
        contact_sheet(result["views"]).save(output / f"{name}.png")


def update_card(path: Path, report: dict) -> None:
    """Put the main figures into the `model-index` of a model card."""
    card = ModelCard.load(path)
    settings = report["settings"]
    figures = {
        "CIEDE2000, one sample": ("ciede2000", ("sample", "ciede2000")),
        f"CIEDE2000, mean of {settings['samples']} samples": ("ciede2000", ("mean", "ciede2000")),
        "CIEDE2000, left grey": ("ciede2000", ("grey", "ciede2000")),
        "PSNR, one sample": ("psnr", ("sample", "psnr")),
        "SSIM, one sample": ("ssim", ("sample", "ssim")),
        "Colourfulness, share of the truth's": ("colorfulness", ("colorfulness", "share")),
    }
    card.data.model_name = card.data.model_name or settings["model"]
    card.data.eval_results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type=name,
            dataset_name=name,
            dataset_split=settings["split"],
            metric_type=kind,
            metric_name=title,
            metric_value=round(summary[part][key], 4),
        )
        for name, summary in report["sets"].items()
        for title, (kind, (part, key)) in figures.items()
    ]
    card.save(path)


def versions() -> dict[str, str]:
    names = ("torch", "diffusers", "scikit-image", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--model", default="default", show_default=True, help="Shipped name, folder or Hub id."
)
@click.option("--data", multiple=True, required=True, help="Folder or Hub data set; repeatable.")
@click.option("--split", default="test", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Pictures a set, evenly spaced.")
@click.option("--size", type=click.IntRange(16), help="Centre-crop and resize to this square.")
@click.option("--samples", default=8, show_default=True, type=click.IntRange(1))
@click.option(
    "--candidates", type=click.IntRange(1), help="Drawn for each sample. Default: the model's."
)
@click.option("--steps", type=click.IntRange(1), help="Default: the model's.")
@click.option("--temperature", type=click.FloatRange(0), help="Default: the model's.")
@click.option("--saturation", default=1.0, show_default=True, type=click.FloatRange(0))
@click.option("--eta", type=click.FloatRange(0, 1), help="Default: the model's.")
@click.option("--processing-resolution", type=click.IntRange(0), help="Default: the model's.")
@click.option("--second-look", type=click.FloatRange(1), help="Default: the model's.")
@click.option("--scheduler", type=click.Choice(OffsetCosineScheduler._compatibles))
@click.option(
    "--onnx",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Colours by this ONNX file of the model.",
)
@click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--output", default="runs/evaluation", show_default=True, type=click.Path(path_type=Path)
)
@click.option(
    "--hints",
    multiple=True,
    type=click.IntRange(1),
    help="Also with this many true colours given; repeatable.",
)
@click.option("--mean-color", metavar="SPLIT", help="Also the mean colour of this split.")
@click.option("--card", type=click.Path(path_type=Path, exists=True), help="Model card to fill.")
def main(
    model, data, split, limit, size, samples, candidates, steps, temperature, saturation, eta,
    processing_resolution, second_look, scheduler, onnx, batch_size, seed, output, hints,
    mean_color, card,
):  # fmt: skip
    params = click.get_current_context().params
    settings = {key: value for key, value in params.items() if key in SETTINGS}
    settings["hints"] = sorted(set(hints))
    state = PartialState(cpu=not torch.cuda.is_available())
    if onnx and scheduler:
        raise click.ClickException("--onnx: the file has its own sampler, so no --scheduler.")
    pipe = load_pipeline(model, scheduler, state)
    if onnx:
        pipe = OnnxColors(pipe, onnx)
    call = {
        "num_samples": samples,
        "num_candidates": candidates,
        "num_inference_steps": steps,
        "temperature": temperature,
        "saturation": saturation,
        "eta": eta,
        "processing_resolution": processing_resolution,
        "second_look": second_look,
    }
    if len({Path(path).name for path in data}) < len(data):
        raise click.ClickException(f"--data: the sets need different names, not {list(data)}.")
    networks = Networks(state.device)
    if hints and not getattr(pipe.unet.config, "hint_channels", 0):
        raise click.ClickException(f"--hints: the model {model} takes no colour hints.")
    run = settings | {"call": call, "networks": networks, "clock": []}
    results, seconds = {}, {}
    for path in data:
        name, started = Path(path).name, time.perf_counter()
        run["constant"] = mean_color and mean_chroma(load_pictures(path, mean_color), size, state)
        results[name] = evaluate_set(pipe, load_pictures(path, split), run, state, name)
        seconds[name] = round(time.perf_counter() - started, 1)
    clock = sum(gather_object(run["clock"]))
    state.destroy_process_group()  # a process that ends with its group open may be aborted
    if not state.is_main_process:
        return
    pictures = sum(len(result["records"]) for result in results.values())
    report = {
        "settings": settings,
        "defaults": {key: one for key, one in pipe.config.items() if key.startswith("default_")},
        "versions": versions(),
        "model": describe(pipe, clock, pictures),
        "processes": state.num_processes,
        "seconds": seconds,
        "sets": {name: result["summary"] for name, result in results.items()},
        "notes": networks.notes,
    }
    write_report(report, results, output)
    if card is not None:
        update_card(card, report)
    click.echo(to_markdown(report))


if __name__ == "__main__":
    main()
