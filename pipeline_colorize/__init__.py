"""Conditional diffusion that gives black-and-white photographs their colours."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.2.0"

# Loaded when first used (PEP 562): `colorize --help` must not wait for torch.
_MODULES = {
    "Chroma": "archive.chroma",
    "ColorizationImageProcessor": "core.image_processor",
    "ColorizationPipeline": "core.pipeline",
    "ColorizationPipelineOutput": "core.pipeline",
    "ColorizationUNet": "core.unet",
    "ExponentialMovingAverage": "training.ema",
    "GreyAutoencoder": "training.autoencoder",
    "Hint": "core.hints",
    "ORTColorizationPipeline": "onnx.runtime",
    "OffsetCosineScheduler": "core.scheduler",
    "RegressionUNet": "core.regression_unet",
    "apply_chroma": "archive.overlay",
    "read_chroma": "archive.chroma",
    "VideoColorizer": "video",
}

__all__ = [*_MODULES, "__version__"]

if TYPE_CHECKING:
    from .archive.chroma import Chroma, read_chroma
    from .archive.overlay import apply_chroma
    from .core.hints import Hint
    from .core.image_processor import ColorizationImageProcessor
    from .core.pipeline import ColorizationPipeline, ColorizationPipelineOutput
    from .core.regression_unet import RegressionUNet
    from .core.scheduler import OffsetCosineScheduler
    from .core.unet import ColorizationUNet
    from .onnx.runtime import ORTColorizationPipeline
    from .training.autoencoder import GreyAutoencoder
    from .training.ema import ExponentialMovingAverage
    from .video.colorizer import VideoColorizer


def __getattr__(name: str):
    if name in _MODULES:
        try:
            return getattr(import_module(f".{_MODULES[name]}", __name__), name)
        except ModuleNotFoundError as error:
            if error.name in ("diffusers", "safetensors", "torch"):
                raise ImportError(
                    f'{name} needs {error.name}: pip install "pipeline-colorize[torch]"'
                ) from error
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
