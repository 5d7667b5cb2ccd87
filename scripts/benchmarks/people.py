"""How the Space serves several people at once: when the first and the last have their answer."""

import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from space_server import running_space  # noqa: E402

PATIENCE = 600.0  # seconds that somebody waits for any answer of the server
FORMATS = ["JPEG", "PNG"]  # of the photographs that are given, and of the results
TOLERANCE = 2.0  # mean grey levels between a photograph and its result, of rounding and JPEG


@dataclass
class Visit:
    """What one of the people got."""

    seconds: float  # from when all began until the answer was there
    difference: float  # mean grey levels between the photograph and the answer

    @property
    def is_own(self) -> bool:
        """Whether the answer shows the photograph that was given."""
        return self.difference < TOLERANCE


def own_photograph(photograph: Path, number: int, path: Path) -> Path:
    """Write a photograph that nobody else has: turned, mirrored and cropped in its own way."""
    ways = list(Image.Transpose)
    with Image.open(photograph, formats=FORMATS) as image:
        grey = image.convert("L")
        grey = grey.transpose(ways[number % len(ways)])
        grey.crop((number, 0, grey.width, grey.height)).save(path)
    return path


def serve_at_once(photograph: Path, people: int, samples: int) -> tuple[list[Visit], float]:
    """Let people ask a new Space for answers, all at the same moment.

    Returns:
        What each got, and the most memory of the server in megabytes.
    """
    from gradio_client import Client, handle_file

    visits: list[Visit] = []
    failures: list[Exception] = []
    with (
        tempfile.TemporaryDirectory() as name,
        running_space(ROOT / "space" / "app.py", Path(name, "log.txt"), {}) as space,
    ):
        start = threading.Barrier(people)

        def visit(number: int) -> None:
            try:
                folder = Path(name, str(number))
                options = {"verbose": False, "httpx_kwargs": {"timeout": PATIENCE}}
                client = Client(space.url, download_files=folder, **options)
                given = own_photograph(photograph, number, Path(name, f"{number}.png"))
                start.wait()
                began = time.perf_counter()
                files = client.predict(
                    photograph=handle_file(given), samples=samples, api_name="/colorize"
                )
                visits.append(Visit(time.perf_counter() - began, difference(given, files)))
            except Exception as error:  # noted here, raised where it is seen
                failures.append(error)
                start.abort()

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(people)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return visits, space.memory("VmHWM")


def difference(photograph: Path, files: list[str]) -> float:
    """Mean grey levels between a photograph and the farthest of its results."""
    grey = np.asarray(Image.open(photograph, formats=FORMATS), float)
    results = [np.asarray(Image.open(file, formats=FORMATS).convert("L"), float) for file in files]
    if any(result.shape != grey.shape for result in results):
        return float("inf")
    return max(float(np.abs(result - grey).mean()) for result in results)


def report(photograph: Path, people: int, samples: int) -> None:
    """Print when the first and the last had their answer, and the memory."""
    load = os.getloadavg()[0]
    visits, memory = serve_at_once(photograph, people, samples)
    seconds = sorted(visit.seconds for visit in visits)
    strangers = sum(not visit.is_own for visit in visits)
    print(
        f"{people} people, {samples} answers each, {os.cpu_count()} cores, load {load:.1f} before"
    )
    print(f"first after {seconds[0]:.1f} s, last after {seconds[-1]:.1f} s")
    print(f"memory of the server: {memory / 1000:.2f} GB at most")
    print(f"answers that show another photograph: {strangers}")
