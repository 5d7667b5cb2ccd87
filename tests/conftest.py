"""Tiny networks and pictures that the tests share."""

import importlib
import os
import re
import sys
from pathlib import Path

import pytest

# Threads that wait for work by spinning take the cores from the processes that have it. This is
# read when torch is loaded, and inherited by whatever the tests start.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import torch
from command_run import album, pipe  # noqa: F401, fixtures of all tests

from pipeline_colorize.core.unet import ColorizationUNet

_SMALL = {
    "block": "scale_shift",
    "time_embedding": "timestep",
    "time_embedding_dim": 16,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_channels": 2,
    "attention": True,
}
UNET_CONFIGS = {
    "seed": {"block_out_channels": (8, 16, 24), "layers_per_block": 2, "time_embedding_dim": 8},
    "lab": {**_SMALL, "encoder_block_out_channels": (8, 16), "encoder_layers_per_block": 1},
    "grid": {**_SMALL, "chroma_stride": 4, "ab_scale": 33.0},
    "hints": {
        **_SMALL,
        "chroma_stride": 4,
        "ab_scale": 33.0,
        "hint_channels": 3,
        "doubtful_hints": True,
        "encoder_block_out_channels": (8, 12),
        "encoder_layers_per_block": 2,
    },
    "trunk": {
        **_SMALL,
        "chroma_stride": 4,
        "ab_scale": 33.0,
        "hint_channels": 3,
        "encoder_block_out_channels": (8, 12),
        "encoder_layers_per_block": (2, 1),
        "encoder_trunk": [[1, 3, 8, 1, 1], [2, 5, 8, 2, 4]],
    },
}
# Sees twice as much of the luminance on the same grid.
UNET_CONFIGS["detail"] = {**UNET_CONFIGS["trunk"], "chroma_stride": 8, "encoder_trunk_scale": 1}


def pytest_configure(config):
    """Register the marks of diffusers' test suite, which `conformance` borrows from."""
    if source := os.environ.get("DIFFUSERS_SRC"):
        text = (Path(source) / "tests" / "testing_utils.py").read_text()
        for mark in sorted(set(re.findall(r"pytest\.mark\.(\w+)", text))):
            config.addinivalue_line("markers", f"{mark}: of diffusers' tests")


# What a test is by what it uses, so that no mark is forgotten: fixtures and their marks.
_MARKS_OF_FIXTURES = {
    "browser": ("browser", "slow"),
    "client": ("process",),
    "node": ("process", "slow"),  # it may have to install packages
    "processes": ("process", "slow"),
    "site": ("process", "slow"),
    "space": ("process", "slow"),
}


# Modules that take longest. They are begun first, so that at the end no worker has much to do while
# the others have nothing.
_LONGEST = (
    "release",
    "space",
    "browser",
    "train",
    "security",
    "evaluate",
    "video",
    "recipes",
    "cli",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """One worker more than there are cores: tests wait for servers, browsers and processes."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark tests by their fixtures, before `-m` chooses among them, and put long modules first."""
    config.option.loadscopereorder = False  # by the number of tests, which says little
    places = {f"test_{name}": place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            for mark in _MARKS_OF_FIXTURES.get(fixture, ()):
                item.add_marker(mark)


def load_script(name: str):
    """`scripts/NAME.py`, or "FOLDER.NAME" below it, as a module that finds its siblings."""
    folder = str(Path(__file__).parents[1] / "scripts")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """`datasets` from version 5 on pauses for seconds after each pass over a stream of files."""
    if config := sys.modules.get("datasets.config"):
        monkeypatch.setattr(config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)


def save_network(network: torch.nn.Module, folder: Path) -> str:
    """A network of transformers on disk, with statistics that a fresh one does not have."""
    with torch.no_grad():
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.2, 1)
    network.save_pretrained(folder)
    return str(folder)


def tiny_unet(kind: str) -> ColorizationUNet:
    """A network of the layout `kind`, in evaluation mode, where every weight does something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = ColorizationUNet(**UNET_CONFIGS[kind])
        with torch.no_grad():
            # What starts at zero would hide the rest of its block from a test.
            for parameter in unet.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
            for name, buffer in unet.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(std=0.1)
    return unet.eval()


def unet_inputs(unet: ColorizationUNet, batch: int = 2, height: int = 2, width: int = 3, seed=0):
    """Noisy colour, timesteps and condition of `height` x `width` strides."""
    config = unet.config
    generator = torch.Generator().manual_seed(seed)
    size = (height * unet.stride, width * unet.stride)
    channels = config.condition_channels + config.hint_channels
    condition = 2 * torch.rand(batch, channels, *size, generator=generator) - 1
    grid = [side // config.chroma_stride for side in size]
    sample = torch.randn(batch, config.sample_channels, *grid, generator=generator)
    timestep = torch.randint(0, config.num_train_timesteps, (batch,), generator=generator)
    return sample, timestep, condition


@pytest.fixture
def make_unet():
    """The function that makes a tiny network of a layout by its name."""
    return tiny_unet


@pytest.fixture
def make_inputs():
    """The function that makes inputs for a network."""
    return unet_inputs


@pytest.fixture(params=list(UNET_CONFIGS))
def unet(request):
    """A tiny network, of each layout in turn."""
    return tiny_unet(request.param)


def smooth_picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Smooth patches of colour with a few hard edges, as (3, height, width) sRGB in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    picture = torch.nn.functional.interpolate(
        coarse, (height, width), mode="bicubic", align_corners=False
    ).clamp(0, 1)[0]
    top, left = height // 4, width // 3
    patch = torch.rand(3, 1, 1, generator=generator)
    picture[:, top : top + height // 3, left : left + width // 3] = patch
    return picture


@pytest.fixture
def make_picture():
    """The function that makes a synthetic colour picture."""
    return smooth_picture


@pytest.fixture(scope="module")
def other_tests_hear_diffusers():
    """The command silences diffusers for good, which in a program of its own is right."""
    from diffusers.utils import logging

    level, environment = logging.get_verbosity(), dict(os.environ)
    yield
    logging.set_verbosity(level)
    logging.enable_progress_bar()
    os.environ.clear()
    os.environ.update(environment)
