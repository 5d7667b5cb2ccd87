"""Conditional diffusion that gives black-and-white photographs their colours."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Loaded when first used (PEP 562): `colorize --help` must not wait for torch.
_MODULES = {
    "ColorizationImageProcessor": "image_processor",
    "ColorizationPipeline": "pipeline",
    "ColorizationPipelineOutput": "pipeline",
    "ColorizationUNet": "unet",
    "ExponentialMovingAverage": "ema",
    "GreyAutoencoder": "autoencoder",
    "Hint": "basics",
    "OffsetCosineScheduler": "scheduler",
    "RegressionUNet": "regression_unet",
}

__all__ = [*_MODULES, "__version__"]

if TYPE_CHECKING:
    from .autoencoder import GreyAutoencoder
    from .basics import Hint
    from .ema import ExponentialMovingAverage
    from .image_processor import ColorizationImageProcessor
    from .pipeline import ColorizationPipeline, ColorizationPipelineOutput
    from .regression_unet import RegressionUNet
    from .scheduler import OffsetCosineScheduler
    from .unet import ColorizationUNet


def __getattr__(name: str):
    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
