"""Describes in a result's metadata how its colours came to be."""

from pathlib import Path

from pipeline_colorize import __version__, photo

from .settings import Settings


def provenance(pipe, settings: Settings, sample: int) -> photo.Mark:
    """Return the description of a result, with all settings that are needed to repeat it."""
    path = Path(settings.model)
    properties = {
        "model": path.resolve().name if path.exists() else settings.model,
        "seed": settings.seed,
        "sample": f"{sample + 1} of {settings.samples}" if settings.samples > 1 else None,
        "candidates": settings.candidates,
        "steps": settings.steps or pipe.config.default_num_inference_steps,
        "scheduler": _scheduler_name(pipe),
        "eta": settings.eta,
        "processing_resolution": settings.processing_resolution,
        "second_look": settings.second_look,
        "find_margins": None if settings.find_margins else False,
        "saturation": settings.saturation if settings.saturation != 1 else None,
        "temperature": settings.temperature,
        "colored": Path(settings.colored).name if settings.colored else None,
        "mend": " ".join(_numbers(place) for place in settings.mend) or None,
        "strength": settings.strength if settings.strength != 1 else None,
        "references": " ".join(Path(path).name for path in settings.reference) or None,
        "hints": " ".join(f"{x:g},{y:g},{color}" for x, y, color in settings.hint) or None,
    }
    return photo.Mark(__version__, {k: v for k, v in properties.items() if v is not None})


def _numbers(place: tuple[float, ...]) -> str:
    return ",".join(f"{part:g}" for part in place)


def _scheduler_name(pipe) -> str | None:
    """Return the class name of the scheduler, which onnxruntime replaces by a table."""
    if pipe.scheduler is None:
        return None
    return getattr(pipe, "scheduler_name", type(pipe.scheduler).__name__)
