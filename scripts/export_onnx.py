"""Write a model as ONNX: from luminance and noise to full-size colour (docs/onnx.md).

    python scripts/export_onnx.py --model runs/mine/model
    python scripts/export_onnx.py --model default --output default.onnx --precision int8

    python scripts/export_onnx.py --model default --calibrate space/examples

Without --output, the graph goes beside the model's weights and points into them; `colorize` then
runs it without torch. With --output, one file holds the graph and the weights. With --calibrate,
the graph computes in 8 bits (`colorize --dtype int8`).
"""

import json
from pathlib import Path

import click

PRECISIONS = ("fp32", "fp16", "int8")


def calibrated(folder: Path, photographs: Path) -> dict:
    """Measure the ranges of a model's values on the photographs of a folder."""
    import torch

    from pipeline_colorize import ColorizationPipeline
    from pipeline_colorize.onnx.calibration import measure_ranges
    from pipeline_colorize.photo import READABLE, read

    pipe = ColorizationPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    files = sorted(file for file in photographs.iterdir() if file.suffix.lower() in READABLE)
    if not files:
        raise ValueError(f"{photographs} holds no photograph.")
    return measure_ranges(pipe, (read(file).image for file in files))


@click.command(help=__doc__.replace("\n\n    ", "\n\n\b\n    "))
@click.option(
    "--model",
    default="default",
    show_default=True,
    help="Name of a model that ships, or a folder.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="One file with the weights in it.",
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp16",
    show_default=True,
    help="Precision of the stored weights; the computation is in float32.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of about a dozen photographs: compute in 8 bits, with the ranges of values "
    "that the network has on these.",
)
@click.option(
    "--steps", type=click.IntRange(1), help="Denoising steps, unless a call says otherwise."
)
@click.option(
    "--metadata",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the file's properties, as JSON.",
)
def main(model, output, precision, calibrate, steps, metadata):
    import onnx

    from pipeline_colorize.onnx.graph import read_properties, write_graph, write_model
    from pipeline_colorize.registry import model_folder

    try:
        folder = model_folder(model)
        ranges = calibrated(folder, calibrate) if calibrate else None
        if output:
            write_model(folder, output, precision, steps, ranges)
        else:
            output = write_graph(folder, ranges)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if metadata:
        properties = read_properties(onnx.load(output, load_external_data=False))
        metadata.write_text(json.dumps(properties, indent=1) + "\n", "utf-8")
    click.echo(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
