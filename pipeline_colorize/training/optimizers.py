"""Optimizers of training.

Muon (Jordan et al. 2024) moves a weight matrix by its momentum with all singular values brought
near 1, so that directions which few pictures ask for are learned as fast as the common ones.
"""

import torch
from torch import nn


def _as_matrix(kernel: torch.Tensor) -> torch.Tensor:
    """A view of a convolution's weight (out, in, h, w) as (out, in * h * w), in any order."""
    if kernel.is_contiguous(memory_format=torch.channels_last):
        kernel = kernel.permute(0, 2, 3, 1)
    return kernel.detach().view(len(kernel), -1)


class ConvolutionMuon(torch.optim.Optimizer):
    """torch's Muon for the weights of convolutions, AdamW for all other parameters.

    Steps are scaled to those of AdamW (Liu et al. 2025, section 2.2), so that rates and weight
    decay carry over from it.

    Args:
        parameters: those of a network; they may move to another device later.
        lr: learning rate of both.
        betas: of AdamW.
        weight_decay: of both, decoupled.
    """

    def __init__(self, parameters, lr: float, betas: tuple[float, float], weight_decay: float):
        parameters = list(parameters)
        super().__init__(parameters, {"lr": lr})
        self._kernels = [one for one in parameters if one.ndim == 4]
        others = [one for one in parameters if one.ndim != 4]
        # torch's Muon takes matrices alone.
        self._matrices = [nn.Parameter(_as_matrix(kernel)) for kernel in self._kernels]
        scale = {"lr": lr, "weight_decay": weight_decay}
        self._parts = {
            "muon": torch.optim.Muon(self._matrices, adjust_lr_fn="match_rms_adamw", **scale),
            "adamw": torch.optim.AdamW(others, betas=betas, fused=True, **scale),
        }

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.data = _as_matrix(kernel)
            matrix.grad = None if kernel.grad is None else _as_matrix(kernel.grad)
        for part in self._parts.values():
            part.param_groups[0]["lr"] = self.param_groups[0]["lr"]
            part.step()
        return loss

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state_dict: dict) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(state_dict[name])
