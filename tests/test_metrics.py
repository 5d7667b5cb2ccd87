import json
import math

import numpy as np
import pytest
import skimage.color
import skimage.data
import torch
from skimage.metrics import peak_signal_noise_ratio

from pipeline_colorize.evaluation import metrics


@pytest.fixture
def picture():
    return skimage.data.astronaut()[::8, ::8]


def flat(red, green, blue, size=16):
    return np.full((size, size, 3), (red, green, blue), dtype=np.uint8)


def grey_of(picture):
    grey = skimage.color.rgb2lab(picture)
    grey[..., 1:] = 0
    return (skimage.color.lab2rgb(grey) * 255).round().astype(np.uint8)


# Hasler and Suesstrunk by hand: two colours, half of the pixels each.
def test_colorfulness_of_two_colours_by_hand():
    picture = flat(200, 100, 50)
    picture[:8] = (0, 100, 250)
    # Red-green 100 and -100: mean 0, deviation 100. Yellow-blue 100 and -200: mean -50, 150.
    assert metrics.colorfulness(picture) == pytest.approx(math.hypot(100, 150) + 0.3 * 50)
    # Without signs: 100 and 100; 100 and 200.
    expected = 50 + 0.3 * math.hypot(100, 150)
    assert metrics.colorfulness_absolute(picture) == pytest.approx(expected)


def test_grey_has_no_colorfulness():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert metrics.colorfulness(ramp) == metrics.colorfulness_absolute(ramp) == 0


def test_psnr_equals_scikit_image_and_has_a_ceiling(picture):
    other = np.roll(picture, 1, axis=0)
    assert metrics.psnr(other, picture) == pytest.approx(peak_signal_noise_ratio(picture, other))
    assert metrics.psnr(picture, picture) == 100


def test_compare_by_hand():
    red, green = flat(150, 50, 50), flat(50, 150, 50)
    figures = metrics.compare(red, green)
    first, second = (skimage.color.rgb2lab(one)[0, 0] for one in (red, green))
    assert figures["ab_mse"] == pytest.approx(((first - second)[1:] ** 2).mean(), rel=1e-3)
    assert figures["luminance_error"] == pytest.approx(abs(first - second)[0], rel=1e-3)
    expected = float(skimage.color.deltaE_ciede2000(first, second))
    assert figures["ciede2000"] == pytest.approx(expected, rel=1e-3)
    assert figures["psnr"] == pytest.approx(10 * math.log10(255**2 / (2 * 100**2 / 3)))


def test_colours_that_are_far_off_are_odd_with_more_chroma_and_pale_with_less():
    truth = np.zeros((2, 5, 2))
    truth[1] = (30, 0)
    chroma = truth.copy()
    chroma[0, :2] = (0, 21), (0, 19)  # of grey: the first is odd, the second near enough
    chroma[1, :3] = (0, 0), (0, 29), (0, 31)  # of red: grey and dull green are pale, green is odd
    assert metrics.odd_and_pale(chroma, truth) == pytest.approx((0.2, 0.2))
    red, grey = flat(200, 30, 30), flat(99, 99, 99)
    assert metrics.compare(red, grey)["odd"] == metrics.compare(grey, red)["pale"] == 1
    assert metrics.compare(red, grey)["pale"] == metrics.compare(grey, red)["odd"] == 0


def test_compare_of_a_picture_with_itself(picture):
    figures = metrics.compare(picture, picture)
    assert figures["ciede2000"] == figures["ab_mse"] == figures["luminance_error"] == 0
    assert figures["ssim"] == pytest.approx(1)
    assert figures["colorfulness"] == metrics.colorfulness(picture)


def test_ssim_falls_with_the_error_and_names_pictures_that_are_too_small(picture):
    grey = grey_of(picture)
    assert metrics.ssim(grey, picture) < metrics.ssim(picture, picture)
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        metrics.ssim(picture[:4, :4], picture[:4, :4])


def test_histogram_counts_every_pixel_in_its_bin(picture):
    counts = metrics.chroma_histogram(picture)
    assert counts.shape == (24, 24) and counts.sum() == picture.shape[0] * picture.shape[1]
    # Strong blue lies beyond b* = -100 and is counted at the border: a* = 79 is bin 21.
    counts = metrics.chroma_histogram(flat(0, 0, 255))
    assert counts[21, 0] == counts.sum() == 256


def test_histogram_distance_by_hand():
    first = np.zeros((24, 24), dtype=np.int64)
    first[3, 4], first[5, 5] = 30, 10
    second = np.zeros((24, 24), dtype=np.int64)
    second[3, 4] = 2
    assert metrics.histogram_distance(first, first * 7) == 0
    assert metrics.histogram_distance(first, second) == pytest.approx(0.25)
    assert metrics.histogram_distance(second, second.T) == 1


def test_diversity_by_hand():
    still = np.zeros((4, 4, 2))
    there, further = still + (3, 4), still + (6, 8)
    assert metrics.diversity([still, there]) == 5
    assert metrics.diversity([still, there, further]) == pytest.approx((5 + 10 + 5) / 3)
    assert metrics.diversity([there]) == 0


def test_rank_correlation():
    assert metrics.rank_correlation([1, 2, 3], [10, 100, 1000]) == pytest.approx(1)
    assert metrics.rank_correlation([[1, 2], [3, 4]], [[4, 3], [2, 1]]) == pytest.approx(-1)
    assert math.isnan(metrics.rank_correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(metrics.rank_correlation([1], [1]))


def test_blotches_are_colour_that_varies_on_even_ground():
    luminance = np.full((64, 64), 50.0)
    even = np.full((64, 64, 2), 20.0)
    assert metrics.blotches(even, luminance) == pytest.approx(0, abs=1e-5)
    patches = even.copy()
    patches[:, ::2, 0] += 6  # a* alternates by 6: its variance in any even window is 9
    assert metrics.blotches(patches, luminance) == pytest.approx(3, rel=1e-2)
    # The same patches where luminance varies too are texture.
    busy = luminance + 20 * np.random.default_rng(0).standard_normal(luminance.shape)
    assert math.isnan(metrics.blotches(patches, busy))


def test_edge_focus_falls_when_colours_run_over_edges():
    luminance = np.full((64, 64), 30.0)
    luminance[:, 32:] = 70
    chroma = np.zeros((64, 64, 2))
    chroma[:, 32:] = 40
    blurred = np.zeros_like(chroma)
    blurred[:, 24:40] = np.linspace(0, 40, 16)[None, :, None]
    blurred[:, 40:] = 40
    sharp = metrics.edge_focus(chroma, luminance)
    # Two columns of 64 have all of the gradient, and they are the edge.
    assert sharp == pytest.approx(32)
    assert metrics.edge_focus(blurred, luminance) < sharp / 3
    assert metrics.edge_focus(chroma / 10, luminance) == pytest.approx(sharp)
    assert math.isnan(metrics.edge_focus(0 * chroma, luminance))
    assert math.isnan(metrics.edge_focus(chroma, 0 * luminance))


def _tinted(picture, a, b):
    lab = skimage.color.rgb2lab(grey_of(picture))
    lab[..., 1:] += (a, b)
    return (skimage.color.lab2rgb(lab).clip(0, 1) * 255).round().astype(np.uint8)


@pytest.fixture
def record(picture):
    samples = [_tinted(picture, 10, 10), _tinted(picture, 5, 0), _tinted(picture, -20, 10)]
    views = grey_of(picture), [_tinted(picture, 3, 3), samples[0]], samples, _tinted(picture, 0, 7)
    return metrics.measure_picture(picture, *views), views


def test_a_picture_s_record(picture, record):
    record, (_, alone, samples, _) = record
    errors = [metrics.compare(sample, picture)["ciede2000"] for sample in samples]
    singles = [metrics.compare(one, picture)["ciede2000"] for one in alone]
    assert record["sample"]["ciede2000"] == pytest.approx(np.mean(singles))
    assert np.array_equal(record["histograms"]["sample"], metrics.chroma_histogram(alone[0]))
    assert record["best"]["ciede2000"] == min(errors)
    assert record["best"]["psnr"] == max(metrics.psnr(sample, picture) for sample in samples)
    assert record["truth"]["colorfulness"] == metrics.colorfulness(picture)
    assert record["diversity"] > 10
    assert record["grey"]["luminance_error"] <= 100 / 255
    assert record["luminance_error"] >= record["sample"]["luminance_error"]
    assert all(counts.sum() == picture[..., 0].size for counts in record["histograms"].values())


def test_a_set_s_summary(picture, record):
    record, _ = record
    histograms = record.pop("histograms")
    grey = grey_of(picture)
    dull = metrics.measure_picture(picture, grey, [grey], [grey], grey)
    dull.pop("histograms")
    summary = metrics.summarize([record, dull], histograms)
    assert summary["pictures"] == 2
    grey = summary["grey"]["ciede2000"]
    expected = (record["sample"]["ciede2000"] + grey) / 2 / grey
    assert summary["sample"]["ciede2000_ratio"] == pytest.approx(expected)
    assert summary["sample"]["ab_rmse"] == pytest.approx(math.sqrt(summary["sample"]["ab_mse"]))
    assert summary["histogram_distance"]["sample"] == metrics.histogram_distance(
        histograms["sample"], histograms["truth"]
    )
    # A grey picture has no colour that could bleed; it must not count as one that bleeds most.
    assert summary["edge_focus"]["sample"] == record["sample"]["edge_focus"]
    json.dumps(summary)


def test_mean_of_differences_is_not_the_difference_of_means():
    records = [
        {"truth": {"colorfulness": 30.0}, "sample": {"colorfulness": 10.0}},
        {"truth": {"colorfulness": 10.0}, "sample": {"colorfulness": 20.0}},
    ]
    for one in records:
        one["mean"] = one["sample"]
    summary = metrics.summarize_colorfulness(records)
    assert summary["difference_of_means"] == -5
    assert summary["mean_of_differences"] == 15
    assert summary["share"] == 0.75


def test_missing_networks_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(metrics.torch.hub, "get_dir", lambda: str(tmp_path))
    for name, file in (("FID and KID", "weights-inception"), ("LPIPS", "alexnet")):
        line = metrics.missing_network(name)
        assert name in line and file in line and str(tmp_path / "checkpoints") in line
    (tmp_path / "checkpoints").mkdir()
    metrics._network_file("LPIPS").touch()
    monkeypatch.setattr(metrics, "find_spec", lambda package: package)
    assert metrics.missing_network("LPIPS") is None


@pytest.mark.slow
def test_feature_distances_of_gaussians():
    pytest.importorskip("torchmetrics")
    features = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0))
    assert metrics.feature_distances(features, features)["fid"] == pytest.approx(0, abs=1e-3)
    # Frechet distance of N(0, 1) and N(2, 9) in one of three dimensions: 2^2 + (3 - 1)^2.
    other = features.clone()
    other[:, 0] = 3 * other[:, 0] + 2
    distances = metrics.feature_distances(other, features)
    assert distances["fid"] == pytest.approx(8, rel=0.1)
    assert distances["kid"] > 0.1
    assert distances == metrics.feature_distances(other, features)


# --- colour hints --------------------------------------------------------------------------------


@pytest.mark.parametrize("size, grid", [((40, 60), (8, 12)), ((37, 53), (9, 13)), ((5, 6), (5, 6))])
def test_known_colors_are_those_of_their_cells(size, grid):
    truth = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    known = metrics.draw_true_hints(truth, grid, 1000, seed=3)
    assert len({(one.row, one.column) for one in known}) == len(known) == grid[0] * grid[1]
    assert sum(one.of(truth)[..., 0].size for one in known) == size[0] * size[1]
    for one in known:
        assert np.abs(one.of(truth).mean((0, 1)) - one.color).max() <= 0.5
        x, y = one.middle
        assert int(x * grid[1] / size[1]) == one.column and int(y * grid[0] / size[0]) == one.row


def test_fewer_hints_are_the_first_of_more():
    truth = np.zeros((32, 32, 3), np.uint8)
    more, fewer, other = (
        metrics.draw_true_hints(truth, (8, 8), count, seed)
        for count, seed in ((20, 0), (5, 0), (20, 1))
    )
    assert fewer == more[:5] and other != more
    with pytest.raises(ValueError, match=r"\(64, 64\).*\(32, 32\)"):
        metrics.draw_true_hints(truth, (64, 64), 1, 0)


def test_hint_errors_by_hand():
    """A grey hint; a cell that is off by a known a*b* on the grid, and red in the picture."""
    delta = skimage.color.deltaE_ciede2000
    grey, red = (119, 119, 119), (200, 60, 50)
    truth = np.full((8, 8, 3), grey, np.uint8)
    (known,) = metrics.draw_true_hints(truth, (2, 2), 1, seed=0)
    result = np.full_like(truth, 0)
    result[known.top : known.bottom, known.left : known.right] = red
    chroma = np.full((2, 2, 2), 99.0)
    chroma[:, known.row, known.column] = (3.0, 4.0)
    (on_grid,), (in_picture,) = metrics.hint_errors([known], result, chroma)
    lightness, *ab = skimage.color.rgb2lab(np.array(red, np.uint8) / 255)
    here = np.array([lightness, 0, 0])
    assert on_grid == pytest.approx(delta(here, [lightness, 3, 4]), abs=0.01)
    assert in_picture == pytest.approx(delta(here, [lightness, *ab]), abs=0.01)


def test_the_reach_of_a_hint_is_by_distance():
    before = np.full((100, 200, 3), 128, np.uint8)
    known = metrics.TrueHint(0, 0, 48, 52, 98, 102, (0, 0, 0))
    after = before.copy()
    rows, columns = np.indices(before.shape[:2]) + 0.5
    after[np.hypot(rows - 50, columns - 100) <= 10] = (160, 110, 110)
    near, next_to_it, *far = metrics.hint_reach(known, before, after)
    assert near == next_to_it > 10 and far == [0, 0, 0]
