"""Sampling around given colours, step by step: what a graph of whole runs leaves to its caller."""

from collections.abc import Callable

import numpy as np

# Runs the graph: takes inputs by name, returns the outputs that are asked for.
Run = Callable[..., list[np.ndarray]]


def sample_around(
    run: Run,
    given: np.ndarray,
    free: np.ndarray,
    start: np.ndarray,
    noise: np.ndarray,
    schedule: np.ndarray,
    features: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Run a schedule in which colours outside a mask stay as they are.

    They are put back at each noise level, so the network sees them, and what it invents agrees with
    them (Lugmayr et al. 2022, RePaint, eq. 8). torch's sampler does the same.

    Args:
        run: the graph on one look at a picture.
        given: (1, 2, h, w), the colours, in the network's units.
        free: (1, 1, h, w), 1 where colours are invented, else 0.
        start: (N, 2, h, w), the sample to begin with.
        noise: (1 + steps, N, 2, h, w), of the start and of each step.
        schedule: (steps, 6), as from `ScheduleTable`.
        features: (F,), what the encoder found in the picture, or (0,).

    Returns:
        The sample (N, 2, h, w), the clean estimates (steps, N, 2, h, w), and the features (F,).
    """

    def keep(color: np.ndarray, signal: float = 1, rate: float = 0) -> np.ndarray:
        return np.where(free > 0, color, signal * given + rate * noise[0]).astype(np.float32)

    estimates = []
    sample = keep(start, *schedule[0, 1:3]) if len(schedule) else keep(start)
    rates = [*schedule[1:, 2], 0.0]
    for index, row in enumerate(schedule):
        sample, estimate, features = run(
            ["next_sample", "estimates", "next_features"],
            sample=sample,
            noise=noise[index + 1 : index + 2],
            schedule=row[None],
            features=features,
        )
        estimates.append(keep(estimate[0]))
        sample = keep(sample, row[3], rates[index])
    return sample, np.stack(estimates or [keep(start)]), features
