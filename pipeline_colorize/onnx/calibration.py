"""What values a network's convolutions see on photographs, for a file that computes in 8 bits."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


class _Extremes:
    """Running range of the values of one convolution, before and after it."""

    def __init__(self, tail: float):
        self.tail = tail
        self.values = [float("inf"), float("-inf"), float("inf"), float("-inf")]

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor):
        for place, tensor in ((0, inputs[0]), (2, output)):
            ordered = tensor.detach().float().flatten().sort().values
            cut = int(self.tail * len(ordered))
            low, high = ordered[cut].item(), ordered[-1 - cut].item()
            self.values[place] = min(self.values[place], low)
            self.values[place + 1] = max(self.values[place + 1], high)


def measure_ranges(pipe: Any, images: Iterable, tail: float = 1e-5) -> dict[str, tuple]:
    """Colour photographs, and note the range of what goes into each convolution and comes out.

    Args:
        pipe: a `ColorizationPipeline`, in float32.
        images: photographs, as the pipeline takes them; a dozen is enough.
        tail: share of the values at either end of one call that may lie outside.

    Returns:
        For the name of each convolution but the outermost, and those of a trunk, four numbers:
        least and greatest value before it, and after it.
    """
    convolutions = {
        name: module
        for name, module in pipe.unet.named_modules()
        # The channels of a trunk have ranges too different for the same 256 levels; in 8 bits it
        # moves colours by three times as much, and saves a twentieth of the time.
        if isinstance(module, nn.Conv2d) and not name.startswith("encoder.trunk.")
    }
    extremes = {name: _Extremes(tail) for name in convolutions}
    hooks = [convolutions[name].register_forward_hook(one) for name, one in extremes.items()]
    try:
        for image in images:
            pipe(image, generator=torch.Generator().manual_seed(0))
    finally:
        for hook in hooks:
            hook.remove()
    used = {name: one for name, one in extremes.items() if one.values[0] < float("inf")}
    outer = ("conv_in", "conv_out", "encoder.conv_in")  # which turn colours into features and back
    return {name: tuple(one.values) for name, one in used.items() if name not in outer}
