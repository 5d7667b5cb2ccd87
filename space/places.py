"""Places that the page's visitors touch: things that end where the light does, and strokes."""

import re
from dataclasses import dataclass

import numpy as np
from limits import short
from PIL import Image, ImageDraw

from pipeline_colorize import Hint
from pipeline_colorize.telling.masks import region_hints, thing_mask

DETAIL = 1600  # pixels to the long side of a photograph on which strokes are drawn
_NUMBER = r"\d{1,6}(?:\.\d{1,6})?"
_LINE = re.compile(
    rf"({_NUMBER}(?: {_NUMBER})*), ({_NUMBER}), (thing|brush), "
    r"(anew|grey|[1-8]|#[0-9a-fA-F]{6}), ([1-8])"
)


@dataclass(frozen=True)
class Touch:
    """A place of a photograph, and what becomes of its colours."""

    path: tuple[tuple[float, float], ...]  # x, y in pixels; a thing has one of them
    radius: float  # in pixels: how far a thing may reach, or half the width of a stroke
    is_thing: bool
    what: str  # "anew", "grey", the number of an answer, from 1, or "#rrggbb"
    answer: int  # that is changed, from 0; known colours are those of all answers

    @classmethod
    def parse(cls, line: str, samples: int) -> "Touch":
        """Read "x y [x y ...], radius, thing|brush, what, answer"; ValueError where it is none."""
        found = _LINE.fullmatch(line)
        numbers = [float(number) for number in found[1].split()] if found else [0.0]
        answers = [int(one) for one in found.group(4, 5) if one.isdigit()] if found else []
        if not found or len(numbers) % 2 or max(answers) > samples:
            raise ValueError(
                "A place that is mended is x y, radius, thing or brush, what, answer; "
                f"not {short(line)}"
            )
        path = tuple(zip(numbers[::2], numbers[1::2], strict=True))
        return cls(path, float(found[2]), found[3] == "thing", found[4], answers[-1] - 1)

    @property
    def is_color(self) -> bool:
        """Whether somebody gives the place a colour, in every answer."""
        return self.what.startswith("#")

    @property
    def is_hint(self) -> bool:
        """Whether the whole picture follows that colour; a thing takes it alone."""
        return self.is_color and not self.is_thing

    def __str__(self) -> str:
        path = " ".join(f"{x:g},{y:g}" for x, y in self.path)
        return f"{path},{self.radius:g},{'thing' if self.is_thing else 'brush'},{self.what}"

    def mask(self, image: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
        """Tell where the place is in a photograph (H, W, C): (H, W), float32 in [0, 1].

        A stroke reaches at least as far as a cell of the `grid` (h, w) on which colours lie.

        Raises:
            ValueError: if it lies outside.
        """
        height, width = image.shape[:2]
        if self.is_thing:
            return thing_mask(image, *self.path[0], max(self.radius, 1))
        scale = min(1, DETAIL / max(height, width))
        stroke = Image.new("L", (max(1, round(width * scale)), max(1, round(height * scale))))
        radius = scale * max(self.radius, height / grid[0], width / grid[1])
        draw = ImageDraw.Draw(stroke)
        points = [(x * scale - 0.5, y * scale - 0.5) for x, y in self.path]  # centres of pixels
        draw.line(points, 255, round(2 * radius))
        for point in points:
            draw.circle(point, radius, 255)
        mask = np.asarray(stroke.resize((width, height)), np.float32) / 255
        if not mask.any():
            raise ValueError("A stroke of the brush lies outside the photograph.")
        return mask

    def hints(self, mask: np.ndarray | None = None) -> list[Hint]:
        """Return the place's colour, as hints that fill it, or the `mask` of a thing."""
        if mask is not None:
            return region_hints(mask, self.what)
        return [Hint(x, y, self.what, self.radius) for x, y in self.path]


def on_grid(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a mask (H, W) as the share of each cell of a grid that it covers."""
    image = Image.fromarray(mask).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(image)
