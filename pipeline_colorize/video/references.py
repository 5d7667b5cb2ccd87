"""Pictures in colour that people give for a film: `Reference`."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import av
import cv2
import numpy as np

from .chroma import grid_chroma
from .colorizer import RGB_LEVELS, to_luma
from .light import resize, to_bytes
from .writing import Area, area_slices

# The correlation of two lights from which on a picture counts as the frame itself.
_SAME = 0.9


@dataclass(frozen=True)
class Reference:
    """A picture in colour whose colours a film gets, wherever both show the same.

    Args:
        picture: RGB bytes (H, W, 3).
        time: when the film shows it, in seconds from the film's beginning; `None` if it may be in
            any shot.
        name: by which it is named in the result's metadata.
    """

    picture: np.ndarray
    time: float | None = None
    name: str = "a picture"

    @cached_property
    def digest(self) -> str:
        """A text that changes with the picture and its time."""
        content = np.ascontiguousarray(self.picture)
        shape = f"{content.shape} {self.time}".encode()
        return hashlib.sha256(shape + content.tobytes()).hexdigest()[:32]

    def as_frame(self, size: tuple[int, int], area: Area, light: np.ndarray) -> np.ndarray | None:
        """Read the picture as if it were a frame of the film.

        Args:
            size: height and width of the film's frames.
            area: where the picture lies within black bars.
            light: the working light (h, w) of that frame, without the bars.

        Returns:
            Chroma a*b* (2, h / 4, w / 4); `None` if the light shows that it is another frame.
        """
        rgb = resize(self.picture, *size)
        rgb = np.ascontiguousarray(rgb[area_slices(size, area)])
        own = to_bytes(RGB_LEVELS.signal(resize(to_luma(rgb), *light.shape)))
        if _correlation(own, light) < _SAME:
            return None
        return grid_chroma(rgb, light.shape[0] // 4, light.shape[1] // 4)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return how alike two lights (h, w) are, but for brightness and contrast: at most 1."""
    planes = [cv2.blur(one, (5, 5)).astype(np.float64) for one in (first, second)]
    planes = [one - one.mean() for one in planes]
    norms = float(np.linalg.norm(planes[0]) * np.linalg.norm(planes[1]))
    return float((planes[0] * planes[1]).sum()) / max(norms, 1e-6)


def references_line(references: Iterable[Reference]) -> str:
    """Name pictures, and the first digits of their digests, for the metadata; empty for none."""
    names = sorted({f"{one.name}#{one.digest[:16]}" for one in references})
    return f"References: {', '.join(names)}." if names else ""


def were_used(film: Path, references: Iterable[Reference]) -> bool:
    """Tell whether a finished film says that it has the colours of these pictures, or more."""
    line = references_line(references)
    if not line:
        return True
    try:
        with av.open(str(film)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
    except (av.FFmpegError, OSError):
        return False
    return line in tags.get("comment", "")
