"""Take the pictures of the Space's page that docs/space.md shows.

    python scripts/screenshots.py [FOLDER]

It starts the Space and opens it in a headless Chromium (extra `test`, and a browser).
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from space_server import Space, find_browser, running_space  # noqa: E402

EXAMPLES = ROOT / "space" / "examples"
DESKTOP = {"viewport": {"width": 1280, "height": 940}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}
WAIT = 300_000  # milliseconds


def open_page(browser, space: Space, **options):
    """The page, ready to be used."""
    page = browser.new_page(**options)
    page.set_default_timeout(WAIT)
    page.goto(space.url)
    page.wait_for_selector("#photograph input[type=file]", state="attached")
    page.wait_for_timeout(1500)
    return page


def colorize(page, photograph: str) -> None:
    """Give an example and wait for its colours."""
    page.set_input_files("#photograph input[type=file]", EXAMPLES / photograph)
    page.wait_for_selector("#colorize:not([disabled])")
    page.click("#colorize")
    page.wait_for_selector("#cancel", state="visible")
    page.wait_for_selector("#cancel", state="hidden")
    page.wait_for_timeout(1500)


def save(page, path: Path) -> None:
    """What the page shows, as a small JPEG."""
    with tempfile.TemporaryDirectory() as folder:
        page.screenshot(path=f"{folder}/page.png", full_page=True)
        Image.open(f"{folder}/page.png").convert("RGB").save(path, quality=82)
    print(f"{path}: {path.stat().st_size // 1000} kB")
    page.close()


def take_all(browser, space: Space, folder: Path) -> None:
    """Desktop before and after, dark with points of colour, phone."""
    save(open_page(browser, space, **DESKTOP), folder / "space-start.jpg")
    page = open_page(browser, space, **DESKTOP)
    colorize(page, "young-mother-oklahoma-1937.jpg")
    save(page, folder / "space-desktop.jpg")
    page = open_page(browser, space, color_scheme="dark", **DESKTOP)
    colorize(page, "mark-twain-1907.jpg")
    page.get_by_role("button", name="Colours that you know").click()
    page.wait_for_timeout(1000)
    box = page.locator("#photograph img").bounding_box()
    for x, y in ((0.2, 0.3), (0.45, 0.8)):
        place = {"x": box["width"] * x, "y": box["height"] * y}
        page.locator("#photograph img").click(position=place)
        page.wait_for_timeout(2000)
    page.get_by_role("tab", name="Unsure").click()
    page.wait_for_timeout(1000)
    save(page, folder / "space-dark.jpg")
    page = open_page(browser, space, **PHONE)
    colorize(page, "young-mother-oklahoma-1937.jpg")
    save(page, folder / "space-phone.jpg")


def main() -> None:
    """Start server and browser, take the pictures, stop both."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as logs, sync_playwright() as playwright:
        with running_space(ROOT / "space" / "app.py", Path(logs, "log.txt"), {}) as space:
            options = {"executable_path": find_browser(), "args": ["--no-sandbox"]}
            take_all(playwright.chromium.launch(**options), space, folder)


if __name__ == "__main__":
    main()
