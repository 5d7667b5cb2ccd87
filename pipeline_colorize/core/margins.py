"""Finds the even margins around a photograph: a scanner's lid, a film's rebate, an album page.

The network would take them for a part of the picture, so they are left out of what it sees. A
margin is even in its lightness and ends at straight edges, inside which most of each line departs
from it; the sky and other even grounds of a picture end otherwise. The file needs no torch, and
it travels to the Hub.
"""

import math
from dataclasses import dataclass

import numpy as np

from .transparency import Light

# How many margins one inside the other are looked for, such as a print's white rim on a black lid.
MAX_ROUNDS = 4
# Pictures with fewer pixels to a side are too small to tell a margin from the picture.
MIN_SIDE = 32
# The least share of a side that a margin takes, and that a picture takes.
MIN_MARGIN = 0.01
MIN_PICTURE = 0.2
# The spread of L* (its standard deviation) under which what remains is no picture.
EVEN_SPREAD = 1.5
# The outermost share of a side, in which a margin's level and noise are measured.
RIM = 0.01
# The largest noise of a margin (standard deviation of L*), and how far its pixels may depart.
MAX_NOISE = 2.5
TOLERANCE_PER_NOISE = 4.0
MIN_TOLERANCE = 1.5
# Margins whose levels differ by no more than this are of one kind.
SAME_LEVEL = 8.0
# Lines of a margin depart from its level in at most the first share of their pixels, lines of a
# picture in at least the second.
DUST = 0.05
FILLED = 0.5
# The share of the picture, and the lines, within which an edge may lie askew or be blurred.
EDGE = 0.04
MIN_EDGE = 3
# The least share of a margin's lines that are even; the others hold a caption or a film's holes,
# which take up to a tenth of a side each, and after which even lines follow.
EVEN_LINES = 0.5
MAX_BAND = 0.1
MIN_GAP = 0.005
# Levels under and over which nothing is to be coloured, so that a mistake would do no harm.
BLACK, WHITE = 5.0, 97.0
# Pixels to a side in which margins are looked for; their exact lines are then found at full size.
COARSE_SIDE = 1200

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Sharpness:
    """What is asked of margins that could be a picture's own even grounds."""

    noise: float  # at most
    filled: float  # at least
    edge: float  # at most, as a share of the picture
    lines: int  # which an edge may always take


_OF_TWO = _Sharpness(noise=1.0, filled=0.8, edge=0.01, lines=2)
_OF_ONE = _Sharpness(noise=0.3, filled=0.95, edge=0.005, lines=1)


@dataclass(frozen=True)
class _Margin:
    """What the lines of a picture say, from one side inwards."""

    level: float  # of L*
    noise: float  # of L*: of pixels, or of whole lines where they differ more
    depth: int = 0  # in lines; 0 where there is no margin
    straight: bool = False  # whether the margin ends at a straight edge; only then what follows
    edge: int = 0  # lines from the last even one to the first that is filled
    size: int = 0  # lines of the picture inside
    filled: float = 0.0  # the share of the first lines inside that departs from the level

    def is_sharp(self, asked: _Sharpness) -> bool:
        edge = max(asked.lines, asked.edge * self.size)
        return self.straight and (
            self.noise <= asked.noise and self.filled >= asked.filled and self.edge <= edge
        )


def picture_box(luminance: np.ndarray) -> Box:
    """Find the picture inside its even margins.

    Args:
        luminance: (H, W), CIE L* in [0, 100].

    Returns:
        `(top, bottom, left, right)`, so that `luminance[top:bottom, left:right]` is the picture:
        all of it where no margin is found, or where a side has fewer than 32 pixels.

    Raises:
        ValueError: if `luminance` does not have two dimensions.

    Example:
        >>> page = np.full((300, 200), 96.0)
        >>> page[40:260, 30:170] = np.random.default_rng(0).uniform(10, 80, (220, 140))
        >>> picture_box(page)
        (40, 260, 30, 170)
    """
    if luminance.ndim != 2:
        raise ValueError(f"luminance has the shape {luminance.shape}; it must be (height, width)")
    top, bottom, left, right = 0, luminance.shape[0], 0, luminance.shape[1]
    for _ in range(MAX_ROUNDS):
        depths = _margin_depths(luminance[top:bottom, left:right])
        if not any(depths):
            break
        top, bottom = top + depths[0], bottom - depths[1]
        left, right = left + depths[2], right - depths[3]
    return top, bottom, left, right


def _margin_depths(luminance: np.ndarray) -> Box:
    """Count the lines of margin at the top, bottom, left and right, as far as they are one."""
    height, width = luminance.shape
    if min(height, width) < MIN_SIDE:
        return 0, 0, 0, 0
    step = math.ceil(max(height, width) / COARSE_SIDE)
    views = _from_each_side(luminance)
    margins = _measured([view[::step, ::step] for view in views])
    believed = _believed(margins)
    # A margin without a straight edge may go on into an even sky; no farther than the others, then.
    deepest = max([m.depth for m in margins if m.straight], default=0)
    top, bottom, left, right = (
        _exact_depth(view, margin, deepest, step) if is_believed else 0
        for view, margin, is_believed in zip(views, margins, believed, strict=True)
    )
    inside = luminance[top : height - bottom : step, left : width - right : step]
    large = min(1 - (top + bottom) / height, 1 - (left + right) / width) >= MIN_PICTURE
    if not large or inside.std() <= EVEN_SPREAD:
        return 0, 0, 0, 0
    return top, bottom, left, right


def _from_each_side(luminance: np.ndarray) -> list[np.ndarray]:
    """Views whose first rows are the top, bottom, left and right of a picture."""
    return [luminance, luminance[::-1], luminance.T, luminance.T[::-1]]


def _exact_depth(view: np.ndarray, margin: _Margin, deepest: int, step: int) -> int:
    """Return the depth of a margin in lines of `view`, of which every `step`th was measured."""
    if not margin.straight:
        return max(0, (min(margin.depth, deepest) - 1) * step + 1)
    start, end = (margin.depth - 1) * step, margin.depth * step
    return _sharpest(view[start : end + 1, ::step], margin.level) + start


def _sharpest(lines: np.ndarray, level: float) -> int:
    """Return the line at which the mean distance from a level rises most."""
    return 1 + int(np.argmax(np.diff(np.abs(lines - level).mean(1))))


def _measured(views: list[np.ndarray]) -> list[_Margin]:
    """Measure the margins of four views again, without what lies in each other's margins."""
    margins = [_margin(view) for view in views]
    top, bottom, left, right = (margin.depth if margin.straight else 0 for margin in margins)
    height, width = views[0].shape
    columns, rows = slice(left, width - right), slice(top, height - bottom)
    return [_margin(view[:, columns]) for view in views[:2]] + [
        _margin(view[:, rows]) for view in views[2:]
    ]


def _margin(lines: np.ndarray) -> _Margin:
    """Measure the margin at the top of a view (H, W)."""
    rim = lines[: max(2, round(RIM * len(lines)))]
    level = float(np.median(rim))
    noise = 1.4826 * float(np.median(np.abs(rim - level)))
    departs = np.abs(lines - level) > max(MIN_TOLERANCE, TOLERANCE_PER_NOISE * noise)
    columns = np.flatnonzero(departs.mean(0) > DUST)
    if noise > MAX_NOISE or not len(columns):
        return _Margin(level, noise)
    across = slice(columns[0], columns[-1] + 1)
    share = departs[:, across].mean(1)
    even = share <= DUST
    least = max(2, round(MIN_MARGIN * len(lines)))
    if not even[: least // 2 + 1].all() or even.all():
        return _Margin(level, noise)
    last_even, filled = _edge(share, even)
    size = len(even) - int(np.argmax(~even[::-1])) - last_even
    edge = filled - last_even
    if filled and edge <= max(MIN_EDGE, EDGE * size) and even[:filled].mean() >= EVEN_LINES:
        depth = last_even + _sharpest(lines[last_even : filled + 1, across], level)
        noise = max(noise, float(lines[: last_even + 1, across].mean(1).std()))
        inside = float(np.median(share[filled : filled + 1 + MIN_EDGE]))
        if depth >= least:
            return _Margin(level, noise, depth, True, edge, size, inside)
    depth = int(np.argmin(even))
    return _Margin(level, noise, depth if depth >= least else 0)


def _edge(share: np.ndarray, even: np.ndarray) -> tuple[int, int]:
    """Return the last even line of a margin and the first filled line of the picture, or zeros."""
    gap, band = max(2, round(MIN_GAP * len(even))), MAX_BAND * len(even)
    filled = int(np.argmax(share >= FILLED))
    while filled:
        after = filled + int(np.argmax(even[filled:]))
        if after - filled > band or after == filled or not even[after : after + gap].all():
            return int(np.flatnonzero(even[:filled])[-1]), filled
        following = share[after:] >= FILLED
        filled = after + int(np.argmax(following)) if following.any() else 0
    return 0, 0


def _believed(margins: list[_Margin]) -> list[bool]:
    """Tell which sides' margins are none of the picture's own even grounds."""
    best = [False] * 4
    for straight in (margin for margin in margins if margin.straight):
        like = [m.depth > 0 and abs(m.level - straight.level) <= SAME_LEVEL for m in margins]
        alike = [margin for margin, is_like in zip(margins, like, strict=True) if is_like]
        if _are_margins(alike):
            best = max(best, like, key=sum)
    return best


def _are_margins(alike: list[_Margin]) -> bool:
    """Tell whether margins of one level are straight and sharp enough for their number."""
    if len(alike) == 1:
        return alike[0].is_sharp(_OF_ONE)
    if len(alike) == 2:
        sharp = [margin.is_sharp(_OF_TWO) for margin in alike]
        return all(sharp) or (any(sharp) and all(map(_is_harmless, alike)))
    return sum(margin.straight for margin in alike) >= 2


def _is_harmless(margin: _Margin) -> bool:
    return margin.noise <= _OF_ONE.noise and not BLACK <= margin.level <= WHITE


@dataclass(frozen=True)
class Frame:
    """Where a photograph lies inside its margins.

    Args:
        size: height and width of the whole picture, in pixels.
        box: `(top, bottom, left, right)` of the photograph, as from `picture_box`.
    """

    size: tuple[int, int]
    box: Box

    @classmethod
    def find(cls, light: Light, find_margins: bool) -> "Frame":
        """Return the frame of a picture: what is fully transparent around it is a margin as well.

        Args:
            light: of the picture.
            find_margins: whether even margins are looked for.
        """
        top, bottom, left, right = light.visible
        if find_margins:
            inner = picture_box(light.seen[top:bottom, left:right])
            top, bottom = top + inner[0], top + inner[1]
            left, right = left + inner[2], left + inner[3]
        return cls(light.luminance.shape, (top, bottom, left, right))

    @property
    def is_whole(self) -> bool:
        """Whether there are no margins."""
        return self.inner_size == self.size

    @property
    def inner_size(self) -> tuple[int, int]:
        """Height and width of the photograph, in pixels."""
        top, bottom, left, right = self.box
        return bottom - top, right - left

    @property
    def inside(self) -> tuple[slice, slice]:
        """The rows and columns of the photograph."""
        top, bottom, left, right = self.box
        return slice(top, bottom), slice(left, right)

    def scaled(self, inner: tuple[int, int]) -> "Frame":
        """Make the frame of the same picture in another size: the photograph then has `inner`."""
        scales = [new / old for new, old in zip(inner, self.inner_size, strict=True)]
        top, left = (round(self.box[2 * axis] * scales[axis]) for axis in (0, 1))
        after = [
            round((self.size[axis] - self.box[2 * axis + 1]) * scales[axis]) for axis in (0, 1)
        ]
        size = top + inner[0] + after[0], left + inner[1] + after[1]
        return Frame(size, (top, top + inner[0], left, left + inner[1]))

    def place(self, planes: np.ndarray) -> np.ndarray:
        """Place planes on a grid over the photograph onto a like grid over the whole picture.

        Args:
            planes: (..., rows, columns), such as chroma.

        Returns:
            (..., more rows, more columns), float32, with zeros in the margins.
        """
        if self.is_whole:
            return planes
        down, across = (
            _placing(planes.shape[axis - 2], self.size[axis], *self.box[2 * axis : 2 * axis + 2])
            for axis in (0, 1)
        )
        return (down @ planes @ across.T).astype(np.float32)


def _placing(cells: int, size: int, start: int, end: int) -> np.ndarray:
    """Make the matrix that takes values of cells between two pixels to cells of one size.

    Between the centres of cells it interpolates linearly; cells whose centre is in the margin get
    nothing.
    """
    cell = (end - start) / cells
    centres = (np.arange(max(round(size / cell), 1)) + 0.5) * size / max(round(size / cell), 1)
    position = ((centres - start) / cell - 0.5).clip(0, cells - 1)
    nearness = 1 - np.abs(position[:, None] - np.arange(cells))
    is_inside = (centres >= start) & (centres < end)
    return nearness.clip(min=0) * is_inside[:, None]
