"""The optimizer and the learning rate of each step.

Muon (Jordan et al. 2024) moves a weight matrix by its momentum with all singular values brought
near 1, so that directions which few pictures ask for are learned as fast as the common ones.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn

from .config import OptimizerConfig


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """Return the rate of step 0 to `total` - 1: linear warm-up, constant, decay to the floor."""
    warmup = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    decay_steps = config.lr_decay_steps or max(total - config.lr_warmup_steps, 1)
    left = 1.0 if config.lr_schedule == "constant" else min(1.0, (total - step) / decay_steps)
    shape = (1 - math.cos(math.pi * left)) / 2 if config.lr_schedule == "cosine" else left
    return config.learning_rate * warmup * (config.lr_floor + (1 - config.lr_floor) * shape)


def _as_matrix(kernel: torch.Tensor) -> torch.Tensor:
    """View a convolution's weight (out, in, h, w) as (out, in * h * w), in any order of columns."""
    if kernel.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.detach().view(len(kernel), -1)


class ConvolutionMuon(torch.optim.Optimizer):
    """torch's Muon for the weights of convolutions, AdamW for all other parameters.

    Steps are scaled to those of AdamW (Liu et al. 2025, section 2.2), so that rates and weight
    decay carry over from it.

    Args:
        parameters: of a network; they may move to another device later.
        lr: learning rate of both.
        betas: decay rates of AdamW's two moments.
        weight_decay: decoupled weight decay of both.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ):
        parameters = list(parameters)
        super().__init__(parameters, {"lr": lr})
        self._kernels = [parameter for parameter in parameters if parameter.ndim == 4]
        others = [parameter for parameter in parameters if parameter.ndim != 4]
        # torch's Muon accepts nothing but matrices.
        self._matrices = [nn.Parameter(_as_matrix(kernel)) for kernel in self._kernels]
        self._parts: dict[str, torch.optim.Optimizer] = {
            "muon": torch.optim.Muon(
                self._matrices, lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            "adamw": torch.optim.AdamW(others, lr, betas, weight_decay=weight_decay, fused=True),
        }

    @torch.no_grad()
    def step(self, closure=None):
        """Update all weights, as `torch.optim.Optimizer.step`."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.data = _as_matrix(kernel)
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel.grad)
        for part in self._parts.values():
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step()
        return loss

    def state_dict(self) -> dict:
        """Return the states of both optimizers."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore what `state_dict` returned."""
        for name, part in self._parts.items():
            part.load_state_dict(state_dict[name])
