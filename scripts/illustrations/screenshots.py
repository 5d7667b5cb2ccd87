"""Pictures of the Space and of the page without a server, taken in a headless Chromium."""

import contextlib
import io
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from build_browser import build, make_server

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from space_server import Space, find_browser, running_space  # noqa: E402

EXAMPLES = ROOT / "space" / "examples"
DESKTOP = {"viewport": {"width": 1280, "height": 940}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
WAIT = 300_000  # milliseconds
GAP = 20  # pixels between pictures of a phone


def open_page(browser, space: Space, **options):
    """Open the Space's page and wait until it can be used."""
    page = browser.new_page(**options)
    page.set_default_timeout(WAIT)
    page.goto(space.url)
    page.wait_for_selector("#photograph input[type=file]", state="attached")
    page.wait_for_timeout(1500)
    return page


def colorize(page, photograph: str) -> None:
    """Give the Space an example and wait for its colours."""
    page.set_input_files("#photograph input[type=file]", EXAMPLES / photograph)
    page.wait_for_selector("#colorize:not([disabled])")
    page.click("#colorize")
    page.wait_for_selector("#cancel", state="visible")
    page.wait_for_selector("#cancel", state="hidden")
    page.wait_for_timeout(1500)


def shoot(page, full_page: bool = False) -> Image.Image:
    """Take a picture of what the window shows, or of the whole page."""
    taken = io.BytesIO(page.screenshot(full_page=full_page))
    return Image.open(taken, formats=["PNG"]).convert("RGB")


def write(image: Image.Image, path: Path) -> None:
    """Write a small JPEG."""
    image.save(path, quality=82)
    print(f"{path}: {path.stat().st_size // 1000} kB")


def save(page, path: Path) -> None:
    """Take a picture of the whole page, and close it."""
    write(shoot(page, full_page=True), path)
    page.close()


def take_space(browser, folder: Path) -> None:
    """Start the Space; take a desktop before and after, dark with points of colour, and a phone."""
    with (
        tempfile.TemporaryDirectory() as logs,
        running_space(ROOT / "space" / "app.py", Path(logs, "log.txt"), {}) as space,
    ):
        save(open_page(browser, space, **DESKTOP), folder / "space-start.jpg")
        page = open_page(browser, space, **DESKTOP)
        colorize(page, "migrant-mother-1936.jpg")
        save(page, folder / "space-desktop.jpg")
        page = open_page(browser, space, color_scheme="dark", **DESKTOP)
        colorize(page, "mark-twain-1907.jpg")
        page.get_by_role("button", name="Colours that you know").click()
        page.wait_for_timeout(1000)
        box = page.locator("#photograph img").bounding_box()
        for x, y in ((0.2, 0.3), (0.87, 0.75)):  # the wall and the chair
            place = {"x": box["width"] * x, "y": box["height"] * y}
            page.locator("#photograph img").click(position=place)
            page.wait_for_timeout(2000)
        page.get_by_role("tab", name="Unsure").click()
        page.wait_for_timeout(1000)
        save(page, folder / "space-dark.jpg")
        page = open_page(browser, space, device_scale_factor=1.5, **PHONE)
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


def open_static(browser, address: str, **options):
    """Open the page without a server, and wait for its model and example pictures."""
    page = browser.new_page(**options)
    page.set_default_timeout(WAIT)
    page.goto(address, wait_until="networkidle")
    page.wait_for_selector("body[data-backend]")
    return page


def imagine(page, photograph: str) -> None:
    """Give it an example and wait for its colours."""
    page.set_input_files("#file", EXAMPLES / photograph)
    page.wait_for_selector("#save:enabled")


def place(page, color: str, x: float, y: float) -> None:
    """Place a colour at shares of width and height."""
    page.click(f"#swatches [aria-label='{color}']")
    box = page.locator("#place").bounding_box()
    page.locator("#place").click(position={"x": box["width"] * x, "y": box["height"] * y})
    page.wait_for_selector("#save:enabled")


def take_browser(browser, folder: Path) -> None:
    """Build the page; take three answers on a desktop; a beginning, a result, a hint on a phone."""
    with running_page() as address:
        page = open_static(browser, address, **DESKTOP)
        page.eval_on_selector("#samples", "(select) => (select.value = '3')")
        imagine(page, "migrant-mother-1936.jpg")
        page.click("#answers button:nth-child(1)")
        page.focus("#divider")
        for _ in range(12):
            page.keyboard.press("ArrowLeft")
        page.evaluate("document.activeElement.blur()")  # without the ring that shows the focus
        page.wait_for_timeout(3000)
        save(page, folder / "browser-desktop.jpg")
        options = {"device_scale_factor": 1.25, "has_touch": True, "color_scheme": "dark"}
        page = open_static(browser, address, **PHONE, **options)
        shots = [shoot(page)]
        imagine(page, "taos-pueblo-church-1942.jpg")
        shots.append(shoot(page))
        place(page, "fair hair", 0.9, 0.55)
        page.eval_on_selector("#compare", "(frame) => frame.scrollIntoView()")
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
