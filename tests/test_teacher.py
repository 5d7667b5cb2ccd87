"""A pretrained network that teaches the encoder: tiny ones, with random weights."""

import json

import pytest
import torch
import transformers
from conftest import UNET_CONFIGS, save_network

from pipeline_colorize import ColorizationUNet
from pipeline_colorize.training.pretrained import LITE0, convert
from pipeline_colorize.training.teacher import Distillation, Teacher, TeacherHeads

UNET = {**UNET_CONFIGS["lab"], "chroma_stride": 2}


@pytest.fixture
def resnet(tmp_path):
    torch.manual_seed(1)
    settings = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 6, 8], depths=[1, 1, 1], layer_type="basic"
    )
    return save_network(transformers.ResNetForImageClassification(settings), tmp_path / "resnet")


@pytest.fixture
def efficientnet(tmp_path):
    """transformers has no backbone of it."""
    torch.manual_seed(1)
    settings = transformers.EfficientNetConfig(
        width_coefficient=0.1, depth_coefficient=1.0, hidden_dim=128
    )
    return save_network(transformers.EfficientNetModel(settings), tmp_path / "efficientnet")


def pictures(count: int = 4, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def batch_of(count: int = 4, side: int = 64) -> dict[str, torch.Tensor]:
    colour = pictures(count, side)
    return {"picture": colour, "condition": colour[:, :1] / 127.5 - 1}


@torch.no_grad()
def test_it_sees_the_picture_in_colour_as_it_was_trained(resnet):
    said = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.2]}
    with open(f"{resnet}/preprocessor_config.json", "w") as file:
        json.dump(said, file)
    network = transformers.ResNetModel.from_pretrained(resnet).eval()
    mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in said.values())
    states = network((pictures() / 255 - mean) / deviation, output_hidden_states=True).hidden_states
    for one, expected in zip(Teacher(resnet)(pictures()), states[-2:], strict=True):
        assert torch.allclose(one, expected, atol=1e-5)


def test_maps_of_a_network_without_backbone_are_its_last_of_each_size(efficientnet):
    teacher = Teacher(efficientnet)
    network = transformers.EfficientNetModel.from_pretrained(efficientnet)
    stages = [network.encoder.blocks[number].projection.project_conv for number in (-6, -1)]
    assert [one.shape[2:] for one in teacher(pictures())] == [(4, 4), (2, 2)]
    assert teacher.channels == [stage.out_channels for stage in stages]


def test_it_is_frozen_and_always_in_evaluation_mode(resnet):
    teacher = Teacher(resnet).train()
    assert teacher.training and not teacher.network.training
    assert not any(one.requires_grad for one in teacher.parameters())
    before = {name: one.clone() for name, one in teacher.state_dict().items()}
    teacher(pictures())
    assert all(torch.equal(one, before[name]) for name, one in teacher.state_dict().items())


def test_a_network_without_maps_is_refused(tmp_path):
    settings = transformers.BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(settings).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a 'bert' and gives no feature maps .* 'resnet'"):
        Teacher(str(tmp_path))


@torch.no_grad()
def test_the_share_of_the_variance_is_one_for_no_guess_and_none_for_the_truth():
    heads = TeacherHeads([3], [3])
    features = torch.randn(8, 3, 4, 4) * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1) + 7
    (guess,) = heads.guesses
    guess.weight.zero_(), guess.bias.zero_()
    nothing = heads((features,), [features])
    assert nothing.shape == (8,) and torch.allclose(nothing.mean(), torch.tensor(1.0), atol=1e-3)
    deviation = features.std((0, 2, 3), correction=0)
    guess.weight.copy_((torch.eye(3) / deviation)[:, :, None, None])
    guess.bias.copy_(-features.mean((0, 2, 3)) / deviation)
    assert heads((features,), [features]).max() < 1e-3


def test_maps_of_any_size_are_compared_at_the_teachers():
    heads = TeacherHeads([2, 5], [4, 6])
    features = (torch.randn(2, 2, 16, 12), torch.randn(2, 5, 8, 6))
    maps = [torch.randn(2, 4, 9, 7), torch.randn(2, 6, 4, 3)]
    assert heads(features, maps).shape == (2,)


def distillation_and_network(folder: str) -> tuple[Distillation, ColorizationUNet]:
    torch.manual_seed(0)
    network = ColorizationUNet(**UNET)
    return Distillation(network, folder), network


def test_the_encoder_learns_what_the_teacher_sees(efficientnet):
    distillation, network = distillation_and_network(efficientnet)
    parameters = [*network.encoder.parameters(), *distillation.heads.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    history = []
    for _ in range(30):
        batch = batch_of()
        network(torch.zeros(4, 2, 32, 32), 0, batch["condition"])
        loss = distillation.losses(batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert all(one.grad is not None for one in network.encoder.parameters())
    assert network.conv_in.weight.grad is None  # the denoiser is not what is taught
    assert history[-1] < 0.5 * history[0]


def test_a_pass_without_gradients_is_not_listened_to(efficientnet):
    distillation, network = distillation_and_network(efficientnet)
    batch = batch_of()
    network.encode(batch["condition"])
    expected = distillation.losses(batch)
    network.encode(batch["condition"])
    with torch.no_grad():
        network.encode(torch.zeros(1, 1, 64, 64))
    assert torch.equal(distillation.losses(batch), expected)


def test_nothing_is_asked_where_there_is_no_luminance(efficientnet):
    distillation, network = distillation_and_network(efficientnet)
    batch = batch_of()
    batch["condition"][1:3] = 0
    network.encode(batch["condition"])
    assert (distillation.losses(batch) > 0).tolist() == [True, False, False, True]


@pytest.mark.parametrize("changes", ["none", "backbone"])
def test_there_must_be_an_encoder_to_teach(resnet, changes):
    widths = {"encoder_block_out_channels": None} if changes == "none" else {}
    backbone = {"encoder_backbone": resnet} if changes == "backbone" else {}
    with pytest.raises(ValueError, match="needs an encoder that learns"):
        Distillation(ColorizationUNet(**{**UNET, **widths, **backbone}), resnet)


@torch.no_grad()
def test_published_weights_become_a_teacher_that_lets_everything_pass(tmp_path):
    torch.manual_seed(0)
    source = transformers.EfficientNetModel(transformers.EfficientNetConfig(**LITE0)).eval()
    for block in source.encoder.blocks:
        block.squeeze_excite = torch.nn.Identity()
    weights = source.state_dict() | {"fc.weight": torch.zeros(9, 1280), "fc.bias": torch.zeros(9)}
    convert(weights, LITE0).save_pretrained(tmp_path)
    expected = source(pictures() / 255, output_hidden_states=True).hidden_states[-1]
    teacher = Teacher(str(tmp_path))
    teacher.image_mean.zero_(), teacher.image_std.fill_(1)
    assert torch.allclose(teacher(pictures())[-1], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="not the weights of that"):
        convert({**weights, "more": torch.zeros(1)}, LITE0)
