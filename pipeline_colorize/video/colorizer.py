"""Colours a film's frames in bounded memory: `VideoColorizer`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import PIL.Image

from pipeline_colorize.core.colorimetry import encode_srgb, lightness_to_y
from pipeline_colorize.onnx.noise import TorchGenerator

from .chroma import chroma_to_rgb, full_chroma
from .light import Levels, resize, working_light
from .propagation import (
    Links,
    agree_keyframes,
    between,
    find_motion,
    mend_mask,
    seen_again,
    worst_frame,
)
from .shots import ShotFinder

# Frames from one keyframe to the next. The strength of the network's colours changes within about
# as many, so fewer keyframes would by chance be duller or brighter than the rest of their shot.
KEYFRAME_INTERVAL = 10
# The most frames that are worked on together; longer shots are taken in parts.
PART_FRAMES = 240
# The share of a frame's places without believable colours from which on they are invented there,
# and how often a span between keyframes is divided for that.
_MEND_SHARE, _MENDS = 0.08, 2


def keyframe_places(frames: int, interval: int) -> list[int]:
    """Choose the keyframes of a part: the first, the last, and some in even steps between.

    >>> keyframe_places(50, 24)
    [0, 16, 33, 49]
    """
    steps = max(-(-(frames - 1) // interval), 1)
    return sorted({round(step * (frames - 1) / steps) for step in range(steps + 1)})


@dataclass
class VideoColorizerOutput:
    """What a call returns."""

    frames: list[PIL.Image.Image] | list[np.ndarray]


@dataclass(frozen=True)
class Seen:
    """A picture in colour that shows what some frames show as well.

    Args:
        picture: RGB bytes (H, W, 3).
        light: its working light (h, w), if it is a frame of the film; else `None`.
        chroma: its chroma a*b* (2, rows, columns), if it is a frame of the film; else `None`.
    """

    picture: np.ndarray
    light: np.ndarray | None = None
    chroma: np.ndarray | None = None

    @classmethod
    def of_frame(cls, light: np.ndarray, chroma: np.ndarray) -> "Seen":
        """Return a frame of the film that has been coloured."""
        luma = np.rint(255 * light_to_signal(light)).astype(np.uint8)
        return cls(merge(luma, chroma), light, chroma)


class VideoColorizer:
    """Colours films with a pipeline for photographs, so that their colours are steady.

    Keyframes of a shot are coloured by the pipeline, each from noise of its own, and made to agree
    where the optical flow connects them. Chroma is then carried from them, on its small grid, to
    the frames between, from both sides.

    Args:
        pipe: an `ORTColorizationPipeline` or a `ColorizationPipeline`.
        seed: start of the random numbers.
        keyframe_interval: the most frames from one keyframe to the next.
        options: arguments of the pipeline's call, such as `{"saturation": 1.2}`.

    Raises:
        ValueError: if an option is one that films cannot have, or an interval is below 1.

    Example:
        >>> from pipeline_colorize import ORTColorizationPipeline
        >>> colorizer = VideoColorizer(ORTColorizationPipeline.from_pretrained("default"))
        >>> frames = (PIL.Image.new("L", (64, 64), 128) for _ in range(2))
        >>> [frame.size for frame in colorizer.stream(frames)]
        [(64, 64), (64, 64)]
    """

    def __init__(
        self,
        pipe: Any,
        seed: int = 0,
        keyframe_interval: int = KEYFRAME_INTERVAL,
        options: dict[str, Any] | None = None,
    ):
        if keyframe_interval < 1:
            raise ValueError(f"keyframe_interval must be 1 or more, not {keyframe_interval}.")
        self.pipe, self.seed, self.keyframe_interval = pipe, seed, keyframe_interval
        self._options = {"find_margins": False, **(options or {})}
        for name in ("image", "generator", "output_type", "num_samples"):
            if name in self._options:
                raise ValueError(f"{name!r} is set for each frame; it cannot be an option.")

    def color_part(
        self,
        lights: list[np.ndarray],
        lead: tuple[np.ndarray, np.ndarray] | None = None,
        given: dict[int, np.ndarray] | None = None,
        seen: Sequence[Seen] = (),
    ) -> list[np.ndarray]:
        """Colour the frames of a shot, or of a part of a long one.

        Args:
            lights: a working light (h, w) for each frame, from `working_light`.
            lead: light and chroma of the frame before, where the shot has begun already.
            given: chroma a*b* (2, rows, columns) of frames whose colours are given, by their place.
            seen: pictures in colour; what they show as well gets their colours.

        Returns:
            Chroma a*b* (2, rows, columns) for each frame, float32.
        """
        given = dict(given or {})
        if lead:
            lights = [lead[0], *lights]
            given = {0: lead[1], **{place + 1: chroma for place, chroma in given.items()}}
        keys = sorted({*keyframe_places(len(lights), self.keyframe_interval), *given})
        chroma = [given[k] if k in given else self._keyframe(lights[k], k, seen) for k in keys]
        if len(lights) == 1:
            return chroma
        fixed = {index for index, key in enumerate(keys) if key in given}
        grid = next((one for key, one in zip(keys, chroma, strict=True) if key not in given), None)
        if grid is not None:  # looks of another size have another grid
            chroma = [_first(resize(_last(one), *grid.shape[1:])) for one in chroma]
        frames = self._carried(lights, keys, [_last(one) for one in chroma], fixed)
        return [_first(one) for one in frames[1 if lead else 0 :]]

    def _carried(
        self, lights: list, keys: list[int], planes: list[np.ndarray], fixed: set[int]
    ) -> list[np.ndarray]:
        """Carry the chroma of keyframes, of which some are `fixed`, to all frames."""
        links = Links(lights, find_motion(lights))
        spans = list(pairwise(keys))
        back = [links.to_earlier(start, stop + 1)[-1] for start, stop in spans]
        there = [links.to_later(start, stop + 1)[0] for start, stop in spans]
        planes = agree_keyframes(planes, back, there, fixed)
        frames = [planes[0]]
        for span, ends in zip(spans, pairwise(planes), strict=True):
            frames += self._span(lights, links, span, ends)[1:]
        return frames

    def _span(
        self,
        lights: list,
        links: Links,
        span: tuple[int, int],
        ends: tuple[np.ndarray, np.ndarray],
        mends: int = _MENDS,
    ) -> list[np.ndarray]:
        """Carry chroma from keyframe to keyframe; where the flow fails, invent it in between."""
        start, stop = span
        to_ends = links.to_earlier(start, stop + 1), links.to_later(start, stop + 1)
        frames, believed = between(*ends, *to_ends)
        place, share = worst_frame(believed)
        if share < _MEND_SHARE or not mends or not 0 < place < stop - start:
            return frames
        mended = self._mended(lights[start + place], frames[place], believed[place])
        middle = start + place
        before = self._span(lights, links, (start, middle), (ends[0], mended), mends - 1)
        after = self._span(lights, links, (middle, stop), (mended, ends[1]), mends - 1)
        return [*before, *after[1:]]

    def _mended(self, light: np.ndarray, plane: np.ndarray, sure: np.ndarray) -> np.ndarray:
        """Invent chroma (rows, columns, 2) of a frame anew where it cannot be believed."""
        mask = mend_mask(sure, *light.shape)
        return _last(self.color_keyframe(light, color_image=_first(plane), mask_image=mask))

    def _keyframe(self, light: np.ndarray, place: int, seen: Sequence[Seen]) -> np.ndarray:
        """Colour a keyframe, (2, rows, columns), with the colours of what was seen before."""
        if not seen:
            return self.color_keyframe(light, place)
        pictures = [*self._options.get("reference_images", ()), *(one.picture for one in seen)]
        chroma = _last(self.color_keyframe(light, place, reference_images=pictures))
        for one in seen:
            if one.light is not None and one.chroma is not None and one.light.shape == light.shape:
                chroma = seen_again(chroma, light, _last(one.chroma), one.light)
        return _first(chroma)

    def color_keyframe(self, light: np.ndarray, place: int = 0, **options: Any) -> np.ndarray:
        """Return chroma a*b* (2, rows, columns) of one frame, as the pipeline colours it alone.

        Args:
            light: (h, w), from `working_light`.
            place: of the frame in its part; each place has noise of its own.
            options: further arguments of the pipeline's call.
        """
        output = self.pipe(
            light_to_signal(light),
            generator=self._generator(self.seed + place),
            output_type="latent",
            **{**self._options, **options},
        )
        return np.asarray(output.images[0], np.float32)

    def _generator(self, seed: int):
        if type(self.pipe).__name__.startswith("ORT"):
            return TorchGenerator().manual_seed(seed)
        import torch

        return torch.Generator().manual_seed(seed)

    # --- frames in, frames out --------------------------------------------------------------------

    def stream(self, frames: Iterable) -> Iterator:
        """Colour frames one after the other, with few in memory at a time.

        Args:
            frames: PIL pictures or arrays (H, W) or (H, W, 3) of bytes, all of one size. Shots are
                found among them.

        Yields:
            For each frame a picture of its kind with the same luma: PIL, or RGB bytes (H, W, 3).

        Raises:
            ValueError: if the frames differ in size, or one is no picture.
        """
        finder, size = ShotFinder(), None
        lead: tuple[np.ndarray, np.ndarray] | None = None
        part: list[tuple] = []
        for frame in frames:
            luma = to_luma(frame)
            if size is None:
                size = luma.shape
            if luma.shape != size:
                raise ValueError(f"All frames have one size; here {size} and {luma.shape}.")
            part.append((frame, luma, working_light(luma, RGB_LEVELS)))
            new = finder.add(part[-1][2])
            if new is not None and len(part) > new:
                yield from self._colored(part[:-new], lead)[0]
                part, lead = part[-new:], None
            elif len(part) >= PART_FRAMES:
                done, lead = self._colored(part[: -finder.lag], lead)
                yield from done
                part = part[-finder.lag :]
        if part:
            yield from self._colored(part, lead)[0]

    def __call__(self, video: Iterable, output_type: str = "pil") -> VideoColorizerOutput:
        """Colour a short film that is held in memory.

        Args:
            video: frames as `stream` takes them.
            output_type: "pil", or "np" for RGB (H, W, 3), float32 in [0, 1].

        Raises:
            ValueError: if the output type or a frame is of another kind.
        """
        if output_type not in ("pil", "np"):
            raise ValueError(f"output_type must be 'pil' or 'np', not {output_type!r}.")
        colored = [np.asarray(frame) for frame in self.stream(video)]
        if output_type == "pil":
            return VideoColorizerOutput([PIL.Image.fromarray(frame) for frame in colored])
        return VideoColorizerOutput([frame.astype(np.float32) / 255 for frame in colored])

    def _colored(self, part: list[tuple], lead) -> tuple[Iterator, tuple]:
        """Colour the frames of a part, and keep what the next part of the same shot begins with."""
        lights = [light for _, _, light in part]
        chroma = self.color_part(lights, lead)
        pairs = zip(part, chroma, strict=True)
        done = (_like(frame, merge(luma, ab)) for (frame, luma, _), ab in pairs)
        return done, (lights[-1], chroma[-1])


def _last(chroma: np.ndarray) -> np.ndarray:
    """Turn (2, h, w) into (h, w, 2)."""
    return np.ascontiguousarray(np.moveaxis(chroma, 0, -1))


def _first(plane: np.ndarray) -> np.ndarray:
    """Turn (h, w, 2) into (2, h, w)."""
    return np.ascontiguousarray(np.moveaxis(plane, -1, 0))


def _like(frame: Any, rgb: np.ndarray):
    return PIL.Image.fromarray(rgb) if isinstance(frame, PIL.Image.Image) else rgb


RGB_LEVELS = Levels(full_range=True, matrix="bt709")
"""What the numbers of luma mean that is made of RGB bytes."""


def light_to_signal(light: np.ndarray) -> np.ndarray:
    """Return the grey signal in [0, 1] of a working light in bytes."""
    return encode_srgb(lightness_to_y(light.astype(np.float32) / 2.55)).astype(np.float32)


def to_luma(frame: Any) -> np.ndarray:
    """Return the luma (H, W) in bytes of a frame as `VideoColorizer.stream` takes it."""
    array = np.asarray(frame.convert("RGB") if isinstance(frame, PIL.Image.Image) else frame)
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise ValueError(f"A frame is a picture of bytes, not {array.dtype} {array.shape}.")
    if array.ndim == 2:
        return array
    return np.rint(array[..., :3] @ np.array([0.2126, 0.7152, 0.0722])).astype(np.uint8)


def merge(luma: np.ndarray, ab: np.ndarray) -> np.ndarray:
    """RGB bytes (H, W, 3) of a luma plane (H, W) in bytes, and chroma a*b* on its grid."""
    signal = RGB_LEVELS.signal(luma)
    chroma = full_chroma(signal, ab, RGB_LEVELS.matrix)
    rgb = chroma_to_rgb(signal, chroma, RGB_LEVELS.matrix)
    return np.rint(np.moveaxis(rgb, 0, -1) * 255).clip(0, 255).astype(np.uint8)
