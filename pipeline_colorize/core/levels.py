"""Gives faded photographs their contrast back, for the network's eyes alone.

A print that has faded has neither black nor white. The network has learned from pictures that have
both, and finds strong and odd colours where they are missing. The light that is written stays. The
file needs numpy and Pillow alone, and it travels to the Hub.
"""

from dataclasses import dataclass

import numpy as np
import PIL.Image

# Pixels to the shorter side of the picture that is judged, in which grain has been averaged away.
JUDGED_SIDE = 128
# The darkest and lightest places are these percentiles of L*.
DARKEST, LIGHTEST = 1, 99
# A photograph counts as faded as its range of L* falls from the first number to the second, and
# its darkest places rise from the first to the second: dark pictures with a black are not faded.
FADED_RANGE = 48.0, 42.0
FADED_BLACK = 12.0, 20.0
# The L* that its darkest and lightest places are taken to: the medians of 170 photographs.
BLACK, WHITE = 8.0, 86.0
# The largest factor on contrast, beyond which there is more noise than picture.
MOST = 8.0


@dataclass(frozen=True)
class Levels:
    """Maps the L* of a faded photograph to that of one that has not faded, by a straight line.

    Args:
        gain: the factor on L*; 1 for a photograph of ordinary contrast.
        offset: what is then added.
    """

    gain: float = 1.0
    offset: float = 0.0

    @classmethod
    def measure(cls, luminance: np.ndarray) -> "Levels":
        """Find the levels of a photograph without its margins.

        Args:
            luminance: (H, W), L* in [0, 100], float32.

        Example:
            >>> faded = np.linspace(50, 70, 256, dtype=np.float32).repeat(256).reshape(256, 256)
            >>> Levels.measure(faded).apply(faded).round().min()
            np.float32(7.0)
            >>> Levels.measure(4 * (faded - 50)).gain
            1.0
        """
        dark, light = np.percentile(_judged(luminance), (DARKEST, LIGHTEST))
        share = _ramp(light - dark, *FADED_RANGE) * _ramp(dark, *FADED_BLACK)
        if share == 0 or light == dark:
            return cls()
        full = min((WHITE - BLACK) / (light - dark), MOST)
        gain = 1 + share * (full - 1)
        middle = (1 - share) * (dark + light) / 2 + share * (BLACK + WHITE) / 2
        return cls(float(gain), float(middle - gain * (dark + light) / 2))

    def apply(self, luminance):
        """Bring luminance, an array or tensor, to what the network sees.

        It is what was given where nothing has faded.
        """
        return luminance if self.gain == 1 else (self.gain * luminance + self.offset).clip(0, 100)


def _judged(luminance: np.ndarray) -> np.ndarray:
    height, width = luminance.shape
    scale = min(1, JUDGED_SIDE / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = PIL.Image.fromarray(np.ascontiguousarray(luminance))
    return np.asarray(image.resize(size, PIL.Image.Resampling.BOX))


def _ramp(value: float, start: float, end: float) -> float:
    """Rise from 0 at `start` and before to 1 at `end` and behind, on a straight line."""
    return float(np.clip((value - start) / (end - start), 0, 1))
