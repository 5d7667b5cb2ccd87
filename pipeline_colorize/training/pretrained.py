"""Published weights of EfficientNet-Lite (Tan 2020), for a teacher or as a trunk of the encoder.

A port of them to torch is a file of tensors in the order of the layers.
"""

import torch
from torch import nn
from transformers import EfficientNetConfig, EfficientNetModel

from .. import ColorizationPipeline, ColorizationUNet
from ..core.unet import SelfAttention

EPSILON = 1e-3  # of the normalisation
LITE0 = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 1280,
    "hidden_act": "relu6",
    "batch_norm_eps": EPSILON,
    "image_size": 224,
}
OPEN = 40.0  # whose sigmoid is 1


def convert(weights: dict[str, torch.Tensor], settings: dict) -> EfficientNetModel:
    """Make the network of transformers with published weights, as `teacher` takes it.

    transformers has EfficientNet alone. Lite is the same network without squeeze-and-excitation and
    with ReLU6, so those layers are set to let everything pass.

    Args:
        weights: of a port to torch whose layers stand in the order of the original; its classifier,
            the last two tensors, is left out.
        settings: of an `EfficientNetConfig`.

    Raises:
        ValueError: if the weights are those of another network.
    """
    network = EfficientNetModel(EfficientNetConfig(**settings)).eval()
    state = network.state_dict()
    gates = {name for name in state if "squeeze_excite" in name}
    names, given = [name for name in state if name not in gates], list(weights.values())[:-2]
    if [state[name].shape for name in names] != [tensor.shape for tensor in given]:
        raise ValueError("These are not the weights of that EfficientNet-Lite.")
    state |= dict(zip(names, given, strict=True))
    for name in gates:
        value = OPEN if name.endswith("expand.bias") else 0.0
        state[name] = torch.full_like(state[name], value)
    network.load_state_dict(state)
    return network


@torch.no_grad()
def load_trunk(trunk: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give a trunk the first layers of a classifier.

    Normalisation is folded into the convolutions, and the first of them takes luminance alone.

    Args:
        trunk: of a `ColorizationUNet`.
        weights: of a port to torch whose layers stand in the order of the original, each a
            convolution without bias and its normalisation.

    Raises:
        ValueError: if the weights are those of another network.
    """
    # Counts of batches are no part of a layer.
    tensors = [one for one in weights.values() if torch.is_tensor(one) and one.ndim]
    convolutions = [one for one in trunk.modules() if isinstance(one, nn.Conv2d)]
    for index, convolution in enumerate(convolutions):
        layer = tensors[5 * index : 5 * index + 5]
        outputs, inputs, *sides = convolution.weight.shape
        wanted = [(outputs, 3 if index == 0 else inputs, *sides), *[(outputs,)] * 4]
        if [tuple(one.shape) for one in layer] != wanted:
            raise ValueError("These are not the weights of the network that the trunk is part of.")
        kernel, gain, bias, mean, variance = layer
        gain = gain / (variance + EPSILON).sqrt()
        kernel = kernel * gain.view(-1, 1, 1, 1)
        # The first layer sees grey, which is the same in all three channels.
        convolution.weight.copy_(kernel if index else kernel.sum(1, keepdim=True))
        if convolution.bias is not None:
            convolution.bias.copy_(bias - mean * gain)


def _attention_place(unet: ColorizationUNet) -> int:
    """Return the index of the attention in the coarsest level of the grey encoder."""
    level = unet.get_submodule(f"encoder.levels.{len(unet.config.block_out_channels) - 1}")
    return next(i for i, block in enumerate(level.children()) if isinstance(block, SelfAttention))


def _moved_state(learned: ColorizationUNet, grown: ColorizationUNet) -> dict[str, torch.Tensor]:
    """Return weights under the names that they have where the coarsest level has more blocks.

    These come before the attention of that level. A fresh block changes nothing until it is
    trained, so that the grown network begins as the one it was made from.
    """
    config = learned.config
    if config.encoder_block_out_channels is None or config.encoder_backbone is not None:
        return learned.state_dict()
    level = f"encoder.levels.{len(config.block_out_channels) - 1}."
    old, new = _attention_place(learned), _attention_place(grown)
    later = {f"{level}{old + i}.": f"{level}{new + i}." for i in (0, 1)}
    moved = {}
    for name, weight in learned.state_dict().items():
        prefix = next((one for one in later if name.startswith(one)), "")
        moved[later.get(prefix, "") + name.removeprefix(prefix)] = weight
    return moved


def _finer_first_layer(
    learned: ColorizationUNet, grown: ColorizationUNet, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the encoder's first weights for luminance pixels that are smaller on the same grid.

    Each old pixel is the mean of those that take its place, so its weight is shared among them.
    """
    name = "encoder.conv_in.weight"
    old, new = learned.config.chroma_stride, grown.config.chroma_stride
    if name not in state or new == old or new % old:
        return {}
    times, channels = new // old, grown.config.condition_channels
    split = channels * old**2
    # (out, channels * old * old, 3, 3) -> (out, channels, old, old, 3, 3)
    kernel = state[name][:, :split].unflatten(1, (channels, old, old)) / times**2
    kernel = kernel.repeat_interleave(times, 2).repeat_interleave(times, 3).flatten(1, 3)
    return {name: torch.cat([kernel, state[name][:, split:]], 1)}


def grow_network(
    arguments: dict, weights: dict[str, torch.Tensor], model: str | None
) -> ColorizationUNet:
    """Make the first weights of a network whose encoder has a pretrained trunk.

    Args:
        arguments: of `ColorizationUNet`, with `encoder_trunk`.
        weights: for the trunk, as `load_trunk` takes them.
        model: a model whose weights go where they fit; all other weights begin anew.

    Raises:
        ValueError: if the network has no trunk, or the weights are those of another network.
    """
    if not arguments.get("encoder_trunk"):
        raise ValueError("The network of this configuration has no `encoder_trunk`.")
    unet = ColorizationUNet(**arguments)
    if model:
        learned = ColorizationPipeline.from_pretrained(model, dtype=torch.float32).unet
        state, given = unet.state_dict(), _moved_state(learned, unet)
        given |= _finer_first_layer(learned, unet, given)
        fitting = {k: v for k, v in given.items() if k in state and v.shape == state[k].shape}
        unet.load_state_dict(state | fitting)
    load_trunk(unet.encoder.trunk, weights)
    return unet
