"""Sheets that show what a model does, as pages of JPEG.

Black-and-white photographs stand beside their colours by several seeds; colour pictures beside
their grey and the colours that the model gives to that; of large pictures, there are crops at
100 %, from where the true colours have their edges. All by the model's default settings.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import uniform_filter
from tqdm import tqdm

from pipeline_colorize import ColorizationPipeline, photo
from pipeline_colorize.evaluation import metrics
from pipeline_colorize.photo.display import as_picture

TILE = (340, 300)  # at most, in pixels
CROP = 400
CROPS = 3  # of a picture
ROWS_HEIGHT = 1900  # of a page
GAP = 6
LETTERS = 15
_COARSE = 8  # pixels to a side while places for crops are looked for
# Browsers show files up to this well, and repositories stay small.
LARGEST_PAGE = 1_500_000


@dataclass
class Row:
    """Pictures that are drawn side by side under a title."""

    title: str
    pictures: list[Image.Image]

    @property
    def height(self) -> int:
        """Of the tallest picture, in pixels."""
        return max(picture.height for picture in self.pictures)


# --- rows ----------------------------------------------------------------------------------------


def find_pictures(folder: Path) -> list[Path]:
    """Find the photographs of a folder, by name.

    Raises:
        ValueError: if there are none.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in photo.READABLE)
    if not files:
        raise ValueError(f"There are no photographs in {folder}.")
    return files


def colorize(pipe, picture: Image.Image, seed: int) -> Image.Image:
    """Colour a picture by the defaults, at its size."""
    return pipe(picture, generator=torch.Generator().manual_seed(seed)).images[0]


def grey(pipe, picture: Image.Image) -> Image.Image:
    """Take the light of a picture without its colours."""
    processor = pipe.image_processor
    result = processor.colorize(processor.to_luminance(picture), torch.zeros(2, 1, 1))
    return Image.fromarray(result.numpy())


def seed_row(pipe, path: Path, seeds: list[int]) -> Row:
    """Draw a photograph and its colours, one by each seed."""
    picture = as_picture(photo.read(path).image)
    results = [grey(pipe, picture), *(colorize(pipe, picture, seed) for seed in seeds)]
    return Row(path.name, [fit(one) for one in results])


def truth_row(pipe, path: Path, seeds: list[int]) -> Row:
    """Draw a colour picture: grey, with the model's colours by each seed, and as it is."""
    picture = as_picture(photo.read(path).image)
    return Row(path.name, [fit(one) for one in beside_truth(pipe, picture, seeds)])


def beside_truth(pipe, picture: Image.Image, seeds: list[int]) -> list[Image.Image]:
    """Make grey, the model's colours by each seed, and the picture as it is."""
    plain = grey(pipe, picture)
    return [plain, *(colorize(pipe, plain, seed) for seed in seeds), picture]


def fit(picture: Image.Image) -> Image.Image:
    """Make a picture no larger than a tile."""
    scale = min(*(most / side for most, side in zip(TILE, picture.size, strict=True)), 1)
    size = [max(round(scale * side), 1) for side in picture.size]
    return picture.resize(size, Image.Resampling.LANCZOS)


def crop_rows(pipe, path: Path, seed: int, megapixels: float) -> Iterator[Row]:
    """Crop a colour picture at 100 %, after it is made no larger than `megapixels`."""
    picture = as_picture(photo.read(path).image)
    scale = min((megapixels * 1e6 / (picture.width * picture.height)) ** 0.5, 1)
    if scale < 1:
        size = [round(scale * side) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    views = beside_truth(pipe, picture, [seed])
    for x, y in crop_places(picture):
        box = (x, y, min(x + CROP, picture.width), min(y + CROP, picture.height))
        title = f"{path.name}, {picture.width}x{picture.height}, from {x}, {y}"
        yield Row(title, [view.crop(box) for view in views])


def crop_places(picture: Image.Image) -> list[tuple[int, int]]:
    """Choose left and top of up to CROPS separate crops, where colour changes most."""
    small = picture.reduce(_COARSE)
    chroma = metrics.to_lab(np.asarray(small))[..., 1:]
    change = np.sqrt(sum(np.square(part).sum(-1) for part in np.gradient(chroma, axis=(0, 1))))
    side = min(CROP // _COARSE, *change.shape)
    amount = uniform_filter(change, side)  # of the crop around each pixel
    half = side // 2
    inner = np.full_like(amount, -1.0)
    inside = tuple(slice(half, max(length - half, half + 1)) for length in amount.shape)
    inner[inside] = amount[inside]
    places: list[tuple[int, int]] = []
    while len(places) < CROPS and inner.max() >= 0:
        row, column = np.unravel_index(inner.argmax(), inner.shape)
        places.append((int(column - half) * _COARSE, int(row - half) * _COARSE))
        inner[max(row - side, 0) : row + side, max(column - side, 0) : column + side] = -1
    return places


# --- pages ---------------------------------------------------------------------------------------


def draw_page(heads: list[str], rows: list[Row]) -> Image.Image:
    """Draw rows below one another, on white, with heads over the columns."""
    widths = [max(row.pictures[i].width for row in rows) for i in range(len(heads))]
    lefts = [GAP + sum(widths[:i]) + GAP * i for i in range(len(heads))]
    line = LETTERS + GAP
    height = line + sum(row.height + line + GAP for row in rows)
    page = Image.new("RGB", (lefts[-1] + widths[-1] + GAP, height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(LETTERS)
    for left, head in zip(lefts, heads, strict=True):
        draw.text((left, 2), head, "black", font)
    top = line
    for row in rows:
        draw.text((GAP, top), row.title, "dimgrey", font)
        for left, picture in zip(lefts, row.pictures, strict=True):
            page.paste(picture, (left, top + line))
        top += row.height + line + GAP
    return page


def pages(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Group rows into pages."""
    page: list[Row] = []
    for row in rows:
        if page and sum(one.height for one in [*page, row]) > ROWS_HEIGHT:
            yield page
            page = []
        page.append(row)
    if page:
        yield page


def encode(page: Image.Image) -> bytes:
    """Encode a JPEG of at most LARGEST_PAGE bytes, as good as that allows, with full colour detail.

    Raises:
        ValueError: if even a poor one is larger.
    """
    for quality in range(92, 40, -4):
        file = io.BytesIO()
        page.save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
        if file.tell() <= LARGEST_PAGE:
            return file.getvalue()
    raise ValueError(f"A page of {page.size} does not fit into {LARGEST_PAGE} bytes.")


def write_pages(output: Path, name: str, heads: list[str], rows: Iterable[Row]) -> None:
    """Write NAME-1.jpg, NAME-2.jpg and so on, and remove pages that an earlier run left."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob(f"{name}-*.jpg"):
        old.unlink()
    for number, page in enumerate(pages(rows), start=1):
        path = output / f"{name}-{number}.jpg"
        path.write_bytes(encode(draw_page(heads, page)))
        print(path)


# --- all of it -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SheetOptions:
    """What is drawn.

    Args:
        photographs: folder of black-and-white photographs.
        color: folder of colour pictures.
        old_color: folder of old colour photographs, which get an answer by each seed.
        every: draw each so many of these.
        large: large colour pictures, of which crops are shown.
        megapixels: that these are brought to.
        model: a name that ships, a folder or a repository of the Hub.
        seeds: of the results.
        output: a folder.
    """

    photographs: Path | None = None
    color: Path | None = None
    old_color: Path | None = None
    every: int = 1
    large: tuple[Path, ...] = ()
    megapixels: float = 12
    model: str = "default"
    seeds: tuple[int, ...] = (0, 1, 2)
    output: Path = Path("docs/sheets")


def draw(options: SheetOptions) -> None:
    """Draw the sheets that the options ask for.

    Raises:
        ValueError: if a folder has no photographs.
    """
    pipe = ColorizationPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    seeds, output = list(options.seeds), options.output
    if options.photographs:
        heads = ["grey", *(f"seed {seed}" for seed in seeds)]
        files = tqdm(find_pictures(options.photographs), "photographs")
        write_pages(output, "photographs", heads, (seed_row(pipe, path, seeds) for path in files))
    heads = ["grey", f"colorized, seed {seeds[0]}", "truth"]
    if options.color:
        files = tqdm(find_pictures(options.color), "color")
        write_pages(output, "color", heads, (truth_row(pipe, path, seeds[:1]) for path in files))
    if options.old_color:
        files = tqdm(find_pictures(options.old_color)[:: options.every], "old color")
        wide = ["grey", *(f"seed {seed}" for seed in seeds), "truth"]
        write_pages(output, "old-color", wide, (truth_row(pipe, path, seeds) for path in files))
    if options.large:
        files = tqdm(options.large, "large")
        crops = (crop_rows(pipe, path, seeds[0], options.megapixels) for path in files)
        write_pages(output, "crops", heads, (row for rows in crops for row in rows))
