"""Colours films: frames in, coloured frames out, steady in time; needs the extra `video`."""

from importlib import import_module
from typing import TYPE_CHECKING

_MODULES = {
    "FilmError": "reading",
    "FilmOptions": "film",
    "FilmResult": "film",
    "Reference": "references",
    "Seen": "colorizer",
    "VideoColorizer": "colorizer",
    "VideoColorizerOutput": "colorizer",
    "colorize_film": "film",
    "is_film": "names",
}

__all__ = list(_MODULES)

if TYPE_CHECKING:
    from .colorizer import Seen, VideoColorizer, VideoColorizerOutput
    from .film import FilmOptions, FilmResult, colorize_film
    from .names import is_film
    from .reading import FilmError
    from .references import Reference


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name in ("av", "cv2", "scenedetect"):
            raise ImportError(
                f'{name} needs {error.name}: pip install "pipeline-colorize[video]"'
            ) from error
        raise
