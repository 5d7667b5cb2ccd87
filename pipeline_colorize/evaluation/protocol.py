"""How a model is evaluated: pictures are made grey, coloured several times, and measured.

Works on one process or several, with the same figures; `accelerate` starts and joins them.
"""

import dataclasses
import hashlib
import importlib.metadata
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from datasets import Image as ImageColumn
from datasets import load_dataset
from PIL import Image, ImageOps
from tqdm import tqdm

from .. import ColorizationPipeline, Hint
from ..core.sizes import look_resolutions
from ..onnx.noise import TorchGenerator
from ..onnx.runtime import ORTColorizationPipeline
from ..photo import to_srgb
from ..photo.column import open_record
from ..photo.record import one_line
from ..registry import sampler_class
from . import metrics
from .pairs import compare_pairs, standard_errors
from .report import CONSTANT_PICTURES

_SHOWN = 8  # pictures of a set that the contact sheet shows
_SEEDS_APART = 1_000_003  # so that no picture of one seed has the noise of another's neighbour


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """How a model is evaluated.

    Args:
        model: a name that ships, a folder or a repository of the Hub.
        split: of each data set.
        limit: pictures of a set, evenly spaced over it; `None` takes all.
        size: side of the squares, in pixels, that pictures are cropped and resized to; `None`
            takes them as they are.
        samples: colourings of a picture that are asked for together.
        candidates: drawn for each sample; `None`, here and below, leaves a dial to the model.
        steps: of denoising.
        temperature: of the starting noise.
        saturation: factor on chroma, beside the model's own.
        eta: share of fresh noise in each step.
        processing_resolution: working size in pixels.
        second_look: how many times finer the second look is.
        scheduler: short name of a sampler, as in `registry.SAMPLERS`.
        batch_size: pictures that are coloured at a time.
        seed: of the noise.
        hints: numbers of true colours that are given as hints, in further colourings.
        mean_color: split whose mean colour is measured as well, as the simplest guess there is.
        against: another model, which is compared with this one picture by picture.
    """

    model: str = "default"
    split: str = "test"
    limit: int | None = None
    size: int | None = None
    samples: int = 8
    candidates: int | None = None
    steps: int | None = None
    temperature: float | None = None
    saturation: float = 1.0
    eta: float | None = None
    processing_resolution: int | None = None
    second_look: float | None = None
    scheduler: str | None = None
    batch_size: int = 16
    seed: int = 0
    hints: tuple[int, ...] = ()
    mean_color: str | None = None
    against: str | None = None

    @property
    def call(self) -> dict[str, Any]:
        """The options of a pipeline's call."""
        return {
            "num_samples": self.samples,
            "num_candidates": self.candidates,
            "num_inference_steps": self.steps,
            "temperature": self.temperature,
            "saturation": self.saturation,
            "eta": self.eta,
            "processing_resolution": self.processing_resolution,
            "second_look": self.second_look,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a report holds them."""
        return dataclasses.asdict(self) | {"hints": sorted(set(self.hints))}


# --- pictures -----------------------------------------------------------------------------------


class PictureColumn(Sequence):
    """Upright pictures of an undecoded column; each is decoded when it is taken, and not kept."""

    def __init__(self, column: Sequence[dict], folder: str = ""):
        self.column, self.folder = column, folder

    def name(self, index: int) -> str:
        """Name the file of a picture, relative to the folder of the set, or "row N"."""
        path = self.column[index]["path"]
        if not path:
            return f"row {index}"
        root, file = Path(self.folder).absolute(), Path(path)
        return str(file.relative_to(root)) if file.is_relative_to(root) else file.name

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, index):
        with open_record(self.column[index]) as picture:
            return ImageOps.exif_transpose(picture)


def load_pictures(path: str, split: str) -> PictureColumn:
    """Load a split of a folder of pictures or parquet files, or of a data set of the Hub.

    Raises:
        ValueError: if there is no such data set or split, or it holds no pictures.
    """
    try:
        loaded = load_dataset(path, split=split)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"{path}: {error}") from error
    kinds = loaded.features.items()
    columns = [name for name, kind in kinds if isinstance(kind, ImageColumn)]
    if not columns:
        raise ValueError(f"{path} has no column of pictures, but {sorted(loaded.features)}.")
    column = loaded.cast_column(columns[0], ImageColumn(decode=False))[columns[0]]
    return PictureColumn(column, path)


def spread_indices(count: int, limit: int | None) -> list[int]:
    """Choose at most `limit` of `count` pictures, evenly spaced, since sets are often sorted.

    >>> spread_indices(9, 3)
    [0, 4, 8]
    """
    if limit is None or limit >= count:
        return list(range(count))
    return np.linspace(0, count - 1, limit).round().astype(int).tolist()


def prepare(picture: Image.Image, size: int | None) -> np.ndarray:
    """Bring a picture to 8-bit sRGB (H, W, 3); with `size`, to the centre square of that size."""
    picture = to_srgb(picture)
    if size is not None:
        picture = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def prepare_readable(
    pictures: PictureColumn, indices: list[int], size: int | None
) -> tuple[dict[int, np.ndarray], list[str]]:
    """Prepare the pictures at `indices`, by index, and name those that cannot be read."""
    prepared, broken = {}, []
    for index in indices:
        try:
            prepared[index] = prepare(pictures[index], size)
        except Exception as error:  # decoders raise nearly anything
            broken.append(f"{pictures.name(index)} ({one_line(error)})")
    return prepared, broken


# --- networks -----------------------------------------------------------------------------------


class MetricNetworks:
    """FID, KID and LPIPS, as far as their networks are on this machine.

    `notes` says what is missing, a line each.
    """

    def __init__(self, device: torch.device):
        missing = {name: metrics.missing_network(name) for name in ("FID and KID", "LPIPS")}
        self.notes = [line for line in missing.values() if line]
        self.inception = None if missing["FID and KID"] else metrics.load_inception().to(device)
        self.lpips = None if missing["LPIPS"] else metrics.load_lpips().to(device)
        self.device = device

    def _tensor(self, *views: np.ndarray) -> torch.Tensor:
        """Stack pictures to (N, 3, H, W), uint8."""
        return torch.from_numpy(np.stack(views)).movedim(-1, 1).to(self.device)

    @torch.no_grad()
    def measure(self, truth: np.ndarray, views: dict[str, np.ndarray]) -> dict:
        """Measure what `summarize` needs of one picture.

        Args:
            truth: 8-bit (H, W, 3).
            views: likewise: "grey", "sample" and "mean".
        """
        record: dict[str, Any] = {}
        if self.inception is not None:
            record["features"] = self.inception(self._tensor(views["sample"], truth)).cpu()
        if self.lpips is not None:
            true = self._tensor(truth) / 255
            record["lpips"] = {
                kind: self.lpips(self._tensor(view) / 255, true).item()
                for kind, view in views.items()
            }
        return record

    @staticmethod
    def summarize(records: list[dict]) -> dict:
        """Compute the figures of a set; takes the features out of the records."""
        summary: dict[str, Any] = {}
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


# --- colours ------------------------------------------------------------------------------------


class OnnxColors:
    """A pipeline in which an ONNX file of its model invents the colours.

    Args:
        pipe: the model's pipeline.
        file: as `scripts/export_onnx.py` writes it.
    """

    def __init__(self, pipe: ColorizationPipeline, file: Path):
        self.runtime = ORTColorizationPipeline(file)
        self.config, self.unet, self.device = pipe.config, pipe.unet, torch.device("cpu")
        self.image_processor = pipe.image_processor

    def __call__(self, images, generator: list[torch.Generator], output_type: str, **options):
        """Do what the pipeline does, for the options that `invent` gives it."""
        seeds = [one.initial_seed() for one in generator]
        generators = [TorchGenerator().manual_seed(seed) for seed in seeds]
        output = self.runtime(images, generator=generators, output_type=output_type, **options)
        images = [torch.from_numpy(one) for one in output.images]
        return SimpleNamespace(images=images)


def load_pipeline(
    model: str, scheduler: str | None, onnx: Path | None, device: torch.device
) -> ColorizationPipeline | OnnxColors:
    """Load a model, with another sampler or an ONNX file in place of the network if one is named.

    Raises:
        ValueError: if both are named, since an ONNX file holds its sampler.
    """
    if onnx and scheduler:
        raise ValueError(f"{onnx} holds its sampler, so that {scheduler!r} cannot take its place.")
    pipe = ColorizationPipeline.from_pretrained(model).to(device)
    pipe.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipe.scheduler = sampler_class(scheduler).from_config(pipe.scheduler.config)
    return OnnxColors(pipe, onnx) if onnx else pipe


def invent(pipe, truths: list[np.ndarray], seeds: list[int], options: dict):
    """Invent the chroma of each sample of each picture, (2, h, w)."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return pipe(truths, generator=generators, output_type="latent", **options).images


def fill(pipe, truth: np.ndarray, chroma: list[float]) -> np.ndarray:
    """Give the light of a picture one a*, b* everywhere."""
    luminance = pipe.image_processor.to_luminance(truth)
    return pipe.image_processor.colorize(luminance, torch.tensor(chroma).view(2, 1, 1)).numpy()


def grid_of(
    pipe, truth: np.ndarray, resolution: int | None, second_look: float | None = None
) -> tuple[int, int]:
    """Count the cells of the chroma grid of the last look, down and across."""
    if resolution is None:
        resolution = pipe.config.default_processing_resolution
    if second_look is None:
        second_look = pipe.config.default_second_look
    processor, (height, width) = pipe.image_processor, truth.shape[:2]
    looks = look_resolutions(height, width, resolution, second_look, processor.chroma_stride)
    rows, columns = processor.working_size(height, width, looks[-1])
    return rows // processor.chroma_stride, columns // processor.chroma_stride


def colorize_with_hints(pipe, truths, seeds, hints: list[list], options: dict) -> list[tuple]:
    """Colour each picture once with some true colours: 8-bit result and chroma (2, h, w).

    Args:
        pipe: the model.
        truths: pictures, 8-bit (H, W, 3).
        seeds: of the noise, a picture each.
        hints: for each picture, `metrics.TrueHint`s.
        options: of the call.
    """
    given = [[Hint(x, y, one.color) for one in ones for x, y in [one.middle]] for ones in hints]
    chromas = invent(pipe, truths, seeds, options | {"num_samples": 1, "hints": given})
    processor = pipe.image_processor
    return [
        (processor.colorize(processor.to_luminance(truth), chroma).numpy(), chroma.numpy())
        for truth, chroma in zip(truths, chromas, strict=True)
    ]


def measure_with_hints(
    pipe, truths: list[np.ndarray], seeds: list[int], settings: EvaluationSettings
) -> list[dict]:
    """Colour pictures with more and more true colours; a record of `summarize_hints` for each."""
    counts = sorted({0, 1, *settings.hints})  # one is always among them, for its reach
    size = settings.processing_resolution, settings.second_look
    all_hints = [
        metrics.draw_true_hints(truth, grid_of(pipe, truth, *size), counts[-1], seed)
        for truth, seed in zip(truths, seeds, strict=True)
    ]
    records: list[dict] = [{} for _ in truths]
    plain = []
    for count in counts:
        hints = [ones[:count] for ones in all_hints]
        results = colorize_with_hints(pipe, truths, seeds, hints, settings.call)
        for record, truth, ones, (result, chroma) in zip(
            records, truths, hints, results, strict=True
        ):
            record[count] = metrics.measure_hints(ones, result, chroma, truth)
            plain += [result] * (count == 0)
        if count == 1:
            for record, ones, before, (after, _) in zip(
                records, hints, plain, results, strict=True
            ):
                record["reach"] = metrics.hint_reach(ones[0], before, after)
    return records


# --- a set --------------------------------------------------------------------------------------


def mean_chroma(pictures: PictureColumn, size: int | None, state: PartialState) -> list[float]:
    """Average a*, b* over at most CONSTANT_PICTURES pictures, which the processes share."""
    indices = spread_indices(len(pictures), CONSTANT_PICTURES)
    means = [
        (index, metrics.to_lab(truth)[..., 1:].mean((0, 1)).tolist())
        for own in indices[state.process_index :: state.num_processes]
        for index, truth in prepare_readable(pictures, [own], size)[0].items()
    ]
    return np.mean([mean for _, mean in sorted(gather_object(means))], 0).tolist()


class Evaluation:
    """An evaluation of a model on sets of pictures, which all processes take part in.

    Args:
        pipe: the model, as `load_pipeline` gives it.
        settings: how it is evaluated.
        state: of this process.

    Raises:
        ValueError: if hints are asked for and the model takes none.
    """

    def __init__(self, pipe, settings: EvaluationSettings, state: PartialState):
        if settings.hints and not getattr(pipe.unet.config, "hint_channels", 0):
            raise ValueError(f"The model {settings.model} takes no colour hints.")
        self.pipe, self.settings, self.state = pipe, settings, state
        self.networks = MetricNetworks(state.device)
        self.seconds = 0.0  # of one sample each, on this process

    def run(self, path: str) -> dict:
        """Evaluate on one data set: its `records`, `views` for a sheet, and `summary`.

        A picture is always in the same batch, whatever the number of processes, so that even the
        rounding of its figures is the same.
        """
        settings, state = self.settings, self.state
        constant = None
        if settings.mean_color:
            learned = load_pictures(path, settings.mean_color)
            constant = mean_chroma(learned, settings.size, state)
        pictures = load_pictures(path, settings.split)
        indices, size = spread_indices(len(pictures), settings.limit), settings.batch_size
        shown = set(indices[:: max(len(indices) // _SHOWN, 1)][:_SHOWN])
        batches = [indices[start : start + size] for start in range(0, len(indices), size)]
        mine = batches[state.process_index :: state.num_processes]
        records: list[dict] = []
        broken: list[str] = []
        histograms: dict[str, Any] = {}
        name, quiet = Path(path).name, not state.is_main_process
        for batch in tqdm(mine, desc=name, unit="batch", disable=quiet):
            truths, unread = prepare_readable(pictures, batch, settings.size)
            broken += unread
            for record in self.measure_batch(truths, constant, shown):
                record["file"] = pictures.name(record["index"])
                for kind, counts in record.pop("histograms").items():
                    histograms[kind] = histograms.get(kind, 0) + counts
                records.append(record)
        broken = gather_object(broken)
        joined = self._joined(records, histograms, constant)
        if broken and not joined["records"]:
            raise ValueError(f"{path} has no picture that can be read: {broken[0]}.")
        joined["summary"]["broken"] = sorted(broken)
        return joined

    def _joined(self, records: list[dict], histograms: dict, constant: list[float] | None) -> dict:
        """Join the records of all processes, and summarize them."""
        records = sorted(gather_object(records), key=lambda record: record["index"])
        total: dict = {}
        for one in gather_object([histograms]):
            for kind, counts in one.items():
                total[kind] = total.get(kind, 0) + counts
        views = [record.pop("views") for record in records if "views" in record]
        if not records:
            return {"records": records, "views": views, "summary": {}}
        summary = MetricNetworks.summarize(records) | metrics.summarize(records, total)
        summary["standard_errors"] = standard_errors(records)
        if constant is not None:
            summary["constant_chroma"] = constant
        if self.settings.hints:
            summary["hints"] = metrics.summarize_hints([record["hints"] for record in records])
        return {"records": records, "views": views, "summary": summary}

    def colorize(self, truths: list[np.ndarray], seeds: list[int]) -> Iterator[tuple]:
        """Yield for each picture, all 8-bit: truth, grey, one sample, the samples, their mean.

        The one sample is asked for by itself, as by most people: several share their candidates.
        """
        pipe, call, count = self.pipe, self.settings.call, self.settings.samples
        started = time.perf_counter()
        alone = invent(pipe, truths, seeds, call | {"num_samples": 1})
        self.seconds += time.perf_counter() - started
        latents = invent(pipe, truths, seeds, call) if count > 1 else alone
        processor = pipe.image_processor
        for index, truth in enumerate(truths):
            luminance = processor.to_luminance(truth)
            together = torch.stack(list(latents[index * count : (index + 1) * count]))
            views = [torch.zeros_like(together[0]), alone[index], together.mean(0), *together]
            grey, one, mean, *samples = (
                processor.colorize(luminance, chroma).numpy() for chroma in views
            )
            yield truth, grey, one, samples, mean

    def measure_batch(
        self, pictures: dict[int, np.ndarray], constant: list[float] | None, shown: set[int]
    ) -> list[dict]:
        """Measure a batch; a record of `metrics.measure_picture` for each picture.

        Args:
            pictures: true colours, 8-bit (H, W, 3), by the index in the set; possibly none.
            constant: a*, b* of the mean colour, where it is measured as well.
            shown: indices whose pictures are kept for the contact sheet.
        """
        if not pictures:
            return []
        settings = self.settings
        indices, truths = list(pictures), list(pictures.values())
        seeds = [settings.seed * _SEEDS_APART + index for index in indices]
        records = []
        for index, colored in zip(indices, self.colorize(truths, seeds), strict=True):
            truth, grey, one, samples, mean = colored
            record = {"index": index, **metrics.measure_picture(truth, grey, [one], samples, mean)}
            views = {"grey": grey, "sample": one, "mean": mean}
            record |= self.networks.measure(truth, views)
            if constant is not None:
                record["constant"] = metrics.compare(fill(self.pipe, truth, constant), truth)
            if index in shown:
                record["views"] = [grey, one, *samples[:3], mean, truth]
            records.append(record)
        if settings.hints:
            measured = measure_with_hints(self.pipe, truths, seeds, settings)
            for record, hints in zip(records, measured, strict=True):
                record["hints"] = hints
        return records


# --- all of it ----------------------------------------------------------------------------------


def describe(pipe, seconds: float, colorings: int) -> dict:
    """Describe the network: its size, the checksum of its weights and its speed here."""
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


def _versions() -> dict[str, str]:
    names = ("torch", "diffusers", "scikit-image", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def _rival(settings: EvaluationSettings, state: PartialState) -> Evaluation | None:
    """Make the evaluation of the model to compare with, if there is one."""
    if settings.against is None:
        return None
    pipe = load_pipeline(settings.against, None, None, state.device)
    rival = dataclasses.replace(settings, model=settings.against, hints=(), mean_color=None)
    return Evaluation(pipe, rival, state)


def _set_against(result: dict, other: dict) -> None:
    """Add to a model's result on a set how it compares with that of another model."""
    if not result["records"]:
        return
    result["summary"]["against"] = compare_pairs(result["records"], other["records"])
    by_index = {record["index"]: record for record in other["records"]}
    for record in result["records"]:
        rival = by_index[record["index"]]
        record["against"] = {kind: rival[kind] for kind in ("sample", "mean", "best")}


def evaluate(
    settings: EvaluationSettings, data: Sequence[str], onnx: Path | None = None
) -> tuple[dict, dict[str, dict]] | None:
    """Evaluate a model on data sets, as one of the processes that were started for it.

    Args:
        settings: how.
        data: folders or data sets of the Hub, of different names.
        onnx: an ONNX file of the model that invents the colours in its place.

    Returns:
        The report, JSON-ready, and the results of `Evaluation.run` by the names of the sets; on
        processes other than the main one, `None`.

    Raises:
        ValueError: if sets are named alike or cannot be read, or the model lacks what is asked for.
    """
    if len({Path(path).name for path in data}) < len(data):
        raise ValueError(f"The sets need different names, not {list(data)}.")
    state = PartialState(cpu=not torch.cuda.is_available())
    pipe = load_pipeline(settings.model, settings.scheduler, onnx, state.device)
    evaluation = Evaluation(pipe, settings, state)
    rival = _rival(settings, state)
    results, seconds = {}, {}
    for path in data:
        started = time.perf_counter()
        results[Path(path).name] = evaluation.run(path)
        if rival:
            _set_against(results[Path(path).name], rival.run(path))
        seconds[Path(path).name] = round(time.perf_counter() - started, 1)
    clock = sum(gather_object([evaluation.seconds]))
    state.destroy_process_group()  # a process that ends with its group open may be aborted
    if not state.is_main_process:
        return None
    pictures = sum(len(result["records"]) for result in results.values())
    report = {
        "settings": settings.to_json(),
        "defaults": {key: one for key, one in pipe.config.items() if key.startswith("default_")},
        "versions": _versions(),
        "model": describe(pipe, clock, pictures),
        "processes": state.num_processes,
        "seconds": seconds,
        "sets": {name: result["summary"] for name, result in results.items()},
        "notes": evaluation.networks.notes,
    }
    return report, results
