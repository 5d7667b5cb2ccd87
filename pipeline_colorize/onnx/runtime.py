"""A model run by onnxruntime: neither torch nor diffusers is imported.

`docs/onnx.md` says what goes into the file and what comes out. The same seed gives the same
picture as with torch.
"""

import json
import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image

from pipeline_colorize.core.agreement import agree, agreement_weights, warmth_order
from pipeline_colorize.core.colorimetry import encode_srgb, lightness_to_y
from pipeline_colorize.core.hints import (
    Hint,
    certain_influence,
    draw_hints,
    hints_by_picture,
    move_hints,
    with_references,
)
from pipeline_colorize.core.levels import Levels
from pipeline_colorize.core.luminance import resize_plane, see
from pipeline_colorize.core.margins import Box, Frame
from pipeline_colorize.core.mending import Mend, Overlay, colors_by_picture, read_mend, undo_dials
from pipeline_colorize.core.options import ColorizationOptions, generators_by_picture
from pipeline_colorize.core.sizes import check_sides, fit_size, look_resolutions, row_chunks
from pipeline_colorize.core.transparency import Light
from pipeline_colorize.registry import find_model

from .embedding import embed_weights, is_linked
from .files import WEIGHTS_NAME, file_name, find_file, fits_weights
from .mending import sample_around
from .noise import TorchGenerator
from .schedule import ScheduleTable

FORMAT = 6
"""Of the file: rises when a file of an earlier release no longer fits this module."""

# Files of earlier formats that fit, and the names that their properties have had since then.
_OLDER_FORMATS = (5,)
_RENAMED = {"default_refinement": "default_second_look", "later_schedule": "second_look_schedule"}


# --- pictures ------------------------------------------------------------------------------------


def _as_list(image) -> list:
    """One picture, or a list or batch of them, as a list."""
    if isinstance(image, PIL.Image.Image) or (isinstance(image, np.ndarray) and image.ndim < 4):
        return [image]
    images = list(image) if isinstance(image, list | tuple | np.ndarray) else [image]
    wrong = [one for one in images if not isinstance(one, PIL.Image.Image | np.ndarray)]
    if wrong or not images:
        found = type(wrong[0]).__name__ if wrong else "an empty list"
        raise ValueError(f"`image` is PIL pictures or arrays, not {found}.")
    return images


def _grey_canvas(luminance: np.ndarray, frame: Frame, kind: type) -> np.ndarray:
    """Return a picture (H, W, 3) that is neutral in its margins, and has yet to get its photograph.

    Args:
        luminance: (H, W), L* of the whole picture.
        frame: where the photograph lies.
        kind: uint8, or float32 in [0, 1].
    """
    canvas: np.ndarray = np.empty((*frame.size, 3), kind)
    if not frame.is_whole:
        for rows in row_chunks(*frame.size):
            grey = encode_srgb(lightness_to_y(luminance[rows]))[..., None]
            canvas[rows] = np.rint(255 * grey) if kind is np.uint8 else grey
    return canvas


# --- the pipeline --------------------------------------------------------------------------------


@dataclass
class ORTColorizationPipelineOutput:
    """What the pipeline returns; the fields are those of `ColorizationPipelineOutput`."""

    images: list[PIL.Image.Image | np.ndarray]
    uncertainty: list[np.ndarray] | None = None
    intermediates: list[list[PIL.Image.Image]] | None = None
    boxes: list[Box] = field(default_factory=list)


@dataclass
class _Look:
    """A picture at one of its working sizes: what the file takes, and what it gives."""

    luminance: np.ndarray  # (H, W), L* of the photograph at full size, without margins
    seen: np.ndarray  # (H, W), the same without what transparency hides
    frame: Frame  # where it lies in the whole picture
    whole_luminance: np.ndarray  # (H, W), L* of that
    resolution: float  # short side of the working picture
    working: np.ndarray  # (1, 1, h, w), L* as the network sees it
    hints: np.ndarray  # (1, 3, rows, columns)
    certain: np.ndarray  # (rows, columns), from `certain_influence`
    guide: np.ndarray  # (1, 1, 8 * rows, 8 * columns)
    features: np.ndarray  # (F,), what the encoder found; none until the network has seen it
    previous: "_Look | None" = None  # the first look, where this is the second
    spread: np.ndarray | None = None  # (rows, columns), standard deviation of several candidates
    mend: Mend | None = None  # colours that are there already, at full size
    given: np.ndarray | None = None  # (1, 2, rows, columns), the same in the network's units
    free: np.ndarray | None = None  # (1, 1, rows, columns), 1 where they are invented anew, else 0
    chroma: np.ndarray = field(init=False)  # (samples, 2, rows, columns), as shown
    sample: np.ndarray = field(init=False)  # (samples, 2, rows, columns), in the network's units
    estimates: np.ndarray = field(init=False)  # (steps, samples, 2, rows, columns)


def _threads() -> int:
    """Count threads: OMP_NUM_THREADS, which launchers set, else one a processor we may use."""
    if given := os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]:
        return int(given)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open_session(model: Path | bytes):
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would call home
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = _threads()
    # Threads that wait busily take the processor from those that decode and encode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source: str | bytes
    if isinstance(model, bytes):
        source = model
    else:
        weights = model.with_name(WEIGHTS_NAME)
        source = embed_weights(model) if weights.exists() and is_linked(weights) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _read_properties(session, model: Path | bytes) -> dict:
    """Return the properties of a file, by the names that they have in this version."""
    name = "The graph" if isinstance(model, bytes) else str(model)
    properties = session.get_modelmeta().custom_metadata_map
    readable = [str(number) for number in (FORMAT, *_OLDER_FORMATS)]
    if properties.get("format") not in readable:
        raise ValueError(
            f"{name} is not a file that this version of scripts/export_onnx.py writes."
        )
    return {_RENAMED.get(name, name): json.loads(value) for name, value in properties.items()}


def folder_of(
    model: str,
    revision: str | None = None,
    token: str | None = None,
    variant: str | None = None,
) -> Path:
    """Find the folder of a model that ships, lies on this machine, or is fetched from the Hub.

    Of a repository, only what onnxruntime needs is fetched.

    Raises:
        ValueError: if there is no such model, or the package that fetches it is not installed.
    """
    folder = Path(find_model(model))
    if folder.is_dir():
        return folder
    try:
        from pipeline_colorize.hub import fetch
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{model} is a repository of the Hub, which needs the package {error.name}: "
            'pip install "pipeline-colorize[remote]"'
        ) from error
    patterns = ["*.json", "unet/*.json", f"unet/{file_name(variant)}", f"unet/{WEIGHTS_NAME}"]
    return Path(fetch(model, patterns, {"revision": revision, "token": token}))


class ORTColorizationPipeline:
    """What `ColorizationPipeline` does, by onnxruntime, without torch.

    It can be pickled, shared by threads, and used in processes that are forked or spawned.

    Args:
        model: the graph that lies beside a model's weights, or a file of `scripts/export_onnx.py`;
            or the bytes of such a file.

    Raises:
        ValueError: if the file is not one of this package or version, or the weights beside it
            are not those that it was made of.

    >>> pipe = ORTColorizationPipeline.from_pretrained("default")
    >>> pipe(PIL.Image.open("photograph.jpg")).images[0].save("colorized.png")
    """

    scheduler_name = "OffsetCosineScheduler"  # whose steps the graph takes

    def __init__(self, model: str | Path | bytes):
        self._model = model if isinstance(model, bytes) else Path(model)
        if isinstance(self._model, Path) and not fits_weights(self._model):
            raise ValueError(f"{self._model} was made of other weights than those beside it.")
        self._open()
        self.properties = _read_properties(self._session, self._model)
        defaults = {k: v for k, v in self.properties.items() if k.startswith("default_")}
        self.config = SimpleNamespace(**defaults)
        self.scheduler = ScheduleTable(self.properties)

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        revision: str | None = None,
        token: str | None = None,
        variant: str | None = None,
    ) -> "ORTColorizationPipeline":
        """Load a model that ships (`"default"`), a folder, or a repository of the Hub.

        Args:
            model: its name, folder or "user/name".
            revision: branch, tag or commit of a repository.
            token: for a private repository.
            variant: "int8" for the graph that computes in 8 bits: about half the time, and
                colours that differ a little.

        Raises:
            ValueError: if there is no such model, or it has no such ONNX graph.
        """
        file = find_file(folder_of(str(model), revision, token, variant), variant)
        if file is None:
            raise ValueError(
                f"{model} has no {file_name(variant)} that was made of its weights; "
                "scripts/export_onnx.py writes one."
            )
        return cls(file)

    def _open(self) -> None:
        self._session, self._process = _open_session(self._model), os.getpid()
        # Of the last picture, so that mends of what was coloured just now need not encode it again.
        self._encoded: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_session"], state["_process"], state["_encoded"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._open()

    def __call__(
        self,
        image,
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        num_candidates: int | None = None,
        eta: float | None = None,
        generator: TorchGenerator | list[TorchGenerator] | None = None,
        processing_resolution: int | None = None,
        second_look: float | None = None,
        hints: list[Hint] | list[list[Hint]] | None = None,
        color_image=None,
        mask_image=None,
        strength: float = 1.0,
        reference_images=None,
        saturation: float = 1.0,
        temperature: float | None = None,
        output_type: str = "pil",
        output_uncertainty: bool = False,
        output_intermediates: bool = False,
        find_margins: bool = True,
    ) -> ORTColorizationPipelineOutput:
        """Colorize pictures one after the other; the arguments are those of `ColorizationPipeline`.

        Args:
            image: a picture or a list of them, see `to_luminance`.
            num_inference_steps: denoising steps; `None` is the model's default.
            num_samples: results for each picture.
            num_candidates: colourings drawn for a result, which has at each place what most of
                them agree on, and shared by several; `None` is the model's default.
            eta: share of fresh noise in each step; `None` is the model's default.
            generator: one a picture, or one for all; `None` for new random numbers.
            processing_resolution: short side at which colours are invented; `None` is the model's
                default, 0 the picture's own size.
            second_look: a second look at pictures whose short side has this many times the
                processing resolution, at that size; 1 for one look, `None` is the model's default.
            hints: colours at given places, as in `ColorizationPipeline`.
            color_image: colours that are there already, as in `ColorizationPipeline`.
            mask_image: where to invent them anew, white; `None` for everywhere.
            strength: how far back to noise they are brought, 0 to 1.
            reference_images: pictures in colour that show the same (another print or crop, or from
                nearly the same place), or a list of them for each picture. Their colours become
                hints where the light matches; where nothing does, they change nothing.
            saturation: factor on chroma.
            temperature: scale of all noise; `None` is the model's default.
            output_type: "pil", "np" (H, W, 3) in [0, 1] or "latent": chroma a*b* (2, h, w).
            output_uncertainty: also return where the colourings disagree.
            output_intermediates: also return the clean estimate after each step, small.
            find_margins: whether even margins around a photograph are found and left neutral.

        Raises:
            ValueError: which names the argument that is wrong, and what would be right.
        """
        images = _as_list(image)
        options = ColorizationOptions.resolve(
            self.properties,
            strength=strength,
            num_inference_steps=num_inference_steps,
            num_samples=num_samples,
            num_candidates=num_candidates,
            eta=eta,
            temperature=temperature,
            saturation=saturation,
            processing_resolution=processing_resolution,
            second_look=second_look,
            output_type=output_type,
            output_uncertainty=output_uncertainty,
            output_intermediates=output_intermediates,
            find_margins=find_margins,
        )
        hint_lists = hints_by_picture(hints, len(images))
        hint_lists = with_references(hint_lists, images, reference_images)
        if output_type == "pt":
            raise ValueError("`output_type` 'pt' needs torch; 'np' gives arrays.")
        if any(hint_lists) and not self.properties["hint_channels"]:
            raise ValueError("This model takes no colour hints.")
        colors = colors_by_picture(color_image, mask_image, len(images))
        if strength < 1 and color_image is None:
            raise ValueError("`strength` is that of a change of `color_image`, which is missing.")
        output = ORTColorizationPipelineOutput(
            [], [] if output_uncertainty else None, [] if output_intermediates else None
        )
        generators = self._generators(generator, len(images))
        for picture in zip(images, hint_lists, colors, generators, strict=True):
            looks = self._prepare(*picture[:3], options)
            self._colorize(looks, picture[3], options, output)
        return output

    # --- the parts of the call --------------------------------------------------------------------

    @staticmethod
    def _generators(generator, count: int) -> list[TorchGenerator]:
        if generator is not None:
            return generators_by_picture(generator, count, TorchGenerator)
        seeds = np.random.SeedSequence().generate_state(count).tolist()
        return [TorchGenerator().manual_seed(seed) for seed in seeds]

    def _colorize(self, looks: list[_Look], generator, options: ColorizationOptions, output):
        """Add the results of one picture to `output`."""
        factor = np.array([options.saturation * self.config.default_saturation], np.float32)
        how = options.num_inference_steps, options.eta
        for look in looks:
            second = look.previous is not None
            schedule = self.scheduler.look_rows(*how, second, options.strength)
            noise = self._noise(look, generator, len(schedule), options)
            self._invent_chroma(look, noise, schedule, factor, options.strength)
            self._agree(look, options, factor)
        self._encoded = [(look.working, look.hints, look.features) for look in looks]
        look = looks[-1]
        output.boxes.append(look.frame.box)
        output.images += self._finish(look, factor, options)
        if options.output_uncertainty:
            assert look.spread is not None  # the options ask for several candidates
            spread = np.zeros(look.frame.size, np.float32)
            spread[look.frame.inside] = resize_plane(look.spread, *look.luminance.shape)
            output.uncertainty.append(spread)
        if options.output_intermediates:
            output.intermediates += self._intermediates(look, factor)

    def _prepare(
        self, image, hints: list[Hint], colors: tuple, options: ColorizationOptions
    ) -> list[_Look]:
        """Return the first look at a picture, and the second where it has enough pixels."""
        light = see(image)
        check_sides(*light.luminance.shape)
        mend = read_mend(colors[0], colors[1], light.luminance.shape)
        frame = Frame.find(light, options.find_margins)
        hints = hints if frame.is_whole else move_hints(hints, frame.box)
        looks: list[_Look] = []
        sizes = options.processing_resolution, options.second_look
        cell = self.properties["chroma_stride"]
        for resolution in look_resolutions(*frame.inner_size, *sizes, cell):
            look = self._look(light, frame, hints, resolution, *looks)
            if mend is not None:
                self._know(look, mend, options)
            looks.append(look)
        return looks

    def _know(self, look: _Look, mend: Mend, options: ColorizationOptions) -> None:
        """Let a look know the colours that are there, and where it may change them."""
        grid = look.hints.shape[2:]
        saturation = (options.saturation or 1) * self.config.default_saturation
        shown, dials = mend.chroma_on(grid, look.frame), ("chroma_coring", "chroma_texture")
        given = undo_dials(shown, saturation, *(self.properties[name] for name in dials))
        look.given = given[None] / np.float32(self.properties["ab_scale"])
        look.free = mend.free_cells(grid, look.frame)[None, None]
        look.mend = mend

    def _look(
        self, light: Light, frame: Frame, hints: list[Hint], resolution: float, previous=None
    ) -> _Look:
        luminance = seen = np.ascontiguousarray(light.luminance[frame.inside])
        if light.seen is not light.luminance:
            seen = np.ascontiguousarray(light.seen[frame.inside])
        cell, stride, detail = (
            self.properties[name] for name in ("chroma_stride", "stride", "guide_detail")
        )
        height, width = luminance.shape
        size = fit_size(height, width, resolution, stride)
        grid = tuple(side // cell for side in size)
        doubtful = self.properties.get("doubtful_hints", False)
        drawn = draw_hints(hints, (height, width), grid, doubtful)
        drawn[:, :2] /= self.config.default_saturation  # which multiplies what comes out
        working = Levels.measure(seen).apply(resize_plane(seen, *size)[None, None].clip(0, 100))
        return _Look(
            luminance=luminance,
            seen=seen,
            frame=frame,
            whole_luminance=light.luminance,
            resolution=resolution,
            working=working,
            hints=drawn,
            features=self._features(working, drawn),
            certain=certain_influence(hints, (height, width), grid),
            guide=resize_plane(seen, *(side * detail for side in grid))[None, None],
            previous=previous,
        )

    def _features(self, working: np.ndarray, hints: np.ndarray) -> np.ndarray:
        """Return what the encoder found in a picture with these hints, if it was the last one."""
        for seen, given, features in self._encoded:
            if np.array_equal(seen, working) and np.array_equal(given, hints):
                return features
        return np.empty(0, np.float32)

    def _noise(
        self, look: _Look, generator: TorchGenerator, steps: int, options: ColorizationOptions
    ) -> np.ndarray:
        """Draw (1 + steps, drawn, 2, h, w) in the order in which torch's pipeline draws it."""
        grid = look.hints.shape[2:]
        drawn = options.drawn(second_look=look.previous is not None)
        noise = np.zeros((1 + steps, drawn, 2, *grid), np.float32)
        for batch in noise if options.eta > 0 else noise[:1]:
            for sample in batch:
                sample[:] = options.temperature * generator.randn(2, *grid)
        return noise

    def _run(self, outputs: list[str], look: _Look, **inputs: np.ndarray) -> list[np.ndarray]:
        """Call the file once; inputs that are not given are empty."""
        grid = look.hints.shape[2:]
        samples = inputs["sample"].shape[0]
        given = {
            "luminance": look.working,
            "noise": np.empty((0, samples, 2, *grid), np.float32),
            "schedule": np.empty((0, 6), np.float32),
            "features": look.features,
            "guide": look.guide,
            "rows": np.empty((1, 1, 0, 0), np.float32),
            "place": np.zeros(2, np.int64),
            **inputs,
        }
        if self.properties["hint_channels"]:
            given["hints"] = look.hints
        if self._process != os.getpid():  # the threads of a session do not survive a fork
            self._open()
        return self._session.run(outputs, given)

    def _invent_chroma(self, look: _Look, noise, schedule, factor, strength: float) -> None:
        """Run all steps of a look, which may begin with colours that are there."""
        names, start = ["next_sample", "chroma", "estimates", "next_features"], noise[0]
        if (before := self._colors_before(look, strength)) is not None:
            signal, rate = schedule[0, 1:3] if len(schedule) else (1, 0)
            start = signal * np.repeat(before, len(start) // len(before), axis=0) + rate * start
        if look.given is not None and look.free is not None:
            run = partial(self._run, look=look, saturation=factor)
            steps = start.astype(np.float32), noise, schedule
            mended = sample_around(run, look.given, look.free, *steps, features=look.features)
            look.sample, look.estimates, look.features = mended
            [look.chroma] = run(["chroma"], sample=look.estimates[-1])
            return
        results = self._run(
            names, look, sample=start, noise=noise[1:], schedule=schedule, saturation=factor
        )
        look.sample, look.chroma, look.estimates, look.features = results

    def _colors_before(self, look: _Look, strength: float) -> np.ndarray | None:
        """Find the colours that a look begins with, (N, 2, h, w) in the network's units, or `None`.

        They are those of the first look. Where some are given, what the first look has changed is
        added to them.
        """
        first = look.previous
        if first is None:
            return look.given if strength < 1 else None
        if look.given is None or first.given is None:
            return self._on_finer_grid(first.sample, look)
        return look.given + self._on_finer_grid(first.sample - first.given, look)

    def _on_finer_grid(self, sample: np.ndarray, second: _Look) -> np.ndarray:
        """Return the sample of the first look (samples, 2, h, w), on the grid of the second."""
        grid = second.hints.shape[2:]
        planes = [resize_plane(plane, *grid) for plane in sample.reshape(-1, *sample.shape[2:])]
        return np.stack(planes).reshape(-1, 2, *grid)

    def _agree(self, look: _Look, options: ColorizationOptions, factor) -> None:
        """Let the candidates of each result agree, and note how far all of them differ."""
        if look.previous:
            look.spread = look.previous.spread
        elif len(look.chroma) > 1:
            look.spread = np.sqrt(look.chroma.var(axis=0, ddof=1).sum(axis=0))
        kept = None if look.free is None else 1 - look.free[0, 0]
        # The last estimates are the samples with the hints met.
        last = look.estimates[-1] * self.properties["ab_scale"]
        second = look.previous is not None
        balance, share = options.toning(self.properties["chroma_balance"], second)
        candidates = options.candidates_each(second)
        order = np.arange(len(last)) if second else warmth_order(last, candidates)
        weights = agreement_weights(last[order], candidates, balance, look.certain, share, kept)
        look.estimates = np.stack([agree(step[order], weights) for step in look.estimates])
        look.sample = look.estimates[-1]
        [look.chroma] = self._run(["chroma"], look, sample=look.sample, saturation=factor)

    def _finish(self, look: _Look, factor, options: ColorizationOptions) -> list:
        """Return the results in the form that was asked for."""
        if options.output_type == "latent":
            return list(look.frame.place(self._shown(look)))
        kind = np.uint8 if options.output_type == "pil" else np.float32
        before = self._before(look, factor, kind)
        results: list = []
        wanted = slice(None) if before is None else before.inside[0]
        for sample in look.sample:
            pixels = self._pixels(look, sample, factor, kind, wanted)
            pixels = pixels if before is None else before.under(pixels)
            results.append(PIL.Image.fromarray(pixels) if kind == np.uint8 else pixels)
        return results

    def _pixels(
        self, look: _Look, sample: np.ndarray, factor, kind: type, wanted: slice = slice(None)
    ) -> np.ndarray:
        """Turn a sample (2, h, w) into pixels (H, W, 3), uint8 or float32, with neutral margins.

        Only the rows of the whole picture that are wanted get their pixels.
        """
        whole = _grey_canvas(look.whole_luminance, look.frame, kind)
        result = whole[look.frame.inside]
        first, last = (end - look.frame.box[0] for end in wanted.indices(len(whole))[:2])
        height, width = look.luminance.shape
        first, last = max(first, 0), min(last, height)
        for chunk in row_chunks(last - first, width):
            rows = slice(first + chunk.start, first + chunk.stop)
            name = "rgb" if kind is np.uint8 else "rgb_float"
            colored = self._rows(name, look, sample[None], factor, look.luminance, rows)[0]
            result[rows] = colored if kind is np.uint8 else np.moveaxis(colored, 0, -1)
        return whole

    @staticmethod
    def _shown(look: _Look) -> np.ndarray:
        """Bring chroma (N, 2, h, w) to what is shown; colours that are kept stay as they were."""
        if look.mend is None or look.free is None:
            return look.chroma
        given = look.mend.chroma_on(look.chroma.shape[2:], look.frame)
        return np.where(look.free > 0, look.chroma, given)

    def _before(self, look: _Look, factor, kind: type) -> Overlay | None:
        """Return the picture that is mended; `None` if nothing of it stays."""
        mend = look.mend
        if mend is None or mend.is_everywhere:
            return None
        grid = look.chroma.shape[2:]
        cell = look.frame.inner_size[0] / grid[0]
        if not mend.is_chroma:
            return mend.overlay(look.whole_luminance, cell)
        # As hints, colours come out as they are, without texture.
        assert look.given is not None  # since there is a mend
        hints = np.ones((1, 3, *grid), np.float32)
        hints[0, :2] = mend.chroma_on(grid, look.frame) / self.config.default_saturation
        factor = np.array([self.config.default_saturation], np.float32)
        old = self._pixels(replace(look, hints=hints), look.given[0], factor, kind)
        return mend.overlay(look.whole_luminance, cell, old)

    def _rows(self, name: str, look: _Look, sample, factor, luminance, rows: slice):
        """Rows of one or several samples in colour."""
        [colored] = self._run(
            [name],
            look,
            sample=sample,
            rows=luminance[None, None, rows],
            place=np.array([rows.start, luminance.shape[0]]),
            saturation=factor,
        )
        return colored

    def _intermediates(self, look: _Look, factor) -> list[list[PIL.Image.Image]]:
        """Return the clean estimates of each sample, with the short side of the last look."""
        height, width = look.luminance.shape
        size = fit_size(height, width, look.resolution)
        luminance, seen = (
            resize_plane(plane, *size).clip(0, 100) for plane in (look.luminance, look.seen)
        )
        frame = look.frame.scaled(size)
        small_whole = resize_plane(look.whole_luminance, *frame.size).clip(0, 100)
        canvas = _grey_canvas(small_whole, frame, np.uint8)
        films: list[list[PIL.Image.Image]] = [[] for _ in look.sample]
        whole = slice(0, size[0])
        for each in (look.previous, look) if look.previous else (look,):
            guide = resize_plane(seen, *each.guide.shape[2:])[None, None]
            small = replace(each, luminance=luminance, guide=guide)
            for index, film in enumerate(films):
                for step in each.estimates[:, index]:
                    pixels = self._rows("rgb", small, step[None], factor, luminance, whole)
                    canvas[frame.inside] = pixels[0]
                    film.append(PIL.Image.fromarray(canvas.copy()))
        return films
