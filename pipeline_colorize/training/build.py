"""Make network, schedule, optimizer and devices of a training run from its configuration."""

import dataclasses
import inspect
import os
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import Accelerator, PartialState
from safetensors.torch import load_file
from torch import nn

import pipeline_colorize
from pipeline_colorize.core.pipeline import ColorizationPipeline
from pipeline_colorize.core.saving import native_dtype

from .config import ModelConfig, OptimizerConfig, RunConfig, construct, refuse_unknown
from .optimizers import ConvolutionMuon

MODULES = [pipeline_colorize, diffusers]  # where classes are looked for, by name
# Networks without a noise schedule; the second one pretrains the grey encoder.
ONE_PASS = ["RegressionUNet", "GreyAutoencoder"]
# How launchers tell a process how many there are.
WORLD_SIZES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


# The model to start from


@dataclasses.dataclass
class InitialModel:
    """The model that `init_from` names: a network and what its folder says of its use.

    Args:
        name: as it was given.
        network: with its weights in float32.
        scheduler: its noise schedule; `None` for a one-pass model and for a network alone.
        defaults: arguments of its pipeline; `None` for a network alone.
    """

    name: str
    network: Any
    scheduler: Any
    defaults: dict[str, Any] | None


def load_initial_model(name: str) -> InitialModel:
    """Load a model that ships, by its name, a diffusers folder, or a repository of the Hub.

    Raises:
        ValueError: if there is none of that name.
    """
    folder = Path(name).expanduser()
    try:
        if (folder / "config.json").is_file() and not (folder / "model_index.json").is_file():
            kind = pipeline_colorize.ColorizationUNet.load_config(folder)["_class_name"]
            network = _find_class(kind).from_pretrained(folder, torch_dtype=torch.float32)
            return InitialModel(name, network, None, None)
        where = str(folder) if folder.is_dir() else name
        pipe = ColorizationPipeline.from_pretrained(where, torch_dtype=torch.float32)
    except OSError as error:
        raise ValueError(f"`init_from` {name!r} cannot be loaded: {error}") from error
    return InitialModel(name, pipe.unet, pipe.scheduler, _arguments(ColorizationPipeline, pipe))


def _find_class(name: str) -> Any:
    return next(getattr(module, name) for module in MODULES if hasattr(module, name))


def _arguments(kind: type, made: Any) -> dict[str, Any]:
    """Return the arguments that an object of a diffusers class was made with."""
    names = inspect.signature(kind).parameters
    left_out = ("unet", "scheduler", "trained_betas")
    return {key: made.config[key] for key in names if key in made.config and key not in left_out}


def adopt(initial: InitialModel, config: ModelConfig, run: RunConfig) -> None:
    """Fill in, from the model to start from, what the configuration leaves open, in place.

    Raises:
        ValueError: if the configuration asks for a network of another class.
    """
    kind = type(initial.network).__name__
    if config.model_class not in (None, kind):
        raise ValueError(
            f"`init_from` {initial.name} is a {kind}; `model_class` asks for {config.model_class}."
        )
    config.model_class = kind
    config.model = _arguments(type(initial.network), initial.network) | config.model
    if initial.defaults is None:
        return
    schedule = "none" if initial.scheduler is None else type(initial.scheduler).__name__
    if config.scheduler_class in (None, schedule):
        config.scheduler_class = schedule
        if initial.scheduler is not None:
            made = _arguments(type(initial.scheduler), initial.scheduler)
            config.scheduler = made | config.scheduler
    run.pipeline = initial.defaults | run.pipeline


def load_network(model: Any, initial: InitialModel) -> None:
    """Give `model` the weights of the model to start from.

    Raises:
        ValueError: if its layers differ, with the arguments that make the difference.
    """
    ours, theirs = model.state_dict(), initial.network.state_dict()
    if {key: x.shape for key, x in ours.items()} != {key: x.shape for key, x in theirs.items()}:
        wanted, has = model.config, initial.network.config
        different = [
            f"`{key}` {has.get(key)}, not {wanted[key]}"
            for key in inspect.signature(type(model)).parameters
            if key in wanted and wanted[key] != has.get(key)
        ]
        raise ValueError(f"The network of `init_from` {initial.name} has {'; '.join(different)}.")
    model.load_state_dict(theirs)


def load_encoder(model: nn.Module, name: str) -> None:
    """Give the grey encoder of `model` the weights of the one in a diffusers folder.

    Raises:
        ValueError: if either has no encoder, or another one.
    """
    folder = Path(name).expanduser()
    folder = folder / "unet" if (folder / "unet").is_dir() else folder
    file = folder / "diffusion_pytorch_model.safetensors"
    if not file.is_file():
        raise ValueError(f"There are no weights of a network in {name!r}.")
    encoder = getattr(model, "encoder", None)
    ours = {} if encoder is None else encoder.state_dict()
    theirs = {
        key.removeprefix("encoder."): tensor.float()
        for key, tensor in load_file(file).items()
        if key.startswith("encoder.")
    }
    shapes = [{key: x.shape for key, x in state.items()} for state in (ours, theirs)]
    if encoder is None or shapes[0] != shapes[1]:
        raise ValueError(
            f"The encoder in {file} does not fit: widths, layers, groups, stride and hints of the "
            "network must be those that it was trained with."
        )
    encoder.load_state_dict(theirs)


# The network, its schedule and its optimizer


def build_model(
    config: ModelConfig, optim: OptimizerConfig, initial: InitialModel | None = None
) -> Any:
    """Make the network, with fresh weights or those of the models that it starts from."""
    name = config.model_class or "ColorizationUNet"
    if name in ONE_PASS and config.scheduler_class != "none":
        raise ValueError(f"{name} does not denoise: set `scheduler_class` to none.")
    model = construct(name, config.model, MODULES)
    if initial is not None:
        load_network(model, initial)
    if config.init_encoder_from:
        load_encoder(model, config.init_encoder_from)
    if optim.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    if optim.sync_batchnorm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model.to(memory_format=torch.channels_last) if optim.channels_last else model


def build_scheduler(config: ModelConfig) -> Any:
    """Make the noise schedule; `None` for a one-pass model."""
    if config.scheduler_class == "none":
        return None
    name = config.scheduler_class or "OffsetCosineScheduler"
    return construct(name, config.scheduler, MODULES)


def make_optimizer(
    parameters: list[nn.Parameter], config: OptimizerConfig, sharded: bool = False
) -> torch.optim.Optimizer:
    """Make AdamW, or Muon for the weights of convolutions and AdamW for all others.

    Raises:
        ValueError: for Muon where the weights are in shards.
    """
    rate, decay = config.learning_rate, config.weight_decay
    betas = (config.adam_beta1, config.adam_beta2)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay, fused=True)
    if sharded:
        raise ValueError("`optimizer` muon needs whole weights; FSDP has them in shards.")
    return ConvolutionMuon(parameters, rate, betas, decay)


# Devices and processes


def resolve_precision(precision: str) -> str:
    """Choose what `auto` stands for on this hardware: bf16 where it is native, or else no."""
    if precision != "auto":
        return precision
    kind = PartialState().device.type
    if kind == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if kind == "cpu" and native_dtype() == torch.bfloat16 else "no"


def precision_advice(accelerator: Accelerator) -> str | None:
    """Warn of bf16 on a processor that only emulates it; `None` where there is nothing to say."""
    emulated = accelerator.device.type == "cpu" and native_dtype() != torch.bfloat16
    if accelerator.mixed_precision != "bf16" or not emulated:
        return None
    return (
        "This processor only emulates bf16, which is three to four times slower than "
        "`--mixed_precision no`; `auto` chooses what is quicker."
    )


def make_accelerator(config: RunConfig, optim: OptimizerConfig) -> Accelerator:
    """Set up devices, processes, precision and trackers.

    Raises:
        ValueError: if the tracker's package is missing, or if the launcher started more processes
            than work together, so that each would train by itself into one folder.
    """
    name = None if config.report_to == "none" else config.report_to
    accelerator = Accelerator(
        mixed_precision=resolve_precision(optim.mixed_precision),
        gradient_accumulation_steps=optim.gradient_accumulation_steps,
        log_with=name,
        project_dir=config.output_dir,
        dynamo_backend="inductor" if optim.compile else None,
    )
    if name and not accelerator.log_with:
        raise ValueError(f"`report_to` {name} needs a package: pip install {name}.")
    refuse_lone_processes(accelerator.num_processes)
    return accelerator


def refuse_lone_processes(processes: int) -> None:
    """Refuse to be one of several processes that do not know of each other.

    Raises:
        ValueError: if the launcher's variables count more than `processes`.
    """
    for variable in WORLD_SIZES:
        if (text := os.environ.get(variable, "")).isdecimal():
            if int(text) > processes:
                raise ValueError(
                    f"The launcher started {text} processes ({variable}), but only {processes} "
                    "would train together, and all into one folder. On a CPU, set "
                    "ACCELERATE_USE_CPU=true; or start a single process."
                )
            return


def refuse_unknown_defaults(defaults: dict) -> None:
    """Refuse defaults of the release that the pipeline does not have."""
    refuse_unknown(defaults, list(inspect.signature(ColorizationPipeline).parameters), "pipeline")
