"""Keeps the work on a film beside its result, so that an interrupted run goes on."""

import contextlib
import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from .reading import numbered_files
from .shots import Shot, read_shots, write_shots

# Bytes at the beginning and the end of a film by which a change of it is noticed.
_SAMPLE = 1 << 20


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the power goes."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def fingerprint(path: Path) -> str:
    """Return a text that changes with a film: a file's size and the bytes at its beginning and end.

    For numbered stills it is made of their names, sizes and dates.
    """
    digest = hashlib.sha256()
    if files := numbered_files(path):
        for still in files:
            state = still.stat()
            digest.update(f"{still.name} {state.st_size} {state.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:32]
    size = path.stat().st_size
    digest.update(str(size).encode())
    with open(path, "rb") as file:
        digest.update(file.read(_SAMPLE))
        if size > 2 * _SAMPLE:
            file.seek(-_SAMPLE, os.SEEK_END)
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:32]


class WorkFolder:
    """The folder beside a result that holds what is done of it.

    Args:
        target: the result.
        identity: what the work depends on: the source and the options. Work that was done with
            another identity is left behind.
    """

    def __init__(self, target: Path, identity: dict[str, Any]):
        self.path = self.place(target)
        self._identity = json.dumps(identity, sort_keys=True, default=str)
        self.was_stale = False

    @staticmethod
    def place(target: Path) -> Path:
        """Tell where the folder of a result is, if there is one."""
        return target.with_name(f"{target.name}.work")

    def open(self) -> None:
        """Make the folder, and empty it if it is of other options or another source."""
        self.path.mkdir(parents=True, exist_ok=True)
        note = self.path / "film.json"
        if note.exists() and note.read_text() != self._identity:
            self.was_stale = any(self.path.glob("part-*"))
            self.clear()
        if not note.exists():
            write_atomically(note, self._identity.encode())

    def clear(self) -> None:
        """Delete what was made, but for pictures in `keyframes`, which may be somebody's own."""
        for pattern in ("part-*", "scene-*", ".*.part", "film.json", "frames.json", "shots.csv"):
            for file in self.path.glob(pattern):
                file.unlink()

    def remove(self) -> None:
        """Delete the folder with all that was made."""
        self.clear()
        for file in (*(self.path / "keyframes").glob("shot-*.png"), self.path / "keyframes.json"):
            file.unlink(missing_ok=True)
        for folder in (self.path / "keyframes", self.path):
            with contextlib.suppress(OSError):
                folder.rmdir()

    # --- what is known of the frames --------------------------------------------------------------

    def read_frames(self) -> dict[str, Any] | None:
        """Return what `write_frames` wrote, or `None`."""
        file = self.path / "frames.json"
        return json.loads(file.read_text()) if file.exists() else None

    def write_frames(self, frames: dict[str, Any], shots: list[Shot], seconds: list[float]) -> None:
        """Keep the timeline and the shots."""
        table = self.path / "shots.csv"
        write_shots(table, shots, seconds)
        write_atomically(self.path / "frames.json", json.dumps(frames).encode())

    def shots(self, frames: int) -> list[Shot]:
        """Return the shots that were found."""
        return read_shots(self.path / "shots.csv", frames)

    # --- parts ------------------------------------------------------------------------------------

    def segment(self, number: int) -> Path:
        """Return the file of a part's coloured frames."""
        return self.path / f"part-{number:06d}.mkv"

    def part_state(self, number: int) -> dict[str, Any] | None:
        """Return what was kept of a finished part, or `None` if it is not finished."""
        note = self.path / f"part-{number:06d}.json"
        if not note.exists():
            return None
        state = json.loads(note.read_text())
        return state if state.get("stills") or self.segment(number).exists() else None

    def finish_part(self, number: int, state: dict[str, Any]) -> None:
        """Note that a part is finished; its segment has been written before."""
        write_atomically(self.path / f"part-{number:06d}.json", json.dumps(state).encode())

    def drop_part(self, number: int) -> None:
        """Forget a finished part."""
        for file in self.path.glob(f"part-{number:06d}.*"):
            file.unlink()

    # --- pictures of the shots --------------------------------------------------------------------

    def picture(self, shot: int) -> Path:
        """Return the picture of a shot, which somebody may replace by one with other colours."""
        return self.path / "keyframes" / f"shot-{shot:04d}.png"

    def own_picture(self, shot: int) -> str | None:
        """Return the digest of a shot's picture if somebody else made it; else `None`."""
        file = self.picture(shot)
        if not file.exists():
            return None
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
        return None if digest in self._made() else digest

    def keep_picture(self, shot: int, content: bytes) -> None:
        """Write the picture of a shot, unless somebody has put their own there."""
        if self.own_picture(shot):
            return
        self.picture(shot).parent.mkdir(exist_ok=True)
        made = [*self._made(), hashlib.sha256(content).hexdigest()[:32]]
        write_atomically(self.path / "keyframes.json", json.dumps(made).encode())
        write_atomically(self.picture(shot), content)

    def _made(self) -> list[str]:
        file = self.path / "keyframes.json"
        return json.loads(file.read_text()) if file.exists() else []

    # --- colours that other parts begin with ------------------------------------------------------

    def lead(self, number: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Read the last light and chroma of a part, with which the next part of its shot begins."""
        return _read_frame(self.path / f"part-{number:06d}.npz")

    def keep_lead(self, number: int, light: np.ndarray, chroma: np.ndarray) -> None:
        """Keep the last light and chroma of a part."""
        _write_frame(self.path / f"part-{number:06d}.npz", light, chroma)

    def scene(self, shot: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the light and chroma of a frame of a shot, which other shots show again."""
        return _read_frame(self.path / f"scene-{shot:06d}.npz")

    def keep_scene(self, shot: int, light: np.ndarray, chroma: np.ndarray) -> None:
        """Keep the light and chroma of a frame of a shot."""
        _write_frame(self.path / f"scene-{shot:06d}.npz", light, chroma)


def _read_frame(file: Path) -> tuple[np.ndarray, np.ndarray] | None:
    if not file.exists():
        return None
    with np.load(file) as arrays:
        return arrays["light"], arrays["chroma"]


def _write_frame(file: Path, light: np.ndarray, chroma: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez(content, light=light, chroma=chroma)
    write_atomically(file, content.getvalue())
