"""Tells films from photographs by their names; it needs no other package."""

import os
import re
from pathlib import Path

_ENDINGS = """
.3g2 .3gp .asf .avi .divx .dv .f4v .flv .m2ts .m2v .m4v .mkv .mov .mp4 .mpeg .mpg .mts .mxf .nut
.ogm .ogv .rm .rmvb .ts .vob .webm .wmv .y4m
"""
ENDINGS = frozenset(_ENDINGS.split())
"""Endings of files that are taken for films."""

_PATTERN = re.compile(r"%0?\d*d")


def is_film(name: str) -> bool:
    """Tell by a name whether it means a film: a file, or numbered stills such as `f-%04d.png`."""
    return Path(name).suffix.lower() in ENDINGS or is_numbered(name)


def is_numbered(name: str) -> bool:
    """Tell whether a name stands for numbered stills, such as `frames/%06d.png`."""
    return _PATTERN.search(os.path.basename(name)) is not None
