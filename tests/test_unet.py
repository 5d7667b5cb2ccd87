import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline_colorize.core.scheduler import OffsetCosineScheduler
from pipeline_colorize.core.unet import ColorizationUNet, ColorizationUNetOutput


def test_the_seed_layout_has_its_parameters_to_the_parameter():
    unet = ColorizationUNet()
    assert sum(parameter.numel() for parameter in unet.parameters()) == 1_955_331
    assert unet.stride == 8


@torch.no_grad()
def test_the_seed_layout_takes_its_multiply_adds():
    unet = ColorizationUNet().eval()
    with FlopCounterMode(display=False) as counter:
        unet(torch.zeros(1, 3, 128, 128), 0, torch.zeros(1, 1, 128, 128))
    assert counter.get_total_flops() / 2 == pytest.approx(4.60e9, rel=5e-3)


def test_the_variance_embedding_is_of_the_schedule_s_noise_variance():
    unet = ColorizationUNet(block_out_channels=(8, 8), layers_per_block=1)
    timesteps = torch.tensor([0, 1, 500, 999])
    variance = 1 - OffsetCosineScheduler().alphas_cumprod.double()[timesteps]
    frequencies = torch.exp(torch.linspace(math.log(1), math.log(1000), 16, dtype=torch.float64))
    angles = 2 * math.pi * variance[:, None] * frequencies
    expected = torch.cat([angles.sin(), angles.cos()], dim=1).float()
    torch.testing.assert_close(unet.time_proj(timesteps), expected, atol=3e-3, rtol=0)


@pytest.mark.parametrize("height, width", [(1, 1), (2, 3), (5, 1)])
def test_any_multiple_of_the_stride_is_a_size(unet, make_inputs, height, width):
    sample, timestep, condition = make_inputs(unet, 1, height, width)
    output = unet(sample, timestep, condition)
    assert isinstance(output, ColorizationUNetOutput)
    assert output.sample.shape == sample.shape
    assert output.sample.isfinite().all()


def test_a_tuple_is_returned_on_demand(unet, make_inputs):
    inputs = make_inputs(unet)
    (output,) = unet(*inputs, return_dict=False)
    assert torch.equal(output, unet(*inputs).sample)


@torch.no_grad()
def test_a_batch_equals_its_pictures_one_by_one(unet, make_inputs):
    sample, timestep, condition = make_inputs(unet, 3)
    together = unet(sample, timestep, condition).sample
    for index in range(3):
        one = slice(index, index + 1)
        single = unet(sample[one], timestep[one], condition[one]).sample
        torch.testing.assert_close(together[one], single, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_scalar_timestep_serves_the_whole_batch(unet, make_inputs):
    sample, _, condition = make_inputs(unet)
    expected = unet(sample, torch.tensor([7, 7]), condition).sample
    for timestep in (7, 7.0, torch.tensor(7)):
        assert torch.equal(unet(sample, timestep, condition).sample, expected)


@torch.no_grad()
def test_encoding_first_gives_the_same(unet, make_inputs):
    sample, timestep, condition = make_inputs(unet)
    features = unet.encode(condition)
    assert torch.equal(
        unet(sample, timestep, features).sample, unet(sample, timestep, condition).sample
    )


@torch.no_grad()
def test_samples_of_a_picture_share_its_condition(unet, make_inputs):
    sample, timestep, _ = make_inputs(unet, 4)
    _, _, condition = make_inputs(unet, 2)
    shared = unet(sample, timestep, unet.encode(condition)).sample
    repeated = unet(sample, timestep, condition.repeat_interleave(2, 0)).sample
    torch.testing.assert_close(shared, repeated, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_every_input_matters(unet, make_inputs):
    sample, timestep, condition = make_inputs(unet)
    output = unet(sample, timestep, condition).sample
    for changed in [
        (sample + 0.5, timestep, condition),
        (sample, (timestep + 500) % 1000, condition),
        (sample, timestep, condition.flip(-1)),
    ]:
        assert (unet(*changed).sample - output).abs().max() > 1e-3


@torch.no_grad()
def test_hints_change_the_output(make_unet, make_inputs):
    unet = make_unet("hints")
    sample, timestep, condition = make_inputs(unet)
    condition[:, 1:] = 0
    without = unet(sample, timestep, condition).sample
    condition[:, 1, :4, :4] = 0.8
    condition[:, 3, :4, :4] = 1
    assert (unet(sample, timestep, condition).sample - without).abs().max() > 1e-3


@torch.no_grad()
def test_the_chroma_grid_loses_no_luminance_detail(make_unet, make_inputs):
    unet = make_unet("grid")
    sample, timestep, condition = make_inputs(unet)
    output = unet(sample, timestep, condition).sample
    # The same mean in each cell, another order of its pixels.
    shuffled = condition.unflatten(-1, (-1, 4)).flip(-1).flatten(-2)
    assert (unet(sample, timestep, shuffled).sample - output).abs().max() > 1e-3


def _gradients(unet, inputs):
    unet.zero_grad()
    unet(*inputs).sample.square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in unet.named_parameters()}


@pytest.mark.parametrize("training", [True, False])
def test_gradient_checkpointing_gives_equal_gradients(unet, make_inputs, training):
    inputs = make_inputs(unet)
    unet.train(training)
    plain = _gradients(unet, inputs)
    assert all(gradient.any() for gradient in plain.values())
    unet.enable_gradient_checkpointing()
    calls = []
    checkpoint = unet._gradient_checkpointing_func
    unet._gradient_checkpointing_func = lambda *args: calls.append(1) or checkpoint(*args)
    saving = _gradients(unet, inputs)
    assert calls
    for name, gradient in plain.items():
        torch.testing.assert_close(saving[name], gradient, msg=lambda text, n=name: f"{n}: {text}")


@torch.no_grad()
def test_saving_and_loading_keeps_parameters_buffers_and_output(unet, make_inputs, tmp_path):
    unet.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").exists()
    loaded = ColorizationUNet.from_pretrained(tmp_path)
    state = unet.state_dict()
    assert state.keys() == loaded.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in loaded.state_dict().items())
    inputs = make_inputs(unet)
    assert torch.equal(loaded(*inputs).sample, unet(*inputs).sample)


@torch.no_grad()
def test_bfloat16_and_channels_last_stay_close(unet, make_inputs):
    sample, timestep, condition = make_inputs(unet)
    expected = unet(sample, timestep, condition).sample
    last = unet.to(memory_format=torch.channels_last)
    torch.testing.assert_close(
        last(sample, timestep, condition).sample, expected, atol=1e-5, rtol=1e-4
    )
    output = last.bfloat16()(sample.bfloat16(), timestep, condition.bfloat16()).sample
    assert output.dtype == torch.bfloat16
    assert (output - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    "config, message",
    [
        ({"block": "dense"}, "'dense'"),
        ({"time_embedding": "timestep"}, "'timestep'"),
        ({"block": "scale_shift"}, "'variance'"),
        ({"hint_channels": 2}, "not 2"),
        ({"encoder_block_out_channels": (8, 8)}, "has 2"),
        ({"encoder_block_out_channels": (8,) * 4, "encoder_layers_per_block": (1, 1)}, "4, not 2"),
        ({"encoder_trunk": [[1, 3, 8, 1, 1]]}, "beside a grey encoder"),
    ],
)
def test_configurations_that_cannot_be_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ColorizationUNet(**config)


def test_wrong_channels_and_sizes_are_refused(unet, make_inputs):
    sample, timestep, condition = make_inputs(unet)
    stride = unet.stride
    channels = condition.shape[1]
    with pytest.raises(ValueError, match=rf"\(batch, {channels}, height, width\)"):
        unet(sample, timestep, condition[:, [0] * (channels + 1)])
    with pytest.raises(ValueError, match=rf"\(batch, {channels}, height, width\)"):
        unet(sample, timestep, condition[0])
    with pytest.raises(ValueError, match=f"multiples of {stride}"):
        unet(sample, timestep, condition[..., :-1])
    with pytest.raises(ValueError, match="`sample` must be"):
        unet(sample[:, :1], timestep, condition)
    with pytest.raises(ValueError, match="`sample` must be"):
        unet(sample[..., :-1], timestep, condition)
    with pytest.raises(ValueError, match="`sample` must be"):
        unet(sample[:1], timestep[:1], condition)
    with pytest.raises(ValueError, match="`sample` must be"):
        unet(sample[[0, 1, 1]], timestep[[0, 1, 1]], condition)
