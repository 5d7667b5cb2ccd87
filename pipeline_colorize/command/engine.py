"""Chooses and loads the engine that runs the model: onnxruntime or torch."""

import importlib.util
import inspect
import os
import re
import shutil
import sys
from pathlib import Path

import click

from pipeline_colorize.onnx.files import INT8, file_name, find_file
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline, folder_of
from pipeline_colorize.registry import sampler_class, shipped_models

from .report import one_line, say
from .settings import Settings
from .sharing import Share

_NEEDS_TORCH = 'this needs torch, which pip install "pipeline-colorize[torch]" brings'


def load_model(settings: Settings):
    """Load the model into onnxruntime or torch; a ClickException tells people what is wrong."""
    if not settings.model.endswith(".onnx"):
        check_model(settings.model)
    graph = choose_graph(settings)
    if graph is None:
        return _load_pipeline(settings)
    try:
        return ORTColorizationPipeline(graph)
    except Exception as error:  # onnxruntime has its own
        name = settings.model if isinstance(graph, bytes) else graph
        trouble = f"cannot load {name} ({one_line(error)})"
        if settings.runtime == "onnx" or settings.model == str(graph):
            raise click.ClickException(trouble) from error
        say(f"{trouble}; torch goes on")
        return _load_pipeline(settings)


def choose_graph(settings: Settings) -> Path | bytes | None:
    """Return the ONNX graph to run, as a file or in memory; `None` stands for torch.

    Raises:
        ClickException: if --runtime onnx, or a model that is an ONNX file, cannot be had.
    """
    model = Path(settings.model)
    is_file = model.suffix == ".onnx"
    needed = settings.runtime == "onnx" or is_file or settings.dtype == INT8
    if settings.runtime == "torch":
        _check_torch(settings, is_file)
        return None
    try:
        if obstacle := _obstacle(settings, needed):
            raise ValueError(obstacle)
        if is_file:
            return model
        variant = INT8 if settings.dtype == INT8 else None
        return _graph_of(folder_of(settings.model, variant=variant), variant)
    except Exception as error:  # safetensors, onnx and the Hub each have their own
        if type(error).__module__.startswith("huggingface_hub"):
            raise click.ClickException(_loading_trouble(settings.model, error)) from error
        if needed:
            raise click.ClickException(f"cannot use onnxruntime: {error}") from error
        if isinstance(error.__cause__, ModuleNotFoundError):  # it names the extra that is missing
            raise click.ClickException(f"{one_line(error)}.") from error
        if not _has_torch():
            raise click.ClickException(f"{one_line(error)}; {_NEEDS_TORCH}.") from error
        return None


def _check_torch(settings: Settings, is_file: bool) -> None:
    """Refuse --runtime torch where it cannot do what is asked for."""
    if settings.dtype == INT8:
        raise click.ClickException("--dtype int8 needs onnxruntime, not --runtime torch.")
    if is_file:
        raise click.ClickException(
            f"{settings.model} is an ONNX file; --runtime torch cannot use it."
        )
    if not _has_torch():
        raise click.ClickException(f"--runtime torch: {_NEEDS_TORCH}.")


def _has_torch() -> bool:
    return all(importlib.util.find_spec(name) for name in ("torch", "diffusers"))


def _obstacle(settings: Settings, needed: bool) -> str | None:
    """Return the reason why onnxruntime cannot or should not be used, if there is one."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed"
    if settings.scheduler:
        return f"--scheduler {settings.scheduler} needs --runtime torch"
    if settings.dtype not in ("auto", INT8):
        return f"--dtype {settings.dtype} needs --runtime torch"
    if settings.device not in ("auto", "cpu"):
        return f"--device {settings.device} needs --runtime torch"
    if not needed and settings.device == "auto" and shutil.which("nvidia-smi") and _has_torch():
        return "torch can use the graphics card"
    return None


def _graph_of(folder: Path, variant: str | None) -> Path | bytes:
    """Return the graph in a model's folder, or make one of the model there."""
    if found := find_file(folder, variant):
        return found
    if variant:
        raise ValueError(
            f"{folder} has no {file_name(variant)}; scripts/export_onnx.py --calibrate writes one"
        )
    if importlib.util.find_spec("onnx") is None:
        raise ValueError(f"{folder} has no ONNX graph, and the package onnx is not installed")
    from pipeline_colorize.onnx.graph import export_model

    return export_model(folder).SerializeToString()


def _load_pipeline(settings: Settings):
    """Load the pipeline, on its device and with the sampler that was asked for."""
    _wait_passively()
    _silence()
    import torch

    from pipeline_colorize import ColorizationPipeline

    options = {} if settings.dtype == "auto" else {"dtype": getattr(torch, settings.dtype)}
    try:
        pipe = ColorizationPipeline.from_pretrained(settings.model, **options)
    except Exception as error:  # diffusers, safetensors and the Hub each have their own
        raise click.ClickException(_loading_trouble(settings.model, error)) from error
    device = _best_device() if settings.device == "auto" else settings.device
    try:
        pipe.to(device)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise click.ClickException(
            f"cannot use the device {device!r} ({one_line(error)}); --device cpu always works."
        ) from error
    pipe.set_progress_bar_config(disable=True)
    _swap_scheduler(pipe, settings)
    return pipe


def _silence() -> None:
    """Keep diffusers, transformers and the Hub's client quiet; the command prints its messages."""
    quiet = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "ORT_DISABLE_TELEMETRY")
    for name in quiet:  # diffusers imports onnxruntime where it finds it
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    diffusers_logging.disable_progress_bar()


def _wait_passively() -> None:
    """Let threads sleep while they wait for one another, which torch reads when it is imported.

    By default they keep their cores busy, and where other programs need these, a photograph takes
    several times as long.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def check_model(model: str) -> None:
    """Refuse a model that cannot exist, before the Hub is asked for it."""
    path, shipped = Path(model), model in shipped_models()
    if path.is_dir() and not shipped and not (path / "model_index.json").is_file():
        raise click.ClickException(
            f"the folder {model} holds no model: it has no model_index.json."
        )
    if path.is_dir() or shipped:
        return
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):  # what a repository's name looks like
        raise click.ClickException(f"no model {model!r} here. {_known_models()}")


def _loading_trouble(model: str, error: Exception) -> str:
    from huggingface_hub import errors

    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the Hub has no repository {model!r}, or it is private. {_known_models()}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return f"the model {model!r} is not on this machine, and the Hub cannot be reached."
    return f"cannot load the model {model!r} ({one_line(error)}). {_known_models()}"


def _known_models() -> str:
    names = ", ".join(shipped_models())
    shipped = f"one that ships ({names}), " if names else ""
    return f"--model takes {shipped}a folder, or a repository of the Hub."


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        local_rank = Share.from_environment().local_rank
        return f"cuda:{local_rank % torch.cuda.device_count()}"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _swap_scheduler(pipe, settings: Settings) -> None:
    if settings.scheduler and pipe.scheduler is None:
        raise click.ClickException("this model works in one pass; it takes no --scheduler.")
    if settings.scheduler:
        scheduler = sampler_class(settings.scheduler)
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config)
    if settings.eta and not _takes_eta(pipe.scheduler):
        name = type(pipe.scheduler).__name__
        raise click.ClickException(f"the sampler {name} takes no --eta; --scheduler ddim does.")


def _takes_eta(scheduler) -> bool:
    return scheduler is not None and "eta" in inspect.signature(scheduler.step).parameters


def make_generator(pipe, seed: int):
    """Make the engine's random generator; both engines draw the same numbers."""
    if isinstance(pipe, ORTColorizationPipeline):
        return TorchGenerator().manual_seed(seed)
    import torch

    return torch.Generator().manual_seed(seed)
