"""The noise schedule of a model as a table, without torch."""

import math

import numpy as np

from pipeline_colorize.core.sizes import look_schedule


class ScheduleTable:
    """The signal and noise rates of each step, which `OffsetCosineScheduler` has for torch.

    Args:
        properties: of the ONNX file.
    """

    def __init__(self, properties: dict):
        self._total, self._spacing = (
            properties[name] for name in ("num_train_timesteps", "timestep_spacing")
        )
        first, last = (math.acos(properties[f"{end}_signal_rate"]) for end in ("max", "min"))
        angle = np.linspace(first, last, self._total)
        angle = np.arctan(properties["shift"] * np.tan(angle))
        self._signal = np.cos(angle).astype(np.float32)
        self._rate = np.sin(angle).astype(np.float32)
        self._alpha = (np.cos(angle) ** 2).astype(np.float32)

    def timesteps(self, steps: int) -> np.ndarray:
        """Return the timesteps of a run from noisy to clean, (steps,)."""
        total = self._total
        if not 1 <= steps <= total:
            raise ValueError(f"Steps must be between 1 and {total}, not {steps}.")
        if self._spacing == "trailing":
            return np.round(total - np.arange(steps) * total / steps).astype(int) - 1
        return np.linspace(total - 1, 0, steps).round().astype(int)

    def rows(self, steps: int, eta: float) -> np.ndarray:
        """List timestep, signal, rate, next signal, direction, fresh noise by step: (steps, 6).

        The next sample is `next signal` times the clean estimate, plus `direction` times the
        estimated noise, plus `fresh noise` times new noise (Song et al. 2021, DDIM, eq. 12, 16).

        Args:
            steps: 1 to `num_train_timesteps`.
            eta: 0 for deterministic DDIM to 1 for ancestral DDPM.
        """
        times = self.timesteps(steps)
        now, later = times[:-1], times[1:]
        rate, alpha = self._rate, self._alpha
        fresh = np.float32(eta) * (rate[later] / rate[now]) * np.sqrt(1 - alpha[now] / alpha[later])
        direction = np.sqrt(np.maximum(rate[later] ** 2 - fresh**2, 0))
        following = (self._signal[later], direction, fresh)
        ends = (1, 0, 0)  # the last step ends at the clean estimate
        columns = [times, self._signal[times], rate[times]]
        columns += [np.append(column, end) for column, end in zip(following, ends, strict=True)]
        return np.stack(columns, axis=1).astype(np.float32)

    def look_rows(
        self, steps: int, eta: float, second_look: bool = False, strength: float = 1
    ) -> np.ndarray:
        """List the rows of a look, which may start from less than full noise (`look_schedule`)."""
        whole, share = look_schedule(steps, second_look, strength)
        rows = self.rows(whole, eta)
        return rows[rows[:, 0] < share * self._total]
