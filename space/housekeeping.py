"""Nothing that visitors gave or got stays on the disk for longer than they were told."""

import os
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path


class Sweeper:
    """Deletes files of a folder by their age, whoever wrote them there.

    Gradio's own `delete_cache` knows the files of its components as they were when the page was
    built. Those of a component that an update has made anew, and what an upload that was broken off
    leaves behind, it never deletes.

    Args:
        folder: all files below it, which must be the Space's alone.
        seconds: age since a file was written, renamed or handed out again, after which it goes.
        kept: files that stay, asked for at each turn: those that belong to the page.
    """

    def __init__(self, folder: Path, seconds: float, kept: Callable[[], Collection[str]] = tuple):
        self.folder, self.seconds, self.kept = folder, seconds, kept
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def __enter__(self) -> "Sweeper":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(max(0.2, self.seconds / 20)):
            self.sweep()

    def sweep(self) -> None:
        """Delete what is too old by now, and folders that are empty."""
        oldest, kept = time.time() - self.seconds, {os.path.realpath(one) for one in self.kept()}
        for place, _, names in os.walk(self.folder, topdown=False):
            for name in names:
                path = os.path.join(place, name)
                if os.path.realpath(path) not in kept:
                    _delete_before(path, oldest)
            if place != str(self.folder):
                _delete_before(place, oldest, os.rmdir)


def _delete_before(path: str, oldest: float, delete: Callable[[str], None] = os.unlink) -> None:
    try:
        if os.lstat(path).st_ctime < oldest:
            delete(path)
    except OSError:
        pass  # it is gone, or a folder in use; the next turn looks again
