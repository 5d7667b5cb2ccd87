"""Pictures of the Space and of the page without a server, taken in a headless Chromium."""

import contextlib
import io
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from build_browser import build, make_server

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from space_server import find_browser, running_space  # noqa: E402

EXAMPLES = ROOT / "space" / "examples"
DESKTOP = {"viewport": {"width": 1280, "height": 940}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
WAIT = 300_000  # milliseconds
GAP = 20  # pixels between pictures of a phone


def open_page(browser, address: str, **options):
    """Return the page, with all that it loads."""
    page = browser.new_page(**options)
    page.set_default_timeout(WAIT)
    page.goto(address, wait_until="networkidle")
    page.wait_for_selector("body[data-model]")
    return page


def colors(page, do: Callable[[], object]) -> None:
    """Do something and wait for the colours that come of it."""
    page.evaluate("delete document.body.dataset.made")
    do()
    page.wait_for_selector("body[data-made]")
    page.wait_for_timeout(500)


def colorize(page, photograph: str, answers: int = 1) -> None:
    """Give it an example and wait for its colours, and for those of several answers."""
    colors(page, lambda: page.set_input_files("#file", EXAMPLES / photograph))
    if answers > 1:
        colors(page, lambda: page.select_option("#samples", str(answers)))
        page.click("#answers button:nth-child(1)")


def see(page, view: str) -> None:
    """Choose what to look at."""
    page.locator(f"#see-{view}").check(force=True)
    page.wait_for_timeout(1000)


def shoot(page) -> Image.Image:
    """Take a picture of what the window shows."""
    taken = io.BytesIO(page.screenshot())
    return Image.open(taken, formats=["PNG"]).convert("RGB")


def write(image: Image.Image, path: Path) -> None:
    """Write a small JPEG."""
    image.save(path, quality=82)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def save(page, path: Path) -> None:
    """Take a picture of what the window shows, and close it."""
    write(shoot(page), path)
    page.close()


def take_space(browser, folder: Path) -> None:
    """Start the Space; desktop before and after, dark with points of colour, phone."""
    with (
        tempfile.TemporaryDirectory() as logs,
        running_space(ROOT / "space" / "app.py", Path(logs, "log.txt"), {}) as space,
    ):
        save(open_page(browser, space.url, **DESKTOP), folder / "space-start.jpg")
        page = open_page(browser, space.url, **DESKTOP)
        colorize(page, "migrant-mother-1936.jpg", 4)
        see(page, "answers")
        write(shoot(page), folder / "space-answers.jpg")
        see(page, "compare")
        save(page, folder / "space-desktop.jpg")
        page = open_page(browser, space.url, device_scale_factor=1.5, **PHONE)
        colorize(page, "migrant-mother-1936.jpg")
        save(page, folder / "space-phone.jpg")


@contextlib.contextmanager
def running_page() -> Iterator[str]:
    """Build the page without a server, serve it, and yield its address."""
    with tempfile.TemporaryDirectory() as name:
        build(Path(name), "default", "fp16")
        with make_server(Path(name)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()


def take_browser(browser, folder: Path) -> None:
    """Build the page; take a beginning, a result and several photographs on a phone."""
    with running_page() as address:
        page = open_page(browser, address, **PHONE, device_scale_factor=1.25, has_touch=True)
        shots = [shoot(page)]
        colorize(page, "migrant-mother-1936.jpg")
        shots.append(shoot(page))
        names = ("migrant-mother-1936.jpg", "mark-twain-1907.jpg")
        page.set_input_files("#file", [EXAMPLES / name for name in names])
        page.wait_for_selector("#items li.done >> nth=1")
        page.wait_for_timeout(1000)
        shots.append(shoot(page))
        page.close()
    width, height = shots[0].size
    strip = Image.new("RGB", ((width + GAP) * len(shots) - GAP, height), "#888")
    for index, one in enumerate(shots):
        strip.paste(one, (index * (width + GAP), 0))
    write(strip, folder / "browser-phone.jpg")


TAKES = {"space": take_space, "browser": take_browser}


def take(what: list[str], output: Path) -> None:
    """Take the pictures of "space" and "browser" into a folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launch = {"executable_path": find_browser(), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**launch)
        for name in what:
            TAKES[name](browser, output)
