"""The light of a frame: its luma plane, what its numbers mean, and the small working light."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline_colorize.core.colorimetry import decode_srgb, y_to_lightness
from pipeline_colorize.core.sizes import fit_size

# The short side of the working light, on which shots, flow and keyframes are found. The default
# model's second look has this size as well.
WORKING_SIDE = 256
# What red and blue weigh in luma, by the name of the matrix (ITU-T H.273, table 4).
LUMA_WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt601": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}


@dataclass(frozen=True)
class Levels:
    """Says what the numbers of a luma plane mean.

    Args:
        depth: bits of a sample, 8 to 16.
        full_range: whether black is 0 and white the largest number, or 16 and 235 (at 8 bits).
        matrix: a name of `LUMA_WEIGHTS`.
    """

    depth: int = 8
    full_range: bool = False
    matrix: str = "bt709"

    @property
    def black(self) -> int:
        """The number of black."""
        return 0 if self.full_range else 16 << (self.depth - 8)

    @property
    def luma_span(self) -> int:
        """The steps from black to white."""
        return (1 << self.depth) - 1 if self.full_range else 219 << (self.depth - 8)

    @property
    def neutral(self) -> int:
        """The number that stands for no colour in a chroma plane."""
        return 1 << (self.depth - 1)

    @property
    def chroma_span(self) -> int:
        """The steps from the lowest to the highest chroma."""
        return (1 << self.depth) - 1 if self.full_range else 224 << (self.depth - 8)

    def signal(self, plane: np.ndarray) -> np.ndarray:
        """Bring a luma plane, any shape, to float32 with 0 for black and 1 for white."""
        scale = np.float32(1 / self.luma_span)
        return (plane.astype(np.float32) - np.float32(self.black)) * scale

    def chroma_numbers(self, chroma: np.ndarray) -> np.ndarray:
        """Bring Cb or Cr, any shape, in [-0.5, 0.5], to whole numbers of a chroma plane."""
        numbers = cv2.convertScaleAbs(chroma, alpha=self.chroma_span, beta=self.neutral)
        if self.depth == 8:
            return numbers
        top = (1 << self.depth) - 1
        return np.rint(chroma * self.chroma_span + self.neutral).clip(0, top).astype(np.uint16)


def resize(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize a plane (H, W) or (H, W, C): averaged where it becomes smaller, else interpolated."""
    if plane.shape[:2] == (height, width):
        return plane
    smaller = height <= plane.shape[0] and width <= plane.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(plane, (width, height), interpolation=method)


def working_light(luma: np.ndarray, levels: Levels, side: int = WORKING_SIDE) -> np.ndarray:
    """Return the small light of a frame, as the network and the flow see it.

    Args:
        luma: (H, W), a luma plane of whole numbers.
        levels: what its numbers mean.
        side: the short side of the result in pixels.

    Returns:
        (h, w), L* as bytes: 0 for 0, 255 for 100. Both sides are multiples of 32 pixels.
    """
    height, width = fit_size(luma.shape[0], luma.shape[1], side, 32)
    return to_bytes(levels.signal(resize(luma, height, width)))


def to_bytes(signal: np.ndarray) -> np.ndarray:
    """Turn a grey signal in [0, 1], any shape, coded as sRGB, into L* as bytes, 255 for 100."""
    lightness = y_to_lightness(decode_srgb(signal.clip(0, 1)))
    return np.rint(lightness * 2.55).astype(np.uint8)


def picture_area(brightest: np.ndarray, darkest: float = 20.0) -> tuple[int, int, int, int]:
    """Find the picture between black bars, as a letterbox has them.

    Args:
        brightest: (h, w), the brightest working light of each place in all frames, as bytes.
        darkest: rows and columns that nowhere exceed this number at the edges are bars.

    Returns:
        `(top, bottom, left, right)`; the whole frame where no bar is found, or nothing else.
    """
    blurred = cv2.blur(brightest, (3, 3))
    height, width = blurred.shape
    box = []
    for lines in (blurred.max(1), blurred.max(0)):
        bright = np.flatnonzero(lines > darkest)
        box += [int(bright[0]), int(bright[-1]) + 1] if len(bright) else [0, len(lines)]
    top, bottom, left, right = box
    if bottom - top < height // 4 or right - left < width // 4:
        return 0, height, 0, width
    return top, bottom, left, right
