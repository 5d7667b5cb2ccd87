import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from pipeline_colorize import ColorizationPipeline, RegressionUNet

WIDTHS = (4, 6, 10)


@pytest.fixture
def unet():
    """A tiny network in evaluation mode whose BatchNorm has seen other than its start."""
    torch.manual_seed(0)
    unet = RegressionUNet(block_out_channels=WIDTHS, ab_scale=50.0)
    unet.train()(None, None, torch.rand(4, 1, 16, 16))
    return unet.eval()


def double_convolution(i: int, o: int) -> int:
    """Weights of two 3x3 convolutions without bias, each with a BatchNorm's scale and shift."""
    return 9 * i * o + 2 * o + 9 * o * o + 2 * o


def test_parameters_are_those_counted_by_hand(unet):
    down = double_convolution(1, 4) + double_convolution(4, 6) + double_convolution(6, 10)
    project = (10 * 6 + 6) + (6 * 4 + 4)
    up = double_convolution(2 * 6, 6) + double_convolution(2 * 4, 4)
    count = sum(parameter.numel() for parameter in unet.parameters())
    assert count == down + project + up + (4 * 2 + 2)


@torch.no_grad()
def test_skips_are_taken_before_pooling(unet):
    """The way down and up again, written out; and the sizes that meet on the way up."""
    condition = torch.rand(2, 1, 8, 12)
    first = unet.down_blocks[0](condition)
    second = unet.down_blocks[1](F.max_pool2d(first, 2))
    h = unet.mid_block(F.max_pool2d(second, 2))
    for block, skip in zip(unet.up_blocks, (second, first), strict=True):
        h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
        h = block.convolve(torch.cat([skip, block.project(h)], dim=1))
    torch.testing.assert_close(unet(None, None, condition).sample, unet.conv_out(h))
    # One pixel of detail goes through: pooled skips, upsampled, could not tell where it is.
    moved = condition.clone()
    moved[:, :, 2, 2], moved[:, :, 2, 3] = condition[:, :, 2, 3], condition[:, :, 2, 2]
    assert (unet(None, None, moved).sample - unet(None, None, condition).sample).abs().max() > 1e-4


@pytest.mark.parametrize("height, width", [(4, 4), (8, 20), (36, 4)])
@torch.no_grad()
def test_any_multiple_of_the_stride_is_a_size(unet, height, width):
    assert unet.stride == 4
    output = unet(None, None, torch.rand(2, 1, height, width))
    assert output.sample.shape == (2, 2, height, width)
    (plain,) = unet(None, None, torch.rand(1, 1, height, width), return_dict=False)
    assert plain.isfinite().all()


def test_wrong_channels_and_sizes_are_refused(unet):
    with pytest.raises(ValueError, match=r"\(batch, 1, height, width\), not \(1, 3, 8, 8\)"):
        unet(None, None, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"multiples of 4, not \(8, 6\)"):
        unet(None, None, torch.zeros(1, 1, 8, 6))


def test_every_weight_learns(unet):
    unet.train()(None, None, torch.rand(2, 1, 8, 8)).sample.square().sum().backward()
    assert all(parameter.grad.any() for parameter in unet.parameters())


def make_pipe(unet) -> ColorizationPipeline:
    pipe = ColorizationPipeline(unet, default_processing_resolution=16)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_it_colorizes_and_comes_back_from_a_folder(unet, tmp_path):
    photo = Image.linear_gradient("L").resize((30, 22))
    pipe = make_pipe(unet)
    assert pipe(photo).images[0].size == (30, 22)
    want = pipe(photo, output_type="latent").images[0]
    # What the network says, in its units, is what comes out.
    working = pipe.image_processor.preprocess(pipe.image_processor.to_luminance(photo), 16)
    chroma = unet(None, None, working / 50 - 1).sample[0] * 50.0
    assert torch.allclose(want, chroma, atol=1e-4)
    pipe.save_pretrained(tmp_path)
    loaded = ColorizationPipeline.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(loaded.unet) is RegressionUNet and loaded.scheduler is None
    assert torch.allclose(loaded(photo, output_type="latent").images[0], want, atol=1e-4)


PLAIN_DIFFUSERS = """
import sys
sys.path = [path for path in sys.path if path]  # without the working directory
import numpy
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
assert not any(name.split(".")[0] == "pipeline_colorize" for name in sys.modules)
photo = numpy.linspace(0, 255, 24 * 16).reshape(24, 16).astype("uint8")
numpy.save(sys.argv[2], pipe(photo, output_type="latent").images[0].numpy())
pipe.save_pretrained(sys.argv[3])
"""


@pytest.mark.slow
@pytest.mark.process
def test_plain_diffusers_opens_what_is_saved(unet, tmp_path):
    pipe = make_pipe(unet)
    pipe.save_pretrained(tmp_path / "model")
    paths = [str(tmp_path / name) for name in ("model", "chroma.npy", "again")]
    subprocess.run([sys.executable, "-c", PLAIN_DIFFUSERS, *paths], check=True, cwd=tmp_path)
    photo = np.linspace(0, 255, 24 * 16).reshape(24, 16).astype("uint8")
    want = pipe(photo, output_type="latent").images[0]
    assert np.allclose(np.load(paths[1]), want, atol=1e-3)
    again = ColorizationPipeline.from_pretrained(paths[2], dtype=torch.float32)
    assert torch.allclose(again(photo, output_type="latent").images[0], want, atol=1e-3)
