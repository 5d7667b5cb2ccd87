"""From the colours on the grid to what a call returns, under the luminance of the input."""

from dataclasses import dataclass

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput
from torch.nn import functional as F

from .image_processor import ColorizationImageProcessor
from .looks import Look
from .margins import Box, Frame
from .mending import Overlay
from .options import ColorizationOptions
from .sampling import ChromaDials, shown_chroma


@dataclass
class ColorizationPipelineOutput(BaseOutput):
    """What the pipeline returns.

    Args:
        images: as `output_type` says, flat: picture by picture, sample by sample. A list of PIL
            pictures; an array (N, H, W, 3) or tensor (N, 3, H, W) in [0, 1]; chroma (N, 2, h, w).
            Arrays and tensors of different sizes are a list of N instead.
        uncertainty: one array (H, W) a picture: the standard deviation of the chroma of all that
            was drawn for it, in units of a*b*; `None` unless asked for.
        intermediates: one list of small PIL pictures for each of `images`, a picture a step.
        boxes: `(top, bottom, left, right)` of each input's photograph inside its margins, in
            pixels of the input; the whole where no margins were found.
    """

    images: list[PIL.Image.Image] | np.ndarray | torch.Tensor | list[np.ndarray | torch.Tensor]
    uncertainty: list[np.ndarray] | None = None
    intermediates: list[list[PIL.Image.Image]] | None = None
    boxes: list[Box] | None = None


class ResultMaker:
    """Makes what a call returns of pictures that have their colours.

    Args:
        processor: of the pipeline.
        dials: how chroma is shown.
        options: of the call.
    """

    def __init__(
        self,
        processor: ColorizationImageProcessor,
        dials: ChromaDials,
        options: ColorizationOptions,
    ):
        self.processor, self.dials, self.options = processor, dials, options

    def make(self, looks: list[Look]) -> ColorizationPipelineOutput:
        """Make the results of the last look, picture by picture, sample by sample."""
        images = []
        for look in looks:
            chroma = self.dials.show(look.chroma, look.influence)
            if self.options.output_type == "latent":
                chroma = shown_chroma(look, look.chroma, self.dials)
            before = self._before(look)
            images += [self._finish(look, one, before) for one in chroma]
        output = ColorizationPipelineOutput(_stack(images))
        output.boxes = [look.frame.box for look in looks]
        if self.options.output_uncertainty:
            output.uncertainty = [self._spread(look) for look in looks]
        if self.options.output_intermediates:
            output.intermediates = [
                self._intermediates(look, sample)
                for look in looks
                for sample in range(self.options.num_samples)
            ]
        return output

    def _size(self, look: Look, full: bool) -> tuple[torch.Tensor, torch.Tensor, Frame]:
        """Return the luminance that the photograph gets, what guides its colours, and its frame."""
        if full:
            return look.luminance, look.seen, look.frame
        luminance, seen = (
            self.processor.preview(plane, look.resolution) for plane in (look.luminance, look.seen)
        )
        height, width = luminance.shape[1:]
        return luminance, seen, look.frame.scaled((height, width))

    def _finish(self, look: Look, chroma: torch.Tensor, before: Overlay | None):
        """One result in the form that was asked for."""
        output_type = self.options.output_type
        if output_type == "latent":
            return torch.from_numpy(look.frame.place(chroma.numpy()))
        if output_type == "pil":
            pixels = self._pixels(look, chroma, self.options.match_input_resolution)
            return PIL.Image.fromarray(pixels if before is None else before.under(pixels))
        rgb = self._float_pixels(look, chroma)
        if before is not None:
            rgb = before.under(rgb)
        return torch.from_numpy(rgb).movedim(-1, 0) if output_type == "pt" else rgb

    def _before(self, look: Look) -> Overlay | None:
        """Bring the mended picture to the size of the results; `None` if nothing of it stays."""
        mend = look.mend
        if mend is None or mend.is_everywhere or self.options.output_type == "latent":
            return None
        _, _, frame = self._size(look, self.options.match_input_resolution)
        luminance = look.whole_luminance[0].numpy()
        if frame.size != look.frame.size:
            luminance = self.processor.resize(look.whole_luminance, frame.size)[0].numpy()
        cell = frame.inner_size[0] / look.chroma.shape[2]
        old = None
        if mend.is_chroma:
            chroma = torch.from_numpy(mend.chroma_on(look.chroma.shape[2:], look.frame))
            if self.options.output_type == "pil":
                old = self._pixels(look, chroma, self.options.match_input_resolution)
            else:
                old = self._float_pixels(look, chroma)
        return mend.resized(frame.size).overlay(luminance, cell, old)

    def _float_pixels(self, look: Look, chroma: torch.Tensor) -> np.ndarray:
        """Return a photograph in colour, in its neutral margins, (H, W, 3) in [0, 1]."""
        luminance, seen, frame = self._size(look, self.options.match_input_resolution)
        rgb = self.processor.colorize_float(luminance, chroma, seen)
        if not frame.is_whole:
            whole = self.processor.grey(look.whole_luminance, frame.size)
            whole[:, *frame.inside] = rgb
            rgb = whole
        return rgb.movedim(0, -1).numpy()

    def _pixels(self, look: Look, chroma: torch.Tensor, full: bool) -> np.ndarray:
        """Return a photograph in colour, in its neutral margins, (H, W, 3) uint8."""
        luminance, seen, frame = self._size(look, full)
        pixels = self.processor.colorize(luminance, chroma, seen).numpy()
        if not frame.is_whole:
            grey = self.processor.grey(look.whole_luminance, frame.size)
            whole = grey.mul(255).round().byte().movedim(0, -1).numpy()
            whole[frame.inside] = pixels
            pixels = whole
        return pixels

    def _spread(self, look: Look) -> np.ndarray:
        """Standard deviation of the chroma of all that was drawn, (H, W)."""
        assert look.spread is not None  # the options ask for several candidates
        luminance, _, frame = self._size(look, self.options.match_input_resolution)
        spread = F.interpolate(look.spread[None, None], luminance.shape[1:], mode="bilinear")
        whole = np.zeros(frame.size, np.float32)
        whole[frame.inside] = spread[0, 0].numpy()
        return whole

    def _intermediates(self, look: Look, sample: int) -> list[PIL.Image.Image]:
        pixels = [self._pixels(look, one[sample], full=False) for one in look.estimates]
        return [PIL.Image.fromarray(one) for one in pixels]


def _stack(images: list) -> list | np.ndarray | torch.Tensor:
    """Arrays or tensors of one size as a batch; anything else as the list it is."""
    shapes = {getattr(image, "shape", None) for image in images}
    if shapes == {None} or len(shapes) > 1:
        return images
    return torch.stack(images) if torch.is_tensor(images[0]) else np.stack(images)
