"""Where the ONNX file of a model lies, and whether it belongs to the weights beside it."""

import hashlib
from pathlib import Path

FILE_NAME = "model.onnx"
INT8 = "int8"  # the variant of a graph that computes in 8 bits
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"


def weights_file(folder: Path) -> Path:
    """Return the weights of the model in a folder."""
    return folder / "unet" / WEIGHTS_NAME


def file_name(variant: str | None) -> str:
    """Return the name of a model's ONNX file, "model.int8.onnx" for the variant "int8"."""
    return f"model.{variant}.onnx" if variant else FILE_NAME


def graph_file(folder: Path, variant: str | None = None) -> Path:
    """Return the place of a model's graph, which lies beside the weights and points into them."""
    return weights_file(folder).with_name(file_name(variant))


def find_file(folder: Path, variant: str | None = None) -> Path | None:
    """Return the ONNX file of the model in `folder`, or `None`.

    It is the graph beside the weights, or else a file that holds everything, in the folder itself.
    A file that was made of other weights is left alone.
    """
    for file in (graph_file(folder, variant), folder / file_name(variant)):
        if file.is_file() and fits_weights(file):
            return file
    return None


def fits_weights(file: Path) -> bool:
    """Tell whether an ONNX file was made of the weights that lie beside it, if there are any.

    The file names their SHA-256.
    """
    for weights in (file.with_name(WEIGHTS_NAME), weights_file(file.parent)):
        if weights.is_file():
            with open(weights, "rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            return digest.encode() in file.read_bytes()
    return True
