"""The benchmark of the pipeline: that its parts are the pipeline's, and variants colour alike."""

import numpy as np
import pytest
import torch
from conftest import load_script, tiny_unet

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler


@pytest.fixture(scope="module")
def benchmark():
    return load_script("benchmarks.pipeline")


@pytest.fixture
def pipe():
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    pipe = ColorizationPipeline(
        tiny_unet("hints"), scheduler, default_num_inference_steps=3, default_eta=1.0
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def colors(pipe, picture):
    generator = torch.Generator().manual_seed(0)
    return pipe(picture, processing_resolution=32, generator=generator, output_type="np").images


def test_encoding_at_every_step_changes_the_time_and_nothing_else(benchmark, pipe):
    picture = benchmark.photograph(48, 64)
    expected = colors(pipe, picture)
    encode, calls = pipe.unet.encode, []
    pipe.unet.encode = lambda condition: calls.append(1) or encode(condition)
    slow = benchmark.encoding_each_step(pipe)
    assert np.array_equal(colors(slow, picture), expected)
    assert len(calls) == 1 + 3  # once where the pipeline does, and at each of three steps


@torch.no_grad()
def test_all_parts_run_and_the_first_turn_is_left_out(benchmark, pipe):
    runs = []
    parts = benchmark.parts(pipe, (48, 64)) | {"counted": lambda: runs.append(1)}
    seconds = benchmark.in_turns(parts, rounds=2)
    assert len(runs) == 3 and all(value > 0 for value in seconds.values())
    assert seconds["all"] > seconds["luminance to working size"]


def test_threads_are_given_back(benchmark):
    before = torch.get_num_threads()
    with benchmark.threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
