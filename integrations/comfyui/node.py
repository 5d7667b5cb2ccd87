"""The node: pictures, a mask and hints in, colours out. It is written for ComfyUI's V3 schema."""

import functools

import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io

from pipeline_colorize import Hint, ORTColorizationPipeline
from pipeline_colorize.command.settings import parse_hint
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.registry import shipped_models

_MOST_ANSWERS = 16


@functools.lru_cache(maxsize=2)
def _load(model: str) -> ORTColorizationPipeline:
    return ORTColorizationPipeline.from_pretrained(model)


def parse_hints(text: str) -> list[Hint]:
    """Read hints, one a line: `X,Y,COLOR[,CONFIDENCE]`, in pixels from the top left.

    Raises:
        ValueError: which names the line that is none.
    """
    return [Hint(*parse_hint(line)) for line in text.splitlines() if line.strip()]


def colorize(
    image: torch.Tensor,
    mask: torch.Tensor | None = None,
    hints: str = "",
    seed: int = 0,
    answers: int = 1,
    saturation: float = 1.0,
    model: str = "default",
) -> torch.Tensor:
    """Colour a batch of pictures.

    Args:
        image: (B, H, W, 3) in [0, 1].
        mask: (B or 1, H, W) in [0, 1]: 1 where colours are given, 0 where the picture stays as it
            is; `None` for all of it.
        hints: colours that are given, for each picture of the batch.
        seed: start of the random numbers, the same for each picture.
        answers: results for each picture.
        saturation: factor on the strength of the colours.
        model: one that ships.

    Returns:
        (B * answers, H, W, 3) in [0, 1], picture by picture.
    """
    pictures = [one.numpy() for one in image[..., :3].detach().cpu().float().clamp(0, 1)]
    output = _load(model)(
        pictures,
        num_samples=answers,
        generator=[TorchGenerator().manual_seed(seed) for _ in pictures],
        hints=[parse_hints(hints) for _ in pictures],
        saturation=saturation,
        output_type="np",
    )
    colored = torch.from_numpy(np.stack(output.images))
    if mask is None:
        return colored
    before = image[..., :3].detach().cpu().float().repeat_interleave(answers, 0)
    share = mask.detach().cpu().float().reshape(-1, *mask.shape[-2:], 1)
    if share.shape[1:3] != before.shape[1:3]:
        raise ValueError(
            f"The mask has {share.shape[2]} x {share.shape[1]} pixels, and the pictures "
            f"{before.shape[2]} x {before.shape[1]}."
        )
    share = share.repeat_interleave(answers, 0) if len(share) > 1 else share
    return before + share * (colored - before)


class Colorize(io.ComfyNode):
    """Gives black-and-white pictures believable colours, and keeps the light of every pixel."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node to ComfyUI."""
        return io.Schema(
            node_id="PipelineColorize",
            display_name="Colorize (black and white to colour)",
            category="image/color",
            description=cls.__doc__,
            inputs=[
                io.Image.Input("image", tooltip="Pictures in black and white, or in any colours."),
                io.Mask.Input("mask", optional=True, tooltip="White where colours are wanted."),
                io.String.Input(
                    "hints",
                    multiline=True,
                    default="",
                    tooltip="Colours that you know, one a line: X,Y,COLOR, as in 140,95,darkred.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Another seed gives other colours.",
                ),
                io.Int.Input("answers", default=1, min=1, max=_MOST_ANSWERS),
                io.Float.Input("saturation", default=1.0, min=0.0, max=3.0, step=0.05),
                io.Combo.Input("model", options=list(shipped_models()), default="default"),
            ],
            outputs=[io.Image.Output(display_name="colours")],
        )

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        """Colour the pictures; the inputs are those of `colorize`."""
        return io.NodeOutput(colorize(**inputs))


class ColorizeExtension(ComfyExtension):
    """Tells ComfyUI which nodes there are."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        return [Colorize]


async def comfy_entrypoint() -> ColorizeExtension:
    """Return the extension; ComfyUI calls this."""
    return ColorizeExtension()
