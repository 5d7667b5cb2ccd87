"""Exponential moving average of a model's parameters, with its buffers copied."""

import copy

import torch
from torch import nn


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor, gathered where each process holds a shard of it (FSDP)."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


class ExponentialMovingAverage:
    """A second model whose parameters are averaged over training and whose buffers follow it.

    Buffers, such as BatchNorm's running statistics, are copied: they are averages already. Without
    them (diffusers' `EMAModel` leaves them out) the averaged network would normalise with the
    statistics of its first step. Both are matched by name.

    Args:
        model: the network being trained; its copy is `self.model`, in evaluation mode.
        decay: weight of the old average at each update, .999 by default.
        warmup: ramp the decay as min(decay, (1 + n) / (10 + n)), so that the random start is soon
            forgotten.

    >>> network = nn.Linear(1, 1)
    >>> average = ExponentialMovingAverage(network, decay=0.999)
    >>> average.update(network)  # after each step of the optimizer
    >>> torch.equal(average.model.weight, network.weight)
    True
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, warmup: bool = True):
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be in [0, 1), not {decay}.")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.warmup = warmup
        self.updates = 0

    def current_decay(self) -> float:
        """Return the decay of the next update."""
        if not self.warmup:
            return self.decay
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the parameters and buffers of `model`.

        Raises:
            ValueError: if the names differ from those of the model that the average was made of.
        """
        ours, theirs = dict(self.model.named_parameters()), dict(model.named_parameters())
        our_buffers, buffers = dict(self.model.named_buffers()), dict(model.named_buffers())
        different = (ours.keys() ^ theirs.keys()) | (our_buffers.keys() ^ buffers.keys())
        if different:
            raise ValueError(f"The model's names differ from the average's: {sorted(different)}.")
        decay = self.current_decay()
        torch._foreach_lerp_(
            list(ours.values()), [_whole(theirs[name].detach()) for name in ours], 1 - decay
        )
        for name, buffer in our_buffers.items():
            buffer.copy_(_whole(buffers[name]))
        self.updates += 1

    def state_dict(self) -> dict:
        """Return everything that a resumed run needs."""
        return {"model": self.model.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        """Restore what `state_dict` returned; its keys must match exactly."""
        self.model.load_state_dict(state["model"], strict=True)
        self.updates = state["updates"]
