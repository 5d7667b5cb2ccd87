"""The averaged model, above all its BatchNorm statistics."""

import copy

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from pipeline_colorize.training.ema import ExponentialMovingAverage


def batchnorm_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))


def train(model: nn.Module, *averages, steps: int = 200) -> torch.Tensor:
    """Fit noisy data of mean -2 and deviation 5; returns some of it."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    model.train()
    for _ in range(steps):
        x = 5 * torch.randn(64, 3, generator=generator) - 2
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        for update in averages:
            update(model)
    return x


def test_batchnorm_statistics_follow_and_are_used_in_evaluation():
    model = batchnorm_model()
    ours = ExponentialMovingAverage(model, 0.99)
    theirs = EMAModel(model.parameters(), decay=0.99)
    theirs_model = copy.deepcopy(model)
    x = train(model, ours.update, lambda live: theirs.step(live.parameters()))
    theirs.copy_to(theirs_model.parameters())

    assert not ours.model.training
    assert torch.equal(ours.model[0].running_mean, model[0].running_mean)
    assert ours.model[0].running_mean.mean() == pytest.approx(-2, abs=0.5)
    # In evaluation mode the average does what its own parameters do to statistics of the data.
    norm, linear = ours.model
    mean, variance = model[0].running_mean, model[0].running_var
    by_hand = linear((x - mean) / (variance + norm.eps).sqrt() * norm.weight + norm.bias)
    assert torch.allclose(ours.model(x), by_hand, atol=1e-4)

    # diffusers' average normalises with the statistics of the first day: mean 0, variance 1.
    assert torch.equal(theirs_model[0].running_mean, torch.zeros(3))
    target = x.sum(1, keepdim=True)
    good = (ours.model(x) - target).square().mean()
    bad = (theirs_model.eval()(x) - target).square().mean()
    assert good < 0.2 * bad


def test_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = ExponentialMovingAverage(model, 0.9, warmup=False)
    expected = 0.0
    for value in (1.0, -2.0, 5.0):
        nn.init.constant_(model.weight, value)
        ema.update(model)
        expected = 0.9 * expected + 0.1 * value
        assert ema.model.weight.item() == pytest.approx(expected)


def test_warmup_ramps_the_decay_to_its_value():
    ema = ExponentialMovingAverage(nn.Linear(1, 1), 0.999)
    decays = []
    for ema.updates in (0, 1, 90, 10_000):
        decays.append(ema.current_decay())
    assert decays == pytest.approx([1 / 10, 2 / 11, 91 / 100, 0.999])


def test_state_restores_the_average_and_its_decay():
    model = batchnorm_model()
    first = ExponentialMovingAverage(model)
    train(model, first.update, steps=5)
    second = ExponentialMovingAverage(batchnorm_model())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    train(model, first.update, second.update, steps=3)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_sharded_parameters_are_averaged_whole():
    """FSDP's parameters are shards; the average is of whole ones."""
    model = batchnorm_model()
    sharded = copy.deepcopy(model)
    expected, ema = ExponentialMovingAverage(model), ExponentialMovingAverage(sharded)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
        for live, update in ((model, expected.update), (sharded, ema.update)):
            train(live, update, steps=2)
        assert isinstance(sharded[1].weight, DTensor)
    finally:
        distributed.destroy_process_group()
    for name, value in expected.model.state_dict().items():
        assert torch.allclose(value, ema.model.state_dict()[name]), name


def test_other_names_are_refused():
    ema = ExponentialMovingAverage(batchnorm_model())
    with pytest.raises(ValueError, match="running_mean"):
        ema.update(nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 1)))
    with pytest.raises(RuntimeError, match="Missing key"):
        ema.load_state_dict({"model": {}, "updates": 0})
    with pytest.raises(ValueError, match="not 1"):
        ExponentialMovingAverage(batchnorm_model(), 1)
