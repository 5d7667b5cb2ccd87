"""Draw sheets that show what a model does, as pages of JPEG.

    python scripts/sheets.py --photographs FOLDER --color FOLDER --large FILE ...

Black-and-white photographs stand beside their colours by several seeds; colour pictures beside
their grey and the colours that the model gives to that; of large pictures, there are crops at
100 %, from where the true colours have their edges. All by the model's default settings.
"""

import argparse
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
        return max(picture.height for picture in self.pictures)


# --- rows ----------------------------------------------------------------------------------------


def find_pictures(folder: Path) -> list[Path]:
    """The photographs of a folder, by name."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in photo.READABLE)
    if not files:
        raise SystemExit(f"no photographs in {folder}")
    return files


def colorize(pipe, picture: Image.Image, seed: int) -> Image.Image:
    """By the defaults, at the picture's own size."""
    return pipe(picture, generator=torch.Generator().manual_seed(seed)).images[0]


def grey(pipe, picture: Image.Image) -> Image.Image:
    """The light of a picture, without its colours."""
    processor = pipe.image_processor
    result = processor.colorize(processor.to_luminance(picture), torch.zeros(2, 1, 1))
    return Image.fromarray(result.numpy())


def seed_row(pipe, path: Path, seeds: list[int]) -> Row:
    """A photograph and its colours, one by each seed."""
    picture = as_picture(photo.read(path).image)
    results = [grey(pipe, picture), *(colorize(pipe, picture, seed) for seed in seeds)]
    return Row(path.name, [fit(one) for one in results])


def truth_row(pipe, path: Path, seed: int) -> Row:
    """A colour picture: grey, with the model's colours, and as it is."""
    picture = as_picture(photo.read(path).image)
    return Row(path.name, [fit(one) for one in beside_truth(pipe, picture, seed)])


def beside_truth(pipe, picture: Image.Image, seed: int) -> list[Image.Image]:
    plain = grey(pipe, picture)
    return [plain, colorize(pipe, plain, seed), picture]


def fit(picture: Image.Image) -> Image.Image:
    """The picture, no larger than a tile."""
    scale = min(*(most / side for most, side in zip(TILE, picture.size, strict=True)), 1)
    size = [max(round(scale * side), 1) for side in picture.size]
    return picture.resize(size, Image.Resampling.LANCZOS)


def crop_rows(pipe, path: Path, seed: int, megapixels: float) -> Iterator[Row]:
    """Crops at 100 % of a colour picture, which is made no larger than `megapixels` first."""
    picture = as_picture(photo.read(path).image)
    scale = min((megapixels * 1e6 / (picture.width * picture.height)) ** 0.5, 1)
    if scale < 1:
        size = [round(scale * side) for side in picture.size]
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    views = beside_truth(pipe, picture, seed)
    for x, y in crop_places(picture):
        box = (x, y, min(x + CROP, picture.width), min(y + CROP, picture.height))
        title = f"{path.name}, {picture.width}x{picture.height}, from {x}, {y}"
        yield Row(title, [view.crop(box) for view in views])


def crop_places(picture: Image.Image) -> list[tuple[int, int]]:
    """Left and top of up to CROPS crops, apart from one another, where colour changes most."""
    small = picture.reduce(_COARSE)
    chroma = metrics.to_lab(np.asarray(small))[..., 1:]
    change = np.sqrt(sum(np.square(part).sum(-1) for part in np.gradient(chroma, axis=(0, 1))))
    side = min(CROP // _COARSE, *change.shape)
    amount = uniform_filter(change, side)  # of the crop around each pixel
    half = side // 2
    inner = np.full_like(amount, -1.0)
    inside = tuple(slice(half, max(length - half, half + 1)) for length in amount.shape)
    inner[inside] = amount[inside]
    places = []
    while len(places) < CROPS and inner.max() >= 0:
        row, column = np.unravel_index(inner.argmax(), inner.shape)
        places.append((int(column - half) * _COARSE, int(row - half) * _COARSE))
        inner[max(row - side, 0) : row + side, max(column - side, 0) : column + side] = -1
    return places


# --- pages ---------------------------------------------------------------------------------------


def draw_page(heads: list[str], rows: list[Row]) -> Image.Image:
    """Rows below one another, on white, with heads over the columns."""
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
    """As many rows as a page holds."""
    page: list[Row] = []
    for row in rows:
        if page and sum(one.height for one in [*page, row]) > ROWS_HEIGHT:
            yield page
            page = []
        page.append(row)
    if page:
        yield page


def encode(page: Image.Image) -> bytes:
    """JPEG of at most LARGEST_PAGE bytes, as good as that allows, with colour in full detail."""
    for quality in range(92, 40, -4):
        file = io.BytesIO()
        page.save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
        if file.tell() <= LARGEST_PAGE:
            return file.getvalue()
    raise SystemExit(f"a page of {page.size} does not fit into {LARGEST_PAGE} bytes")


def write_pages(output: Path, name: str, heads: list[str], rows: Iterable[Row]) -> None:
    """NAME-1.jpg, NAME-2.jpg, ..., and no page that an earlier run left behind them."""
    output.mkdir(parents=True, exist_ok=True)
    for old in output.glob(f"{name}-*.jpg"):
        old.unlink()
    for number, page in enumerate(pages(rows), start=1):
        path = output / f"{name}-{number}.jpg"
        path.write_bytes(encode(draw_page(heads, page)))
        print(path)


# --- the command ---------------------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photographs", type=Path, help="folder of black-and-white photographs")
    parser.add_argument("--color", type=Path, help="folder of colour pictures")
    parser.add_argument("--large", type=Path, nargs="+", default=[], help="large colour pictures")
    parser.add_argument("--megapixels", type=float, default=12, help="of the large pictures")
    parser.add_argument("--model", default="default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=Path("docs/sheets"))
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    pipe = ColorizationPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    seeds, output = options.seeds, options.output
    if options.photographs:
        heads = ["grey", *(f"seed {seed}" for seed in seeds)]
        files = tqdm(find_pictures(options.photographs), "photographs")
        write_pages(output, "photographs", heads, (seed_row(pipe, path, seeds) for path in files))
    heads = ["grey", f"colorized, seed {seeds[0]}", "truth"]
    if options.color:
        files = tqdm(find_pictures(options.color), "color")
        write_pages(output, "color", heads, (truth_row(pipe, path, seeds[0]) for path in files))
    if options.large:
        files = tqdm(options.large, "large")
        crops = (crop_rows(pipe, path, seeds[0], options.megapixels) for path in files)
        write_pages(output, "crops", heads, (row for rows in crops for row in rows))


if __name__ == "__main__":
    main()
