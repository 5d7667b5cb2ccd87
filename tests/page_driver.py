"""The page for people, driven in Chromium: what the tests of both of its engines share."""

import io
import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import load_script, smooth_picture
from PIL import Image
from space_server import ROOT, find_browser

PATIENCE = 1000 * int(os.environ.get("COLORIZE_TEST_PATIENCE", "300"))  # milliseconds
AXE = ROOT / "space" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
DAB = 0.005
# One that shows a moving pattern, and nobody is asked whether it may.
CAMERA = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")


def launch(playwright, **options):
    """Chromium; the test is skipped where there is none."""
    path = find_browser()
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", *CAMERA]
    return playwright.chromium.launch(
        executable_path=path, args=arguments, timeout=PATIENCE, **options
    )


def open_page(browser, address: str, **options):
    """The page in a context of its own, ready to be used.

    What it asks other servers for is in its `strange`, what goes wrong in it in its `errors`.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.strange, page.errors = [], []
    own = (address, "data:", "blob:")
    context.on("request", lambda asked: asked.url.startswith(own) or page.strange.append(asked.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(address)
    page.wait_for_selector("body[data-model]")
    return page


def wait_until(page, expression: str) -> None:
    """Until JavaScript says so.

    Playwright's wait_for_function asks again by `eval` in the page, which the policy of this page
    forbids: it fails unless the first answer is yes.
    """
    until = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < until, expression
        page.wait_for_timeout(50)


class NextColors:
    """A block that is left when the page shows the next finished colours."""

    def __init__(self, page):
        self.page = page

    def __enter__(self) -> None:
        self.before = self.count()

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            wait_until(self.page, f"Number(document.body.dataset.made || 0) > {self.before}")
            self.page.wait_for_selector("#save:enabled")

    def count(self) -> int:
        return int(self.page.evaluate("document.body.dataset.made || 0"))


def choose(page, *files: Path | tuple[str, bytes], by: str = "#file") -> None:
    """Choose files, or bytes under a name."""
    given = [
        file
        if isinstance(file, Path)
        else {"name": file[0], "mimeType": "application/octet-stream", "buffer": file[1]}
        for file in files
    ]
    page.set_input_files(by, given)


def give(page, file: Path | tuple[str, bytes]) -> None:
    """Choose a photograph and wait for its colours."""
    with NextColors(page):
        choose(page, file)


def drag(page, kind: str, files: list[Path] = (), text: str = "") -> None:
    """What a person does who drags files or text to the page: dragEnter, dragOver, drop."""
    items = [{"mimeType": "text/plain", "data": text}] if text else []
    data = {"items": items, "files": [str(file) for file in files], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    session.send("Input.dispatchDragEvent", {"type": kind, "x": 300, "y": 300, "data": data})
    session.detach()


def drop(page, *files: Path, text: str = "") -> None:
    """Drop files or text on the page."""
    for kind in ("dragEnter", "dragOver", "drop"):
        drag(page, kind, files, text)


def trouble(page, about: str) -> str:
    """What the page complains of, when it has come to what it is `about`."""
    page.wait_for_selector(f"#trouble:visible:has-text('{about}')")
    return page.inner_text("#trouble")


def download(page, selector: str, folder: Path) -> Path:
    """What a click downloads."""
    with page.expect_download() as event:
        page.click(selector)
    file = folder / event.value.suggested_filename
    event.value.save_as(file)
    return file


def save(page, folder: Path, kind: str | None = None) -> Path:
    """The result that is looked at, in full size."""
    if kind is not None:
        page.select_option("#format", kind)
    file = download(page, "#save", folder)
    page.wait_for_selector("#save:enabled")
    return file


def see(page, view: str) -> None:
    """Look at one of the views."""
    page.locator(f"#see-{view}").check(force=True)


def set_range(page, selector: str, value: int) -> None:
    """Move a slider, and let it go."""
    page.eval_on_selector(
        selector,
        """(input, value) => {
            input.value = value;
            for (const kind of ["input", "change"]) input.dispatchEvent(new Event(kind));
        }""",
        str(value),
    )


def place_color(page, name: str, x: float, y: float) -> None:
    """Choose a swatch, unless it is, and touch the photograph at shares of width and height.

    The touch is a dab of the smallest brush: `DAB` of the short side.
    """
    if not page.is_checked("#brush"):
        page.check("#brush")
    set_range(page, "#reach", 2)
    swatch = page.locator("#swatches button", has_text=re.compile(f"^{name}$"))
    if swatch.get_attribute("aria-pressed") == "false":
        swatch.click()
    box = page.locator("#place").bounding_box()
    page.locator("#place").click(position={"x": x * box["width"], "y": y * box["height"]})


def take_from_second_answer(page, by: str) -> None:
    """Let the middle of the photograph take the colours of the second answer.

    By "mouse", "touch" or "keyboard" in the view of doubt, or by a "tool" of the mends.
    """
    act = page.click if by == "mouse" else page.tap
    if by == "tool":
        page.get_by_role("button", name="As in answer 2 here").tap()
        with NextColors(page):
            act("#place")
        return
    see(page, "unsure")
    if by == "keyboard":
        page.focus("#place")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.ariaLabel") == "Answer 2 here"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") == "place"
        page.keyboard.press("Enter")
    else:
        act("#place")
        assert page.get_attribute("#choices button", "aria-pressed") == "true"  # as it is
    with NextColors(page):
        page.keyboard.press("Enter") if by == "keyboard" else act("#choices button >> nth=1")
    assert page.locator("#choices button").count() == 0 and page.is_checked("#see-colour")


def check_second_answer_in_the_middle(page, by: str, folder: Path, kind=None) -> None:
    """A place takes the colours of another answer, the rest stays, and all can be undone."""

    def seen() -> np.ndarray:
        return pixels(save(page, folder, kind)).astype(int)

    with NextColors(page):
        page.select_option("#samples", "2")
    answers = []
    for number in (2, 1):
        page.click(f"#answers button:nth-child({number})")
        answers.append(seen())
        see(page, "answers")
    other, first = answers
    page.check("#brush")
    set_range(page, "#reach", 40)
    take_from_second_answer(page, by)
    assert re.match("as in answer 2 at ", page.inner_text("#mend-list"))
    mixed = seen()
    middle = tuple(slice(size // 2 - 3, size // 2 + 3) for size in mixed.shape[:2])
    assert np.abs(mixed - other)[middle].mean() < np.abs(mixed - first)[middle].mean()
    assert np.abs(mixed - first)[:20].max() <= 2
    for button, wanted in (("undo", first), ("redo", mixed)):
        with NextColors(page):
            page.click(f"#{button}")
        assert np.array_equal(seen(), wanted)


def violations(page) -> list[str]:
    """What axe-core finds wrong on the page as it is now."""
    if not AXE.is_file():
        try:
            load_script("build_browser").install()
        except SystemExit:
            pytest.skip("no npm on this machine, which axe-core would come with")
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in found]


def look_at_states(page, photograph: Path, letter: Path) -> dict[str, list[str]]:
    """What axe-core finds in each state of the page; none of them is too wide for the window.

    `letter` is a file that is no photograph.
    """
    found = {}

    def look(state: str) -> None:
        found[state] = violations(page)
        assert overflow(page) == 0, state

    page.wait_for_selector("#examples img")
    look("beginning")
    give(page, photograph)
    box, height = page.locator("#frame").bounding_box(), page.viewport_size["height"]
    assert box["y"] >= 0 and box["y"] + box["height"] / 2 < height
    with NextColors(page):
        page.select_option("#samples", "4")
    look("answers")
    see(page, "unsure")
    look("doubt")
    page.click("#place")
    page.wait_for_selector("#choices button >> nth=3")
    look("choosing in a place of doubt")
    with NextColors(page):
        place_color(page, "navy", 0.5, 0.5)
    page.click("#mends button")
    look("mending")
    page.keyboard.press("Escape")
    page.eval_on_selector("#experts", "(one) => (one.open = true)")
    page.locator("#resolution, #seed").locator("visible=true").last.scroll_into_view_if_needed()
    look("settings")
    if height >= 640:  # so low a window has no room for both
        box = page.locator("#frame").bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    choose(page, letter)
    trouble(page, letter.name)
    assert page.is_visible("#start")
    look("something went wrong")
    choose(page, photograph, letter)
    page.wait_for_selector("#items li.failed")
    look("several")
    return found


def overflow(page) -> int:
    """Pixels that the page is too wide for its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def grey_photograph(path: Path, seed: int = 0, size: tuple[int, int] = (60, 84)) -> Path:
    """A small black-and-white photograph with EXIF; `size` is (height, width)."""
    pixels = smooth_picture(*size, seed).mean(0).mul(255).round().byte().numpy()
    exif = Image.Exif()
    exif[0x010E] = "Grandma in the garden"
    Image.fromarray(pixels).save(path, exif=exif, **({"quality": 92} if ".jp" in path.name else {}))
    return path


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(path: Path) -> np.ndarray:
    """The pixels of a file."""
    return np.asarray(Image.open(path))
