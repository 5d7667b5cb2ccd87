"""The sampler study: its score against closed forms, and the rule that chooses the steps."""

import numpy as np
import pytest
import torch
from conftest import load_script, tiny_unet
from PIL import Image
from skimage.color import lab2rgb

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler


@pytest.fixture(scope="module")
def study():
    return load_script("studies.sampler")


@pytest.fixture
def pipe():
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    pipe = ColorizationPipeline(tiny_unet("hints"), scheduler, default_processing_resolution=32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_energy_score_is_distance_less_half_the_spread(study):
    truth = np.full((8, 8, 3), 128, np.uint8)  # a* = b* = 0
    chroma = torch.zeros(2, 2, 4, 4)
    chroma[0, 0], chroma[1, 0] = 3, -3
    assert study.energy_score(chroma, truth) == pytest.approx(3 - 6 / 2, abs=0.02)
    chroma[1, 0] = 3
    assert study.energy_score(chroma, truth) == pytest.approx(3, abs=0.02)


def test_energy_score_is_least_for_the_true_spread(study):
    """Truths from N(0, 10): samples as spread as they are beat a point mass and too wide ones."""
    generator = torch.Generator().manual_seed(0)
    truths = []
    while len(truths) < 200:
        lab = np.array([60.0, *(10 * torch.randn(2, generator=generator)).tolist()])
        truths.append(_picture(lab))

    def mean_score(spread: float) -> float:
        scores = []
        for truth in truths:
            chroma = spread * torch.randn(2, 2, 1, 1, generator=generator)
            scores.append(study.energy_score(chroma.expand(2, 2, 4, 4), truth))
        return float(np.mean(scores))

    assert mean_score(10.0) < min(mean_score(0.0), mean_score(40.0))


def _picture(lab: np.ndarray) -> np.ndarray:
    return (lab2rgb(np.broadcast_to(lab, (8, 8, 3))) * 255).round().astype(np.uint8)


def test_fewest_steps_stays_within_a_percent_from_there_on(study):
    scores = {1: 13.0, 2: 10.05, 4: 11.0, 8: 10.09, 1000: 10.0}
    curve = [(study.Setting("x", steps, 0.0), {"energy_score": s}) for steps, s in scores.items()]
    assert study.fewest_steps(curve) == 8  # 2 was near by chance: 4 is not


def test_every_point_is_measured_once_and_a_second_run_adds_nothing(study, pipe, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    half = np.asarray(Image.fromarray(picture).resize((16, 16), Image.BOX))
    sets = {"noise": study.Truth([picture, picture], [half, half])}
    points = [one for one in study.study(2) if one.steps <= 2]
    file = tmp_path / "figures.jsonl"
    for _ in range(2):
        study.measure_all(pipe, points, sets, file)
        lines = study.read(file)
        assert len(lines) == len(points) == len(set(points))
    at = {tuple(line["setting"].values()): line["mean"] for line in lines}
    assert at["model's, eta 0", 2, 0.0, 1.0] == pytest.approx(at["ddim", 2, 0.0, 1.0], abs=1e-2)
    study.draw(lines, tmp_path / "plot.png")
    assert Image.open(tmp_path / "plot.png").size[0] > 500
    assert "| model's, eta 1 |" in study.to_markdown(lines)


def test_figures_of_left_grey_are_those_of_the_metrics(study, pipe):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    truth = study.Truth([picture], [picture])
    figures = study.measure(pipe, [torch.zeros(2, 2, 8, 8)], truth)
    assert figures["ciede2000_ratio"] == pytest.approx(1, abs=0.01)
    assert figures["colorfulness_share"] == pytest.approx(0, abs=0.02)
