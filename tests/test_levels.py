"""The network sees faded photographs with their contrast, and all others as they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_unet
from PIL import Image
from skimage.color import rgb2lab

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler
from pipeline_colorize.core.levels import BLACK, WHITE, Levels
from pipeline_colorize.core.luminance import to_luminance
from pipeline_colorize.onnx.graph import write_model
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline

EXAMPLES = Path(__file__).parents[1] / "space" / "examples"
ALL = sorted(EXAMPLES.rglob("*.jpg"))
# Factor on the sRGB values, and the value of what was black.
FADED = [(0.5, 64), (0.5, 120), (0.35, 64), (0.35, 110), (0.2, 100), (0.2, 160)]


def gray(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        opened.draft("L", (400, 400))
        picture = opened.convert("L")
    picture.thumbnail((360, 360))
    return np.asarray(picture)


def fade(pixels: np.ndarray, contrast: float, black: float) -> np.ndarray:
    return (black + contrast * pixels.astype(float)).round().clip(0, 255).astype(np.uint8)


def black_and_white(luminance: np.ndarray) -> np.ndarray:
    return np.percentile(luminance, (1, 99))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_photograph_of_ordinary_contrast_is_seen_as_it_is(path):
    luminance = to_luminance(gray(path))
    assert Levels.measure(luminance).apply(luminance) is luminance


@pytest.mark.parametrize(("contrast", "black"), FADED)
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.jpg")), ids=lambda path: path.stem)
def test_a_faded_photograph_is_seen_as_before_it_faded(path, contrast, black):
    before, after = (to_luminance(one) for one in (gray(path), fade(gray(path), contrast, black)))
    levels = Levels.measure(after)
    seen = levels.apply(after)
    range_before, range_seen = (np.ptp(black_and_white(one)) for one in (before, seen))
    assert range_seen > 45 or levels.gain == 8
    if contrast < 0.4:
        np.testing.assert_allclose(black_and_white(seen), (BLACK, WHITE), atol=9)
    standard = [(one - one.mean()) / one.std() for one in (before, seen)]
    assert np.abs(standard[0] - standard[1]).mean() < 0.2
    assert range_seen > 0.5 * range_before


def test_it_comes_in_little_by_little():
    ramp = np.linspace(0, 1, 20_000, dtype=np.float32).reshape(200, 100)
    gains = [Levels.measure(20 + extent * ramp).gain for extent in np.arange(30, 60, 0.5)]
    assert gains[-1] == 1 and np.diff(gains).max() <= 0 and np.diff(gains).min() > -0.15
    gains = [Levels.measure(black + 30 * ramp).gain for black in np.arange(5, 30, 0.5)]
    assert gains[0] == 1 and np.diff(gains).min() >= 0 and np.diff(gains).max() < 0.2


def test_dark_and_empty_pictures_are_seen_as_they_are():
    dark = np.linspace(3, 30, 40_000, dtype=np.float32).reshape(200, 200)
    for luminance in (dark, np.full((40, 50), 70, np.float32), np.float32([[60]])):
        assert Levels.measure(luminance).gain == 1


def test_grain_is_no_contrast():
    faded = np.linspace(45, 65, 512 * 512, dtype=np.float32).reshape(512, 512)
    grain = np.random.default_rng(0).normal(0, 8, faded.shape).astype(np.float32)
    assert Levels.measure(faded + grain).gain == pytest.approx(Levels.measure(faded).gain, rel=0.2)


def test_both_engines_see_the_same_and_write_the_light_as_it_is(tmp_path):
    pipe = ColorizationPipeline(
        tiny_unet("hints"),
        OffsetCosineScheduler(prediction_type="sample"),
        default_num_inference_steps=2,
        default_processing_resolution=32,
        default_second_look=1.5,
    )
    pipe.save_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    write_model(tmp_path, tmp_path / "full.onnx", "fp32")
    ort = ORTColorizationPipeline(tmp_path / "full.onnx")
    faded = fade(gray(ALL[0]), 0.2, 100)

    def results(output_type):
        return [
            np.asarray(engine(faded, generator=generator, output_type=output_type).images[0])
            for engine, generator in (
                (pipe, torch.manual_seed(0)),
                (ort, TorchGenerator().manual_seed(0)),
            )
        ]

    one, two = results("latent")
    np.testing.assert_allclose(one, two, atol=1e-3 * np.abs(one).max())
    for result in results("pil"):
        light = rgb2lab(result)[..., 0]
        assert np.abs(light - to_luminance(faded)).max() <= 100 / 255


def test_the_default_gives_a_faded_photograph_the_colours_of_before(monkeypatch):
    ort = ORTColorizationPipeline.from_pretrained("default")
    before = gray(EXAMPLES / "mark-twain-1907.jpg")

    def chroma(image):
        options = {"num_candidates": 4, "second_look": 1.0, "output_type": "latent"}
        return ort(image, generator=TorchGenerator().manual_seed(0), **options).images[0]

    faded, wanted = fade(before, 0.3, 110), chroma(before)
    distance = np.abs(chroma(faded) - wanted).mean()
    monkeypatch.setattr(Levels, "measure", classmethod(lambda cls, luminance: cls()))
    assert distance < 0.7 * np.abs(chroma(faded) - wanted).mean()
