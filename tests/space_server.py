"""The Space as a process of its own, for tests and screenshots."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Space:
    """A server that is up."""

    url: str
    process: subprocess.Popen
    log: Path

    def memory(self, kind: str = "VmRSS") -> float:
        """Megabytes that it takes, or took at most (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 1000


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running_space(
    app: Path, log: Path, settings: dict[str, str], python: tuple[str, ...] = (), seconds=300
) -> Iterator[Space]:
    """`app` on a port of loopback, with environment variables, until the block is left."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COLORIZE_", "GRADIO_"))}
    port = free_port()
    kept |= {"GRADIO_SERVER_PORT": str(port), "PYTHONUNBUFFERED": "1", **settings}
    with open(log, "w") as output:
        process = subprocess.Popen(
            [sys.executable, *python, str(app)],
            cwd=app.parent,
            env=kept,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + seconds
        while "Running on local URL" not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the Space did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield Space(f"http://127.0.0.1:{port}", process, log)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def find_browser() -> str | None:
    """Chromium or its like on this machine."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)
