"""Tells how a result that is there was made, by what it says of itself."""

from pathlib import Path

from pipeline_colorize import photo
from pipeline_colorize.archive.chroma import SUFFIX as CHROMA
from pipeline_colorize.archive.chroma import read_chroma

from . import places
from .provenance import given_colors, says_otherwise
from .settings import Settings


def made_otherwise(path: Path, settings: Settings) -> bool:
    """Tell whether a result was made by other hints, references or mends than those given.

    A file that does not say how it was made counts as made otherwise. Where none of these options
    is given, no file is opened.
    """
    return bool(given_colors(settings)) and says_otherwise(_mark_of(path), settings)


def _mark_of(path: Path) -> str:
    """Return the settings that a result says it was made with; empty if it says nothing."""
    try:
        with places.local_copy(path) as file:
            if path.name.endswith(CHROMA):
                return read_chroma(file).mark.lines()["AIPromptInformation"]
            return photo.read_mark(photo.read_packet(file)).get("AIPromptInformation", "")
    except (OSError, ValueError):  # it is damaged, or not a picture
        return ""
