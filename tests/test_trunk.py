"""A pretrained trunk in the encoder: a tiny classifier stands in for the published one."""

import pytest
import torch
import yaml
from click.testing import CliRunner
from conftest import UNET_CONFIGS, load_script, tiny_unet, unet_inputs
from torch import nn

from pipeline_colorize import ColorizationPipeline, ColorizationUNet, OffsetCosineScheduler
from pipeline_colorize.core.unet import Trunk
from pipeline_colorize.training.build import load_initial_model


class Layer(nn.Sequential):
    """Convolution without bias, and normalisation that has seen pictures."""

    def __init__(self, inputs, outputs, kernel=1, stride=1, groups=1):
        convolution = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        super().__init__(convolution, nn.BatchNorm2d(outputs, eps=1e-3))
        for name in ("weight", "running_var"):
            nn.init.uniform_(getattr(self[1], name), 0.5, 2)
        for name in ("bias", "running_mean"):
            nn.init.normal_(getattr(self[1], name))


class Classifier(nn.Module):
    """What the layout's trunk is part of, as it is published: RGB, with normalisation."""

    def __init__(self):
        super().__init__()
        self.stem = Layer(3, 32, 3, 2)
        self.blocks = nn.ModuleList(
            [
                nn.ModuleList([Layer(32, 32, 3, groups=32), Layer(32, 8)]),
                nn.ModuleList([Layer(8, 16), Layer(16, 16, 5, 4, groups=16), Layer(16, 8)]),
                nn.ModuleList([Layer(8, 16), Layer(16, 16, 5, groups=16), Layer(16, 8)]),
            ]
        )
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = nn.functional.relu6(self.stem(x))
        for block in self.blocks:
            h = x
            for layer in block[:-1]:
                h = nn.functional.relu6(layer(h))
            h = block[-1](h)
            x = x + h if h.shape == x.shape else h
        return x


@pytest.fixture
def published(tmp_path):
    torch.manual_seed(1)
    network = Classifier().eval()
    torch.save(network.state_dict(), tmp_path / "published.pth")
    return network, tmp_path / "published.pth"


def config_file(folder, **changes):
    config = {**UNET_CONFIGS["trunk"], **changes}
    config = {key: list(v) if isinstance(v, tuple) else v for key, v in config.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": config}))
    return folder / "config.yaml"


def add_trunk(*arguments):
    words = ["trunk", *map(str, arguments)]
    return CliRunner().invoke(load_script("pretrained").main, words)


@torch.no_grad()
def test_the_trunk_sees_what_the_published_network_sees(published, tmp_path):
    network, file = published
    result = add_trunk(file, tmp_path / "grown", "--config", config_file(tmp_path))
    assert result.exit_code == 0, result.output
    trunk = ColorizationUNet.from_pretrained(tmp_path / "grown").encoder.trunk
    luminance = torch.rand(2, 1, 32, 48) * 2 - 1
    larger = nn.functional.interpolate(luminance, scale_factor=2, mode="bilinear")
    expected = network(larger.expand(-1, 3, -1, -1))
    maps = trunk(luminance)
    torch.testing.assert_close(maps[0], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(maps[1], nn.functional.avg_pool2d(expected, 2), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("layers", [2, [2, 3], [3, 5]])
def test_a_model_with_a_fresh_trunk_and_more_blocks_is_the_model(published, tmp_path, layers):
    """Blocks that the new encoder lacks are left out; here there are none."""
    _, file = published
    old = tiny_unet("hints")
    ColorizationPipeline(old, OffsetCosineScheduler()).save_pretrained(tmp_path / "old")
    config = config_file(tmp_path, encoder_layers_per_block=layers)
    options = ("--config", config, "--model", tmp_path / "old")
    result = add_trunk(file, tmp_path / "grown", *options)
    assert result.exit_code == 0, result.output
    grown = ColorizationUNet.from_pretrained(tmp_path / "grown").eval()
    inputs = unet_inputs(old)
    torch.testing.assert_close(grown(*inputs).sample, old(*inputs).sample)
    # A training run starts from the folder of a network as from that of a model.
    initial = load_initial_model(str(tmp_path / "grown"))
    torch.testing.assert_close(initial.network(*inputs).sample, old(*inputs).sample)
    assert initial.scheduler is None and initial.defaults is None


@torch.no_grad()
def test_a_network_that_sees_more_detail_begins_as_the_model(published, tmp_path):
    """Each of the old pixels is the mean of four of the new ones."""
    _, file = published
    old = tiny_unet("hints")
    ColorizationPipeline(old, OffsetCosineScheduler()).save_pretrained(tmp_path / "old")
    changes = {key: UNET_CONFIGS["detail"][key] for key in ("chroma_stride", "encoder_trunk_scale")}
    config = config_file(tmp_path, encoder_layers_per_block=2, **changes)
    result = add_trunk(file, tmp_path / "grown", "--config", config, "--model", tmp_path / "old")
    assert result.exit_code == 0, result.output
    grown = ColorizationUNet.from_pretrained(tmp_path / "grown").eval()
    sample, timestep, condition = unet_inputs(grown)
    coarser = nn.functional.avg_pool2d(condition, 2)
    expected = old(sample, timestep, coarser).sample
    torch.testing.assert_close(grown(sample, timestep, condition).sample, expected)


def test_other_weights_and_other_networks_are_refused(published, tmp_path):
    _, file = published
    wider = config_file(tmp_path, encoder_trunk=[[1, 3, 12, 1, 1], [2, 5, 8, 2, 4]])
    result = add_trunk(file, tmp_path / "grown", "--config", wider)
    assert result.exit_code == 1 and "not the weights" in result.output
    finer = config_file(tmp_path, encoder_trunk=[[1, 3, 8, 1, 1], [2, 3, 8, 2, 4]])
    result = add_trunk(file, tmp_path / "grown", "--config", finer)
    assert result.exit_code == 1 and "not the weights" in result.output
    result = add_trunk(wider, tmp_path / "grown", "--config", config_file(tmp_path))
    assert result.exit_code == 1 and "no file of weights" in result.output
    result = add_trunk(
        file, tmp_path / "grown", "--config", config_file(tmp_path, encoder_trunk=None)
    )
    assert result.exit_code == 1 and "no `encoder_trunk`" in result.output
    assert not (tmp_path / "grown").exists()


@pytest.mark.parametrize("frozen", [0, 1, 2])
def test_frozen_stages_do_not_learn(frozen):
    unet = ColorizationUNet(**UNET_CONFIGS["trunk"], encoder_trunk_frozen=frozen)
    for projection in unet.encoder.projections:
        nn.init.normal_(projection.weight)
    unet(*unet_inputs(unet)).sample.square().mean().backward()
    trunk = unet.encoder.trunk
    for index, stage in enumerate(trunk.stages):
        learns = [one.grad is not None for one in stage.parameters()]
        assert all(learns) if index >= frozen else not any(learns)
    assert (trunk.conv_in.weight.grad is not None) == (frozen == 0)


def test_it_learns_in_mixed_precision_what_it_learns_in_full():
    unet, gradients = tiny_unet("trunk"), []
    for enabled in (False, True):
        unet.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = unet(*unet_inputs(unet)).sample
        output.float().square().mean().backward()
        parameters = unet.encoder.trunk.parameters()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in parameters]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


def test_a_trunk_without_a_map_on_the_grid_is_refused():
    with pytest.raises(ValueError, match=r"come to \[2, 4\], not 8"):
        Trunk([[1, 3, 8, 1, 1], [2, 3, 8, 1, 2]], stride=4, levels=2, frozen=0, scale=2)
