"""Compare the colours that a model gives validation pictures with the true ones.

The loss alone misleads: where many colours are possible, their mean has the lowest squared error,
and a model that grows duller may look better by it.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image

from pipeline_colorize.colorfulness import (
    colorfulness,
    count_chroma,
    histogram_distance,
)

from .decoding import bytes_to_lab


def color_figures(pipeline: Any, squares: list[torch.Tensor]) -> dict[str, float]:
    """Colour pictures with the settings of the release and compare with their true colours.

    Args:
        pipeline: a `ColorizationPipeline`.
        squares: 8-bit pictures (3, S, S), all of one size.

    Returns:
        `validation_colorfulness`, the mean colourfulness as a share of the truth's, and
        `validation_histogram`, the total variation between the histograms of a*b* over all
        pictures: 0 where they are equal, 1 where no colour is shared.
    """
    truth = np.stack([square.permute(1, 2, 0).numpy() for square in squares])
    generators = [torch.Generator().manual_seed(index) for index in range(len(truth))]
    images = pipeline([Image.fromarray(one) for one in truth], generator=generators).images
    result = np.stack([np.asarray(image) for image in images])
    brilliance = [np.mean([colorfulness(one) for one in pictures]) for pictures in (result, truth)]
    histograms = [_histogram(pictures) for pictures in (result, truth)]
    return {
        "validation_colorfulness": float(brilliance[0] / brilliance[1]),
        "validation_histogram": histogram_distance(*histograms),
    }


def _histogram(pictures: np.ndarray) -> np.ndarray:
    """Count the pixels of 8-bit pictures (N, H, W, 3) by a* and b*."""
    lab = bytes_to_lab(torch.from_numpy(pictures).permute(0, 3, 1, 2))
    return count_chroma(lab[:, 1:].permute(0, 2, 3, 1).numpy())
