"""Pictures -> batches of luminance and colour, as the objectives take them."""

import dataclasses
import signal

import numpy as np
import torch
from torch.nn import functional as F

from pipeline_colorize.core.color import lab_to_rgb

from .augmentation import (
    cut_square,
    degrade_luminance,
    film_luminance,
    jitter_color,
    random_crop,
    random_flip,
    random_hints,
)
from .config import DataConfig, as_closer
from .decoding import bytes_to_lab
from .draws import (
    CLOSER,
    CLOSER_STEPS,
    PICTURES,
    TIMESTEPS,
    VALIDATION,
    make_generator,
    normal,
    uniform,
)
from .objectives import stratified_timesteps
from .sources import PictureMix, PictureSet


def luminance_to_input(luminance: torch.Tensor) -> torch.Tensor:
    """L* in [0, 100] to the network's [-1, 1]."""
    return luminance / 50 - 1


def with_hints(luminance: torch.Tensor, hints: torch.Tensor) -> torch.Tensor:
    """Condition (B, 4, H, W): the network's luminance (B, 1, H, W) and hints (B, 3, h, w)."""
    return torch.cat([luminance, F.interpolate(hints, luminance.shape[2:], mode="nearest")], dim=1)


@dataclasses.dataclass(frozen=True)
class BatchFormat:
    """What a network takes and gives, read from its config by `of_model`.

    Args:
        color_channels: 3: RGB in [-1, 1]; 2: a*, b* divided by `ab_scale`; 1: the luminance
            itself in [-1, 1], for a grey autoencoder.
        hint_channels: 0 or 3 further channels of the condition.
        chroma_stride: luminance pixels to a cell of the colour, along one side.
        ab_scale: divisor of a*, b*.
        picture: whether the picture itself is wanted too, for a teacher.
    """

    color_channels: int
    hint_channels: int = 0
    chroma_stride: int = 1
    ab_scale: float = 110.0
    picture: bool = False

    @classmethod
    def of_model(cls, config) -> "BatchFormat":
        """From the config of this project's networks, or of a diffusers `UNet2DModel`."""
        channels = config.get("sample_channels", config.get("out_channels"))
        if channels not in (1, 2, 3):
            raise ValueError(
                "A network gives 3 (RGB) or 2 (a*, b*) colour channels, or 1 for the luminance, "
                f"not {channels}."
            )
        if "sample_channels" not in config and config.get("in_channels") != channels + 1:
            raise ValueError(
                f"The network needs `in_channels` {channels + 1} (noisy colour and luminance), "
                f"not {config.get('in_channels')}."
            )
        if channels == 3 and config.get("hint_channels"):
            raise ValueError(
                "Hints are a*, b*: `hint_channels` 3 goes with `sample_channels` 2, not 3."
            )
        optional = ("hint_channels", "chroma_stride", "ab_scale")
        return cls(channels, **{name: config[name] for name in optional if name in config})


def make_batch(
    pictures: torch.Tensor,
    layout: BatchFormat,
    config: DataConfig,
    generators: list[np.random.Generator] | None = None,
) -> dict[str, torch.Tensor]:
    """`condition` and `color` of 8-bit pictures (B, 3, H, W), as `objectives` describes them.

    Where the layout asks for it, `picture` is what they were made from, 8-bit RGB (B, 3, H, W).

    With one generator a picture, augmented as `config` says; without, as they are and without
    hints.
    """
    if generators is not None and config.flip:
        pictures = random_flip(pictures, generators)
    lab = bytes_to_lab(pictures)
    if generators is not None:
        lab = random_crop(lab, generators, config.crop_probability, config.crop_smallest)
        if config.color_jitter:
            lab[:, 1:] = jitter_color(lab[:, 1:], generators, config.color_jitter)
    if layout.color_channels == 3:
        color = lab_to_rgb(lab).clamp(0, 1) * 2 - 1
    elif layout.color_channels == 1:
        color = luminance_to_input(lab[:, :1])
    else:
        color = lab[:, 1:] / layout.ab_scale
    color = F.avg_pool2d(color, layout.chroma_stride)
    luminance = lab[:, :1]
    if generators is not None:
        if config.film_probability:
            luminance = film_luminance(lab, generators, config.film_probability)
        wear = (config.degrade_probability, config.degrade_scratches)
        luminance = degrade_luminance(luminance, generators, *wear)
    condition = luminance_to_input(luminance)
    if layout.hint_channels:
        hints = torch.zeros(len(lab), 3, *color.shape[2:])
        if generators is not None and layout.color_channels == 2:
            hints = random_hints(color, generators, config.hint_probability, config.hint_most)
        condition = with_hints(condition, hints)
    batch = {"condition": condition, "color": color}
    if layout.picture:
        batch["picture"] = (255 * lab_to_rgb(lab).clamp(0, 1)).round().byte()
    return batch


class TrainingBatches(torch.utils.data.Dataset):
    """Number of a micro-batch -> that batch, as far as it is this process's.

    Give it to a `DataLoader` with `batch_size=None`. The draws of a step are counted over
    accumulation first, then processes, then pictures.

    Args:
        pictures: draw number -> 8-bit picture, such as a `PictureMix`.
        layout: what the network takes.
        config: resolution and augmentation.
        seed: of the run.
        batch_size: pictures a micro-batch and process.
        noise_levels: noisy samples a picture.
        num_train_timesteps: of the schedule; `None` for one-pass regression, which has no noise.
        accumulation: micro-batches a step.
        process: rank of this process.
        processes: how many there are.
        closer: draw number -> picture for the steps at `config.closer_resolution`, if there are
            to be any.
    """

    def __init__(
        self,
        pictures: PictureMix,
        layout: BatchFormat,
        config: DataConfig,
        seed: int,
        batch_size: int,
        noise_levels: int = 1,
        num_train_timesteps: int | None = 1000,
        accumulation: int = 1,
        process: int = 0,
        processes: int = 1,
        closer: PictureMix | None = None,
    ):
        self.pictures = pictures
        self.closer = closer
        self.layout = layout
        self.config = config
        self.seed = seed
        self.batch_size = batch_size
        self.noise_levels = noise_levels
        self.num_train_timesteps = num_train_timesteps
        self.accumulation = accumulation
        self.process = process
        self.processes = processes

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        closer = self._is_closer(number // self.accumulation)
        config = as_closer(self.config) if closer else self.config
        pictures, stream = (self.closer, CLOSER) if closer else (self.pictures, PICTURES)
        count = max(self.batch_size * self.config.resolution**2 // config.resolution**2, 1)
        first = (number * self.processes + self.process) * count
        draws = range(first, first + count)
        generators = [make_generator(self.seed, stream, draw) for draw in draws]
        squares = [
            cut_square(pictures[draw], config.resolution, generator)
            for draw, generator in zip(draws, generators, strict=True)
        ]
        # A few at a time stay in the processor's cache, which halves the time.
        parts = [
            make_batch(torch.stack(squares[i : i + 8]), self.layout, config, generators[i : i + 8])
            for i in range(0, len(squares), 8)
        ]
        batch = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        if self.num_train_timesteps is not None:
            shape = (self.noise_levels, *batch["color"].shape[1:])
            batch["noise"] = normal(generators, shape).flatten(0, 1)
            batch["timesteps"] = self._timesteps(first, count)
        if config.condition_dropout:
            unknown = uniform(generators, 1)[:, 0] < config.condition_dropout
            batch["condition"][unknown] = 0
        return batch

    def _is_closer(self, step: int) -> bool:
        """Whether it is one of the steps that see larger pictures; so in all processes."""
        if self.closer is None:
            return False
        return make_generator(self.seed, CLOSER_STEPS, step).random() < self.config.closer_share

    def _timesteps(self, first: int, count: int) -> torch.Tensor:
        """Those of `count` draws from `first` on, stratified over all draws of the step."""
        draws = count * self.accumulation * self.processes
        step, place = divmod(first, draws)
        generator = make_generator(self.seed, TIMESTEPS, step)
        timesteps = stratified_timesteps(
            draws, self.noise_levels, self.num_train_timesteps, generator
        )
        return timesteps[place : place + count].flatten()


def batch_loader(
    batches: TrainingBatches, first: int, count: int, workers: int, pin_memory: bool
) -> torch.utils.data.DataLoader:
    """`count` micro-batches from number `first` on, made ahead by so many worker processes."""
    return torch.utils.data.DataLoader(
        batches,
        batch_size=None,
        sampler=range(first, first + count),
        num_workers=workers,
        worker_init_fn=_ignore_signals,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or it draws a seed from that of dropout at each start
    )


def _ignore_signals(worker: int) -> None:
    """Leave it to the main process to end a worker, after the checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def sample_squares(
    validation: dict[str, PictureSet], training: PictureMix, count: int, side: int
) -> list[torch.Tensor]:
    """8-bit squares (3, side, side) to look at: `count` of each validation set, or of training."""
    squares = [
        cut_square(pictures[index], side)
        for pictures in validation.values()
        for index in range(min(count, len(pictures)))
    ]
    return squares or [cut_square(training[draw], side) for draw in range(count)]


def validation_batches(
    pictures: PictureSet,
    layout: BatchFormat,
    config: DataConfig,
    batch_size: int,
    num_train_timesteps: int | None,
    noise_levels: int = 4,
):
    """Batches of the pictures as they are, with the same noise every time."""
    levels = num_train_timesteps and stratified_timesteps(
        len(pictures), noise_levels, num_train_timesteps, make_generator(0, VALIDATION, 2**32)
    )
    for first in range(0, len(pictures), batch_size):
        indices = range(first, min(first + batch_size, len(pictures)))
        squares = [cut_square(pictures[index], config.resolution) for index in indices]
        batch = make_batch(torch.stack(squares), layout, config)
        if num_train_timesteps is not None:
            generators = [make_generator(0, VALIDATION, index) for index in indices]
            shape = (noise_levels, *batch["color"].shape[1:])
            batch["noise"] = normal(generators, shape).flatten(0, 1)
            batch["timesteps"] = levels[indices.start : indices.stop].flatten()
        yield batch
