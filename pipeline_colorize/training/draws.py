"""Random numbers that follow from a seed and a number alone.

A training run is a numbered sequence of draws: draw d is one picture with everything random about
it (crop, flip, wear, hints, noise). What a draw is follows from (seed, d) alone, by counter-based
random numbers (Philox; Salmon et al. 2011), so it does not depend on how many processes or workers
share the work, and a run that resumes at draw d goes on exactly as if it had never stopped.
"""

import numpy as np
import torch

# Independent streams of random numbers under one seed.
PICTURES, ORDER, TIMESTEPS, VALIDATION, LARGE, LARGE_STEPS = range(6)


def make_generator(seed: int, stream: int, number: int) -> np.random.Generator:
    """Make the generator of item `number` in a stream (`PICTURES`, `ORDER`, ...) of `seed`."""
    key = np.array([(stream << 56) | seed, number], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def uniform(generators: list[np.random.Generator], count: int) -> torch.Tensor:
    """Draw numbers in [0, 1), (B, count): one row from each picture's generator."""
    return torch.from_numpy(np.stack([g.random(count, dtype=np.float32) for g in generators]))


def normal(generators: list[np.random.Generator], shape: tuple[int, ...]) -> torch.Tensor:
    """Draw standard normal numbers, (B, *shape)."""
    return torch.from_numpy(
        np.stack([g.standard_normal(shape, dtype=np.float32) for g in generators])
    )
