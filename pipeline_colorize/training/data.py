"""Colour pictures -> batches of luminance and colour for training and evaluation.

A training run is a numbered sequence of draws: draw d is one picture with everything random about
it (crop, flip, wear, hints, noise). What a draw is follows from (seed, d) alone, by counter-based
random numbers (Philox; Salmon et al. 2011), so it does not depend on how many processes or workers
share the work, and a run that resumes at draw d goes on exactly as if it had never stopped.
"""

import collections
import dataclasses
import io
import itertools
import math
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F

from pipeline_colorize.core.color import (
    RGB_TO_XYZ,
    bytes_to_linear,
    lab_to_rgb,
    lab_to_xyz,
    linear_to_luminance,
    linear_to_xyz,
    merge_luminance,
    xyz_to_lab,
    xyz_to_linear,
)
from pipeline_colorize.photo import open_picture, to_srgb

from .config import option, refuse_unknown
from .objectives import stratified_timesteps

# Sensitivity to linear red, green and blue: the eye's, and roughly those of orthochromatic film and
# of plates that see hardly anything but blue, as nearly all did before the 1880s.
FILMS = torch.tensor([RGB_TO_XYZ[1], (0.02, 0.55, 0.43), (0.0, 0.1, 0.9)])

# Independent streams of random numbers under one seed.
PICTURES, ORDER, TIMESTEPS, VALIDATION, CLOSER, CLOSER_STEPS = range(6)


@dataclasses.dataclass
class DataConfig:
    """Which pictures are trained on, how they are read and what is done to them."""

    _argument_group_name = "data"

    datasets: list[str] = option([], "Hub ids, folders of parquet files or folders of pictures")
    dataset_weights: list[float] = option([], "one factor a data set on its share of the draws")
    size_exponent: float = option(
        1.0,
        "share of a set: its size to this power; 1 all pictures alike, .5 the root, 0 sets alike",
    )
    image_column: str = option("image", "the column that holds the colour pictures")
    train_split: str = option("train", "split to train on")
    validation_split: str = option(
        "validation",
        "split to validate on; a set without it gives a tenth of its training pictures",
    )
    validation_pictures: int = option(150, "at most so many validation pictures a set; 0: none")
    streaming: bool = option(False, "read the sets while training, through a shuffle buffer")
    shuffle_buffer: int = option(2000, "pictures in the shuffle buffer of a stream")
    epoch_pictures: int | None = option(
        None, "pictures an epoch; none: as many as the sets hold, to be given for a stream"
    )
    resolution: int = option(128, "height and width of a training picture, in pixels")
    load_size: int | None = option(
        None, "short side at which pictures are kept, to cut squares from; none: the resolution"
    )
    closer_datasets: list[str] = option(
        [], "sets of larger pictures, which some steps see at `closer_resolution`"
    )
    closer_resolution: int = option(224, "height and width of a picture in those steps")
    closer_share: float = option(
        0.33, "share of those steps; they have as many pixels as others, in fewer pictures"
    )
    cache_gigabytes: float = option(8.0, "memory a process for decoded pictures")
    workers: int = option(0, "processes that make batches ahead; 0: made between the steps")
    flip: bool = option(True, "mirror half of the pictures")
    crop_probability: float = option(0.5, "share of pictures of which a part is enlarged")
    crop_smallest: float = option(0.7, "smallest part of a side that is enlarged")
    color_jitter: float = option(0.0, "vary chroma by up to this factor, hue by as many radians")
    degrade_probability: float = option(0.3, "share of pictures with worn luminance")
    degrade_scratches: int = option(0, "at most so many scratches on a worn picture")
    film_probability: float = option(
        0.0, "share of pictures whose luminance is that of an early film, blind to red"
    )
    hint_probability: float = option(0.5, "share of pictures with hints, for models that take them")
    hint_most: int = option(16, "at most so many hints on a picture")
    condition_dropout: float = option(
        0.0, "share of pictures whose colours are learned without their luminance, for guidance"
    )


def as_closer(config: DataConfig) -> DataConfig:
    """The configuration of the steps that see larger pictures, which enlarge none of them."""
    changes = {
        "datasets": config.closer_datasets,
        "dataset_weights": [],
        "resolution": config.closer_resolution,
        "load_size": None,
        "crop_probability": 0.0,
    }
    return dataclasses.replace(config, **changes)


# Random numbers


def make_generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """The generator of item `number` in a stream (`PICTURES`, `ORDER`, ...) of `seed`."""
    key = np.array([(stream << 56) | seed, number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniform(generators: list[np.random.Generator], count: int) -> torch.Tensor:
    """Numbers in [0, 1), (B, count): one row from each picture's generator."""
    return torch.from_numpy(np.stack([g.random(count, dtype=np.float32) for g in generators]))


def normal(generators: list[np.random.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers, (B, *shape)."""
    return torch.from_numpy(
        np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators])
    )


# Augmentation: (B, ...) tensors and one generator a picture


def bytes_to_lab(pictures: torch.Tensor) -> torch.Tensor:
    """8-bit sRGB (B, 3, H, W) to L*a*b*; a table takes the place of the sRGB curve."""
    return xyz_to_lab(linear_to_xyz(bytes_to_linear(pictures)))


def cut_square(
    picture: torch.Tensor, size: int, generator: np.random.Generator | None = None
) -> torch.Tensor:
    """A square of `size` pixels from an 8-bit picture (3, H, W).

    With a generator, a square of `size` to the short side at a random place; without, the largest
    square in the middle.
    """
    height, width = picture.shape[1:]
    if (height, width) == (size, size):
        return picture
    short = min(height, width)
    side, top, left = short, 0.5, 0.5
    if generator is not None:
        scale, top, left = generator.random(3)
        side = size + round(scale * (short - size))
    top, left = int(top * (height - side + 1)), int(left * (width - side + 1))
    square = picture[:, top : top + side, left : left + side]
    if side == size:
        return square
    return F.interpolate(square[None], (size, size), mode="bilinear", antialias=True)[0]


def random_flip(pictures: torch.Tensor, generators: list[np.random.Generator]) -> torch.Tensor:
    """Mirror half of the pictures (B, C, H, W)."""
    flipped = uniform(generators, 1)[:, 0] < 0.5
    pictures = pictures.clone()
    pictures[flipped] = pictures[flipped].flip(-1)
    return pictures


def random_crop(
    lab: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float = 0.5,
    smallest: float = 0.7,
) -> torch.Tensor:
    """With `probability`, enlarge a crop of `smallest` to 1 of a side. Keeps (B, 3, H, W)."""
    numbers = uniform(generators, 4)
    cropped = numbers[:, 0] < probability
    if not cropped.any():
        return lab
    size, shift = numbers[cropped, 1], numbers[cropped, 2:]
    size = smallest + (1 - smallest) * size
    # x_in = size * x_out + shift, in the coordinates of grid_sample, where a side is -1..1.
    theta = torch.zeros(len(size), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = size
    theta[:, :, 2] = (2 * shift - 1) * (1 - size[:, None])
    chosen = lab[cropped]
    grid = F.affine_grid(theta, list(chosen.shape), align_corners=False)
    result = lab.clone()
    result[cropped] = F.grid_sample(
        chosen, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return result


def jitter_color(
    chroma: torch.Tensor, generators: list[np.random.Generator], amount: float
) -> torch.Tensor:
    """Scale chroma (B, 2, H, W) by 1 - `amount` to 1 + `amount`, turn hue by up to `amount` rad."""
    scale, turn = (amount * (2 * uniform(generators, 2) - 1)).unbind(1)
    cosine, sine = (1 + scale) * torch.cos(turn), (1 + scale) * torch.sin(turn)
    # (B, 2, 2)
    matrix = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)
    return torch.einsum("bij,bjhw->bihw", matrix, chroma)


def film_luminance(
    lab: torch.Tensor, generators: list[np.random.Generator], probability: float
) -> torch.Tensor:
    """The luminance of L*a*b* (B, 3, H, W), as early film may have it: (B, 1, H, W) in 0..100.

    With `probability` a picture is seen by something between the eye, orthochromatic film (blind to
    red) and blue-sensitive plates (blind to green as well): red cloth and lips are black, skies
    white. Greys stay as they are.
    """
    chosen, place = uniform(generators, 2).unbind(1)
    chosen = chosen < probability
    result = lab[:, :1].clone()
    # Between the neighbours of three films, (B', 3).
    nearness = (1 - (2 * place[chosen, None] - torch.arange(3)).abs()).clamp(min=0)
    weights = (nearness @ FILMS)[:, :, None, None]
    linear = xyz_to_linear(lab_to_xyz(lab[chosen])).clamp(0, 1)
    result[chosen] = linear_to_luminance((linear * weights).sum(1, keepdim=True))
    return result


def degrade_luminance(
    luminance: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float = 0.3,
    scratches: int = 0,
) -> torch.Tensor:
    """What old prints suffer. (B, 1, H, W) in 0..100.

    With `probability` a picture gets random amounts of another tone curve, fading (lifted blacks
    and dulled whites), blur and grain, and up to `scratches` bright or dark lines.
    """
    numbers = uniform(generators, 6)
    chosen = (numbers[:, 0] < probability).nonzero()[:, 0].tolist()
    if not chosen:
        return luminance
    generators = [generators[picture] for picture in chosen]
    worn = luminance[chosen]
    curve, fade, dull, blur, grain = numbers[chosen, 1:, None, None, None].unbind(1)
    black, white = 20 * fade**2, 100 - 25 * dull**2
    gamma = torch.exp(0.6 * (curve - 0.5))
    worn = black + (white - black) * (worn / 100).clamp(min=1e-4) ** gamma
    blurred = F.avg_pool2d(F.pad(worn, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    worn = torch.lerp(worn, blurred, blur)
    worn = worn + 6 * grain**2 * normal(generators, tuple(worn.shape[1:]))
    if scratches:
        for picture, generator in zip(worn, generators, strict=True):
            scratch(picture, generator, scratches)
    result = luminance.clone()
    result[chosen] = worn.clamp(0, 100)
    return result


def scratch(luminance: torch.Tensor, generator: np.random.Generator, most: int) -> None:
    """Draw up to `most` thin, nearly upright lines on (1, H, W) in 0..100, in place."""
    _, height, width = luminance.shape
    rows = torch.arange(height)
    for _ in range(generator.integers(most + 1)):
        start, lean, shade = generator.random(3)
        first, last = sorted(generator.integers(0, height + 1, 2))
        columns = (start * width + 0.3 * (lean - 0.5) * rows).long() % width
        luminance[0, rows[first:last], columns[first:last]] = 100.0 * round(shade)


def random_hints(
    chroma: torch.Tensor,
    generators: list[np.random.Generator],
    probability: float = 0.5,
    most: int = 16,
) -> torch.Tensor:
    """True colours at a few random places of the chroma grid, as a person would give them.

    Args:
        chroma: (B, 2, h, w), a*, b* in any scale.
        generators: one a picture, for the number of hints, their places and sizes.
        probability: share of pictures with hints.
        most: of hints in a picture; few are more frequent than many.

    Returns:
        (B, 3, h, w): a*, b* (one colour a hint: the mean of 1 to 3 cells square) and the mask.
    """
    _, _, height, width = chroma.shape
    hints = torch.zeros(len(chroma), 3, height, width)
    for true, given, generator in zip(chroma, hints, generators, strict=True):
        has, amount = generator.random(2)
        count = round(most**amount) if has < probability else 0
        for size in generator.integers(1, 4, count).clip(max=min(height, width)).tolist():
            top = generator.integers(height - size + 1)
            left = generator.integers(width - size + 1)
            rows, columns = slice(top, top + size), slice(left, left + size)
            given[:2, rows, columns] = true[:, rows, columns].mean((1, 2), keepdim=True)
            given[2, rows, columns] = 1
    return hints


def luminance_to_input(luminance: torch.Tensor) -> torch.Tensor:
    """L* in [0, 100] to the network's [-1, 1]."""
    return luminance / 50 - 1


def with_hints(luminance: torch.Tensor, hints: torch.Tensor) -> torch.Tensor:
    """Condition (B, 4, H, W): the network's luminance (B, 1, H, W) and hints (B, 3, h, w)."""
    return torch.cat([luminance, F.interpolate(hints, luminance.shape[2:], mode="nearest")], dim=1)


# Batches


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
        pictures: "PictureMix",
        layout: BatchFormat,
        config: DataConfig,
        seed: int,
        batch_size: int,
        noise_levels: int = 1,
        num_train_timesteps: int | None = 1000,
        accumulation: int = 1,
        process: int = 0,
        processes: int = 1,
        closer: "PictureMix | None" = None,
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
    validation: dict[str, "Pictures"], training: "PictureMix", count: int, side: int
) -> list[torch.Tensor]:
    """8-bit squares (3, side, side) to look at: `count` of each validation set, or of training."""
    squares = [
        cut_square(pictures[index], side)
        for pictures in validation.values()
        for index in range(min(count, len(pictures)))
    ]
    return squares or [cut_square(training[draw], side) for draw in range(count)]


def validation_batches(
    pictures: "Pictures",
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


# Sources of pictures


def open_record(record: dict) -> Image.Image:
    """An undecoded `datasets` image as Pillow's, not yet turned upright.

    Raises:
        OSError: if it is no readable picture.
    """
    content, path = record["bytes"], record["path"]
    if content is None and not os.path.isfile(path):  # a pipe would be waited for without end
        raise FileNotFoundError(f"{path} is no file.")
    return open_picture(path if content is None else io.BytesIO(content))


def decode(record: dict, short_side: int) -> torch.Tensor:
    """An undecoded `datasets` image to 8-bit sRGB (3, H, W), its short side scaled as asked.

    Raises:
        OSError: if it is no readable picture.
    """
    with open_record(record) as image:
        image.draft("RGB", (short_side, short_side))  # JPEG: decode no more detail than needed
        image = to_srgb(ImageOps.exif_transpose(image))
    factor = short_side / min(image.size)
    if factor != 1:
        size = [max(round(factor * side), short_side) for side in image.size]
        image = image.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def try_decode(record: dict, short_side: int) -> torch.Tensor | None:
    """`decode`, or `None` for a broken picture."""
    try:
        return decode(record, short_side)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def is_grey(picture: torch.Tensor) -> bool:
    """Whether an 8-bit picture (3, H, W) has no colour to learn from."""
    spread = picture.amax(0).int() - picture.amin(0).int()
    return bool(spread.float().mean() < 3)


def is_toned(picture: torch.Tensor) -> bool:
    """Whether an 8-bit picture (3, H, W) is a tinted grey one, such as sepia or cyanotype.

    There, a* and b* follow from the luminance: their means at each of 50 levels of L* leave hardly
    anything over.
    """
    luminance, *chroma = bytes_to_lab(picture[None])[0].flatten(1)
    chroma = torch.stack(chroma, 1)
    level = (luminance / 2).long().clamp(0, 49)
    count = torch.bincount(level, minlength=50)[:, None].clamp(min=1)
    means = torch.zeros(50, 2).index_add_(0, level, chroma) / count
    return bool((chroma - means[level]).square().sum(1).mean().sqrt() < 2.5)


def grey_version(picture: torch.Tensor) -> torch.Tensor:
    """The 8-bit grey (H, W) with the CIE luminance of an 8-bit picture (3, H, W)."""
    luminance = bytes_to_lab(picture[None])[:, :1]
    grey = merge_luminance(luminance, luminance.new_zeros(1, 2, *luminance.shape[2:]))
    return (grey[0, 0] * 255).round().byte()


class Pictures:
    """The pictures of one data set, kept decoded as far as memory is allowed.

    Args:
        dataset: a `datasets.Dataset` whose image column is called `image` and not decoded.
        short_side: to which each picture is scaled.
        budget: bytes of memory for decoded pictures; the rest is decoded at each use.
        name: for messages.
        watch: wraps the reading of the data set, e.g. `tqdm.tqdm`.

    Broken pictures are left out with a warning; those beyond the budget are replaced by the next
    good one when they are met.

    Raises:
        ValueError: if no picture, or no colour picture, is left.
    """

    def __init__(
        self,
        dataset,
        short_side: int,
        budget: float = math.inf,
        name: str = "data set",
        watch: Callable = iter,
    ):
        self.dataset = dataset
        self.short_side = short_side
        self.cached: list[torch.Tensor] = []
        broken, read, grey = [], 0, 0
        for read, row in enumerate(watch(dataset), start=1):
            picture = try_decode(row["image"], short_side)
            if picture is None:
                broken.append(row["image"]["path"] or f"row {read - 1}")
                continue
            self.cached.append(picture)
            grey += is_grey(picture)
            budget -= picture.numel()
            if budget <= 0:
                break
        self._rest = range(read, len(dataset))
        if broken:
            warnings.warn(f"{name}: left out {len(broken)} broken: {broken[:5]}", stacklevel=2)
        if not self.cached:
            raise ValueError(f"{name}: there is no readable picture in it.")
        if grey == len(self.cached) and not self._rest:
            raise ValueError(f"{name}: all its pictures are grey; colour pictures are needed.")

    def __len__(self) -> int:
        return len(self.cached) + len(self._rest)

    def __getitem__(self, index: int) -> torch.Tensor:
        if index < len(self.cached):
            return self.cached[index]
        for row in self._rest[index - len(self.cached) :]:
            picture = try_decode(self.dataset[row]["image"], self.short_side)
            if picture is not None:
                return picture
        return self.cached[0]


def shares(sizes: list[int], exponent: float, factors: list[float] | None = None) -> np.ndarray:
    """Share of each set in the draws: factor * size^exponent, summing to 1."""
    if factors and len(factors) != len(sizes):
        raise ValueError(f"`dataset_weights` has {len(factors)} values for {len(sizes)} data sets.")
    weights = np.array(sizes, float) ** exponent * (factors or np.ones(len(sizes)))
    if not (weights >= 0).all() or weights.sum() == 0:
        raise ValueError(f"`dataset_weights` must be positive, not {factors}.")
    return weights / weights.sum()


def epoch_order(
    sizes: list[int | None], weights: np.ndarray, draws: int, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Set and index within the set of each draw of an epoch, both (draws,).

    Each set gets its share of the draws and goes through whole permutations of its pictures: none
    comes twice before all have come once. A set of unknown size (`None`) is read on from epoch to
    epoch.
    """
    generator = make_generator(seed, ORDER, epoch)
    bounds = np.round(np.cumsum(weights) * draws).astype(int)
    counts = np.diff(bounds, prepend=0)
    source = generator.permutation(np.repeat(np.arange(len(sizes)), counts))
    index = np.empty(draws, int)
    for number, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        if size is None:
            index[source == number] = epoch * count + np.arange(count)
            continue
        passes = [generator.permutation(size) for _ in range(-(-count // size))]
        index[source == number] = np.concatenate([*passes, np.empty(0, int)])[:count]
    return source, index


class PictureMix:
    """Draw number -> picture, from several sets in their shares, without end.

    Args:
        sets: `Pictures` or `PictureStream`s.
        weights: share of each, summing to 1.
        draws_per_epoch: after which there is a new order.
        seed: of the orders.
    """

    def __init__(self, sets: list, weights: np.ndarray, draws_per_epoch: int, seed: int):
        self.sets = sets
        self.sizes = [len(s) if isinstance(s, Pictures) else None for s in sets]
        self.weights = weights
        self.draws_per_epoch = draws_per_epoch
        self.seed = seed
        self._epoch, self._order = -1, None

    def __getitem__(self, draw: int) -> torch.Tensor:
        epoch, place = divmod(draw, self.draws_per_epoch)
        if epoch != self._epoch:
            order = epoch_order(self.sizes, self.weights, self.draws_per_epoch, self.seed, epoch)
            self._epoch, self._order = epoch, order
        source, index = self._order
        return self.sets[source[place]][index[place]]

    @property
    def held_gigabytes(self) -> float:
        """Memory that decoded pictures take."""
        held = [picture for one in self.sets for picture in getattr(one, "cached", ())]
        return sum(picture.numel() for picture in held) / 2**30


class PictureStream:
    """Index -> picture, read in order from a stream; quick only where indices ascend.

    Every process reads the whole stream and decodes its own pictures. Going back, or resuming at
    some index, reads the stream again up to there.

    Args:
        dataset: a shuffled `datasets.IterableDataset` with an undecoded column `image`.
        short_side: to which each picture is scaled.
    """

    _PATIENCE = 100  # broken pictures in a row

    def __init__(self, dataset, short_side: int):
        self.dataset = dataset
        self.short_side = short_side
        self._restart()

    def _restart(self):
        self._records = self._read()
        self._window = collections.deque()
        self._start = 0

    def _read(self):
        for epoch in itertools.count():
            self.dataset.set_epoch(epoch)  # another order in each
            empty = True
            # Not `for row in self.dataset`, which gives each worker of a loader other rows.
            for rows in self.dataset.iter(1):
                empty = False
                yield from rows["image"]
            if empty:
                raise ValueError("The stream has no picture in it.")

    def __getitem__(self, index: int) -> torch.Tensor:
        if index < self._start:
            self._restart()
        while self._start < index:
            self._window.popleft() if self._window else next(self._records)
            self._start += 1
        # A broken picture is replaced by the next good one, which then comes twice.
        for ahead in range(self._PATIENCE):
            if ahead == len(self._window):
                self._window.append(next(self._records))
            picture = try_decode(self._window[ahead], self.short_side)
            if picture is not None:
                return picture
        raise ValueError(f"{self._PATIENCE} broken pictures in a row in the stream.")


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") != 1


def _refuse_hidden_pictures(folder: Path) -> None:
    """Refuse a folder of pictures of which `datasets` would leave some out for others' names."""
    from datasets import load_dataset_builder

    builder = load_dataset_builder(str(folder))
    if builder.name != "imagefolder":
        return
    taken = {str(file) for files in builder.config.data_files.values() for file in files}
    suffixes = Image.registered_extensions()
    folder = folder.resolve()
    pictures = [
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes
        and not any(part.startswith((".", "__")) for part in file.relative_to(folder).parts)
    ]
    left_out = sorted(str(file) for file in pictures if str(file) not in taken)
    if left_out:
        raise ValueError(
            f"{folder}: {len(left_out)} of {len(pictures)} pictures are in no split, such as "
            f"{left_out[0]}, since the names of others have a word like train, val, dev, test or "
            "eval, which makes a split: rename those, or put the rest into a folder `train`."
        )


def open_splits(name: str, config: DataConfig) -> dict:
    """The splits of a data set, each with one undecoded column `image`.

    Raises:
        ValueError: for a folder that is not there or empty, or an unknown column.
    """
    from datasets import Image as ImageFeature
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    path = Path(name).expanduser()
    if _looks_like_path(name) and not path.is_dir():
        raise ValueError(f"There is no folder {name!r} to train on.")
    try:
        if path.is_dir():
            _refuse_hidden_pictures(path)
        splits = load_dataset(str(path), streaming=config.streaming)
    except (FileNotFoundError, DatasetsError) as error:
        raise ValueError(f"{name}: no data set of pictures: {error}") from error
    result = {}
    for split, dataset in splits.items():
        columns = list(dataset.features or dataset.column_names or [])
        refuse_unknown([config.image_column], columns, f"{name}: the data set")
        dataset = dataset.select_columns([config.image_column])
        if config.image_column != "image":
            dataset = dataset.rename_column(config.image_column, "image")
        result[split] = dataset.cast_column("image", ImageFeature(decode=False))
    return result


def split_validation(splits: dict, name: str, config: DataConfig) -> tuple:
    """(training, validation) of a data set; validation is `None` if there is none to be had."""
    if config.train_split not in splits:
        raise ValueError(f"{name} has no split {config.train_split!r}, only {sorted(splits)}.")
    train = splits[config.train_split]
    if config.validation_pictures == 0:
        return train, None
    if config.validation_split in splits:
        validation = splits[config.validation_split]
        return train, validation.take(config.validation_pictures)
    if config.streaming or len(train) < 2:
        return train, None
    held = max(min(config.validation_pictures, len(train) // 10), 1)
    # Always the same ones, whatever the seed of the run.
    order = make_generator(0, VALIDATION, 2**33).permutation(len(train))
    return train.select(sorted(order[held:])), train.select(sorted(order[:held]))


def load_training_pictures(
    config: DataConfig, seed: int, draws_per_step: int, watch: Callable = iter
) -> tuple["PictureMix", int, dict[str, Pictures]]:
    """Open `config.datasets`.

    Args:
        config: what is trained on.
        seed: of the order.
        draws_per_step: pictures a step, of all processes.
        watch: wraps the reading of each set, e.g. `tqdm.tqdm`.

    Returns:
        Draw number -> picture, the steps of an epoch, and the validation pictures by set.

    Raises:
        ValueError: if there is nothing to train on, and for fields that do not fit.
    """
    if not config.datasets:
        raise ValueError("`datasets` names no data set to train on.")
    if not 0 <= seed < 2**56:
        raise ValueError(f"`seed` must be from 0 to 2^56 - 1, not {seed}.")
    short_side = config.load_size or config.resolution
    if short_side < config.resolution:
        raise ValueError(
            f"`load_size` {short_side} must not be below `resolution` {config.resolution}."
        )
    train, validation = {}, {}
    for name in config.datasets:
        train[name], held = split_validation(open_splits(name, config), name, config)
        if held is not None:
            held = list(held) if config.streaming else held
            short = Path(name).name if Path(name).name not in validation else name
            validation[short] = Pictures(held, short_side, name=f"{name}, validation")
    if config.streaming:
        sets, size = _stream(list(train.values()), config, seed, short_side)
        weights = shares([1] * len(sets), 0, config.dataset_weights)
    else:
        sets, size = _hold(train, config, short_side, watch)
        weights = shares([len(s) for s in sets], config.size_exponent, config.dataset_weights)
    # No short last batch: what is left over stands elsewhere in the next epoch's order.
    steps = max((config.epoch_pictures or size) // draws_per_step, 1)
    return PictureMix(sets, weights, steps * draws_per_step, seed), steps, validation


def _hold(
    train: dict, config: DataConfig, short_side: int, watch: Callable
) -> tuple[list[Pictures], int]:
    budget = config.cache_gigabytes * 2**30
    sets = []
    for name, dataset in train.items():
        sets.append(Pictures(dataset, short_side, budget, name, watch))
        budget -= sum(picture.numel() for picture in sets[-1].cached)
    return sets, sum(len(pictures) for pictures in sets)


def _stream(streams: list, config: DataConfig, seed: int, short_side: int):
    if config.epoch_pictures is None:
        raise ValueError("A stream has no known length: set `epoch_pictures`.")
    shuffled = [s.shuffle(seed=seed, buffer_size=config.shuffle_buffer) for s in streams]
    return [PictureStream(stream, short_side) for stream in shuffled], config.epoch_pictures
