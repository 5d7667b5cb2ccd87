"""The model that ships: it loads by name, offline, and its colours are those of a colorizer."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline_colorize import ColorizationPipeline, Hint
from pipeline_colorize.core.color import (
    bytes_to_linear,
    linear_to_luminance,
    linear_to_xyz,
    xyz_to_lab,
)

FOLDER = Path("pipeline_colorize/models/default")
EXAMPLES = Path("space/examples")


@pytest.fixture(scope="module")
def pipe():
    pipe = ColorizationPipeline.from_pretrained("default")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def to_lab(image):
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0)
    return xyz_to_lab(linear_to_xyz(bytes_to_linear(pixels)))


def seed(value=0):
    return [torch.Generator().manual_seed(value)]


def test_files():
    weights = FOLDER / "unet" / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size <= 32_000_000
    assert not [path for path in FOLDER.rglob("*.*") if path.suffix in (".bin", ".pt", ".pkl")]
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for word in ("non-commercial", "license", "Results", "Limits"):
        assert word in card


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.jpg")), ids=lambda path: path.stem)
def test_historical_photographs(pipe, path):
    image = Image.open(path)
    image.thumbnail((400, 400))
    (result,) = pipe(image, generator=seed()).images
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0)
    light = linear_to_luminance(bytes_to_linear(pixels))
    lab = to_lab(result)
    assert (lab[:1] - light).abs().max() <= 100 / 255
    chroma = lab[1:].norm(dim=0)
    assert 1 < chroma.mean() < 40 and chroma.quantile(0.5) < 40


@pytest.fixture(scope="module")
def expected(pipe):
    """A function from a colour photograph to its expected a*b* (2, h, w): the mean of samples."""

    @functools.cache
    def colour(path):
        image = Image.open(path)
        chroma = pipe(image, num_samples=8, generator=seed(), output_type="latent").images
        return torch.as_tensor(chroma).mean(0)

    return colour


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lake-sherburne", "roman-colosseum"])
def test_skies_are_bluer_than_the_ground(expected, name):
    """In the mean of eight samples, the sky's b* lies below that of the ground."""
    b = expected(EXAMPLES / "color" / f"{name}.jpg")[1]
    rows = len(b)
    assert b[: rows // 5].mean() < b[-rows // 5 :].mean() - 2


@pytest.mark.slow
def test_the_expected_colouring_beats_grey(expected):
    """With the mean of eight samples, chroma is nearer to the truth than no chroma at all."""
    errors = []
    for path in sorted((EXAMPLES / "color").glob("*.jpg")):
        chroma, true = expected(path), to_lab(Image.open(path))[1:]
        true = torch.nn.functional.interpolate(true[None], chroma.shape[1:], mode="area")[0]
        errors.append(((chroma - true).norm(dim=0).mean() / true.norm(dim=0).mean()).item())
    assert np.mean(errors) < 1


def test_a_hint_colours_its_place(pipe):
    image = Image.open(EXAMPLES / "taos-pueblo-church-1942.jpg").convert("L").resize((300, 400))
    place = slice(110, 130), slice(90, 110)  # the wall, left of the gate
    for color, sign in (("#b04030", 1), ("#3060b0", -1)):
        hint = Hint(100, 120, color, radius=12)
        results = pipe([image] * 2, hints=[[hint], []], generator=seed(1) * 2).images
        hinted, plain = (to_lab(result)[1:, place[0], place[1]].mean((1, 2)) for result in results)
        assert sign * (hinted[1] - plain[1]) > 3 or sign * (hinted[0] - plain[0]) > 3
        wanted = torch.from_numpy(hint.chroma())
        assert (hinted - wanted).norm() < (plain - wanted).norm()
