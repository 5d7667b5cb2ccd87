"""Runs the model on photographs."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline_colorize import Hint, photo

from . import engine
from .report import one_line
from .settings import Settings

# Colourings behind an uncertainty picture of a model that draws fewer than three.
_UNCERTAINTY_SAMPLES = 4


@dataclass
class Coloring:
    """Holds what the pipeline made of one photograph."""

    images: list[Image.Image | np.ndarray]  # a sample each
    uncertainty: np.ndarray | None
    films: list[list[Image.Image]]  # a sample each, a frame a step


def call_model(pipe, photos: list[photo.Photo], settings: Settings) -> list[Coloring]:
    """Colour photographs of one depth together, each as if it were alone: by its own generator."""
    samples = drawn = settings.samples
    if settings.uncertainty:
        candidates = settings.candidates or pipe.config.default_num_candidates
        if candidates < 3:  # more results would share three and more, and be others
            drawn = max(samples, math.ceil(_UNCERTAINTY_SAMPLES / candidates))
    output = pipe(
        [one.image_with_alpha for one in photos],
        num_inference_steps=settings.steps,
        num_samples=drawn,
        num_candidates=settings.candidates,
        eta=settings.eta,
        generator=[engine.make_generator(pipe, settings.seed) for _ in photos],
        processing_resolution=settings.processing_resolution,
        second_look=settings.second_look,
        find_margins=settings.find_margins,
        hints=[[Hint(*hint) for hint in settings.hint] for _ in photos],
        saturation=settings.saturation,
        temperature=settings.temperature,
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
        )
        for index, first in enumerate(firsts)
    ]


def model_trouble(error: Exception) -> str:
    """Explain in one line why the model failed, and what may help."""
    if isinstance(error, MemoryError) or "memory" in str(error).lower():
        return (
            "not enough memory; a smaller --processing-resolution, --samples or --candidates "
            "needs less"
        )
    return one_line(error)
