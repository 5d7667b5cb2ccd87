"""Optimizers, against torch's own on the same parameters."""

import copy

import torch
from torch import nn

from pipeline_colorize.training.optimizers import ConvolutionMuon

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 4, 1))


def descend(model: nn.Module, optimizer, steps: range) -> None:
    for step in steps:
        torch.manual_seed(step)
        model(torch.randn(4, 3, 6, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_convolutions_move_as_matrices_in_muon_and_all_else_as_in_adamw():
    model = network()
    descend(model, ConvolutionMuon(model.parameters(), **SETTINGS), range(3))

    by_hand = network()
    kernels = [one for one in by_hand.parameters() if one.ndim == 4]
    matrices = [nn.Parameter(one.detach().flatten(1).clone()) for one in kernels]
    muon = torch.optim.Muon(
        matrices, lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW([one for one in by_hand.parameters() if one.ndim < 4], **SETTINGS)
    for step in range(3):
        torch.manual_seed(step)
        by_hand(torch.randn(4, 3, 6, 6)).square().mean().backward()
        for kernel, matrix in zip(kernels, matrices, strict=True):
            matrix.grad = kernel.grad.flatten(1)
        muon.step()
        adamw.step()
        by_hand.zero_grad()
        for kernel, matrix in zip(kernels, matrices, strict=True):
            kernel.data = matrix.detach().view_as(kernel).clone()
    for ours, expected in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.allclose(ours, expected, atol=1e-6)
    assert not torch.equal(model[0].weight, network()[0].weight)


def test_the_memory_format_of_the_weights_does_not_matter():
    models = [network(), network().to(memory_format=torch.channels_last)]
    for model in models:
        descend(model, ConvolutionMuon(model.parameters(), **SETTINGS), range(3))
    for first, second in zip(*(model.parameters() for model in models), strict=True):
        # bfloat16 inside Muon, summed in another order
        assert (first - second).abs().max() < 2e-3


def test_its_state_goes_on_where_it_was():
    model = network()
    optimizer = ConvolutionMuon(model.parameters(), **SETTINGS)
    descend(model, optimizer, range(2))
    state = copy.deepcopy(optimizer.state_dict())
    resumed = copy.deepcopy(model)
    descend(model, optimizer, range(2, 4))

    other = ConvolutionMuon(resumed.parameters(), **SETTINGS)
    other.load_state_dict(state)
    descend(resumed, other, range(2, 4))
    for first, second in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)


def test_the_rate_of_its_group_is_that_of_both():
    model = network()
    optimizer = ConvolutionMuon(model.parameters(), **SETTINGS)
    before = copy.deepcopy(model)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    descend(model, optimizer, range(1))
    for first, second in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(first, second)


def test_what_has_no_gradient_stays():
    model = network()
    frozen = model[0].requires_grad_(False)
    before = frozen.weight.clone()
    descend(model, ConvolutionMuon(model.parameters(), **SETTINGS), range(1))
    assert torch.equal(frozen.weight, before)
