"""XMP sidecars: files beside a photograph, in which other programs keep what they know about it."""

import os
from dataclasses import dataclass
from pathlib import Path

from .limits import LARGEST_TEXT
from .xmp import NAMESPACES, descriptions, parse_xmp, properties, read_mark, text_of

_ENDINGS = (".xmp", ".XMP")


@dataclass(frozen=True)
class Sidecar:
    """A sidecar that was found."""

    name: str
    is_appended: bool  # to the photograph's whole name, rather than to its stem
    xmp: bytes


def read_sidecar(path: Path, notes: list[str]) -> Sidecar | None:
    """Find the sidecar of the photograph at `path`: `a.jpg.xmp` or `a.xmp`.

    One of the second kind may be meant for another file of this name, such as a raw one; then it
    says so. `notes` gets a line where a sidecar is damaged.
    """
    for stem, is_appended in ((path.name, True), (path.stem, False)):
        for ending in _ENDINGS:
            file = path.with_name(stem + ending)
            if not os.path.isfile(file):  # which is also so where the name would be too long
                continue
            try:
                with open(file, "rb") as opened:
                    xmp = opened.read(LARGEST_TEXT + 1)
            except OSError as error:
                notes.append(f"its sidecar {file.name} cannot be read ({error.strerror})")
                continue
            if parse_xmp(xmp) is None:
                notes.append(f"its sidecar {file.name} is damaged and was left out")
            elif is_appended or _is_for(xmp, path.suffix):
                return Sidecar(file.name, is_appended, xmp)
    return None


def _is_for(xmp: bytes, suffix: str) -> bool:
    """Tell whether a sidecar is for files of this ending, or does not say."""
    name = NAMESPACES["photoshop"], "SidecarForExtension"
    document = parse_xmp(xmp)
    found = [
        text_of(node).strip().lower()
        for description in (descriptions(document) if document else [])
        for node in properties(description)
        if (node.namespaceURI, node.localName) == name
    ]
    return not found or suffix.removeprefix(".").lower() in found


def sidecar_path(path: Path, is_appended: bool) -> Path | None:
    """Say where the sidecar of the result at `path` goes; `None` where another program has one."""
    file = path.with_name(path.name + ".xmp") if is_appended else path.with_suffix(".xmp")
    if file.exists() and not read_mark(file.read_bytes()[:LARGEST_TEXT]):
        return None
    return file
