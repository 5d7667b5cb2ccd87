"""Write a model as ONNX: from luminance and noise to full-size colour (docs/onnx.md).

    python scripts/export_onnx.py --model runs/mine/model
    python scripts/export_onnx.py --model default --output default.onnx --precision int8

Without --output, the graph goes beside the model's weights and points into them; `colorize` then
runs it without torch. With --output, one file holds the graph and the weights.
"""

import argparse
import json
from pathlib import Path

import onnx

from pipeline_colorize.onnx.graph import PRECISIONS, read_properties, write_graph, write_model
from pipeline_colorize.registry import model_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="default", help="a model that ships, or a folder")
    parser.add_argument("--output", type=Path, help="one file with the weights in it")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp16",
        help="of the stored weights; the computation is in float32 (default: fp16)",
    )
    parser.add_argument("--steps", type=int, help="denoising steps, unless a call says otherwise")
    parser.add_argument("--metadata", type=Path, help="also write the file's properties, as JSON")
    options = parser.parse_args()
    try:
        folder = model_folder(options.model)
        output = options.output or write_graph(folder)
        if options.output:
            write_model(folder, output, options.precision, options.steps)
    except (OSError, ValueError) as error:
        raise SystemExit(f"export_onnx: {error}") from error
    if options.metadata:
        properties = read_properties(onnx.load(output, load_external_data=False))
        options.metadata.write_text(json.dumps(properties, indent=1) + "\n", "utf-8")
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
