"""What torch's engine and the one without torch share: numbers, sizes, hints. Needs numpy alone.

The file travels to the Hub inside `pipeline.py`.
"""

from dataclasses import dataclass

import numpy as np

# sRGB, with the matrix as rounded by ITU-R BT.709 users and scikit-image.
WHITE_D65 = (0.95047, 1.0, 1.08883)
RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)

# CIE 15:2004, section 8.2.1: below (6/29)^3 the cube root is replaced by its tangent.
LAB_EPSILON = 0.008856
LAB_SLOPE = 7.787
LAB_OFFSET = 16.0 / 116.0

# Colours this close outside [0, 1] count as inside the gamut: less than a tenth of an 8-bit step.
GAMUT_TOLERANCE = 1e-4
# Halvings of the interval that the chroma of a colour outside the gamut is looked for in: so many
# that one of them, which rounding can turn, does not show in a result.
GAMUT_HALVINGS = 18

# The long side of the working picture is at most this many times the short side.
LONGEST = 8
# Pixels worked on at a time at full size: bounds the memory that a large photograph takes.
CHUNK_PIXELS = 1 << 19
# Of the guided filter: the variance of L* under which a neighbourhood counts as even.
EVEN_VARIANCE = 20.0
# Pixels of the guide to a side of a cell while the filter is fitted.
GUIDE_DETAIL = 8

# Among candidates, those farther from the others by a twentieth of the mean count for 1/e as much.
AGREEMENT = 20.0
# How far apart colourings are in a*b* where `balanced` leaves chroma as it is: this, and so much of
# the chroma more.
APART = (5.0, 0.15)
# What share of a window hints tell, times this, is the share of `balanced` that is left out.
TOLD = 4.0
# Where a second look starts, as a share of the schedule; and what colour is multiplied by after it,
# since it takes as much.
BACK = 0.4
CLOSER = 1.06
# Difference of a cell's a*b* from those around it that is raised half as much, as a share of it, as
# fainter ones are.
FAINT = 1.25

# How much of what a hint's cell lacks the cells around it take on, by distance in cells.
HINT_FADE = np.exp(-(np.hypot(*np.mgrid[-8:9, -8:9]) ** 2) / (2 * 3**2)).astype(np.float32)

# Anchors of an inferno-like map whose lightness rises evenly.
_HEAT = np.array([[0, 0, 8], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]])


def rgb_pixels_to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] (..., 3) to L*a*b*, in float64; for a few colours, as those of hints."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    ratio = linear @ np.array(RGB_TO_XYZ).T / WHITE_D65
    curve = np.where(ratio > LAB_EPSILON, np.cbrt(ratio), LAB_SLOPE * ratio + LAB_OFFSET)
    x, y, z = np.moveaxis(curve, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def window_mean(x: np.ndarray, reach: int) -> np.ndarray:
    """Mean of (..., h, w) over windows of 2 * reach + 1 cells, as far as they lie inside."""
    for axis in (-2, -1):
        size = x.shape[axis]
        low = np.maximum(np.arange(size) - reach, 0)
        high = np.minimum(np.arange(size) + reach + 1, size)
        start = np.zeros_like(x.take([0], axis))
        sums = np.concatenate([start, x.cumsum(axis)], axis)
        x = np.swapaxes(sums.take(high, axis) - sums.take(low, axis), axis, -1) / (high - low)
        x = np.swapaxes(x, axis, -1)
    return x


def agreement(
    chroma: np.ndarray,
    candidates: int,
    balance: float = 0,
    known: np.ndarray | None = None,
    closer: bool = False,
) -> np.ndarray:
    """How much each colouring counts, place by place, in what a group of them agrees on.

    The distance of a colouring to the others of its group, in a*b*, is averaged over windows of a
    quarter of the picture's short side, twice; the nearer it is to them there, the more it counts
    (a softmax). A tint over a part, which few share, so gives way to what the others have there,
    and where they disagree, one is taken rather than their grey mean.

    Args:
        chroma: (groups * candidates, 2, h, w), colourings of one picture, group by group.
        candidates: colourings a group; of two, which agree as much with each other, the first one
            counts alone.
        balance: how far colour is toned down where a group is of one mind, and made stronger where
            it is not; see `balanced`. 0 for neither.
        known: (h, w), `nearness` to hints, which are in the colourings already.
        closer: whether it is a second look that the colourings come from: it has the balance of
            the first one in it, and gets `CLOSER` in its place.

    Returns:
        Weights (groups, candidates, 1, h, w), float32. Over the candidates they sum to 1, or to
        what the colour is multiplied by.
    """
    groups = chroma.reshape(-1, candidates, *chroma.shape[1:]).astype(np.float64)
    if candidates < 3:
        weights = np.zeros_like(groups[:, :, :1])
        weights[:, 0] = 1
        return weights.astype(np.float32)
    distance = np.stack(
        [np.linalg.norm(groups - groups[:, [index]], axis=2).sum(1) for index in range(candidates)],
        axis=1,
    )
    reach = min(distance.shape[2:]) // 8
    distance = window_mean(window_mean(distance, reach), reach)
    scale = distance.mean((1, 2, 3), keepdims=True) + 1e-9
    weights = np.exp(-AGREEMENT * (distance - distance.min(1, keepdims=True)) / scale)
    weights = (weights / weights.sum(1, keepdims=True))[:, :, None]
    if closer:
        weights *= beside_hints(np.full(groups.shape[3:], CLOSER), known)
    elif balance:
        weights *= balanced(groups, weights, balance, known)
    return weights.astype(np.float32)


def balanced(
    groups: np.ndarray, weights: np.ndarray, balance: float, known: np.ndarray | None
) -> np.ndarray:
    """What colour that a group agrees on is multiplied by, so that it is as strong as in truth.

    A guided network has too much colour where it is sure, as in a face, and too little where it is
    not. How sure it is, its colourings tell: by how far they are apart, over windows of half the
    picture's short side. The factor is 1 where that is what `APART` says, and nears 1 - balance
    where it is less and 1 + balance where it is more.

    Args: as of `agreement`; groups (groups, candidates, 2, h, w) and their weights, which sum to 1.

    Returns:
        (groups, 1, 1, h, w).
    """
    reach = min(groups.shape[3:]) // 4
    apart = window_mean(np.sqrt(groups.var(1).sum(1)), reach)
    usual = APART[0] + APART[1] * np.linalg.norm((groups * weights).sum(1), axis=1)
    usual = window_mean(usual, reach)
    factor = 1 + balance * (apart - usual) / (apart + usual)
    return beside_hints(factor, known)[:, None, None]


def beside_hints(factor: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """A factor on colour (..., h, w), but 1 near hints: who was told colours has good reason."""
    if known is None:
        return factor
    told = window_mean(known, min(known.shape) // 4)
    return 1 + (1 - known) * (1 - TOLD * told).clip(min=0) * (factor - 1)


def look_sizes(height: int, width: int, resolution: int, refinement: float) -> list[float]:
    """Short sides at which a picture is looked at: once, or a second time if it has the pixels."""
    closer = resolution * refinement
    return [resolution, closer] if resolution < closer <= min(height, width) else [resolution]


def later_steps(steps: int) -> int:
    """To the whole schedule, of which a second look takes the part below `BACK`."""
    return max(steps // 2, 3)


def agreed(chroma, weights):
    """What the groups agree on, (groups, 2, h, w), by the weights of `agreement`."""
    return (chroma.reshape(*weights.shape[:2], *chroma.shape[1:]) * weights).sum(1)


@dataclass
class Hint:
    """A colour that is known at one place of a picture.

    Args:
        x: pixels from the left edge of the input.
        y: pixels from its top edge.
        color: "#RRGGBB", or (red, green, blue) in 0..255; its lightness is not used.
        radius: in pixels of the input; `None` for the one cell of the chroma grid that holds it.
    """

    x: float
    y: float
    color: str | tuple[int, int, int]
    radius: float | None = None

    def chroma(self) -> np.ndarray:
        """a*, b* of the colour, (2,)."""
        color = self.color
        if isinstance(color, str):
            try:
                color = tuple(bytes.fromhex(color.removeprefix("#")))
            except ValueError:
                color = ()
        if len(color) != 3 or not all(0 <= value <= 255 for value in color):
            raise ValueError(
                f"A hint's color is '#RRGGBB' or three values in 0..255, not {self.color!r}."
            )
        return rgb_pixels_to_lab(np.array(color) / 255)[1:]


def fit_size(height: int, width: int, resolution: float, multiple: int = 1) -> tuple[int, int]:
    """Height and width with the short side at `resolution`, as multiples of a number.

    The aspect ratio is kept but for the rounding; 0: the picture's own size.
    """
    scale = 1.0
    if resolution:
        scale = min(resolution / min(height, width), LONGEST * resolution / max(height, width))
    return tuple(max(round(side * scale / multiple), 1) * multiple for side in (height, width))


def draw_hints(hints: list[Hint], size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Hints in pixels of the input to (1, 3, rows, columns), float32, on the chroma grid.

    Channels: a*, b* and a mask that is 1 in the cells of a hint; later hints cover earlier.

    Args:
        hints: of one picture.
        size: its height and width.
        grid: rows and columns of cells.
    """
    result = np.zeros((1, 3, *grid), np.float32)
    cell = [pixels / cells for pixels, cells in zip(size, grid, strict=True)]
    y = (np.arange(grid[0]) + 0.5)[:, None] * cell[0]
    x = (np.arange(grid[1]) + 0.5)[None, :] * cell[1]
    for hint in hints:
        if not (0 <= hint.x < size[1] and 0 <= hint.y < size[0]):
            raise ValueError(
                f"The hint at ({hint.x}, {hint.y}) lies outside the picture, which is "
                f"{size[1]} wide and {size[0]} high."
            )
        place = (x - hint.x) ** 2 + (y - hint.y) ** 2 <= (hint.radius or 0) ** 2
        place[int(hint.y / cell[0]), int(hint.x / cell[1])] = True
        result[0, :2, place] = hint.chroma()
        result[0, 2, place] = 1
    return result


def nearness(hints: np.ndarray) -> np.ndarray:
    """How much of each cell hints tell, (1, 3, h, w) to (h, w): 1 in their own cells, then less."""
    place = hints[0, 2]
    margin = len(HINT_FADE) // 2
    told = np.zeros([side + 2 * margin for side in place.shape], np.float32)
    for row, column in np.argwhere(place):
        told[row : row + len(HINT_FADE), column : column + len(HINT_FADE)] += HINT_FADE
    return told[margin:-margin, margin:-margin].clip(max=1)


def heat_picture(uncertainty: np.ndarray) -> np.ndarray:
    """Spread of the samples' chroma, (H, W) in units of a*b*, as RGB bytes (H, W, 3).

    Black is agreement; through purple and orange to pale yellow at a spread of 30 and above.
    """
    position = np.clip(uncertainty / 30, 0, 1).astype(np.float32) * (len(_HEAT) - 1)
    stops = np.arange(len(_HEAT))
    rgb = [np.interp(position, stops, channel) for channel in _HEAT.T]
    return np.rint(np.stack(rgb, axis=-1)).astype(np.uint8)


def row_chunks(height: int, width: int):
    """Slices of rows that hold about `CHUNK_PIXELS` pixels each."""
    rows = max(CHUNK_PIXELS // width, 1)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
