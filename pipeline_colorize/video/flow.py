"""Optical flow on the working light, and how far it can be believed."""

from typing import Any

import cv2
import numpy as np

# The flow is kept at this share of the working light's size.
FLOW_SCALE = 2
# Pixels of the working light by which the way there and back may miss, and the share of the way.
_MISS, _MISS_SHARE = 1.0, 0.05
# L* by which the light at both ends of a flow may differ.
_LIGHT_TOLERANCE = 10.0


class FlowFinder:
    """Finds the flow between neighbouring frames: Dense Inverse Search (Kroeger et al. 2016)."""

    def __init__(self) -> None:
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the flow from one working light to another.

        Args:
            first: (h, w), bytes.
            second: (h, w), bytes.

        Returns:
            (h / 2, w / 2, 2), float32: how far across and down, in pixels of the flow's own grid,
            each place of `first` lies from where it is in `second`.
        """
        flow = self._search.calc(first, second, None)
        height, width = first.shape
        size = (width // FLOW_SCALE, height // FLOW_SCALE)
        return cv2.resize(flow, size, interpolation=cv2.INTER_AREA) / FLOW_SCALE


def places(height: int, width: int) -> np.ndarray:
    """Return the coordinates of all cells, (height, width, 2): across and down."""
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height))
    return np.stack([across, down.astype(np.float32)], axis=-1)


def sample(plane: np.ndarray, flow: np.ndarray, method: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Take from a plane (h, w) or (h, w, C) what lies where the flow (h, w, 2) points to."""
    where = places(*flow.shape[:2]) + flow
    across, down = cv2.split(where)
    return cv2.remap(plane, across, down, method, borderMode=cv2.BORDER_REPLICATE)


def compose(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the flow that follows `first` and then `second`, all (h, w, 2)."""
    return first + sample(second, first)


def consistency(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Return how far a flow can be believed, by whether the flow back returns to where it began.

    Args:
        there: (h, w, 2).
        back: (h, w, 2), the flow in the other direction.

    Returns:
        (h, w), 1 where both agree, near 0 where something was covered or came into view, or where
        the flow leaves the frame.
    """
    miss = np.linalg.norm(there + sample(back, there), axis=2)
    way = np.linalg.norm(there, axis=2)
    allowed = (_MISS + _MISS_SHARE * way * FLOW_SCALE) / FLOW_SCALE
    where = places(*there.shape[:2]) + there
    height, width = there.shape[:2]
    inside = (where > -1).all(2) & (where[..., 0] < width) & (where[..., 1] < height)
    return np.exp(-((miss / allowed) ** 2)) * inside


def likeness(light: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return how alike two lights (h, w) in L* are, place by place, in [0, 1].

    A change of the whole frame's brightness, such as old film's flicker, is left out.
    """
    difference = light - other
    difference = difference - np.median(difference)
    near = cv2.blur(np.abs(difference), (5, 5))
    return np.exp(-((near / _LIGHT_TOLERANCE) ** 2))
