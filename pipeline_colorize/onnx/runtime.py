"""A model in one ONNX file, run by onnxruntime: neither torch nor diffusers is imported.

`docs/onnx.md` says what goes into the file and what comes out. The same seed gives the same
picture as with torch.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image

from pipeline_colorize.core.agreement import agree, agreement_weights
from pipeline_colorize.core.colorimetry import RGB_TO_XYZ, decode_srgb, y_to_lightness
from pipeline_colorize.core.hints import Hint, draw_hints, hint_influence
from pipeline_colorize.core.sizes import (
    SECOND_LOOK_START,
    check_sides,
    fit_size,
    look_resolutions,
    row_chunks,
    second_look_steps,
)

FORMAT = 5
"""Of the file: rises when one of an earlier release no longer fits this module."""

FILE_NAME = "model.onnx"
"""Of a file that lies in a model's folder."""

_PACKAGE = Path(__file__).parents[1]


# --- noise ---------------------------------------------------------------------------------------


class Generator:
    """torch's random numbers on the CPU: same seed, same normal numbers up to the last digits.

    The Mersenne Twister of Matsumoto and Nishimura (1998) and the transform of Box and Muller
    (1958), in the order in which torch draws and pairs.
    """

    def __init__(self):
        self._left: float | None = None
        self.manual_seed(0)

    def manual_seed(self, seed: int) -> "Generator":
        """Begin anew from `seed`, of which the low 32 bits count."""
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)
        self._left = None
        return self

    def randn(self, *shape: int) -> np.ndarray:
        """Normal numbers of `shape`, float32, as `torch.randn(shape, generator=self)`."""
        count = math.prod(shape)
        values = self._many(count) if count >= 16 else self._few(count)
        return np.asarray(values, np.float32).reshape(shape)

    def _bits(self, count: int) -> np.ndarray:
        return self._twister.randint(0, 1 << 32, count, dtype=np.uint32)

    def _many(self, count: int) -> np.ndarray:
        """In blocks of 16; where they do not come out even, the last one is put over the end."""
        bits = self._bits(count)
        blocks = _normal_blocks(bits[: count // 16 * 16])
        if count % 16 == 0:
            return blocks
        return np.concatenate([blocks[: count - 16], _normal_blocks(self._bits(16))])

    def _few(self, count: int) -> list[float]:
        """One after the other, in double precision; half of a pair is kept for later."""
        values = []
        for _ in range(count):
            if self._left is not None:
                values.append(self._left)
                self._left = None
                continue
            high, low, high2, low2 = self._bits(4).tolist()
            unit, unit2 = (
                ((h << 32 | low_half) & (1 << 53) - 1) * 2.0**-53
                for h, low_half in ((high, low), (high2, low2))
            )
            radius = math.sqrt(-2 * math.log1p(-unit2))
            values.append(radius * math.cos(2 * math.pi * unit))
            self._left = radius * math.sin(2 * math.pi * unit)
        return values


def _normal_blocks(bits: np.ndarray) -> np.ndarray:
    """Random 32-bit numbers, a multiple of 16, to as many normal ones."""
    units = ((bits & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)).reshape(-1, 2, 8)
    radius = np.sqrt(-2 * np.log(1 - units[:, 0]))
    angle = np.float32(2 * math.pi) * units[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()


# --- the file ------------------------------------------------------------------------------------


class OffsetCosineScheduler:
    """The steps of `scheduler.OffsetCosineScheduler`, as the file takes them.

    Args:
        told: the properties of the file.
    """

    def __init__(self, told: dict):
        self._total, self._spacing = told["num_train_timesteps"], told["timestep_spacing"]
        start, end = math.acos(told["max_signal_rate"]), math.acos(told["min_signal_rate"])
        angle = np.arctan(told["shift"] * np.tan(np.linspace(start, end, self._total)))
        self._signal = np.cos(angle).astype(np.float32)
        self._rate = np.sin(angle).astype(np.float32)
        self._alpha = (np.cos(angle) ** 2).astype(np.float32)

    def timesteps(self, steps: int) -> np.ndarray:
        """From noisy to clean, (steps,)."""
        total = self._total
        if not 1 <= steps <= total:
            raise ValueError(f"Steps must be between 1 and {total}, not {steps}.")
        if self._spacing == "trailing":
            return np.round(total - np.arange(steps) * total / steps).astype(int) - 1
        return np.linspace(total - 1, 0, steps).round().astype(int)

    def rows(self, steps: int, eta: float) -> np.ndarray:
        """(timestep, signal, rate, next signal, direction, fresh noise) of each step, (steps, 6).

        The next sample is `next signal` times the clean estimate, plus `direction` times the
        estimated noise, plus `fresh noise` times new noise (Song et al. 2021, DDIM, eq. 12, 16).

        Args:
            steps: 1 to `num_train_timesteps`.
            eta: 0 for deterministic DDIM to 1 for ancestral DDPM.
        """
        times = self.timesteps(steps)
        now, later = times[:-1], times[1:]
        rate, alpha = self._rate, self._alpha
        fresh = np.float32(eta) * (rate[later] / rate[now]) * np.sqrt(1 - alpha[now] / alpha[later])
        direction = np.sqrt(np.maximum(rate[later] ** 2 - fresh**2, 0))
        following = (self._signal[later], direction, fresh)
        ends = (1, 0, 0)  # the last step ends at the clean estimate
        columns = [times, self._signal[times], rate[times]]
        columns += [np.append(column, end) for column, end in zip(following, ends, strict=True)]
        return np.stack(columns, axis=1).astype(np.float32)

    def later_rows(self, steps: int, eta: float) -> np.ndarray:
        """Those of a second look, which starts part of the way back to noise."""
        rows = self.rows(second_look_steps(steps), eta)
        return rows[rows[:, 0] < SECOND_LOOK_START * self._total]


def cached_file(folder: Path) -> Path:
    """Where the ONNX file of the model in `folder` is kept once it has been written.

    The name follows from the model and from the code that writes the file, so that neither changes
    unnoticed.
    """
    digest = hashlib.sha256()
    parts = [
        folder / "model_index.json",
        folder / "unet" / "config.json",
        folder / "unet" / "diffusion_pytorch_model.safetensors",
        folder / "scheduler" / "scheduler_config.json",
        *(path for room in ("core", "onnx") for path in sorted((_PACKAGE / room).glob("*.py"))),
    ]
    for part in parts:
        digest.update(part.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{folder.resolve().name}-{digest.hexdigest()[:16]}.onnx"
    return cache / "pipeline-colorize" / name


def find_file(folder: Path) -> Path | None:
    """The ONNX file of the model in `folder`: beside it, else in the cache, else `None`.

    One that lies beside other weights than it was made of is left alone.
    """
    beside = folder / FILE_NAME
    path = beside if beside.is_file() and _is_of(beside, folder) else cached_file(folder)
    return path if path.is_file() else None


def _is_of(file: Path, folder: Path) -> bool:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if not weights.is_file():
        return True
    return hashlib.sha256(weights.read_bytes()).hexdigest().encode() in file.read_bytes()


# --- pictures ------------------------------------------------------------------------------------


def _linear_pixels(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.kind == "f":
        return decode_srgb(pixels.astype(np.float32))
    top = np.iinfo(pixels.dtype).max
    return decode_srgb((np.arange(top + 1) / top).astype(np.float32))[pixels]


def to_luminance(image: PIL.Image.Image | np.ndarray) -> np.ndarray:
    """L* (H, W), float32 in [0, 100], of a picture; colour is taken as its luminance.

    Args:
        image: PIL, or an array (H, W) or (H, W, 3) of uint8, uint16 or float in [0, 1].
    """
    if isinstance(image, PIL.Image.Image):
        image = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    if image.dtype not in (np.uint8, np.uint16) and image.dtype.kind != "f":
        raise ValueError(f"A picture array is uint8, uint16 or float, not {image.dtype}.")
    if image.ndim == 2 and image.dtype == np.uint8:
        return y_to_lightness(_linear_pixels(np.arange(256, dtype=np.uint8)))[image]
    weights = np.array(RGB_TO_XYZ[1], np.float32)
    result = np.empty(image.shape[:2], np.float32)
    for rows in row_chunks(*image.shape[:2]):
        linear = _linear_pixels(image[rows])
        result[rows] = y_to_lightness(linear if image.ndim == 2 else linear @ weights)
    return result


def _resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Antialiased bilinear resizing of (H, W) float32, in which Pillow and torch agree."""
    image = PIL.Image.fromarray(plane).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image)


@dataclass
class OnnxPipelineOutput:
    """As `ColorizationPipelineOutput`."""

    images: list[PIL.Image.Image | np.ndarray]
    uncertainty: list[np.ndarray] | None = None
    intermediates: list[list[PIL.Image.Image]] | None = None


@dataclass
class _Picture:
    """A picture on its way: what the file takes of it."""

    luminance: np.ndarray  # (H, W), L* at full size
    resolution: float  # of this look
    working: np.ndarray  # (1, 1, h, w), L* as the network sees it
    hints: np.ndarray  # (1, 3, rows, columns)
    guide: np.ndarray  # (1, 1, 8 * rows, 8 * columns)
    first: "_Picture | None" = None  # where this is a closer look: the one before
    chroma: np.ndarray | None = None  # (samples, 2, rows, columns)
    spread: np.ndarray | None = None  # (rows, columns), of all candidates
    sample: np.ndarray | None = None  # (samples, 2, rows, columns)
    estimates: np.ndarray | None = None  # (steps, samples, 2, rows, columns)


def _threads() -> int:
    """As OMP_NUM_THREADS says, which launchers set, else one a processor that may be used."""
    if told := os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]:
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class OnnxPipeline:
    """What `ColorizationPipeline` does, by onnxruntime, with a file of `scripts/export_onnx.py`.

    Args:
        path: the file.

    Raises:
        ValueError: where the file is not one of this package or version.
    """

    def __init__(self, path: str | Path):
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would call home
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = _threads()
        # Threads that wait busily take the processor from those that decode and encode.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        told = self._session.get_modelmeta().custom_metadata_map
        if told.get("format") != str(FORMAT):
            raise ValueError(
                f"{path} is not a file that this version of scripts/export_onnx.py writes."
            )
        self.properties = {name: json.loads(value) for name, value in told.items()}
        defaults = {k: v for k, v in self.properties.items() if k.startswith("default_")}
        self.config = SimpleNamespace(**defaults)
        self.scheduler = OffsetCosineScheduler(self.properties)

    def __call__(
        self,
        image: list[PIL.Image.Image | np.ndarray],
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        num_candidates: int | None = None,
        eta: float | None = None,
        generator: list[Generator] | None = None,
        processing_resolution: int | None = None,
        second_look: float | None = None,
        hints: list[list[Hint]] | None = None,
        saturation: float = 1.0,
        temperature: float | None = None,
        output_type: str = "pil",
        output_uncertainty: bool = False,
        output_intermediates: bool = False,
    ) -> OnnxPipelineOutput:
        """Colorize pictures one after the other; arguments as those of `ColorizationPipeline`.

        Args:
            image: a list of pictures, see `to_luminance`.
            num_inference_steps: denoising steps; `None` is the model's default.
            num_samples: colourings of each picture.
            num_candidates: colourings drawn for each of these, which has at each place what most
                of them agree on; `None` is the model's default.
            eta: share of fresh noise in each step; `None` is the model's default.
            generator: one a picture; `None` for new random numbers.
            processing_resolution: short side at which colours are invented; `None` is the model's
                default, 0 the picture's own size.
            second_look: a second look at pictures whose short side has so many times the processing
                resolution, at that size; 1 for one look, `None` is the model's default.
            hints: known colours, one list a picture.
            saturation: factor on chroma.
            temperature: scale of all noise; `None` is the model's default.
            output_type: "pil", "np" (H, W, 3) in [0, 1] or "latent": chroma a*b* (2, h, w).
            output_uncertainty: also return where the colourings disagree.
            output_intermediates: also return the clean estimate after each step, small.
        """
        steps = num_inference_steps or self.config.default_num_inference_steps
        candidates = num_candidates or self.config.default_num_candidates
        eta = self.config.default_eta if eta is None else eta
        temperature = self.config.default_temperature if temperature is None else temperature
        if processing_resolution is None:
            processing_resolution = self.config.default_processing_resolution
        second_look = self.config.default_second_look if second_look is None else second_look
        if generator is None:
            seeds = np.random.SeedSequence().generate_state(len(image)).tolist()
            generator = [Generator().manual_seed(seed) for seed in seeds]
        schedules = self.scheduler.rows(steps, eta), self.scheduler.later_rows(steps, eta)
        drawn = num_samples * candidates
        factor = np.array([saturation * self.config.default_saturation], np.float32)
        output = OnnxPipelineOutput(
            [], [] if output_uncertainty else None, [] if output_intermediates else None
        )
        for one, known, random in zip(image, hints or [[]] * len(image), generator, strict=True):
            looks = self._prepare(one, known, processing_resolution, second_look)
            for picture, schedule in zip(looks, schedules[: len(looks)], strict=True):
                noise = self._noise(picture, random, drawn, len(schedule), eta, temperature)
                self._invent_chroma(picture, noise, schedule, factor)
                self._agree(picture, candidates, factor)
            output.images += self._finish(picture, factor, output_type)
            if output_uncertainty:
                output.uncertainty.append(_spread(picture))
            if output_intermediates:
                output.intermediates += self._films(picture, factor)
        return output

    # --- the parts of the call --------------------------------------------------------------------

    def _prepare(
        self, image, hints: list[Hint], resolution: int, second_look: float
    ) -> list[_Picture]:
        """One look at a picture, and a closer one where it has so many pixels."""
        if hints and not self.properties["hint_channels"]:
            raise ValueError("This model takes no colour hints.")
        luminance = to_luminance(image)
        check_sides(*luminance.shape)
        looks = []
        for size in look_resolutions(*luminance.shape, resolution, second_look):
            looks.append(self._at(luminance, hints, size, *looks))
        return looks

    def _at(
        self, luminance: np.ndarray, hints: list[Hint], resolution: float, first=None
    ) -> _Picture:
        told = self.properties
        cell, stride, detail = told["chroma_stride"], told["stride"], told["guide_detail"]
        size = fit_size(*luminance.shape, resolution, stride)
        grid = tuple(side // cell for side in size)
        known = draw_hints(hints, luminance.shape, grid)
        known[:, :2] /= self.config.default_saturation  # which multiplies what comes out
        return _Picture(
            luminance=luminance,
            resolution=resolution,
            working=_resize(luminance, *size)[None, None].clip(0, 100),
            hints=known,
            guide=_resize(luminance, *(side * detail for side in grid))[None, None],
            first=first,
        )

    def _noise(
        self, picture: _Picture, random: Generator, samples: int, steps: int, eta, temperature
    ) -> np.ndarray:
        """(1 + steps, samples, 2, h, w), in the order in which the pipeline draws it."""
        grid = picture.hints.shape[2:]
        noise = np.zeros((1 + steps, samples, 2, *grid), np.float32)
        for drawn in noise if eta > 0 else noise[:1]:
            for sample in drawn:
                sample[:] = temperature * random.randn(2, *grid)
        return noise

    def _run(self, outputs: list[str], picture: _Picture, **inputs: np.ndarray) -> list[np.ndarray]:
        """One call of the file; what is not given is empty."""
        grid = picture.hints.shape[2:]
        samples = inputs["sample"].shape[0]
        given = {
            "luminance": picture.working,
            "noise": np.empty((0, samples, 2, *grid), np.float32),
            "schedule": np.empty((0, 6), np.float32),
            "features": np.empty(0, np.float32),
            "guide": picture.guide,
            "rows": np.empty((1, 1, 0, 0), np.float32),
            "place": np.zeros(2, np.int64),
            **inputs,
        }
        if self.properties["hint_channels"]:
            given["hints"] = picture.hints
        return self._session.run(outputs, given)

    def _invent_chroma(self, picture: _Picture, noise, schedule, factor) -> None:
        names, start = ["next_sample", "chroma", "estimates"], noise[0]
        if picture.first:
            signal, rate = schedule[0, 1:3]
            seen = self._finer(picture)
            start = signal * np.repeat(seen, len(start) // len(seen), axis=0) + rate * start
        picture.sample, picture.chroma, picture.estimates = self._run(
            names, picture, sample=start, noise=noise[1:], schedule=schedule, saturation=factor
        )

    def _finer(self, picture: _Picture) -> np.ndarray:
        """What the first look saw (samples, 2, h, w), on the finer grid."""
        grid, seen = picture.hints.shape[2:], picture.first.sample
        planes = [_resize(plane, *grid) for plane in seen.reshape(-1, *seen.shape[2:])]
        return np.stack(planes).reshape(-1, 2, *grid)

    def _agree(self, picture: _Picture, candidates: int, factor) -> None:
        """Make one colouring of each `candidates`, and note how all differ."""
        if picture.first:
            picture.spread = picture.first.spread
        elif len(picture.chroma) > 1:
            picture.spread = np.sqrt(picture.chroma.var(axis=0, ddof=1).sum(axis=0))
        # The last estimates are the samples, where they meet the hints already.
        known = hint_influence(picture.hints)
        last = picture.estimates[-1] * self.properties["ab_scale"]
        balance, closer = self.properties["chroma_balance"], picture.first is not None
        weights = agreement_weights(last, candidates, balance, known, closer)
        picture.estimates = np.stack([agree(step, weights) for step in picture.estimates])
        picture.sample = picture.estimates[-1]
        [picture.chroma] = self._run(["chroma"], picture, sample=picture.sample, saturation=factor)

    def _finish(self, picture: _Picture, factor, output_type: str) -> list:
        if output_type == "latent":
            return list(picture.chroma)
        name, kind = ("rgb", np.uint8) if output_type == "pil" else ("rgb_float", np.float32)
        results = []
        for sample in picture.sample:
            result = np.empty((*picture.luminance.shape, 3), kind)
            for rows in row_chunks(*picture.luminance.shape):
                colored = self._rows(name, picture, sample[None], factor, picture.luminance, rows)
                result[rows] = (
                    colored[0] if output_type == "pil" else np.moveaxis(colored[0], 0, -1)
                )
            results.append(PIL.Image.fromarray(result) if output_type == "pil" else result)
        return results

    def _rows(self, name: str, picture: _Picture, sample, factor, luminance, rows: slice):
        """Rows of one or several samples in colour."""
        [colored] = self._run(
            [name],
            picture,
            sample=sample,
            rows=luminance[None, None, rows],
            place=np.array([rows.start, luminance.shape[0]]),
            saturation=factor,
        )
        return colored

    def _films(self, picture: _Picture, factor) -> list[list[PIL.Image.Image]]:
        """Of each sample the clean estimates, with the short side as of the last look."""
        size = fit_size(*picture.luminance.shape, picture.resolution)
        luminance = _resize(picture.luminance, *size).clip(0, 100)
        films, whole = [[] for _ in picture.sample], slice(0, size[0])
        for look in (picture.first, picture) if picture.first else (picture,):
            guide = _resize(luminance, *look.guide.shape[2:])[None, None]
            small = _Picture(luminance, look.resolution, look.working, look.hints, guide)
            for index, film in enumerate(films):
                for step in look.estimates[:, index]:
                    frame = self._rows("rgb", small, step[None], factor, luminance, whole)
                    film.append(PIL.Image.fromarray(frame[0]))
        return films


def _spread(picture: _Picture) -> np.ndarray:
    """Standard deviation of the chroma of all that was drawn, (H, W)."""
    return _resize(picture.spread, *picture.luminance.shape)
