"""Time the page of scripts/build_browser.py in a headless Chromium, with WebAssembly.

Each visit begins with nothing kept from the one before. The page comes from this computer, so that
loading is without the network. It needs the extra `test`, and a browser.
"""

import os
import re
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from PIL import ImageOps

from build_browser import make_server

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from space_server import find_browser  # noqa: E402

from pipeline_colorize.photo import open_picture  # noqa: E402

PHOTOGRAPH = ROOT / "space" / "examples" / "chicago-dearborn-randolph-1909.jpg"
WAIT = 600_000  # milliseconds


def visit(browser, address: str, photograph: Path) -> dict[str, float]:
    """Measure the seconds of one visit: loading, then twice the same photograph.

    "colours" is what the page itself says; "screen" is from the file to the finished picture.
    """
    context = browser.new_context()
    context.set_default_timeout(WAIT)
    page = context.new_page()
    seconds = {}
    began = time.perf_counter()
    page.goto(f"{address}?backend=wasm")
    page.wait_for_selector("body[data-backend]")
    seconds["loading"] = time.perf_counter() - began
    for turn in ("first", "next"):
        began = time.perf_counter()
        page.set_input_files("#file", photograph)
        page.wait_for_selector("#status:has-text('Done in')")
        seconds[f"{turn} screen"] = time.perf_counter() - began
        said = re.search(r"Done in ([\d.]+) seconds", page.inner_text("#status"))
        seconds[f"{turn} colours"] = float(said[1]) if said else float("nan")
        began = time.perf_counter()
        with page.expect_download():
            page.click("#save")
        page.wait_for_selector("#save:enabled")
        seconds[f"{turn} JPEG"] = time.perf_counter() - began
        page.click("#close")
    context.close()
    return seconds


def measure(folder: Path, size: tuple[int, int], visits: int) -> dict[str, float]:
    """Take the medians of some visits, with a photograph of `size` (width, height)."""
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as temporary,
        make_server(folder) as server,
        sync_playwright() as playwright,
    ):
        photograph = Path(temporary, "photograph.jpg")
        ImageOps.fit(open_picture(PHOTOGRAPH).convert("L"), size).save(photograph, quality=90)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        options = {"executable_path": find_browser(), "args": ["--no-sandbox"], "timeout": WAIT}
        browser = playwright.chromium.launch(**options)
        print(f"Chromium {browser.version}, {os.cpu_count()} cores")
        runs = [visit(browser, address, photograph) for _ in range(visits)]
        browser.close()
        server.shutdown()
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def report(folder: Path, size: tuple[int, int], visits: int) -> None:
    """Measure and print."""
    print(f"load average before: {os.getloadavg()[0]:.1f}")
    seconds = measure(folder, size, visits)
    print(f"{size[0]}x{size[1]}, median of {visits} visits; load average: {os.getloadavg()[0]:.1f}")
    print(f"loading               {seconds['loading']:6.2f} s")
    for turn in ("first", "next"):
        print(f"{turn} photograph")
        print(f"  colours             {seconds[f'{turn} colours']:6.2f} s")
        print(f"  file to screen      {seconds[f'{turn} screen']:6.2f} s")
        print(f"  JPEG at full size   {seconds[f'{turn} JPEG']:6.2f} s")
