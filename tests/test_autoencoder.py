"""The grey autoencoder, and what it leaves to a colorizer."""

import pytest
import torch
from safetensors.torch import load_file

from pipeline_colorize import ColorizationUNet, GreyAutoencoder
from pipeline_colorize.training.batches import BatchFormat, make_batch
from pipeline_colorize.training.build import load_encoder
from pipeline_colorize.training.config import DataConfig
from pipeline_colorize.training.decoding import bytes_to_lab
from pipeline_colorize.training.draws import PICTURES, make_generator
from pipeline_colorize.training.objectives import regression_loss

ENCODER = {
    "encoder_block_out_channels": (8, 12, 16),
    "encoder_layers_per_block": 1,
    "norm_num_groups": 4,
    "chroma_stride": 2,
    "hint_channels": 3,
}
UNET = {
    **ENCODER,
    "sample_channels": 2,
    "block": "scale_shift",
    "time_embedding": "timestep",
    "time_embedding_dim": 16,
    "block_out_channels": (8, 8, 8),
    "layers_per_block": 1,
}


def test_nothing_but_the_coarsest_map_reaches_the_decoder():
    torch.manual_seed(0)
    network = GreyAutoencoder(**ENCODER)
    condition = torch.rand(2, 4, 16, 24)
    output = network(None, None, condition).sample
    assert output.shape == (2, 1, 8, 12)
    network.encoder.register_forward_hook(lambda module, given, maps: (0, 0, maps[-1]))
    assert torch.equal(network(None, None, condition).sample, output)


def test_the_target_is_the_luminance_before_it_was_worn():
    network = GreyAutoencoder(**ENCODER)
    layout = BatchFormat.of_model(network.config)
    pictures = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    config = DataConfig(degrade_probability=1.0, crop_probability=0.0, flip=False)
    generators = [make_generator(0, PICTURES, draw) for draw in range(2)]
    batch = make_batch(pictures, layout, config, generators)
    clean = bytes_to_lab(pictures)[:, :1] / 50 - 1
    torch.testing.assert_close(batch["color"], torch.nn.functional.avg_pool2d(clean, 2))
    assert (batch["condition"][:, :1] - clean).abs().max() > 0.05
    assert not batch["condition"][:, 1:].any()  # a hint would be the answer


def test_it_learns_to_give_pictures_back():
    torch.manual_seed(0)
    network = GreyAutoencoder(
        encoder_block_out_channels=(8, 12), encoder_layers_per_block=1, norm_num_groups=4
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    luminance = torch.nn.functional.interpolate(torch.rand(8, 1, 3, 3), (16, 16), mode="bicubic")
    batch = {"condition": luminance, "color": luminance}
    losses = []
    for _ in range(60):
        losses.append(regression_loss(network, batch).mean())
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.2 * luminance.var()
    assert losses[-1] < 0.1 * losses[0]


def test_its_encoder_goes_into_a_colorizer_and_nothing_else_does(tmp_path):
    network = GreyAutoencoder(**ENCODER)
    network.save_pretrained(tmp_path)
    unet = ColorizationUNet(**UNET)
    before = {name: x.clone() for name, x in unet.state_dict().items()}
    load_encoder(unet, str(tmp_path))
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    changed = {name for name, x in unet.state_dict().items() if not torch.equal(x, before[name])}
    assert changed and all(name.startswith("encoder.") for name in changed)
    for name, x in unet.state_dict().items():
        assert torch.equal(x, stored[name] if name.startswith("encoder.") else before[name])


@pytest.mark.parametrize(
    "changes",
    [{"encoder_block_out_channels": (8, 12, 20)}, {"encoder_block_out_channels": None}],
    ids=["other widths", "no encoder"],
)
def test_an_encoder_that_does_not_fit_is_refused(tmp_path, changes):
    GreyAutoencoder(**ENCODER).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not fit: widths"):
        load_encoder(ColorizationUNet(**{**UNET, **changes}), str(tmp_path))
    with pytest.raises(ValueError, match="no weights of a network"):
        load_encoder(ColorizationUNet(**UNET), str(tmp_path / "elsewhere"))
