"""The configuration of a training run: dataclasses, filled from a YAML file and from flags over it.

A file may build on another one by `base: OTHER.yaml`. Names that do not exist are refused with the
nearest one that does, before anything is built.
"""

import contextlib
import dataclasses
import difflib
import inspect
from collections.abc import Collection, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import yaml


def option(default, help: str):
    """Make a dataclass field with a help text; lists and dicts are copied for each instance."""
    metadata = {"help": help}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass
class DataConfig:
    """Which pictures are trained on, how they are read and how they are augmented."""

    _argument_group_name = "data"

    datasets: list[str] = option(
        [], "folders of pictures, parquet files or folders of them, ids on the Hub"
    )
    dataset_weights: list[float] = option([], "factor for each data set on its share of the draws")
    size_exponent: float = option(
        1.0,
        "a set's share of the draws grows with its size to this power: 1 treats all pictures "
        "equally, 0 all sets",
    )
    image_column: str = option("image", "column that holds the colour pictures")
    train_split: str = option("train", "split to train on")
    validation_split: str = option(
        "validation",
        "split to validate on; of a set without it, a tenth of the training pictures is held out",
    )
    validation_pictures: int = option(150, "at most so many validation pictures a set; 0: none")
    streaming: bool = option(False, "read the sets while training, through a shuffle buffer")
    shuffle_buffer: int = option(2000, "pictures in the shuffle buffer of a stream")
    epoch_pictures: int | None = option(
        None, "pictures an epoch; none: as many as the sets hold. A stream needs a number"
    )
    resolution: int = option(128, "height and width of a training picture, in pixels")
    load_size: int | None = option(
        None, "short side at which pictures are kept, to cut squares from; none: the resolution"
    )
    large_datasets: list[str] = option(
        [], "sets of larger pictures, which some steps see at `large_resolution`"
    )
    large_resolution: int = option(224, "height and width of a picture in those steps")
    large_share: float = option(
        0.33, "share of those steps; they see as many pixels as the others, in fewer pictures"
    )
    cache_gigabytes: float = option(8.0, "memory for decoded pictures, in each process")
    workers: int = option(0, "processes that prepare batches ahead; 0: prepared between the steps")
    flip: bool = option(True, "mirror half of the pictures")
    crop_probability: float = option(0.5, "share of pictures of which a part is enlarged")
    crop_smallest: float = option(0.7, "smallest part that is enlarged, as a share of a side")
    degrade_probability: float = option(0.3, "share of pictures with worn luminance")
    degrade_scratches: int = option(0, "at most so many scratches on a worn picture")
    degrade_strength: float = option(
        1.0, "how strong wear may be; 2: twice as faded, blurred and grainy, and steep curves"
    )
    film_probability: float = option(
        0.0, "share of pictures whose luminance is that of an early film, blind to red"
    )
    hint_probability: float = option(0.5, "share of pictures with hints, for models that take them")
    hint_most: int = option(16, "at most so many hints on a picture")
    margin_probability: float = option(
        0.0, "share of pictures on a black, white or grey background, as scanned prints are"
    )
    region_probability: float = option(
        0.0, "share of pictures whose colours are given but for a place to mend"
    )
    doubtful_probability: float = option(
        0.0, "share of pictures with colours that may be wrong, as a reference gives them"
    )
    doubtful_wrong: float = option(0.3, "share of those whose colours are another picture's")
    condition_dropout: float = option(
        0.0, "share of pictures whose colours are learned without their luminance, for guidance"
    )


def for_large_pictures(config: DataConfig) -> DataConfig:
    """Return the configuration of the steps that see larger pictures, none of them enlarged."""
    return dataclasses.replace(
        config,
        datasets=config.large_datasets,
        dataset_weights=[],
        resolution=config.large_resolution,
        load_size=None,
        crop_probability=0.0,
    )


@dataclasses.dataclass
class ModelConfig:
    """The network, its noise schedule and what is minimised."""

    _argument_group_name = "model"

    model_class: str | None = option(
        None,
        "a network of this project or of diffusers; none: that of init_from, or ColorizationUNet",
    )
    model: dict = option({}, "its arguments; as flags: --model.ARGUMENT VALUE")
    scheduler_class: str | None = option(
        None,
        "a noise schedule of this project or of diffusers, or the word none for a one-pass model; "
        "left out: that of init_from, or OffsetCosineScheduler",
    )
    scheduler: dict = option({}, "its arguments; as flags: --scheduler.ARGUMENT VALUE")
    init_from: str | None = option(
        None,
        "start from the weights of this model: a name that ships, a folder or an id on the Hub",
    )
    init_encoder_from: str | None = option(
        None, "start the grey encoder from that of this model, such as a GreyAutoencoder's"
    )
    guidance_weight: float = option(
        0.0, "learn to sample as with a guidance scale of 1 / (1 - this); needs condition_dropout"
    )
    guidance_start: int = option(0, "first step whose target is moved by guidance")
    teacher: str | None = option(
        None, "pretrained vision network whose features the grey encoder learns to predict"
    )
    teacher_weight: float = option(0.05, "factor of the error in those features")
    noise_levels: int = option(1, "noisy samples a picture, whose features are computed once")


@dataclasses.dataclass
class OptimizerConfig:
    """How the weights are updated."""

    _argument_group_name = "optimization"

    batch_size: int = option(64, "pictures in a forward pass of a process")
    gradient_accumulation_steps: int = option(1, "forward passes a step")
    max_train_steps: int | None = option(None, "length of the run; none: num_train_epochs")
    num_train_epochs: int = option(100, "length of the run where max_train_steps is none")
    optimizer: Literal["adamw", "muon"] = option(
        "adamw", "muon: Muon for the weights of convolutions and AdamW for all others"
    )
    learning_rate: float = option(2e-4, "peak learning rate")
    lr_schedule: Literal["constant", "linear", "cosine"] = option("cosine", "after the warm-up")
    lr_warmup_steps: int = option(200, "steps of linear warm-up")
    lr_decay_steps: int | None = option(None, "decay over the last so many steps; none: all")
    lr_floor: float = option(0.0, "where the decay ends, as a share of the peak")
    adam_beta1: float = option(0.9, "decay of AdamW's mean of the gradients")
    adam_beta2: float = option(0.99, "decay of AdamW's mean of their squares")
    weight_decay: float = option(0.01, "decoupled weight decay")
    max_grad_norm: float = option(1.0, "gradients are clipped to this norm")
    ema_decay: float = option(0.999, "decay of the averaged weights, which are those released")
    ema_warmup: bool = option(True, "begin with a smaller decay")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = option(
        "no", "arithmetic of the forward pass; auto: bf16 where the hardware has it natively"
    )
    gradient_checkpointing: bool = option(False, "takes less memory and a third more time")
    channels_last: bool = option(True, "memory format of the weights")
    sync_batchnorm: bool = option(False, "BatchNorm statistics over all GPUs")
    compile: bool = option(False, "torch.compile the network")


@dataclasses.dataclass
class RunConfig:
    """Seeds, checkpoints, logging and release."""

    _argument_group_name = "run"

    output_dir: str = option("runs/colorizer", "folder for everything that the run writes")
    seed: int = option(0, "seed of weights, order, augmentation and noise")
    resume_from_checkpoint: str | None = option(None, "a checkpoint folder, or latest")
    checkpointing_steps: int | None = option(None, "save every so many steps")
    checkpointing_epochs: int | None = option(50, "save every so many epochs")
    checkpoints_total_limit: int = option(2, "how many checkpoints are kept, at least 1")
    validation_epochs: int = option(1, "validate every so many epochs")
    validation_colors: int = option(
        0, "colour so many validation pictures a set each time, to compare with their true colours"
    )
    early_stopping_patience: int | None = option(
        None, "stop after so many validations without a new best, and release the best weights"
    )
    early_stopping_metric: Literal["validation_loss", "validation_histogram"] = option(
        "validation_loss", "what is to fall; the second needs validation_colors"
    )
    grid_epochs: int = option(10, "draw a grid every so many epochs")
    grid_pictures: int = option(4, "pictures of each set in a grid")
    report_to: Literal["tensorboard", "wandb", "trackio", "none"] = option("none", "tracker")
    divergence_factor: float = option(5.0, "stop when the loss is so many times its best average")
    pipeline: dict = option(
        {}, "defaults of the released pipeline; as flags: --pipeline.NAME VALUE"
    )
    release_dtype: Literal["float32", "float16"] = option("float32", "type of the released weights")
    push_to_hub: bool = option(False, "push the released model to the Hub")
    hub_model_id: str | None = option(None, "repository to push to, user/name")
    hub_private: bool = option(False, "make that repository private, where it is new")
    dry_run: bool = option(False, "print what would be done, and stop")


# What a command line of the trainer sets; a configuration file is flat and does not name the parts.
PARTS = [DataConfig, ModelConfig, OptimizerConfig, RunConfig]

# Fields of earlier versions: their new name, or the only value that still means the same.
RENAMED = {f"closer_{name}": f"large_{name}" for name in ("datasets", "resolution", "share")}
REMOVED = {"loss": "mse", "snr_gamma": None, "gradient_weight": 0.0, "color_jitter": 0.0}


def refuse_unknown(names: Iterable[str], valid: Collection[str], where: str) -> None:
    """Raise a ValueError that gives, for the first name not in `valid`, the nearest valid one."""
    for name in names:
        if name not in valid:
            near = difflib.get_close_matches(name, valid, 1, 0.0)
            meant = f"; did you mean {near[0]!r}?" if near else "."
            raise ValueError(f"{where} has no {name!r}{meant}")


# Files


def shipped_configs() -> Path | None:
    """Find the folder of the configurations that come with the package; `None` if it is missing.

    In a checkout it stands beside the package, in an installation among the wheel's data files.
    """
    beside = Path(__file__).resolve().parents[2] / "configs"
    if (beside / "tiny.yaml").is_file():
        return beside
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("pipeline-colorize") or []:
            if file.parts[-2:] == ("configs", "tiny.yaml"):
                return Path(str(file.locate())).resolve().parent
    return None


def find_config(name: str) -> Path:
    """Find a configuration file: a path, or one that ships, such as `configs/finetune.yaml`.

    Raises:
        ValueError: if there is none, with the names of those that ship.
    """
    if Path(name).is_file():
        return Path(name)
    folder = shipped_configs()
    if folder is None:
        raise ValueError(f"There is no configuration file {name!r}.")
    shipped = {f"configs/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.yaml")}
    inner = Path(name).as_posix().removeprefix("configs/")
    inner = inner if inner.endswith(".yaml") else f"{inner}.yaml"
    if f"configs/{inner}" in shipped:
        return folder / inner
    raise ValueError(
        f"There is no configuration file {name!r}; those that ship: {sorted(shipped)}."
    )


def merge_settings(settings: dict, over: dict) -> dict:
    """Lay the settings `over` over others; where both have a mapping, these are merged."""
    result = dict(settings)
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = result[name] | value if both else value
    return result


def read_settings(file: Path, above: tuple[Path, ...] = ()) -> dict:
    """Read a YAML file of settings, laid over those of the file that its `base:` names.

    Args:
        file: a mapping of fields; `base` is a path relative to it.
        above: the files that build on this one.

    Raises:
        ValueError: if the file is no mapping, is missing, or builds on itself.
    """
    if file.resolve() in above:
        raise ValueError(f"{above[-1]}: `base` leads back to {file}, which builds on this file.")
    if not file.is_file():
        raise ValueError(f"{above[-1]}: there is no file {file} for `base`.")
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no YAML file: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{file} must hold `field: value` lines, not {type(settings).__name__}.")
    base = settings.pop("base", None)
    if base is None:
        return settings
    return merge_settings(read_settings(file.parent / base, (*above, file.resolve())), settings)


def _modernize(settings: dict, where: str) -> dict:
    """Bring the fields of earlier versions to their present names.

    Raises:
        ValueError: for a field that is gone and had another value than its default.
    """
    for name, neutral in REMOVED.items():
        if settings.get(name, neutral) != neutral:
            raise ValueError(f"{where}: there is no `{name}` any more; {neutral} is all there is.")
    kept = {name: value for name, value in settings.items() if name not in REMOVED}
    return {RENAMED.get(name, name): value for name, value in kept.items()}


# The command line


def _group(tokens: list[str]) -> dict[str, object]:
    """Turn ["--a.b", "1", "2", "--c=x"] into {"a.b": [1, 2], "c": "x"}; values are read as YAML."""
    groups: dict[str, list] = {}
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
    """Make one instance of each dataclass in `parts` from `--config FILE` and the flags after it.

    The file is flat: it does not name the parts. A field of type dict is a mapping in the file and
    `--FIELD.KEY VALUE` on the command line.

    Args:
        argv: the command line without the program's name.
        parts: dataclasses whose fields are made by `option`.
        description: for `--help`.

    Raises:
        ValueError: for a file that is missing, and for an unknown field in the file or on the
            command line, with the nearest one.
    """
    from transformers import HfArgumentParser

    usage = "%(prog)s [--config FILE] [--FIELD VALUE ...]"
    kinds: Any = parts  # several at once, which the parser's annotation denies
    parser = HfArgumentParser(kinds, allow_abbrev=False, description=description, usage=usage)
    parser.add_argument("--config", metavar="FILE", help="YAML file; flags go over it")
    fields = {field.name: field for part in parts for field in dataclasses.fields(part)}
    content = _read_config(parser.parse_known_args(argv)[0].config, parts)
    parser.set_defaults(**{name: None for name, value in content.items() if value is None})
    nested: dict[str, dict] = {name: {} for name, field in fields.items() if field.type is dict}
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


def _read_config(name: str | None, parts: list[type]) -> dict:
    """Read a configuration file for `parts`; `{}` where none is named."""
    if name is None:
        return {}
    content = _modernize(read_settings(find_config(name)), name)
    if content.get("mixed_precision") is False:
        content["mixed_precision"] = "no"  # which YAML takes for a truth value
    hints = {field: hint for part in parts for field, hint in get_type_hints(part).items()}
    refuse_unknown(content, [f.name for part in parts for f in dataclasses.fields(part)], name)
    for field, value in content.items():
        if value is None and hints[field] is not dict and type(None) not in get_args(hints[field]):
            raise ValueError(f"`{field}` has no value; it needs one of type {hints[field]}.")
    return content


def _as_flags(content: dict) -> list[str]:
    """Turn a file's content into flags, so that its values are checked like those of flags."""
    flags = []
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if value is not None and value != []:
            flags += [f"--{name}", *map(str, values)]
    return flags


def to_yaml(configs: list) -> str:
    """Write all fields of the dataclasses as one flat file that `parse` reads."""
    flat: dict[str, object] = {}
    for config in configs:
        flat |= dataclasses.asdict(config)
    return yaml.safe_dump(flat, sort_keys=False)


def construct(class_name: str, arguments: dict, modules: list):
    """Make an object of the class with that name in the first module that has it.

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
