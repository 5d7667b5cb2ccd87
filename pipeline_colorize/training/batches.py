"""Make batches of luminance and colour, as the objectives take them."""

import dataclasses
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from pipeline_colorize.core.color import lab_to_rgb

from .augmentation import cut_square, random_crop, random_flip
from .config import DataConfig, for_large_pictures
from .decoding import bytes_to_lab
from .draws import (
    LARGE,
    LARGE_STEPS,
    PICTURES,
    TIMESTEPS,
    VALIDATION,
    make_generator,
    normal,
    uniform,
)
from .hinting import draw_hints
from .objectives import stratified_timesteps
from .sources import PictureMix, PictureSet
from .wear import add_margins, worn_luminance


def luminance_to_input(luminance: torch.Tensor) -> torch.Tensor:
    """Bring L* in [0, 100] to the network's [-1, 1]."""
    return luminance / 50 - 1


def with_hints(luminance: torch.Tensor, hints: torch.Tensor) -> torch.Tensor:
    """Join luminance (B, 1, H, W) in [-1, 1] and hints (B, 3, h, w) to a condition (B, 4, H, W)."""
    return torch.cat([luminance, F.interpolate(hints, luminance.shape[2:], mode="nearest")], dim=1)


@dataclasses.dataclass(frozen=True)
class BatchFormat:
    """The shape and scale of a network's input and output, read from its config by `of_model`.

    Args:
        color_channels: 3 for RGB in [-1, 1]; 2 for a*, b* divided by `ab_scale`; 1 for the
            luminance itself in [-1, 1], which a grey autoencoder gives.
        hint_channels: 0 or 3 further channels of the condition.
        chroma_stride: luminance pixels on one side of a cell of the colour.
        ab_scale: divisor of a*, b*.
        picture: whether a batch also holds the picture itself, for a teacher.
    """

    color_channels: int
    hint_channels: int = 0
    chroma_stride: int = 1
    ab_scale: float = 110.0
    picture: bool = False

    @classmethod
    def of_model(cls, config: Mapping[str, Any]) -> "BatchFormat":
        """Read the format from the config of a network of this project, or of a `UNet2DModel`.

        Raises:
            ValueError: for channels that no batch has.
        """
        channels = config.get("sample_channels", config.get("out_channels"))
        if channels not in (1, 2, 3):
            raise ValueError(
                "A network must give 3 colour channels (RGB), 2 (a*, b*) or 1 (luminance), "
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
    others: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Make `condition` and `color`, as `objectives` describes them, of pictures.

    Args:
        pictures: 8-bit sRGB (B, 3, H, W).
        layout: what the network takes and gives.
        config: the augmentation.
        generators: one for each picture; without them, pictures stay as they are, without hints.
        others: 8-bit sRGB (B, 3, H, W), other pictures, from which doubtful colours are taken.

    Returns:
        Where the layout asks for it, `picture` as well: 8-bit RGB (B, 3, H, W), augmented.
    """
    if generators is not None and config.flip:
        pictures = random_flip(pictures, generators)
    lab = bytes_to_lab(pictures)
    outside = torch.zeros_like(lab[:, :1], dtype=torch.bool)
    if generators is not None:
        lab = random_crop(lab, generators, config.crop_probability, config.crop_smallest)
        if config.margin_probability:
            lab, outside = add_margins(lab, generators, config.margin_probability)
    color = F.avg_pool2d(network_color(lab, layout), layout.chroma_stride)
    luminance = lab[:, :1]
    if generators is not None:
        luminance = worn_luminance(lab, outside, generators, config)
    condition = luminance_to_input(luminance)
    if layout.hint_channels:
        hints = torch.zeros(len(lab), 3, *color.shape[2:])
        if generators is not None and layout.color_channels == 2:
            if others is not None:
                # Doubtful colours need not be exact: the mean of a cell is taken first, since it is
                # quicker.
                cells = F.avg_pool2d(others.float(), layout.chroma_stride).round().byte()
                others = network_color(bytes_to_lab(cells), layout)
            hints = draw_hints(color, others, generators, config)
        condition = with_hints(condition, hints)
    batch = {"condition": condition, "color": color}
    if layout.picture:
        batch["picture"] = (255 * lab_to_rgb(lab).clamp(0, 1)).round().byte()
    return batch


def network_color(lab: torch.Tensor, layout: BatchFormat) -> torch.Tensor:
    """Bring L*a*b* (B, 3, H, W) to the colour that the network gives, (B, C, H, W)."""
    if layout.color_channels == 3:
        return lab_to_rgb(lab).clamp(0, 1) * 2 - 1
    if layout.color_channels == 1:
        return luminance_to_input(lab[:, :1])
    return lab[:, 1:] / layout.ab_scale


@dataclasses.dataclass(frozen=True)
class Division:
    """How the pictures of a step are divided among passes and processes.

    Args:
        batch_size: pictures in a micro-batch of a process.
        accumulation: micro-batches a step.
        process: rank of this process.
        processes: how many there are.
    """

    batch_size: int
    accumulation: int = 1
    process: int = 0
    processes: int = 1


class TrainingBatches(torch.utils.data.Dataset):
    """The micro-batches of this process, by their number.

    Give it to a `DataLoader` with `batch_size=None`. The draws of a step are counted over
    accumulation first, then processes, then pictures.

    Args:
        pictures: 8-bit pictures by the number of their draw, such as a `PictureMix`.
        layout: what the network takes and gives.
        config: resolution and augmentation.
        seed: of the run.
        division: of a step among passes and processes.
        noise_levels: noisy samples a picture.
        num_train_timesteps: of the schedule; `None` for one-pass regression, which has no noise.
        large: the same for the steps at `config.large_resolution`, if there are any.
    """

    def __init__(
        self,
        pictures: PictureMix,
        layout: BatchFormat,
        config: DataConfig,
        seed: int,
        division: Division,
        noise_levels: int = 1,
        num_train_timesteps: int | None = 1000,
        large: PictureMix | None = None,
    ):
        self.pictures = pictures
        self.large = large
        self.layout = layout
        self.config = config
        self.seed = seed
        self.division = division
        self.noise_levels = noise_levels
        self.num_train_timesteps = num_train_timesteps

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        pictures, config, stream = self.pictures, self.config, PICTURES
        if self.large is not None and self._is_large(number // self.division.accumulation):
            pictures, config, stream = self.large, for_large_pictures(self.config), LARGE
        pixels = self.division.batch_size * self.config.resolution**2
        count = max(pixels // config.resolution**2, 1)
        first = (number * self.division.processes + self.division.process) * count
        generators = [
            make_generator(self.seed, stream, draw) for draw in range(first, first + count)
        ]
        batch = self._augmented(pictures, config, first, generators)
        if self.num_train_timesteps is not None:
            shape = (self.noise_levels, *batch["color"].shape[1:])
            batch["noise"] = normal(generators, shape).flatten(0, 1)
            batch["timesteps"] = self._timesteps(first, count, self.num_train_timesteps)
        if config.condition_dropout:
            unknown = uniform(generators, 1)[:, 0] < config.condition_dropout
            batch["condition"][unknown] = 0
        return batch

    def _augmented(
        self,
        pictures: PictureMix,
        config: DataConfig,
        first: int,
        generators: list[np.random.Generator],
    ) -> dict[str, torch.Tensor]:
        """Make a batch of the draws from number `first` on."""
        squares = [
            cut_square(pictures[draw], config.resolution, generator)
            for draw, generator in enumerate(generators, start=first)
        ]
        others = self._others(pictures, squares, config, generators)
        parts = []
        for start in range(0, len(squares), 8):  # that few stay in the cache: half the time
            few = slice(start, start + 8)
            other = None if others is None else torch.stack(others[few])
            made = make_batch(
                torch.stack(squares[few]), self.layout, config, generators[few], other
            )
            parts.append(made)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _others(
        self,
        pictures: PictureMix,
        squares: list[torch.Tensor],
        config: DataConfig,
        generators: list[np.random.Generator],
    ) -> list[torch.Tensor] | None:
        """Find another picture for each square, where doubtful colours are asked for.

        A stream gives none out of its order; there, the picture itself is turned upside down and
        its colours are exchanged.
        """
        if not (config.doubtful_probability and self.layout.hint_channels):
            return None
        found = [pictures.other(generator) for generator in generators]
        return [
            square.flip(1)[[1, 2, 0]] if other is None else cut_square(other, config.resolution)
            for square, other in zip(squares, found, strict=True)
        ]

    def _is_large(self, step: int) -> bool:
        """Say whether a step sees larger pictures, which is the same in all processes."""
        return make_generator(self.seed, LARGE_STEPS, step).random() < self.config.large_share

    def _timesteps(self, first: int, count: int, num_train_timesteps: int) -> torch.Tensor:
        """Return those of `count` draws from `first` on, stratified over all draws of the step."""
        draws = count * self.division.accumulation * self.division.processes
        step, place = divmod(first, draws)
        generator = make_generator(self.seed, TIMESTEPS, step)
        timesteps = stratified_timesteps(draws, self.noise_levels, num_train_timesteps, generator)
        return timesteps[place : place + count].flatten()


def batch_loader(
    batches: TrainingBatches, first: int, count: int, workers: int, pin_memory: bool
) -> torch.utils.data.DataLoader:
    """Load `count` micro-batches from number `first` on, prepared ahead by worker processes."""
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
    """Return 8-bit squares (3, side, side): `count` of each validation set, or of training."""
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
) -> Iterator[dict[str, torch.Tensor]]:
    """Make batches of the pictures as they are, with the same noise every time."""
    levels = torch.zeros(len(pictures), 0)
    if num_train_timesteps is not None:
        generator = make_generator(0, VALIDATION, 2**32)
        levels = stratified_timesteps(len(pictures), noise_levels, num_train_timesteps, generator)
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
