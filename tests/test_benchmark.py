"""The benchmark of systems: that what it counts is what there is."""

import pytest
import torch
from conftest import load_script, tiny_unet
from torch import nn

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler


@pytest.fixture(scope="module")
def benchmark():
    return load_script("benchmarks.systems")


def test_work_is_counted_in_multiply_adds_and_multiplied_by_the_steps(benchmark):
    def prepare(network, side):
        picture = torch.rand(1, 3, side, side).to(network.weight.dtype)
        return lambda: network(picture)

    system = benchmark.System("", 7, lambda: nn.Conv2d(3, 5, 3, padding=1), prepare, lambda side: 8)
    result = benchmark.measure(system, [16, 32], least=0.0)
    assert result["parameters"] == 3 * 5 * 9 + 5
    assert result["16"]["multiply_adds"] == result["32"]["multiply_adds"] == 7 * 3 * 5 * 9 * 8 * 8
    assert 0 < result["16"]["seconds"] < 1
    assert result["32"]["peak_mib"] >= result["16"]["peak_mib"] > 50


def test_the_pipeline_and_a_sampler_s_step_are_measured(benchmark, tmp_path):
    ColorizationPipeline(tiny_unet("hints"), OffsetCosineScheduler()).save_pretrained(tmp_path)
    assert benchmark.default_steps(str(tmp_path)) == 20
    chosen = benchmark.systems(str(tmp_path), 20)
    result = benchmark.measure(chosen[benchmark.OURS], [24], least=0.0)
    assert result["24"]["multiply_adds"] > 0
    stock = chosen["UNet2DModel + DDPM"]
    assert stock.steps == 20
    result = benchmark.measure(stock, [16], least=0.0)
    assert 7e6 < result["parameters"] < 9e6


def test_the_one_pass_network_has_its_published_size(benchmark):
    pytest.importorskip("transformers")
    with torch.device("meta"):
        network = benchmark.OnePassNetwork()
        colors = network(torch.empty(1, 3, 64, 96))
    assert colors.shape == (1, 2, 64, 96)
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(
        55e6, rel=0.01
    )


def test_ratios_are_to_this_project(benchmark):
    one = {"seconds": 0.5, "peak_mib": 100.0, "multiply_adds": 2e9}
    other = {"seconds": 2.0, "peak_mib": 300.0, "multiply_adds": 8e9}
    results = {
        benchmark.OURS: {"parameters": 1_000_000, "64": one},
        "other": {"parameters": 2_500_000, "64": other},
    }
    text = benchmark.to_markdown(results, [64], {"other": "a note"})
    assert "| other | 2.5 M | 2.00 | 4.0 | 8 | 300 MiB |" in text
    assert "- other: a note." in text
