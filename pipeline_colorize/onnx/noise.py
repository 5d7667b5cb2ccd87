"""Random numbers as torch draws them, without torch."""

import math

import numpy as np


class TorchGenerator:
    """Draws torch's random numbers: the same seed gives the same numbers up to the last digits.

    The Mersenne Twister of Matsumoto and Nishimura (1998) and the transform of Box and Muller
    (1958), in the order in which torch draws and pairs.

    >>> TorchGenerator().manual_seed(7).randn(2, 4, 4).shape
    (2, 4, 4)
    """

    def __init__(self):
        self._left: float | None = None
        self.manual_seed(0)

    def manual_seed(self, seed: int) -> "TorchGenerator":
        """Begin anew from `seed`, of which the low 32 bits count."""
        self._twister = np.random.RandomState(seed & 0xFFFFFFFF)
        self._left = None
        return self

    def randn(self, *shape: int) -> np.ndarray:
        """Normal numbers of `shape`, float32, as `torch.randn(shape, generator=self)`."""
        count = math.prod(shape)
        values = self._many(count) if count >= 16 else self._few(count)
        return np.asarray(values, np.float32).reshape(shape)

    def _bits(self, count: int) -> np.ndarray:
        return self._twister.randint(0, 1 << 32, count, dtype=np.uint32)

    def _many(self, count: int) -> np.ndarray:
        """Draw in blocks of 16; where these do not come out even, the last covers the end."""
        bits = self._bits(count)
        blocks = _normal_blocks(bits[: count // 16 * 16])
        if count % 16 == 0:
            return blocks
        return np.concatenate([blocks[: count - 16], _normal_blocks(self._bits(16))])

    def _few(self, count: int) -> list[float]:
        """One after the other, in double precision; half of a pair is kept for later."""
        values = []
        for _ in range(count):
            if self._left is not None:
                values.append(self._left)
                self._left = None
                continue
            high, low, high2, low2 = self._bits(4).tolist()
            unit, unit2 = (
                ((h << 32 | low_half) & (1 << 53) - 1) * 2.0**-53
                for h, low_half in ((high, low), (high2, low2))
            )
            radius = math.sqrt(-2 * math.log1p(-unit2))
            values.append(radius * math.cos(2 * math.pi * unit))
            self._left = radius * math.sin(2 * math.pi * unit)
        return values


def _normal_blocks(bits: np.ndarray) -> np.ndarray:
    """Turn random 32-bit numbers, a multiple of 16, into as many normal ones."""
    units = ((bits & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)).reshape(-1, 2, 8)
    radius = np.sqrt(-2 * np.log(1 - units[:, 0]))
    angle = np.float32(2 * math.pi) * units[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
