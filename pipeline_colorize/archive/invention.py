"""Colours for a chroma file, from either engine."""

from typing import Any

import numpy as np
from PIL import Image

from pipeline_colorize.core.hints import Hint, move_hints
from pipeline_colorize.core.luminance import see
from pipeline_colorize.core.margins import Frame
from pipeline_colorize.core.pictures import alpha_of, pil_to_array, upright_srgb

from .chroma import Chroma, Fingerprint


def invent_chroma(
    pipe: Any,
    image: Image.Image | np.ndarray,
    hints: list[Hint] | None = None,
    find_margins: bool = True,
    **options: Any,
) -> list[Chroma]:
    """Invent the colours of a photograph on their grid alone, for `write_chroma`.

    Args:
        pipe: an `ORTColorizationPipeline` or `ColorizationPipeline`.
        image: PIL, or an array (H, W) or (H, W, 1 to 4) of uint8, uint16 or floating point.
        hints: colours that are given, in pixels of the photograph.
        find_margins: whether even margins are found and left neutral.
        options: of the pipeline's call, such as `generator` and `num_samples`.

    Returns:
        The colours of each sample, without settings; `dataclasses.replace` adds these.

    Example:
        >>> from pipeline_colorize import ORTColorizationPipeline
        >>> pipe = ORTColorizationPipeline.from_pretrained("default")
        >>> [chroma] = invent_chroma(pipe, Image.open("photograph.jpg"), num_inference_steps=1)
        >>> chroma.ab.shape
        (2, 64, 96)
    """
    light = see(image)
    frame = Frame.find(light, find_margins)
    pixels = _as_array(image) if isinstance(image, Image.Image) else image
    output = pipe(
        [np.ascontiguousarray(pixels[frame.inside])],
        hints=[move_hints(hints or [], frame.box)],
        find_margins=False,
        output_type="latent",
        **options,
    )
    seal, grids = Fingerprint.of(light.luminance), map(np.asarray, output.images)
    return [Chroma(ab, frame.size, frame.box, seal) for ab in grids]


def _as_array(image: Image.Image) -> np.ndarray:
    """Return an upright array in sRGB, with alpha where the picture has it."""
    upright = upright_srgb(image)
    pixels, alpha = pil_to_array(upright), alpha_of(upright)
    if alpha is None:
        return pixels
    color = pixels if pixels.ndim == 3 else pixels[..., None]
    top = 1 if color.dtype.kind == "f" else np.iinfo(color.dtype).max
    return np.concatenate([color, (alpha * top).astype(color.dtype)[..., None]], axis=2)
