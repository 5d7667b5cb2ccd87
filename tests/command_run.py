"""Runs `colorize` in tests, mostly with a quick and predictable stand-in for the model."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pipeline_colorize import cli
from pipeline_colorize.command import engine
from pipeline_colorize.photo.display import as_picture


class StubPipe:
    """Adds a random tint to each picture, from the picture's own generator."""

    config = SimpleNamespace(default_num_inference_steps=5, default_num_candidates=1)
    scheduler = None

    def __init__(self):
        self.calls = []

    def __call__(
        self,
        images,
        *,
        num_samples,
        generator,
        output_type,
        output_uncertainty,
        output_intermediates,
        **others,
    ):
        self.calls.append({"images": len(images), "num_samples": num_samples, **others})
        results, films = [], []
        for image, own in zip(images, generator, strict=True):
            for tint in torch.rand(num_samples, 3, generator=own).numpy():
                rgb = np.broadcast_to(tint, (*image.shape[:2], 3)).astype(np.float32)
                small = Image.new("RGB", (16, 12), tuple(int(255 * value) for value in tint))
                results.append(rgb if output_type == "np" else as_picture(rgb))
                films.append([small] * 5)
        spreads = [np.full(image.shape[:2], 0.5, np.float32) for image in images]
        return SimpleNamespace(
            images=results,
            uncertainty=spreads if output_uncertainty else None,
            intermediates=films if output_intermediates else None,
            boxes=[(0, image.shape[0], 0, image.shape[1]) for image in images],
        )


@pytest.fixture
def pipe(monkeypatch):
    """The stand-in, in place of every model."""
    stub = StubPipe()
    monkeypatch.setattr(engine, "load_model", lambda settings: stub)
    return stub


@pytest.fixture
def album(tmp_path):
    """A folder of three photographs."""
    folder = tmp_path / "album"
    folder.mkdir()
    for index in range(3):
        save(folder / f"{'abc'[index]}.png", shade=40 * index)
    return folder


def save(path, shade=90, size=(24, 16), **options):
    """Write an even grey picture; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path, **options)
    return path


def run(*arguments, stdin=None):
    """Run the command in this process."""
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments], input=stdin)


def names(folder):
    """The files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
