"""Write a model as one ONNX file: from luminance and noise to full-size colour (docs/onnx.md).

    python scripts/export_onnx.py --model default

Without --output the file goes where `colorize --runtime onnx` looks for it.
"""

import argparse
import json
from pathlib import Path

from pipeline_colorize.onnx.files import cached_file
from pipeline_colorize.onnx.graph import PRECISIONS, read_properties, write_model
from pipeline_colorize.registry import model_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="default", help="a model that ships, or a folder")
    parser.add_argument("--output", type=Path, help="the file [default: in the user's cache]")
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
        output = options.output or cached_file(folder)
        model = write_model(folder, output, options.precision, options.steps)
    except (OSError, ValueError) as error:
        raise SystemExit(f"export_onnx: {error}") from error
    if options.metadata:
        options.metadata.write_text(json.dumps(read_properties(model), indent=1) + "\n", "utf-8")
    print(f"{output} ({output.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
