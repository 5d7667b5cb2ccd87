"""Refuse a configuration that cannot work, before anything is built or read."""

from torch import nn

from .config import DataConfig, ModelConfig, OptimizerConfig, RunConfig

# Numbers with a lower bound of 1.
COUNTS = {
    DataConfig: ["resolution", "load_size", "large_resolution", "epoch_pictures"],
    ModelConfig: ["noise_levels"],
    OptimizerConfig: [
        "batch_size",
        "gradient_accumulation_steps",
        "max_train_steps",
        "num_train_epochs",
        "lr_decay_steps",
    ],
    RunConfig: [
        "checkpointing_steps",
        "checkpointing_epochs",
        "checkpoints_total_limit",
        "validation_epochs",
        "early_stopping_patience",
        "grid_epochs",
        "grid_pictures",
    ],
}
# Numbers with a lower bound of 0.
AMOUNTS = {
    DataConfig: ["validation_pictures", "workers", "degrade_scratches", "hint_most"],
    ModelConfig: ["guidance_start"],
    OptimizerConfig: ["learning_rate", "weight_decay", "lr_warmup_steps"],
    RunConfig: ["validation_colors"],
}
# Numbers from 0 to 1.
SHARES = [
    "large_share",
    "crop_probability",
    "crop_smallest",
    "degrade_probability",
    "film_probability",
    "margin_probability",
    "hint_probability",
    "region_probability",
    "doubtful_probability",
    "doubtful_wrong",
    "condition_dropout",
]


def check_configs(configs: list) -> None:
    """Refuse values that no run can work with.

    Args:
        configs: the four parts of a configuration.

    Raises:
        ValueError: with the field, its value and what would be right.
    """
    data, model, optim, run = configs
    for config in configs:
        _check_counts(config)
    _check_shares(data)
    _check_data(data)
    _check_guidance(model, data)
    if not 0 <= run.seed < 2**56:
        raise ValueError(f"`seed` must be from 0 to 2^56 - 1, not {run.seed}.")
    if not 0 <= optim.ema_decay < 1:
        raise ValueError(f"`ema_decay` must be from 0 to below 1, not {optim.ema_decay}.")
    if run.early_stopping_metric == "validation_histogram" and not run.validation_colors:
        raise ValueError(
            "`early_stopping_metric` validation_histogram needs coloured pictures: set "
            "`validation_colors`, to 16 for example."
        )


def check_resolutions(data: DataConfig, network: nn.Module) -> None:
    """Refuse training pictures whose sides the network cannot take.

    Raises:
        ValueError: with the field, its value and what would be right.
    """
    stride = getattr(network, "stride", 1)
    for name in ("resolution", "large_resolution") if data.large_datasets else ("resolution",):
        value = getattr(data, name)
        if value % stride:
            raise ValueError(
                f"`{name}` must be a multiple of {stride} for this network, not {value}."
            )


def _check_counts(config) -> None:
    for bounds, least in ((COUNTS, 1), (AMOUNTS, 0)):
        for name in bounds[type(config)]:
            value = getattr(config, name)
            if value is not None and not value >= least:
                raise ValueError(f"`{name}` must be at least {least}, not {value}.")


def _check_shares(data: DataConfig) -> None:
    for name in SHARES:
        value = getattr(data, name)
        if not 0 <= value <= 1:
            raise ValueError(f"`{name}` must be from 0 to 1, not {value}.")


def _check_data(data: DataConfig) -> None:
    if not data.datasets:
        raise ValueError("`datasets` names no data set to train on.")
    if data.dataset_weights and len(data.dataset_weights) != len(data.datasets):
        raise ValueError(
            f"`dataset_weights` has {len(data.dataset_weights)} values for {len(data.datasets)} "
            "data sets."
        )
    if data.load_size is not None and data.load_size < data.resolution:
        raise ValueError(
            f"`load_size` {data.load_size} must not be below `resolution` {data.resolution}."
        )
    if data.streaming and data.epoch_pictures is None:
        raise ValueError("A stream has no length, so set `epoch_pictures`.")


def _check_guidance(model: ModelConfig, data: DataConfig) -> None:
    weight = model.guidance_weight
    if not 0 <= weight < 1:
        raise ValueError(
            f"`guidance_weight` is from 0 to below 1, not {weight}: 1 - 1 / s for a guidance scale "
            "of s."
        )
    if weight and not (model.scheduler_class != "none" and data.condition_dropout):
        raise ValueError(
            "`guidance_weight` needs a noise schedule, and a network that also learns without its "
            "condition: set `condition_dropout`, to .1 for example."
        )
