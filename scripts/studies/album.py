"""Does an album agree with itself? One thing's colour over many pictures, alone and together.

Each photograph is seen many times: as crops that are turned, tilted and resized, in another light,
made grey, with grain. Since it is known where each pixel comes from, the colours of one place can
be compared over all pictures that show it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from tqdm import tqdm

from pipeline_colorize.colorfulness import colorfulness
from pipeline_colorize.evaluation.metrics import to_lab
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.telling.albums import Album

from .photographs import read_some, resized

# Places of a photograph at which colours are compared, down and across.
PLACES = (40, 60)
# A place counts if so many pictures show it.
LEAST_VIEWS = 3


@dataclass(frozen=True)
class View:
    """One picture of an album.

    Args:
        photograph: the number of the photograph that it shows a part of.
        grey: (H, W), uint8.
        truth: (H, W, 3), uint8, its colours.
        from_source: (3, 3), the perspective map from pixels of the photograph to its own.
    """

    photograph: int
    grey: np.ndarray
    truth: np.ndarray
    from_source: np.ndarray


@dataclass(frozen=True)
class AlbumOptions:
    """What an album is made of.

    Args:
        photographs: from which pictures are cut, evenly spaced over those that there are.
        pictures: of the album.
        side: short side of a picture, in pixels.
        seed: of the colours.
    """

    photographs: int = 5
    pictures: int = 30
    side: int = 200
    seed: int = 0


def load(folder: Path, options: AlbumOptions) -> list[np.ndarray]:
    """Load photographs as (H, W, 3), uint8, with a short side of at most 2.5 views.

    Raises:
        ValueError: if there are none.
    """
    return [
        np.asarray(resized(picture, min(2.5 * options.side / min(picture.size), 1)))
        for picture in read_some(folder, options.photographs)
    ]


def make_view(picture: np.ndarray, photograph: int, side: int, random: np.random.Generator) -> View:
    """See a photograph from a place of its own: half to nine tenths of it, in another light."""
    height, width = picture.shape[:2]
    share = random.uniform(0.5, 0.9)
    down, across = share * height, share * width
    top, left = random.uniform(0, height - down), random.uniform(0, width - across)
    corners = np.array([[0, 0], [across, 0], [across, down], [0, down]]) - (across / 2, down / 2)
    angle = np.deg2rad(random.uniform(-8, 8))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilt = random.uniform(-0.05, 0.05, (4, 2)) * (across, down)
    corners = corners @ turn.T + tilt + (left + across / 2, top + down / 2)
    scale = side / min(down, across)
    size = round(across * scale), round(down * scale)
    target = np.array([[0, 0], [size[0], 0], size, [0, size[1]]])
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), target.astype(np.float32))
    seen = cv2.warpPerspective(
        picture, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
    )
    return View(photograph, _in_other_light(seen, random), seen, matrix)


def _in_other_light(seen: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Make a picture grey, brighter or darker, harder or softer, darker to one side, with grain."""
    light = to_lab(seen)[..., 0] / 100
    light = light ** random.uniform(0.75, 1.35) * random.uniform(0.85, 1.1)
    slope = np.linspace(-1, 1, light.shape[1]) * random.uniform(-0.12, 0.12)
    light = light * (1 + slope) + random.uniform(0, 0.06)
    return np.rint(255 * (light + random.normal(0, 0.012, light.shape)).clip(0, 1)).astype(np.uint8)


def make_album(photographs: list[np.ndarray], pictures: int, side: int) -> list[View]:
    """See photographs in turn, until there are so many pictures."""
    random = np.random.default_rng(0)
    return [
        make_view(photographs[index % len(photographs)], index % len(photographs), side, random)
        for index in range(pictures)
    ]


def color_alone(pipe, views: list[View], seed: int) -> list[np.ndarray]:
    """Colour each picture by itself."""
    return [_color(pipe, view, seed, []) for view in tqdm(views, "alone")]


def color_together(pipe, views: list[View], seed: int) -> tuple[list[np.ndarray], int]:
    """Colour the pictures as an album; also counts those that share something."""
    album, found = Album(), {}
    for view in tqdm(views, "features"):
        album.add(view.grey)
    for number in tqdm(album.order(), "together"):
        found[number] = _color(pipe, views[number], seed, album.hints(number))
        album.color(number, found[number])
    matched = sum(bool(album.sources(number)) for number in range(len(views)))
    return [found[number] for number in range(len(views))], matched


def _color(pipe, view: View, seed: int, hints: list) -> np.ndarray:
    generator = [TorchGenerator().manual_seed(seed)]
    return np.asarray(pipe([view.grey], hints=[hints], generator=generator).images[0])


def spread(views: list[View], results: list[np.ndarray], photographs: list[np.ndarray]) -> float:
    """Measure how far the colours of one place differ over the pictures that show it.

    Returns:
        The root of the mean squared distance in a*b* from the mean over the pictures, as the mean
        over all places that `LEAST_VIEWS` pictures show.
    """
    found = []
    for photograph, picture in enumerate(photographs):
        y, x = np.meshgrid(
            *[(np.arange(n) + 0.5) / n * s for n, s in zip(PLACES, picture.shape[:2], strict=True)],
            indexing="ij",
        )
        points = np.stack([x.ravel(), y.ravel()], 1)
        pairs = zip(views, results, strict=True)
        seen = [_chroma_at(v, r, points) for v, r in pairs if v.photograph == photograph]
        chroma = np.stack(seen)  # (views, places, 2), NaN where a place is not seen
        chroma = chroma[:, np.isfinite(chroma[..., 0]).sum(0) >= LEAST_VIEWS]
        off = chroma - np.nanmean(chroma, 0)
        found.append(np.sqrt(np.nanmean(np.square(off).sum(-1), 0)))
    return float(np.concatenate(found).mean())


def _chroma_at(view: View, result: np.ndarray, points: np.ndarray) -> np.ndarray:
    chroma = gaussian_filter(to_lab(result)[..., 1:], (1.5, 1.5, 0))
    places = cv2.perspectiveTransform(points[None].astype(np.float64), view.from_source)[0]
    places = places - 0.5
    planes = [
        map_coordinates(plane, places.T[::-1], order=1, mode="constant", cval=np.nan)
        for plane in np.moveaxis(chroma, -1, 0)
    ]
    return np.stack(planes, 1)


def measure(views: list[View], results: list[np.ndarray], photographs: list) -> dict[str, float]:
    """Return the figures of a way to colour an album."""
    errors = [
        np.linalg.norm(to_lab(result)[..., 1:] - to_lab(view.truth)[..., 1:], axis=-1).mean()
        for view, result in zip(views, results, strict=True)
    ]
    return {
        "spread": spread(views, results, photographs),
        "error": float(np.mean(errors)),
        "colorfulness": float(np.mean([colorfulness(result) for result in results])),
    }


def run(folder: Path, model: str, output: Path, options: AlbumOptions) -> str:
    """Colour an album alone and together, and return a table of figures.

    Args:
        folder: of photographs in colour.
        model: a name that ships, or a folder.
        output: folder for figures and sheets of pictures.
        options: of the album.

    Raises:
        ValueError: if there is no such model or photograph.
    """
    photographs = load(folder, options)
    views = make_album(photographs, options.pictures, options.side)
    pipe = ORTColorizationPipeline.from_pretrained(model)
    alone = color_alone(pipe, views, options.seed)
    together, matched = color_together(pipe, views, options.seed)
    ways = {"truth": [view.truth for view in views], "alone": alone, "together": together}
    rows = {name: measure(views, results, photographs) for name, results in ways.items()}
    output.mkdir(parents=True, exist_ok=True)
    (output / "figures.json").write_text(json.dumps(rows | {"matched": matched}, indent=1))
    for name, results in (("alone", alone), ("together", together)):
        sheet(views, results, output / f"{name}.jpg")
    lines = ["| | spread | distance to the truth in a*b* | colourfulness |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {one['spread']:.2f} | {one['error']:.2f} | {one['colorfulness']:.1f} |"
        for name, one in rows.items()
    ]
    return "\n".join([f"{matched} of {len(views)} pictures share something.", "", *lines])


def sheet(views: list[View], results: list[np.ndarray], file: Path) -> None:
    """Write all pictures to one, a row for each photograph."""
    rows: dict[int, list[Image.Image]] = {}
    for view, result in zip(views, results, strict=True):
        small = Image.fromarray(result).resize((150, 110), Image.Resampling.LANCZOS)
        rows.setdefault(view.photograph, []).append(small)
    across = max(map(len, rows.values()))
    whole = Image.new("RGB", (152 * across, 112 * len(rows)), "white")
    for row, pictures in enumerate(rows.values()):
        for column, picture in enumerate(pictures):
            whole.paste(picture, (152 * column, 112 * row))
    whole.save(file, quality=90)
