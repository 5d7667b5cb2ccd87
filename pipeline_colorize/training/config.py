"""Configuration of the scripts: dataclasses from a YAML file, with flags over it.

Names that do not exist are refused with the nearest one that does, before anything is done. The
fields of a training run are here.
"""

import dataclasses
import difflib
import inspect
import math
from pathlib import Path
from typing import Literal, get_args, get_type_hints

import yaml


def option(default, help: str):
    """A dataclass field with its help text; lists and dicts are copied for each instance."""
    metadata = {"help": help}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass
class DataConfig:
    """Which pictures are trained on, how they are read and what is done to them."""

    _argument_group_name = "data"

    datasets: list[str] = option([], "Hub ids, folders of parquet files or folders of pictures")
    dataset_weights: list[float] = option([], "one factor a data set on its share of the draws")
    size_exponent: float = option(
        1.0,
        "share of a set: its size to this power; 1 all pictures alike, .5 the root, 0 sets alike",
    )
    image_column: str = option("image", "the column that holds the colour pictures")
    train_split: str = option("train", "split to train on")
    validation_split: str = option(
        "validation",
        "split to validate on; a set without it gives a tenth of its training pictures",
    )
    validation_pictures: int = option(150, "at most so many validation pictures a set; 0: none")
    streaming: bool = option(False, "read the sets while training, through a shuffle buffer")
    shuffle_buffer: int = option(2000, "pictures in the shuffle buffer of a stream")
    epoch_pictures: int | None = option(
        None, "pictures an epoch; none: as many as the sets hold, to be given for a stream"
    )
    resolution: int = option(128, "height and width of a training picture, in pixels")
    load_size: int | None = option(
        None, "short side at which pictures are kept, to cut squares from; none: the resolution"
    )
    closer_datasets: list[str] = option(
        [], "sets of larger pictures, which some steps see at `closer_resolution`"
    )
    closer_resolution: int = option(224, "height and width of a picture in those steps")
    closer_share: float = option(
        0.33, "share of those steps; they have as many pixels as others, in fewer pictures"
    )
    cache_gigabytes: float = option(8.0, "memory a process for decoded pictures")
    workers: int = option(0, "processes that make batches ahead; 0: made between the steps")
    flip: bool = option(True, "mirror half of the pictures")
    crop_probability: float = option(0.5, "share of pictures of which a part is enlarged")
    crop_smallest: float = option(0.7, "smallest part of a side that is enlarged")
    color_jitter: float = option(0.0, "vary chroma by up to this factor, hue by as many radians")
    degrade_probability: float = option(0.3, "share of pictures with worn luminance")
    degrade_scratches: int = option(0, "at most so many scratches on a worn picture")
    film_probability: float = option(
        0.0, "share of pictures whose luminance is that of an early film, blind to red"
    )
    hint_probability: float = option(0.5, "share of pictures with hints, for models that take them")
    hint_most: int = option(16, "at most so many hints on a picture")
    condition_dropout: float = option(
        0.0, "share of pictures whose colours are learned without their luminance, for guidance"
    )


def as_closer(config: DataConfig) -> DataConfig:
    """The configuration of the steps that see larger pictures, which enlarge none of them."""
    changes = {
        "datasets": config.closer_datasets,
        "dataset_weights": [],
        "resolution": config.closer_resolution,
        "load_size": None,
        "crop_probability": 0.0,
    }
    return dataclasses.replace(config, **changes)


@dataclasses.dataclass
class ModelConfig:
    """The network, its noise schedule and what is minimised."""

    _argument_group_name = "model"

    model_class: str = option("ColorizationUNet", "a network of this project or of diffusers")
    model: dict = option({}, "its arguments; as flags: --model.ARGUMENT VALUE")
    scheduler_class: str = option(
        "OffsetCosineScheduler", "a schedule of this project or of diffusers; none: one-pass model"
    )
    scheduler: dict = option({}, "its arguments; as flags: --scheduler.ARGUMENT VALUE")
    init_from: str | None = option(None, "start from the weights of this diffusers folder")
    init_encoder_from: str | None = option(
        None, "start the grey encoder from that of this folder, such as a GreyAutoencoder's run"
    )
    loss: Literal["mse", "l1", "huber"] = option("mse", "error of the prediction")
    snr_gamma: float | None = option(None, "weight by the capped signal-to-noise ratio, e.g. 5")
    gradient_weight: float = option(0.0, "factor of the colour-gradient term, against bleeding")
    guidance_weight: float = option(
        0.0, "learn to sample as with a guidance scale of 1 / (1 - this); needs condition_dropout"
    )
    teacher: str | None = option(
        None, "pretrained vision network whose features the grey encoder learns to foretell"
    )
    teacher_weight: float = option(0.05, "factor of what it does not foretell of them")
    noise_levels: int = option(1, "noisy samples a picture, whose features are computed once")


@dataclasses.dataclass
class OptimizerConfig:
    """How the weights are moved."""

    _argument_group_name = "optimization"

    batch_size: int = option(64, "pictures a process and forward pass")
    gradient_accumulation_steps: int = option(1, "forward passes a step")
    max_train_steps: int | None = option(None, "length of the run; none: num_train_epochs")
    num_train_epochs: int = option(100, "length of the run where max_train_steps is none")
    optimizer: Literal["adamw", "muon"] = option("adamw", "muon: that for convolutions, AdamW else")
    learning_rate: float = option(2e-4, "peak learning rate")
    lr_schedule: Literal["constant", "linear", "cosine"] = option("cosine", "after the warm-up")
    lr_warmup_steps: int = option(200, "steps of linear warm-up")
    lr_decay_steps: int | None = option(None, "decay over the last so many steps; none: all")
    lr_floor: float = option(0.0, "end of the decay, as a part of the peak")
    adam_beta1: float = option(0.9, "AdamW")
    adam_beta2: float = option(0.99, "AdamW")
    weight_decay: float = option(0.01, "AdamW")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm")
    ema_decay: float = option(0.999, "of the averaged weights, which are the ones released")
    ema_warmup: bool = option(True, "smaller decay at first")
    mixed_precision: Literal["no", "bf16", "fp16"] = option("no", "arithmetic of the forward pass")
    gradient_checkpointing: bool = option(False, "less memory, a third more time")
    channels_last: bool = option(True, "memory format of the weights")
    sync_batchnorm: bool = option(False, "BatchNorm statistics over all GPUs")
    compile: bool = option(False, "torch.compile the network")


def learning_rate(config: OptimizerConfig, step: int, total: int) -> float:
    """At step 0 to `total` - 1: linear warm-up, then constant, then the decay towards the floor."""
    warmup = min(1.0, (step + 1) / max(config.lr_warmup_steps, 1))
    decay_steps = config.lr_decay_steps or max(total - config.lr_warmup_steps, 1)
    left = 1.0 if config.lr_schedule == "constant" else min(1.0, (total - step) / decay_steps)
    shape = (1 - math.cos(math.pi * left)) / 2 if config.lr_schedule == "cosine" else left
    return config.learning_rate * warmup * (config.lr_floor + (1 - config.lr_floor) * shape)


@dataclasses.dataclass
class RunConfig:
    """Seeds, checkpoints, logging and release."""

    _argument_group_name = "run"

    output_dir: str = option("runs/colorizer", "everything that the run writes")
    seed: int = option(0, "of weights, order, augmentation and noise")
    resume_from_checkpoint: str | None = option(None, "a checkpoint folder, or latest")
    checkpointing_steps: int | None = option(None, "save every so many steps")
    checkpointing_epochs: int | None = option(50, "save every so many epochs")
    checkpoints_total_limit: int = option(2, "checkpoints kept, one at least")
    validation_epochs: int = option(1, "validate every so many epochs")
    early_stopping_patience: int | None = option(
        None, "stop after so many validations without a new best, and release the best weights"
    )
    grid_epochs: int = option(10, "draw a grid every so many epochs")
    grid_pictures: int = option(4, "pictures of each set in a grid")
    report_to: Literal["tensorboard", "wandb", "trackio", "none"] = option("none", "tracker")
    divergence_factor: float = option(5.0, "stop when the loss is so many times its best average")
    pipeline: dict = option({}, "defaults of the release; as flags: --pipeline.NAME VALUE")
    release_dtype: Literal["float32", "float16"] = option("float32", "of the released weights")
    push_to_hub: bool = option(False, "push the released model to the Hub")
    hub_model_id: str | None = option(None, "where to, user/name")
    dry_run: bool = option(False, "print what would be done, and stop")


def refuse_unknown(names, valid, where: str) -> None:
    """Raise a ValueError that gives, for the first name not in `valid`, the nearest valid one."""
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, 1, 0.0)
            raise ValueError(f"{where} has no {name!r}; did you mean {near[0]!r}?")


def _group(tokens: list[str]) -> dict[str, object]:
    """["--a.b", "1", "2", "--c=x"] to {"a.b": [1, 2], "c": "x"}; values are read as YAML."""
    groups = {}
    for token in tokens:
        if token.startswith("--"):
            name, _, value = token[2:].partition("=")
            values = groups[name] = [yaml.safe_load(value)] if value else []
        elif not groups:
            raise ValueError(f"Unexpected {token!r} on the command line; fields start with `--`.")
        else:
            values.append(yaml.safe_load(token))
    return {name: values[0] if len(values) == 1 else values for name, values in groups.items()}


def parse(argv: list[str], parts: list[type], description: str) -> list:
    """One instance of each dataclass in `parts`, from `--config FILE` and the flags after it.

    The file is flat: it does not know of the parts. A field of type dict is a mapping in the file
    and `--FIELD.KEY VALUE` on the command line.

    Args:
        argv: the command line without the program's name.
        parts: dataclasses whose fields are made by `option`.
        description: for `--help`.

    Raises:
        ValueError: for an unknown field in the file or on the command line, with the nearest one.
    """
    from transformers import HfArgumentParser

    usage = "%(prog)s [--config FILE] [--FIELD VALUE ...]"
    parser = HfArgumentParser(parts, allow_abbrev=False, description=description, usage=usage)
    parser.add_argument("--config", metavar="FILE", help="YAML file; flags go over it")
    fields = {field.name: field for part in parts for field in dataclasses.fields(part)}
    known, _ = parser.parse_known_args(argv)
    content = {}
    if known.config:
        content = yaml.safe_load(Path(known.config).read_text(encoding="utf-8")) or {}
        if content.get("mixed_precision") is False:
            content["mixed_precision"] = "no"  # which YAML takes for a truth value
    refuse_unknown(content, list(fields), f"{known.config}")
    _refuse_wrong_nulls(content, parts)
    parser.set_defaults(**{name: None for name, value in content.items() if value is None})
    nested = {name: {} for name, field in fields.items() if field.type is dict}
    nested |= {name: content.pop(name) or {} for name in nested if name in content}
    *configs, _, rest = parser.parse_args_into_dataclasses(
        _as_flags(content) + argv, return_remaining_strings=True, look_for_args_file=False
    )
    for name, value in _group(rest).items():
        field, _, key = name.partition(".")
        refuse_unknown([field], list(nested) if key else list(fields), "The command line")
        nested[field][key] = value
    for config in configs:
        for name in nested.keys() & {field.name for field in dataclasses.fields(config)}:
            setattr(config, name, nested[name])
    return configs


def _refuse_wrong_nulls(content: dict, parts: list[type]) -> None:
    hints = {name: hint for part in parts for name, hint in get_type_hints(part).items()}
    for name, value in content.items():
        if value is None and hints[name] is not dict and type(None) not in get_args(hints[name]):
            raise ValueError(f"`{name}` has no value; it needs one of type {hints[name]}.")


def _as_flags(content: dict) -> list[str]:
    """A file's content as flags, so that its values are checked as those of the command line."""
    flags = []
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if value is not None and value != []:
            flags += [f"--{name}", *map(str, values)]
    return flags


def to_yaml(configs: list) -> str:
    """All fields of the dataclasses as one flat file that `parse` reads."""
    flat = {}
    for config in configs:
        flat |= dataclasses.asdict(config)
    return yaml.safe_dump(flat, sort_keys=False)


def construct(class_name: str, arguments: dict, modules: list):
    """An object of the class of that name in the first module that has it.

    Raises:
        ValueError: for an unknown class or argument, with the nearest argument.
    """
    for module in modules:
        if hasattr(module, class_name):
            chosen = getattr(module, class_name)
            refuse_unknown(arguments, list(inspect.signature(chosen).parameters), class_name)
            return chosen(**arguments)
    names = ", ".join(module.__name__ for module in modules)
    raise ValueError(f"There is no class {class_name!r} in {names}.")
