"""Write a model as ONNX: from luminance and noise to full-size colour (docs/onnx.md).

    python scripts/export_onnx.py --model runs/mine/model
    python scripts/export_onnx.py --model default --output default.onnx --precision int8

Without --output, the graph goes beside the model's weights and points into them; `colorize` then
runs it without torch. With --output, one file holds the graph and the weights.
"""

import json
from pathlib import Path

import click

PRECISIONS = ("fp32", "fp16", "int8")


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
    "--steps", type=click.IntRange(1), help="Denoising steps, unless a call says otherwise."
)
@click.option(
    "--metadata",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the file's properties, as JSON.",
)
def main(model, output, precision, steps, metadata):
    import onnx

    from pipeline_colorize.onnx.graph import read_properties, write_graph, write_model
    from pipeline_colorize.registry import model_folder

    try:
        folder = model_folder(model)
        if output:
            write_model(folder, output, precision, steps)
        else:
            output = write_graph(folder)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if metadata:
        properties = read_properties(onnx.load(output, load_external_data=False))
        metadata.write_text(json.dumps(properties, indent=1) + "\n", "utf-8")
    click.echo(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
