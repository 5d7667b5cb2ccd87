"""A picture at the sizes at which the network looks at it."""

from dataclasses import dataclass, field

import numpy as np
import torch

from .hints import hint_influence
from .margins import Frame
from .mending import Mend


@dataclass
class Look:
    """A picture at one of its working sizes: what the network sees, and the colours it gives."""

    luminance: torch.Tensor  # (1, H, W), L* of the photograph at full size, without margins
    seen: torch.Tensor  # (1, H, W), the same without what transparency hides
    frame: Frame  # where it lies in the whole picture
    whole_luminance: torch.Tensor  # (1, H, W), L* of that
    resolution: float  # short side of the working picture
    working: torch.Tensor  # (1, 1, h, w), L* as the network sees it
    hints: torch.Tensor | None  # (1, 3, h, w): a*, b* and confidence on the chroma grid
    generator: torch.Generator | None
    previous: "Look | None" = None  # the first look, where this is the second
    chroma: torch.Tensor = field(init=False)  # (samples, 2, h, w), a*b*, before the dials
    given: torch.Tensor | None = None  # (1, 2, h, w), of `color_image`, before the dials
    free: torch.Tensor | None = None  # (1, 1, h, w), 1 where they are invented anew, else 0
    mend: Mend | None = None  # what they come from, at full size
    certain: np.ndarray | None = None  # (h, w), from `certain_influence`
    spread: torch.Tensor | None = None  # (h, w), standard deviation of several candidates
    estimates: list[torch.Tensor] = field(default_factory=list)  # (samples, 2, h, w), as shown

    @property
    def is_drawn(self) -> bool:
        """Whether the look has its colours."""
        return hasattr(self, "chroma")

    @property
    def influence(self) -> np.ndarray | None:
        """How far hints decide each cell's colour, (h, w); `None` for a model without hints."""
        return None if self.hints is None else hint_influence(self.hints.numpy())

    @property
    def kept(self) -> np.ndarray | None:
        """The cells that keep the colours they have, (h, w), 0 or 1; `None` if none are given."""
        return None if self.free is None else 1 - self.free[0, 0].numpy()


def group_looks(looks: list[Look], batch_size: int | None) -> list[list[Look]]:
    """Group looks of one working size and similar margins, at most `batch_size` together."""
    by_size: dict[tuple, list[Look]] = {}
    for look in looks:
        frame = None if look.frame.is_whole else look.frame
        by_size.setdefault((tuple(look.working.shape), frame), []).append(look)
    return [
        group[start : start + (batch_size or len(group))]
        for group in by_size.values()
        for start in range(0, len(group), batch_size or len(group))
    ]


def leave_grey(look: Look, num_samples: int, grid: tuple[int, int]) -> None:
    """Leave the colours that a picture had, or none, where an interruption came before it."""
    before = torch.zeros(1, 2, *grid) if look.given is None else look.given
    look.chroma = before.repeat(num_samples, 1, 1, 1)
    look.spread, look.estimates = torch.zeros(grid), []
