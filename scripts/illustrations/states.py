"""Every state of the page for people, on three widths, in light and dark, to be looked at."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image

from illustrations.screenshots import EXAMPLES, ROOT, colors, open_page, running_page, see

sys.path.insert(0, str(ROOT / "tests"))

from page_driver import place_color, set_range
from space_server import find_browser, running_space

PHOTOGRAPH = EXAMPLES / "young-mother-oklahoma-1937.jpg"
OTHERS = [EXAMPLES / f"{name}.jpg" for name in ("mark-twain-1907", "wright-flyer-1903")]
IN_COLOR = EXAMPLES / "color" / "kodim04.jpg"
WINDOWS: dict[str, dict] = {
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "has_touch": True,
        "is_mobile": True,
    },
    "desktop": {"viewport": {"width": 1440, "height": 900}},
}
SIZES = {"phone": [(390, 844)], "desktop": [(1024, 768), (1440, 900)]}
MANY_STEPS = "100"


class Camera:
    """Takes pictures of what a page shows, in all of its sizes, in light and dark.

    Args:
        page: the page.
        folder: where the PNG files go.
        sizes: pairs of width and height of the window.
        only: names of the states that are drawn; all where it is empty.
    """

    def __init__(self, page, folder: Path, sizes: list[tuple[int, int]], only: tuple[str, ...]):
        self.page, self.folder, self.sizes, self.only = page, folder, sizes, only

    def shoot(self, state: str) -> None:
        """Draw a state into files that are called after it, the width and the scheme."""
        if self.only and state not in self.only:
            return
        for width, height in self.sizes:
            self.page.set_viewport_size({"width": width, "height": height})
            for scheme in ("light", "dark"):
                self.page.emulate_media(color_scheme=scheme)
                self.page.evaluate("scrollTo({ top: 0 })")
                self.page.wait_for_timeout(150)
                path = self.folder / f"{state}-{width}-{scheme}.png"
                self.page.screenshot(path=path, full_page=True)


def write_clip(path: Path) -> Path:
    """Write a film of a second, over which the camera moves along a photograph."""
    photograph = Image.open(EXAMPLES / "wright-flyer-1903.jpg", formats=["JPEG"])
    wide = np.asarray(photograph.convert("L").resize((400, 240)))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(25):
            grey = np.ascontiguousarray(wide[:, 2 * index : 2 * index + 320])
            frame = av.VideoFrame.from_ndarray(grey, format="gray").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def touch(page, x: float, y: float) -> None:
    """Touch the photograph at shares of its width and height, while it waits for that."""
    box = page.locator("#place").bounding_box()
    page.locator("#place").click(position={"x": x * box["width"], "y": y * box["height"]})


def take_one(page, camera: Camera) -> None:
    """Draw what there is with one answer."""
    camera.shoot("01-beginning")
    colors(page, lambda: page.set_input_files("#file", PHOTOGRAPH))
    camera.shoot("03-result")
    see(page, "compare")
    set_range(page, "#divider", 40)
    camera.shoot("04-divider")
    page.dispatch_event("#hold", "pointerdown")
    camera.shoot("05-held")
    page.dispatch_event("#hold", "pointerup")
    see(page, "colour")
    for _ in range(3):
        page.click("#closer")
    camera.shoot("06-zoomed")
    page.click("#fit")
    see(page, "unsure")
    camera.shoot("07-doubt-of-one-answer")
    see(page, "film")
    camera.shoot("08-steps")
    see(page, "colour")
    set_range(page, "#saturation", 160)
    set_range(page, "#warmth", -60)
    camera.shoot("09-stronger-and-cooler")
    set_range(page, "#saturation", 100)
    set_range(page, "#warmth", 0)
    page.click("summary:has-text('Before and after')")
    page.click("summary:has-text('For experts')")
    camera.shoot("10-folds-open")
    page.click("summary:has-text('Before and after')")
    page.click("summary:has-text('For experts')")


def take_colors_and_mends(page, camera: Camera) -> None:
    """Draw how colours are set and places are mended, with four answers."""
    page.click("#swatches button:has-text('navy')")
    camera.shoot("11-colour-chosen")
    colors(page, lambda: touch(page, 0.5, 0.8))
    colors(page, lambda: place_color(page, "rose", 0.8, 0.4))
    page.keyboard.press("Escape")
    camera.shoot("12-colours-set")
    colors(page, lambda: page.select_option("#samples", "4"))
    camera.shoot("13-answers")
    page.click("#answers button:nth-child(2)")
    page.wait_for_timeout(1000)
    camera.shoot("14-one-of-the-answers")
    see(page, "unsure")
    camera.shoot("15-doubt")
    touch(page, 0.6, 0.4)
    camera.shoot("16-doubt-touched")
    colors(page, lambda: page.click("#choices button >> nth=2"))
    page.check("#brush")
    colors(page, lambda: set_range(page, "#reach", 20))  # the colours set last become larger
    page.click("#mends button:has-text('Other colours')")
    camera.shoot("17-mend-chosen")
    colors(page, lambda: touch(page, 0.7, 0.7))
    page.keyboard.press("Escape")
    camera.shoot("18-mended")
    page.check("#thing")


def take_working(page, camera: Camera, fold: str) -> None:
    """Draw colours on their way, and what is said when they are stopped."""
    page.eval_on_selector("#experts", "(one) => (one.open = true)")
    page.fill("#steps", MANY_STEPS)
    page.press("#steps", "Tab")
    page.wait_for_selector("#status:has-text('step')")
    camera.shoot("02-working")
    page.click("#stop")
    page.wait_for_selector("#save:enabled")
    camera.shoot("20-stopped")
    page.eval_on_selector("#experts", f"(one) => (one.open = {fold})")


def take_example(page, camera: Camera) -> None:
    """Draw an example in colour that is followed."""
    colors(page, lambda: page.set_input_files("#example", IN_COLOR))
    camera.shoot("19-example-in-colour")


def answering(status: int, **content: str):
    """Answer like this, whatever is asked."""
    return lambda route: route.fulfill(status=status, json=content)


def take_errors_of_server(page, camera: Camera) -> None:
    """Draw what a server refuses, and what happens without one."""
    page.route("**/results/*/file*", answering(410, error="That result was deleted."))
    page.click("#save")
    page.wait_for_selector("#trouble:visible")
    camera.shoot("21-expired")
    page.unroute("**/results/*/file*")
    page.route("**/queue/join", answering(503, detail=""))
    page.click("#again")
    page.wait_for_selector("#trouble:has-text('Many')")
    camera.shoot("22-queue-full")
    page.unroute("**/queue/join")
    page.context.set_offline(True)
    page.click("#again")
    page.wait_for_selector("#status:has-text('lost')")
    camera.shoot("23-connection-lost")
    page.click("#stop")
    page.context.set_offline(False)


def take_files(page, camera: Camera, folder: Path) -> None:
    """Draw a file that is refused, and several photographs."""
    letter = folder / "letter from grandma.png"
    letter.write_text("This is no picture.")
    page.set_input_files("#file", letter)
    page.wait_for_selector("#trouble:visible")
    page.wait_for_selector("#start:visible")
    camera.shoot("24-file-refused")
    page.set_input_files(
        "#file", [PHOTOGRAPH, *OTHERS, letter, EXAMPLES / "taos-pueblo-church-1942.jpg"]
    )
    page.wait_for_selector("#items li.done")
    camera.shoot("25-several-working")
    page.wait_for_selector("body:not([data-busy])")
    camera.shoot("26-several-finished")
    page.click("#leave")
    page.wait_for_selector("#start:visible")
    camera.shoot("27-what-you-made")


def take_film(page, camera: Camera, folder: Path) -> None:
    """Draw a film on its way and finished."""
    page.set_input_files("#clip", write_clip(folder / "kitty-hawk.mp4"))
    page.wait_for_selector("#status:has-text('frame')")
    camera.shoot("28-film-working")
    page.wait_for_selector("#save-movie:enabled")
    camera.shoot("29-film")
    page.click("#close-movie")


def take_states_of_space(page, camera: Camera, folder: Path) -> None:
    """Draw all states of the Space."""
    take_one(page, camera)
    take_working(page, camera, "false")
    take_colors_and_mends(page, camera)
    take_example(page, camera)
    take_errors_of_server(page, camera)
    take_files(page, camera, folder)
    take_film(page, camera, folder)


def take_states_of_page(page, camera: Camera, folder: Path) -> None:
    """Draw all states of the page without a server."""
    take_one(page, camera)
    take_colors_and_mends(page, camera)
    take_files(page, camera, folder)


@contextlib.contextmanager
def running(engine: str, folder: Path) -> Iterator[str]:
    """Start the Space or the page without a server, and yield its address."""
    if engine == "browser":
        with running_page() as address:
            yield address
    else:
        with running_space(ROOT / "space" / "app.py", folder / "log.txt", {}) as space:
            yield space.url


TAKES = {"space": take_states_of_space, "browser": take_states_of_page}


def take(engine: str, output: Path, only: tuple[str, ...]) -> None:
    """Draw the states of the "space" or of the page in the "browser" into a folder.

    Args:
        engine: the key in `TAKES`.
        output: the folder for the PNG files.
        only: names of the states that are drawn; all where it is empty.
    """
    from playwright.sync_api import sync_playwright

    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        with running(engine, Path(name)) as address:
            for window, sizes in SIZES.items():
                page = open_page(browser, address, **WINDOWS[window])
                TAKES[engine](page, Camera(page, output, sizes, only), Path(name))
                page.close()
