"""A frozen network of transformers in the encoder's place: tiny ones, with random weights."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import save_network
from PIL import Image

from pipeline_colorize import ColorizationPipeline, ColorizationUNet, OffsetCosineScheduler
from pipeline_colorize.core.unet import CrossAttention

transformers = pytest.importorskip("transformers")

NETWORKS = {
    "resnet": lambda: transformers.ResNetForImageClassification(
        transformers.ResNetConfig(
            embedding_size=4, hidden_sizes=[4, 6, 8], depths=[1, 1, 1], layer_type="basic"
        )
    ),
    "dinov2": lambda: transformers.Dinov2Model(
        transformers.Dinov2Config(
            hidden_size=12, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=8
        )
    ),
}
UNET = {
    "sample_channels": 2,
    "block": "scale_shift",
    "time_embedding": "timestep",
    "time_embedding_dim": 16,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention": True,
    "chroma_stride": 2,
    "encoder_block_out_channels": (8, 12),
    "cross_attention": True,
}


@pytest.fixture(params=list(NETWORKS))
def folder(request, tmp_path):
    """A pretrained network on disk."""
    torch.manual_seed(1)
    save_network(NETWORKS[request.param](), tmp_path / request.param)
    return tmp_path / request.param


def make_unet(folder, **changes) -> ColorizationUNet:
    torch.manual_seed(0)
    unet = ColorizationUNet(**{**UNET, "encoder_backbone": str(folder), **changes})
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if not parameter.any() and "backbone" not in name:
                parameter.normal_(std=0.1)
    return unet.eval()


def inputs(pictures: int = 2, samples: int = 1, side: int = 32):
    generator = torch.Generator().manual_seed(0)
    condition = 2 * torch.rand(pictures, 1, side, side, generator=generator) - 1
    shape = (pictures * samples, 2, side // 2, side // 2)
    return torch.randn(shape, generator=generator), torch.tensor(300), condition


@torch.no_grad()
def test_features_are_those_of_the_network_on_a_normalised_grey_picture(folder):
    said = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    unet, (_, _, condition) = make_unet(folder), inputs()
    classes = {"resnet": transformers.ResNetBackbone, "dinov2": transformers.Dinov2Backbone}
    network = classes[folder.name].from_pretrained(folder).eval()
    grey = ((condition + 1) / 2).expand(-1, 3, -1, -1)
    mean, std = (torch.tensor(said[key]).view(1, 3, 1, 1) for key in said)
    (last,) = network((grey - mean) / std).feature_maps
    *features, seen = unet.encode(condition)
    torch.testing.assert_close(seen, torch.nn.functional.group_norm(last, 1))
    assert [tuple(x.shape) for x in features] == [(2, 8, 16, 16), (2, 12, 8, 8)]
    # At the finest level comes what the luminance itself adds.
    added = unet.encoder.detail(torch.nn.functional.pixel_unshuffle(condition, 2))
    torch.nn.init.zeros_(unet.encoder.detail.weight)
    torch.nn.init.zeros_(unet.encoder.detail.bias)
    torch.testing.assert_close(features[0] - unet.encode(condition)[0], added)


@torch.no_grad()
def test_without_a_word_about_pixels_they_are_normalised_as_for_imagenet(folder):
    description = make_unet(folder).config.encoder_backbone
    assert description["image_mean"] == [0.485, 0.456, 0.406]


def test_the_network_stays_as_it_was_and_all_else_learns(folder):
    unet = make_unet(folder)
    before = {name: x.clone() for name, x in unet.encoder.backbone.state_dict().items()}
    unet.train()
    assert unet.training and not any(m.training for m in unet.encoder.backbone.modules())
    unet(*inputs()).sample.square().sum().backward()
    for name, parameter in unet.named_parameters():
        if ".backbone." in name:
            assert not parameter.requires_grad and parameter.grad is None
        else:
            assert parameter.grad.any(), name
    after = unet.encoder.backbone.state_dict()
    assert all(torch.equal(after[name], x) for name, x in before.items())


@torch.no_grad()
def test_features_serve_all_samples_and_what_was_seen_matters(folder):
    unet, (sample, timestep, condition) = make_unet(folder), inputs(2, samples=2)
    features = unet.encode(condition)
    shared = unet(sample, timestep, features).sample
    repeated = unet(sample, timestep, condition.repeat_interleave(2, 0)).sample
    torch.testing.assert_close(shared, repeated, atol=1e-5, rtol=1e-4)
    other = (*features[:-1], features[-1].flip(-1) + 1)
    assert (unet(sample, timestep, other).sample - shared).abs().max() > 1e-3


@torch.no_grad()
def test_it_is_saved_whole_and_loaded_without_its_folder(folder, tmp_path):
    unet = make_unet(folder)
    unet.save_pretrained(tmp_path / "unet")
    shutil.rmtree(folder)
    config = (tmp_path / "unet" / "config.json").read_text()
    assert str(tmp_path) not in config.replace(str(tmp_path / "unet"), "")
    loaded = ColorizationUNet.from_pretrained(tmp_path / "unet")
    assert not any(p.requires_grad for p in loaded.encoder.backbone.parameters())
    assert torch.equal(loaded(*inputs()).sample, unet(*inputs()).sample)


def test_attention_is_softmax_of_products():
    attention = CrossAttention(4, 3, groups=2, head_dim=2)
    torch.nn.init.normal_(attention.out.weight)
    x, context = torch.randn(2, 4, 3, 5), torch.randn(2, 3, 2, 2)
    query = attention.query(attention.norm(x)).view(2, 2, 2, 15)
    key, value = attention.key_value(context).view(2, 2, 2, 2, 4).unbind(1)
    weights = torch.einsum("bhcq,bhck->bhqk", query, key).div(2**0.5).softmax(-1)
    heads = torch.einsum("bhqk,bhck->bhcq", weights, value).reshape(2, 4, 3, 5)
    torch.testing.assert_close(attention(x, context), x + attention.out(heads))


PLAIN_DIFFUSERS = """
import sys
sys.path = [path for path in sys.path if path]  # without the working directory
import numpy, torch
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
assert not any(name.split(".")[0] == "pipeline_colorize" for name in sys.modules)
photo = numpy.linspace(0, 255, 24 * 16).reshape(24, 16).astype("uint8")
generator = torch.Generator().manual_seed(0)
numpy.save(sys.argv[2], pipe(photo, 2, generator=generator, output_type="latent").images[0].numpy())
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("folder", ["resnet"], indirect=True)
def test_a_pipeline_with_it_colorizes_here_and_in_plain_diffusers(folder, tmp_path):
    scheduler = OffsetCosineScheduler(prediction_type="v_prediction")
    pipe = ColorizationPipeline(make_unet(folder), scheduler, default_processing_resolution=16)
    pipe.set_progress_bar_config(disable=True)
    photo = np.linspace(0, 255, 24 * 16).reshape(24, 16).astype("uint8")

    def chroma(pipe):
        generator = torch.Generator().manual_seed(0)
        return pipe(photo, 2, generator=generator, output_type="latent").images[0]

    want = chroma(pipe)
    pipe.save_pretrained(tmp_path / "model")
    shutil.rmtree(folder)
    loaded = ColorizationPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert loaded(Image.fromarray(photo), 2).images[0].size == (16, 24)
    assert torch.allclose(chroma(loaded), want, atol=0.01)
    paths = [str(tmp_path / name) for name in ("model", "chroma.npy")]
    subprocess.run([sys.executable, "-c", PLAIN_DIFFUSERS, *paths], check=True, cwd=tmp_path)
    assert np.allclose(np.load(paths[1]), want, atol=0.01)


def test_what_cannot_be_is_refused(tmp_path):
    transformers.BertConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert', of which transformers has no vision"):
        make_unet(tmp_path)
    with pytest.raises(ValueError, match="`encoder_backbone` needs `encoder_block_out_channels`"):
        make_unet(tmp_path, encoder_block_out_channels=None)
    with pytest.raises(ValueError, match="`cross_attention` is to"):
        ColorizationUNet(cross_attention=True)
