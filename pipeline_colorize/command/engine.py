"""Which engine the `colorize` command takes: onnxruntime or torch."""

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import click

from pipeline_colorize.onnx.runtime import cached_file, find_file, model_folder

from .jobs import Settings

_INSTALL = 'the extra "onnx" is not installed; pip install "pipeline-colorize[onnx]" does it'


def choose_file(settings: Settings, say: Callable[[str], None]) -> Path | None:
    """The ONNX file to run, written first where there is none yet; `None` for torch.

    A ClickException where --runtime onnx, or a model that is an ONNX file, cannot be had.

    Args:
        settings: the command line.
        say: gets a line for people when a file is written, once a model.
    """
    model = Path(settings.model)
    is_file = model.suffix == ".onnx"
    needed = settings.runtime == "onnx" or is_file
    if settings.runtime == "torch":
        if is_file:
            raise click.ClickException(f"{model} is an ONNX file; --runtime torch cannot use it.")
        return None
    try:
        if obstacle := _obstacle(settings, needed):
            raise ValueError(obstacle)
        return model if is_file else _file_of(model_folder(settings.model), say)
    except Exception as error:  # safetensors and onnx each have their own
        if needed:
            raise click.ClickException(f"cannot use onnxruntime: {error}") from error
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            say(f"no ONNX file can be kept ({error}); torch goes on, which takes longer")
        return None


def _obstacle(settings: Settings, needed: bool) -> str | None:
    """Why torch is to be taken, if so."""
    if importlib.util.find_spec("onnxruntime") is None:
        return _INSTALL
    if settings.scheduler:
        return f"--scheduler {settings.scheduler} needs --runtime torch"
    if settings.dtype != "auto":
        return f"--dtype {settings.dtype} needs --runtime torch"
    if settings.device not in ("auto", "cpu"):
        return f"--device {settings.device} needs --runtime torch"
    if not needed and settings.device == "auto" and shutil.which("nvidia-smi"):
        return "torch can use the graphics card"
    return None


def _file_of(folder: Path, say: Callable[[str], None]) -> Path:
    """The file of a model, written where it is missing."""
    if found := find_file(folder):
        return found
    if importlib.util.find_spec("onnx") is None:
        raise ValueError(_INSTALL)
    from pipeline_colorize.onnx.graph import write_model

    path = cached_file(folder)
    write_model(folder, path)
    say(f"wrote {path}, once for this model")
    return path
