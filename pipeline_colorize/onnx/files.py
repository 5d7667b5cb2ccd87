"""Where the ONNX file of a model lies."""

import hashlib
import os
from pathlib import Path

FILE_NAME = "model.onnx"
"""Of a file that lies in a model's folder."""

_PACKAGE = Path(__file__).parents[1]


def cached_file(folder: Path) -> Path:
    """Where the ONNX file of the model in `folder` is kept once it has been written.

    The name follows from the model and from the code that writes the file, so that neither changes
    unnoticed.
    """
    digest = hashlib.sha256()
    parts = [
        folder / "model_index.json",
        folder / "unet" / "config.json",
        folder / "unet" / "diffusion_pytorch_model.safetensors",
        folder / "scheduler" / "scheduler_config.json",
        *(path for room in ("core", "onnx") for path in sorted((_PACKAGE / room).glob("*.py"))),
    ]
    for part in parts:
        digest.update(part.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = f"{folder.resolve().name}-{digest.hexdigest()[:16]}.onnx"
    return cache / "pipeline-colorize" / name


def find_file(folder: Path) -> Path | None:
    """The ONNX file of the model in `folder`: beside it, else in the cache, else `None`.

    A file that lies beside other weights than it was made of is left alone.
    """
    beside = folder / FILE_NAME
    path = beside if beside.is_file() and _has_weights_of(beside, folder) else cached_file(folder)
    return path if path.is_file() else None


def _has_weights_of(file: Path, folder: Path) -> bool:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if not weights.is_file():
        return True
    return hashlib.sha256(weights.read_bytes()).hexdigest().encode() in file.read_bytes()
