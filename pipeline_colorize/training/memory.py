"""Estimate the memory of a training run, and say what to lower where there is too little."""

import contextlib
import copy
import os

import torch
from torch import nn

from .batches import BatchFormat
from .objectives import predict


def activation_bytes(
    model: nn.Module, layout: BatchFormat, resolution: int, pictures: int, noise_levels: int
) -> int:
    """Count the bytes that a forward pass in fp32 keeps for the backward pass, without running it.

    Raises:
        ValueError: if the network cannot take the resolution.
    """
    grid = resolution // layout.chroma_stride
    samples = pictures * noise_levels
    noisy = torch.empty(samples, layout.color_channels, grid, grid, device="meta")
    channels = 1 + layout.hint_channels
    condition = torch.empty(pictures, channels, resolution, resolution, device="meta")
    kept = {}

    def keep(tensor):
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    skeleton = copy.deepcopy(model).to("meta").train()
    for module in skeleton.modules():
        if isinstance(module, nn.SyncBatchNorm):  # which works on GPUs alone
            object.__setattr__(module, "__class__", nn.BatchNorm2d)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        try:
            output = predict(skeleton, noisy, torch.zeros(samples, device="meta"), condition)
        except RuntimeError as error:
            message = f"The network cannot take `resolution` {resolution}: {error}"
            raise ValueError(message) from error
    if output.shape != noisy.shape:
        raise ValueError(f"The network makes {tuple(output.shape)} of {tuple(noisy.shape)}.")
    return sum(kept.values())


def idle_cores_advice(accelerator) -> str | None:
    """Advise a run whose launcher leaves all cores but one idle; `None` where it does not.

    `accelerate launch` gives a process one thread, unless OMP_NUM_THREADS says otherwise.
    """
    cores, alone = os.cpu_count() or 1, accelerator.num_processes == 1
    if accelerator.device.type != "cpu" or not alone or torch.get_num_threads() > 1 or cores == 1:
        return None
    return f"This run uses 1 of {cores} cores; OMP_NUM_THREADS={cores} lets it use all of them."


def settings_of_memory(parts: list) -> str:
    """List the settings to lower where memory does not suffice, with their values."""
    pictures, model, optim, _ = parts
    return (
        f"batch_size ({optim.batch_size}; raise gradient_accumulation_steps to make up for it), "
        f"noise_levels ({model.noise_levels}), resolution ({pictures.resolution}) or "
        f"cache_gigabytes ({pictures.cache_gigabytes}); or set gradient_checkpointing or "
        "mixed_precision."
    )


@contextlib.contextmanager
def memory_advice(settings: str):
    """End the program with `settings`, which say what to lower, where memory does not suffice."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        full = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not full and "allocate memory" not in str(error):
            raise
        raise SystemExit(f"Too little memory: {error}\nLower {settings}") from error


def memory_estimate(
    parts: list, parameters: int, activations: int, pictures_held: list[tuple[int, int]]
) -> str:
    """Estimate in one line what a process will need.

    Args:
        parts: the four parts of the configuration.
        parameters: of the network.
        activations: as `activation_bytes` counts them.
        pictures_held: (how many, short side) of the pictures that are to be kept decoded.
    """
    pictures, _, optim, _ = parts
    decoded = sum(3 * number * side**2 for number, side in pictures_held)
    megabytes = {
        # Weights, gradients, two moments and the average, 4 bytes each.
        "weights and optimizer": 20 * parameters,
        "activations": activations / (1 if optim.mixed_precision == "no" else 2),
        "decoded pictures": min(decoded, pictures.cache_gigabytes * 2**30),
    }
    return ", ".join(f"{value / 2**20:,.0f} MB {what}" for what, value in megabytes.items())
