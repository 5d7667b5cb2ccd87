"""Runs the model on photographs."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from pipeline_colorize import Hint, photo
from pipeline_colorize.archive.chroma import Chroma
from pipeline_colorize.archive.invention import invent_chroma
from pipeline_colorize.core.margins import Box

from . import engine
from .report import one_line
from .settings import Settings
from .telling import all_hints, color_options

# Colourings behind an uncertainty picture of a model that draws fewer than three.
_UNCERTAINTY_SAMPLES = 4


@dataclass
class Coloring:
    """Holds what the pipeline made of one photograph."""

    images: list[Image.Image | np.ndarray]  # a sample each
    uncertainty: np.ndarray | None
    films: list[list[Image.Image]]  # a sample each, a frame a step
    chroma: list[Chroma] = field(default_factory=list)  # a sample each, where it is all there is
    box: Box | None = None  # of the photograph, where there are margins around it


def call_model(
    pipe, photos: list[photo.Photo], settings: Settings, hints: list[list[Hint]] | None = None
) -> list[Coloring]:
    """Colour photographs of one depth together; each has its generator, as if it were alone.

    Args:
        pipe: the pipeline.
        photos: the photographs.
        settings: of the run.
        hints: of each photograph; by default those that the settings give.
    """
    hints = [all_hints(settings, one) for one in photos] if hints is None else hints
    if settings.chroma_only:
        pairs = zip(photos, hints, strict=True)
        return [_invent_chroma(pipe, one, given, settings) for one, given in pairs]
    if settings.keep_tints and len(photos) > 1:  # each of them has its own options
        return [
            coloring
            for one, given in zip(photos, hints, strict=True)
            for coloring in call_model(pipe, [one], settings, [given])
        ]
    samples = drawn = settings.samples
    if settings.uncertainty:
        candidates = settings.candidates or pipe.config.default_num_candidates
        if candidates < 3:  # more results would share three and more, and be others
            drawn = max(samples, math.ceil(_UNCERTAINTY_SAMPLES / candidates))
    output = pipe(
        [one.image_with_alpha for one in photos],
        **_dials(pipe, settings, len(photos)),
        num_samples=drawn,
        find_margins=settings.find_margins,
        hints=hints,
        **color_options(settings, photos[0]),
        output_type="np" if photos[0].depth == 16 else "pil",
        output_uncertainty=settings.uncertainty,
        output_intermediates=settings.intermediates,
    )
    firsts = range(0, len(photos) * drawn, drawn)
    return [
        Coloring(
            list(output.images[first : first + samples]),
            output.uncertainty[index] if settings.uncertainty else None,
            output.intermediates[first : first + samples] if settings.intermediates else [],
            box=_inner_box(photos[index], output.boxes[index]),
        )
        for index, first in enumerate(firsts)
    ]


def _dials(pipe, settings: Settings, count: int) -> dict[str, Any]:
    """Return the options of a call for `count` photographs that say how colours are invented."""
    return {
        "num_inference_steps": settings.steps,
        "num_candidates": settings.candidates,
        "eta": settings.eta,
        "generator": [engine.make_generator(pipe, settings.seed) for _ in range(count)],
        "processing_resolution": settings.processing_resolution,
        "second_look": settings.second_look,
        "saturation": settings.saturation,
        "temperature": settings.temperature,
    }


def _invent_chroma(pipe, one: photo.Photo, hints: list[Hint], settings: Settings) -> Coloring:
    """Colour a photograph on the grid alone."""
    found = invent_chroma(
        pipe,
        one.image_with_alpha,
        hints,
        settings.find_margins,
        num_samples=settings.samples,
        **_dials(pipe, settings, 1),
    )
    return Coloring([], None, [], found, _inner_box(one, found[0].box))


def _inner_box(one: photo.Photo, box: Box) -> Box | None:
    """Return the box of what lies inside margins; `None` where there are none."""
    height, width = one.image.shape[:2]
    return None if box == (0, height, 0, width) else box


def model_trouble(error: Exception) -> str:
    """Explain in one line why the model failed, and what may help."""
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return (
            "not enough memory; a smaller --processing-resolution, --samples or --candidates "
            "needs less"
        )
    return one_line(error)
