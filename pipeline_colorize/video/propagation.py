"""Carries the chroma of keyframes along the flow to all frames of a shot.

Everything here is at the small size of the flow or of the chroma grid; no full frame is needed.
"""

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from .flow import FLOW_SCALE, FlowFinder, compose, consistency, likeness, sample

# Weight of the nearer keyframe's colours where no flow can be believed.
_LAST_RESORT = 0.01
# Confidence below which a keyframe farther away says nothing about another one.
_LEAST = 0.05
# How many keyframes on each side a keyframe agrees with, and what one that is fixed counts.
_REACH, _FIXED = 8, 30.0
# Confidence below which colours that were carried to a place are not believed.
_BELIEVED = 0.15


@dataclass
class Motion:
    """The flow between neighbouring frames of a part, both ways, and how far it can be believed.

    Args:
        forward: a flow (h, w, 2) from each frame but the last to the next one.
        backward: a flow from each frame but the first to the one before.
        sure_forward: the confidence (h, w) of `forward`.
        sure_backward: the confidence (h, w) of `backward`.
    """

    forward: list[np.ndarray]
    backward: list[np.ndarray]
    sure_forward: list[np.ndarray]
    sure_backward: list[np.ndarray]


def find_motion(lights: list[np.ndarray]) -> Motion:
    """Return the motion between all neighbours among working lights (h, w)."""
    find, motion = FlowFinder(), Motion([], [], [], [])
    for first, second in pairwise(lights):
        there, back = find(first, second), find(second, first)
        motion.forward.append(there)
        motion.backward.append(back)
        motion.sure_forward.append(consistency(there, back))
        motion.sure_backward.append(consistency(back, there))
    return motion


@dataclass
class Link:
    """Where the places of a frame are in a keyframe: a flow, and how far it can be believed."""

    flow: np.ndarray  # (h, w, 2)
    sure: np.ndarray  # (h, w)


class Links:
    """Follows the motion from any frame of a part to its keyframes.

    Args:
        lights: the working lights of the part.
        motion: between them.
    """

    def __init__(self, lights: list[np.ndarray], motion: Motion):
        height, width = lights[0].shape
        self._size = (width // FLOW_SCALE, height // FLOW_SCALE)
        self._motion, self._lights = motion, lights

    def small_light(self, index: int) -> np.ndarray:
        """Return the light of a frame at the size of the flow, in L*."""
        small = cv2.resize(self._lights[index], self._size, interpolation=cv2.INTER_AREA)
        return small.astype(np.float32) / 2.55

    def to_earlier(self, start: int, stop: int) -> list[Link]:
        """Return links of the frames from `start` to `stop` - 1, all to frame `start`."""
        links = [self._none()]
        for index in range(start + 1, stop):
            step = self._motion.backward[index - 1], self._motion.sure_backward[index - 1]
            links.append(_longer(*step, links[-1]))
        return self._checked(links, range(start, stop), start)

    def to_later(self, start: int, stop: int) -> list[Link]:
        """Return links of the frames from `start` to `stop` - 1, all to frame `stop` - 1."""
        links = [self._none()]
        for index in range(stop - 2, start - 1, -1):
            step = self._motion.forward[index], self._motion.sure_forward[index]
            links.append(_longer(*step, links[-1]))
        return self._checked(links[::-1], range(start, stop), stop - 1)

    def _none(self) -> Link:
        width, height = self._size
        return Link(np.zeros((height, width, 2), np.float32), np.ones((height, width), np.float32))

    def _checked(self, links: list[Link], frames: range, key: int) -> list[Link]:
        """Doubt a link where the light at both of its ends differs."""
        there = self.small_light(key)
        for index, link in zip(frames, links, strict=True):
            if index != key:
                link.sure = link.sure * likeness(self.small_light(index), sample(there, link.flow))
        return links


def _longer(flow: np.ndarray, sure: np.ndarray, rest: Link) -> Link:
    """Return the link by one step and the link from there."""
    return Link(compose(flow, rest.flow), (sure * sample(rest.sure, flow)).astype(np.float32))


def chain(first: Link, second: Link) -> Link:
    """Return the link over a keyframe in between."""
    return _longer(first.flow, first.sure, second)


def _on_grid(link: Link, rows: int, columns: int) -> Link:
    height, width = link.sure.shape
    scale = np.array([columns / width, rows / height], np.float32)
    flow = cv2.resize(link.flow, (columns, rows), interpolation=cv2.INTER_AREA) * scale
    return Link(flow, cv2.resize(link.sure, (columns, rows), interpolation=cv2.INTER_AREA))


def carry(chroma: np.ndarray, link: Link) -> tuple[np.ndarray, np.ndarray]:
    """Return the chroma (rows, columns, 2) of a keyframe, brought along a link.

    Returns:
        The chroma, and the confidence (rows, columns).
    """
    small = _on_grid(link, *chroma.shape[:2])
    return sample(chroma, small.flow, cv2.INTER_CUBIC), small.sure


def seen_again(
    chroma: np.ndarray, light: np.ndarray, other: np.ndarray, other_light: np.ndarray
) -> np.ndarray:
    """Give a keyframe the colours of another picture wherever both show the same.

    Args:
        chroma: (rows, columns, 2) of the keyframe.
        light: its working light (h, w).
        other: the chroma of the other picture, as large.
        other_light: its working light, as large.

    Returns:
        The new chroma of the keyframe.
    """
    motion = find_motion([light, other_light])
    links = Links([light, other_light], motion)
    said, sure = carry(other, links.to_later(0, 2)[0])
    weight = (_FIXED * np.where(sure > _LEAST, sure, 0))[..., None]
    return ((chroma + weight * said) / (1 + weight)).astype(np.float32)


def agree_keyframes(
    chroma: list[np.ndarray],
    earlier: list[Link],
    later: list[Link],
    fixed: set[int] | None = None,
) -> list[np.ndarray]:
    """Let keyframes agree: each gets the mean of what all near ones say of the same places.

    Args:
        chroma: (rows, columns, 2) of each keyframe.
        earlier: the link from each keyframe but the first to the one before.
        later: the link from each keyframe but the last to the next one.
        fixed: keyframes that stay as they are, and count more than others.

    Returns:
        The new chroma of each keyframe.
    """
    result: list[np.ndarray] = []
    fixed = fixed or set()
    for index, own in enumerate(chroma):
        if index in fixed:
            result.append(own)
            continue
        total = own.astype(np.float64)
        weight = np.ones(own.shape[:2])
        for links, step in ((earlier, -1), (later, 1)):
            link: Link | None = None
            other = index
            for _ in range(_REACH):
                follow = other - 1 if step < 0 else other
                other += step
                if not 0 <= other < len(chroma):
                    break
                link = links[follow] if link is None else chain(link, links[follow])
                said, sure = carry(chroma[other], link)
                sure = np.where(sure > _LEAST, sure, 0) * (_FIXED if other in fixed else 1)
                total += said * sure[..., None]
                weight += sure
        result.append((total / weight[..., None]).astype(np.float32))
    return result


def between(
    first: np.ndarray, second: np.ndarray, to_first: list[Link], to_second: list[Link]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the chroma of all frames from one keyframe to the next, both included.

    Args:
        first: chroma (rows, columns, 2) of the first of these frames.
        second: of the last.
        to_first: the link of each frame to the first.
        to_second: the link of each frame to the last.

    Returns:
        The chroma of each frame, and how far it can be believed, (rows, columns) in [0, 1].
    """
    last = max(len(to_first) - 1, 1)
    frames, believed = [], []
    for index, links in enumerate(zip(to_first, to_second, strict=True)):
        near = index / last
        (a, sure_a), (b, sure_b) = carry(first, links[0]), carry(second, links[1])
        weight_a = (1 - near) * (sure_a + _LAST_RESORT)
        weight_b = near * (sure_b + _LAST_RESORT)
        total = weight_a + weight_b
        frames.append(a * (weight_a / total)[..., None] + b * (weight_b / total)[..., None])
        believed.append(np.maximum(sure_a, sure_b))
    return frames, believed


def worst_frame(believed: list[np.ndarray]) -> tuple[int, float]:
    """Return the frame of a span with the most places that cannot be believed, and their share."""
    shares = [float((sure < _BELIEVED).mean()) for sure in believed]
    worst = int(np.argmax(shares))
    return worst, shares[worst]


def mend_mask(sure: np.ndarray, height: int, width: int) -> np.ndarray:
    """Tell where to invent colours anew: (height, width) bytes, 255 where `sure` is small."""
    doubt = cv2.dilate((sure < _BELIEVED).astype(np.float32), np.ones((3, 3)))
    full = cv2.resize(doubt, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.rint(full * 255).astype(np.uint8)
