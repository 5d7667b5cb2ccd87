"""What is measured of films, on films whose figures are known."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from test_video import FakeORTPipeline, pan

from pipeline_colorize.evaluation.film import (
    color_consistency,
    compare_films,
    evaluate_film,
    filter_in_time,
    pan_over,
    read_clip,
    to_table,
    warping_error,
)
from pipeline_colorize.video import VideoColorizer


def colored(frames, tint=(0, 0, 0)):
    return [np.stack([frame] * 3, -1) // 2 + np.array(tint, np.uint8) for frame in frames]


def test_consistency_of_a_film_that_stands_still_and_of_one_that_does_not():
    frames = colored(pan(1, 6))
    assert color_consistency([frames[0]] * 6) == 0
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(5)]
    shares = [[np.bincount(f[..., c].ravel(), minlength=256) for c in range(3)] for f in noise]
    pairs = {step: [(shares[i], shares[i + step]) for i in range(5 - step)] for step in (1, 2, 4)}
    by_step = [np.mean([jensenshannon(a, b, axis=1) ** 2 for a, b in p]) for p in pairs.values()]
    wanted = np.mean(by_step)
    assert color_consistency(noise) == pytest.approx(wanted)
    with pytest.raises(ValueError, match="at least 5 frames"):
        color_consistency(frames[:4])


def test_warping_error_sees_colour_that_flickers_and_not_motion():
    truth = colored(pan(1, 8, step=2))
    steady = colored(pan(1, 8, step=2), (60, 20, 0))
    flicker = [f + np.array([20 * (i % 2), 0, 0], np.uint8) for i, f in enumerate(steady)]
    assert warping_error(steady, truth) < 0.5
    assert warping_error(flicker, truth) > 5


def test_figures_of_the_truth_itself():
    truth = colored(pan(1, 6), (40, 0, 10))
    figures = compare_films(truth, truth)
    assert figures["ciede2000"] == 0
    for name in ("colorfulness", "cdc", "warping_error"):
        assert figures[name] == figures[f"true_{name}"]
    with pytest.raises(ValueError, match="must be equal"):
        compare_films(truth[:5], truth)


def test_a_film_and_each_frame_alone(tmp_path):
    from PIL import Image

    for index, frame in enumerate(colored(pan(1, 6), (40, 0, 10))):
        Image.fromarray(frame).save(tmp_path / f"{index:03d}.png")
    clip = read_clip(tmp_path, 5)
    assert len(clip) == 5
    results = evaluate_film(VideoColorizer(FakeORTPipeline()), clip)
    ways = {"each frame alone", "shared noise", "temporal filter", "film"}
    assert set(results) == ways
    assert to_table({"pan": results}).count("| pan |") == 4
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no frames"):
        read_clip(tmp_path / "none")


def test_the_window_of_a_film_is_its_middle():
    clip = colored(pan(1, 9), (40, 0, 10))
    colorizer = VideoColorizer(FakeORTPipeline())
    results = evaluate_film(colorizer, clip, 5)
    assert set(results) > {"film", "film, all 9 frames"}
    whole = evaluate_film(colorizer, clip)["film"]
    assert results["film, all 9 frames"] == whole
    assert results["film"]["true_cdc"] == color_consistency(clip[2:7])


def test_a_filter_in_time_steadies_what_does_not_move():
    rng = np.random.default_rng(0)
    chroma = [np.full((2, 4, 5), 7.0) + rng.normal(0, 3, (2, 4, 5)) for _ in range(40)]
    filtered = np.stack(filter_in_time(chroma))
    assert filtered.std(0).mean() < 0.5 * np.stack(chroma).std(0).mean()
    assert filtered.mean() == pytest.approx(np.mean(chroma), abs=0.05)


def test_a_pan_shows_each_place_of_a_photograph_in_one_colour():
    photograph = np.random.default_rng(0).integers(0, 255, (600, 1000, 3), np.uint8)
    frames = pan_over(photograph, 31)
    assert {frame.shape for frame in frames} == {(480, 640, 3)}
    assert (frames[0] == photograph[:480, :640]).all()
    assert (frames[15] == photograph[60:540, 120:760]).all()
