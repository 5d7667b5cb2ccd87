"""The Space: the real server, by its API and by its page in a real browser."""

import configparser
import importlib.util
import io
import re
import struct
import sys
import threading
import time
import types
import zipfile
import zlib
from pathlib import Path

import diffusers
import httpx
import numpy as np
import pytest
import torch
from conftest import smooth_picture
from PIL import Image
from space_server import ROOT, Space, find_browser, running_space

from pipeline_colorize import ColorizationPipeline, Hint
from pipeline_colorize.core.color import rgb_to_lab
from pipeline_colorize.photo import read, read_mark

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.utils import Status  # noqa: E402

sys.path.insert(0, str(ROOT / "space"))
import coloring  # noqa: E402
from limits import Limits  # noqa: E402

WAIT = 120_000  # milliseconds, on a busy machine
SETTINGS = {
    "COLORIZE_MAX_MB": "2",
    "COLORIZE_MAX_PIXELS": "4000000",
    "COLORIZE_MAX_PHOTOGRAPHS": "4",
    "COLORIZE_MCP": "1",
}


# Everything that a screen reader has to name, and has no name.
NAMELESS = """() => [...document.querySelectorAll(
    "button, a[href], input:not([type=file]), textarea, select, img, [role=slider]"
    )].filter(one => {
    if (!one.checkVisibility()) return false;
    const label = one.labels && one.labels.length ? one.labels[0].innerText : "";
    const text = one.alt || one.getAttribute("aria-label") || one.title || one.innerText || label;
    const other = document.getElementById(one.getAttribute("aria-labelledby"));
    const inner = one.querySelector("[aria-label], [title], img[alt]:not([alt=''])");
    return !(text || inner || (other && other.innerText));
}).map(one => one.outerHTML.slice(0, 200))"""
WATCH = """() => {
    window.pictures = new Set();
    window.bars = new Set();
    new MutationObserver(() => {
        document.querySelectorAll("#slider img").forEach(one => window.pictures.add(one.src));
        document.querySelectorAll("#results .progress-level").forEach(
            one => window.bars.add(one.innerText));
    }).observe(document.body, {subtree: true, childList: true, attributes: true});
}"""


# --- pictures -------------------------------------------------------------------------------------


def grey_photograph(path: Path, seed: int = 0, size: tuple[int, int] = (60, 84)) -> Path:
    """A small black-and-white photograph with EXIF."""
    pixels = smooth_picture(*size, seed).mean(0).mul(255).round().byte().numpy()
    exif = Image.Exif()
    exif[0x010E] = "Grandma in the garden"
    Image.fromarray(pixels).save(path, exif=exif, **({"quality": 92} if ".jp" in path.name else {}))
    return path


def png_that_claims(path: Path, width: int, height: int) -> Path:
    """A PNG of some bytes that says it is large; a decompression bomb, if anyone decodes it."""

    def chunk(name: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + end

    rows = zlib.compressobj(9)
    body = (
        b"".join(rows.compress(bytes(1 + width)) for _ in range(min(height, 3000))) + rows.flush()
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )
    return path


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """What people and others give that is no photograph, and what they should read."""
    (folder / "letter.png").write_text("Dear grandma, this is no picture.\n")
    (folder / "empty.jpg").write_bytes(b"")
    Image.new("L", (1, 1)).save(folder / "dot.png")
    whole = grey_photograph(folder / "whole.jpg", size=(300, 300)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 20])
    png_that_claims(folder / "bomb.png", 60_000, 60_000)
    png_that_claims(folder / "scan.png", 7_750, 7_750)  # sixty megapixels
    return {
        "text": (folder / "letter.png", "letter.png cannot be used: not a picture"),
        "empty": (folder / "empty.jpg", "empty.jpg cannot be used: the file is empty"),
        "dot": (folder / "dot.png", "1 x 1 pixels are too few"),
        "cut": (folder / "cut.jpg", "cut off"),
        "bomb": (folder / "bomb.png", "more than 4,000,000 pixels"),
        "scan": (folder / "scan.png", "more than 4,000,000 pixels"),
    }


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    """A folder with a photograph and with what is none."""
    folder = tmp_path_factory.mktemp("album")
    grey_photograph(folder / "grandma.jpg")
    return folder


@pytest.fixture(scope="module")
def grandma(album):
    return album / "grandma.jpg"


# --- the server -----------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The last bits of bfloat16 depend on how work is split between threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def space(tmp_path_factory, one_thread):
    """The Space of this repository, with small limits."""
    settings = {**SETTINGS, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    log = tmp_path_factory.mktemp("space") / "log.txt"
    with running_space(ROOT / "space" / "app.py", log, settings) as space:
        yield space
    errors = re.findall(r"^([\w.]+(?:Error|Exception)\b)", log.read_text(), re.M)
    assert set(errors) <= {"gradio.exceptions.InvalidPathError"}, log.read_text()  # provoked


@pytest.fixture(scope="module")
def client(space, tmp_path_factory):
    return Client(space.url, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def pipe():
    """What the Python API gives."""
    pipe = ColorizationPipeline.from_pretrained("default")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def by_python(pipe, path: Path, samples: int, seed: int, **options) -> list[np.ndarray]:
    """Pixels of all samples, by the Python API."""
    generator = torch.Generator().manual_seed(seed)
    output = pipe(read(path).image, num_samples=samples, generator=generator, **options)
    return [np.asarray(image) for image in output.images]


# --- by the API -----------------------------------------------------------------------------------


def test_the_api_gives_what_python_gives(client, pipe, grandma, album):
    png = grey_photograph(album / "grandpa.png", seed=1)
    files = client.predict(photograph=handle_file(png), samples=2, seed=7, api_name="/colorize")
    names = [Path(file).name for file in files]
    assert names == ["grandpa-colorized-1.png", "grandpa-colorized-2.png"]
    for file, expected in zip(files, by_python(pipe, png, 2, 7), strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), expected)
    (file,) = client.predict(photograph=handle_file(grandma), seed=7, api_name="/colorize")
    result = read(file)
    assert Path(file).name == "grandma-colorized.jpg" and result.exif == read(grandma).exif != b""
    mark = read_mark(result.xmp)
    assert "TrainedAlgorithmicMedia" in mark["DigitalSourceType"]
    assert mark["AIPromptInformation"].startswith("model=default; seed=7")


def test_every_control_reaches_the_model(client, pipe, album):
    path = grey_photograph(album / "deep.png")
    settings = {"steps": 3, "saturation": 0.5, "resolution": 64, "seed": 3, "sampler": "unipc"}
    settings["points"] = "20, 30, #a03020\n60, 10, 2040a0"
    (file,) = client.predict(photograph=handle_file(path), api_name="/colorize", **settings)
    scheduler = pipe.scheduler
    try:
        pipe.scheduler = diffusers.UniPCMultistepScheduler.from_config(scheduler.config)
        expected = by_python(
            pipe,
            path,
            1,
            3,
            num_inference_steps=3,
            saturation=0.5,
            processing_resolution=64,
            hints=[Hint(20, 30, "#a03020"), Hint(60, 10, "#2040a0")],
        )
    finally:
        pipe.scheduler = scheduler
    assert np.array_equal(np.asarray(Image.open(file)), expected[0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 99}, "number of colourings lies between 1 and 8"),
        ({"samples": 0}, "number of colourings"),
        ({"steps": 5000}, "number of steps lies between 1 and 100"),
        ({"resolution": 4000}, "working resolution lies between 64 and 512"),
        ({"saturation": -1}, "saturation"),
        ({"sampler": "magic"}, "no sampler magic"),
        ({"model": "/etc"}, "no model /etc here; default"),
        ({"points": "red"}, "A point of colour is x, y, #rrggbb"),
        ({"points": "900, 10, #ff0000"}, "outside the picture"),
    ],
)
def test_too_much_is_refused(client, grandma, changed, message):
    with pytest.raises(Exception, match=message):
        client.predict(photograph=handle_file(grandma), api_name="/colorize", **changed)


def test_bad_files_are_refused_in_words(client, tmp_path, grandma):
    for path, message in bad_files(tmp_path).values():
        with pytest.raises(Exception, match=message) as caught:
            client.predict(photograph=handle_file(path), api_name="/colorize")
        assert str(tmp_path) not in str(caught.value)  # and tell nothing about the server
    noise = np.random.default_rng(0).integers(0, 255, (1600, 1600), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    with pytest.raises(Exception, match="(?i)size|large|2000000|413"):
        client.predict(photograph=handle_file(tmp_path / "large.png"), api_name="/colorize")
    assert client.predict(photograph=handle_file(grandma), api_name="/colorize")  # still up


def test_an_animation_gives_its_first_frame(client, pipe, tmp_path):
    frames = [
        Image.fromarray(np.asarray(smooth_picture(40, 50, seed)[0] * 255, np.uint8))
        for seed in (1, 2)
    ]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    (file,) = client.predict(photograph=handle_file(tmp_path / "moving.gif"), api_name="/colorize")
    assert Path(file).name == "moving-colorized.png"
    expected = by_python(pipe, tmp_path / "moving.gif", 1, 0)
    assert np.array_equal(np.asarray(Image.open(file)), expected[0])


def test_sixteen_bits_stay_sixteen_bits(client, tmp_path):
    deep = (smooth_picture(40, 50).mean(0).numpy() * 65535).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    (file,) = client.predict(photograph=handle_file(tmp_path / "deep.tif"), api_name="/colorize")
    result = read(file)
    assert result.depth == 16 and result.image.shape == (40, 50, 3)


def test_many_photographs_come_back_in_a_zip(client, pipe, album, tmp_path):
    (tmp_path / "other").mkdir()
    twin = grey_photograph(tmp_path / "other" / "grandma.jpg", seed=5)
    letter, _ = bad_files(tmp_path)["text"]
    given = [handle_file(path) for path in (album / "grandma.jpg", letter, twin)]
    archive = client.predict(photographs=given, seed=4, api_name="/colorize_many")
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["grandma-colorized.jpg", "grandma-colorized-2.jpg"]
        second = Image.open(io.BytesIO(file.read("grandma-colorized-2.jpg")))
    (expected,) = by_python(pipe, twin, 1, 4)
    assert np.abs(np.asarray(second, int) - expected).mean() < 2  # but for JPEG
    for photographs, message in (
        ([handle_file(letter)], "letter.png cannot be used"),
        ([handle_file(twin)] * 5, "5 photographs are too many; 4 can be done"),
    ):
        with pytest.raises(Exception, match=message):
            client.predict(photographs=photographs, api_name="/colorize_many")


def test_nothing_outside_its_folders_is_served(space, client, grandma):
    secret = ROOT / "setup.cfg"
    for path in (secret, "/etc/passwd", "app.py", "../setup.cfg", ROOT / "space" / "app.py"):
        for prefix in ("gradio_api/file=", "file=", "static/", "assets/"):
            answer = httpx.get(f"{space.url}/{prefix}{path}")
            assert answer.status_code in (403, 404), answer.text[:200]
    for given in ({"path": str(secret)}, {"path": "/etc/passwd", "orig_name": "x.png"}):
        photograph = {**given, "meta": {"_type": "gradio.FileData"}}
        body = {"data": [photograph, 1, 0, None, "", 1, None, "", "default"]}
        call = httpx.post(f"{space.url}/gradio_api/call/colorize", json=body)
        events = httpx.get(f"{space.url}/gradio_api/call/colorize/{call.json()['event_id']}")
        assert "event: error" in events.text and "root:" not in events.text


def test_eight_people_at_once_are_served_in_order(space, tmp_path):
    paths = [grey_photograph(tmp_path / f"{n}.png", n, (300, 400)) for n in range(8)]
    clients = [Client(space.url, verbose=False, download_files=tmp_path / f"{n}") for n in range(8)]
    served, files, before = [], {}, space.memory()

    def wait(job, number: int) -> None:
        files[number] = job.result(timeout=WAIT / 1000)
        served.append(number)

    people = []
    for number, client in enumerate(clients):
        job = client.submit(handle_file(paths[number]), 2, number, api_name="/colorize")
        while job.status().code in (Status.STARTING, Status.JOINING_QUEUE, Status.SENDING_DATA):
            time.sleep(0.01)
        people.append(threading.Thread(target=wait, args=(job, number)))
        people[-1].start()
    for person in people:
        person.join()
    assert sorted(served) == list(range(8))
    displaced = [abs(place - number) for place, number in enumerate(served)]
    assert max(displaced) <= 1, served  # neighbours may be told at about the same time
    assert all(len(made) == 2 for made in files.values())
    assert space.memory("VmHWM") < before + 700


def test_agents_find_the_endpoints(space):
    pytest.importorskip("mcp")
    schema = httpx.get(f"{space.url}/gradio_api/mcp/schema").json()
    tools = {tool["name"].split("_", 1)[-1]: tool for tool in schema}
    assert any("colorize" in tool["name"] for tool in schema)
    assert len(schema) == 2, list(tools)
    assert "believable" in str(schema)


# --- by the page ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    path = find_browser()
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    sync_api.expect.set_options(timeout=WAIT)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(browser, space: Space, **options):
    """The page, ready to be used; what it asks other servers for is in its `strange`."""
    page = browser.new_page(**options)
    page.set_default_timeout(WAIT)
    page.strange, page.errors = [], []
    page.on(
        "request",
        lambda asked: (
            page.strange.append(asked.url)
            if not asked.url.startswith((space.url, "data:", "blob:"))
            else None
        ),
    )
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(space.url)
    page.wait_for_selector("#photograph input[type=file]", state="attached")
    return page


@pytest.fixture
def page(browser, space):
    page = open_page(browser, space, viewport={"width": 1280, "height": 900})
    yield page
    assert page.strange == [] and page.errors == []
    page.close()


def give(page, path: Path) -> None:
    page.set_input_files("#photograph input[type=file]", path)
    page.wait_for_selector("#colorize:not([disabled])")


def put(page, name: str, value: object) -> None:
    """Type a number into a control."""
    control = page.locator(f"#{name} input[type=number]")
    for _ in range(5):  # a control that has just unfolded may set itself once more
        control.fill(str(value))
        control.press("Tab")
        time.sleep(0.2)
        if control.input_value() == str(value):
            return
    raise AssertionError(f"{name} does not keep {value}")


def ask(page, samples: int, seed: int) -> None:
    put(page, "samples", samples)
    put(page, "seed", seed)


def colorize(page) -> None:
    page.click("#colorize")
    page.wait_for_selector("#cancel", state="visible")
    finished(page)


def finished(page) -> None:
    page.wait_for_selector("#cancel", state="hidden")


def download(page, selector: str = "#download") -> tuple[str, Path]:
    """Name and place of what a click downloads."""
    with page.expect_download() as event:
        page.click(selector)
    return event.value.suggested_filename, event.value.path()


def clip(page) -> str:
    """Where the divider between before and after is."""
    return page.locator("#slider img").nth(1).evaluate("one => one.style.clipPath")


def test_from_upload_to_download(page, pipe, tmp_path):
    path = grey_photograph(tmp_path / "grandma.png", seed=2)
    give(page, path)
    ask(page, samples=3, seed=11)
    page.get_by_role("button", name="More").click()
    put(page, "steps", 30)
    page.evaluate(WATCH)
    colorize(page)
    expected = by_python(pipe, path, 3, 11, num_inference_steps=30)
    name, place = download(page)
    assert name == "grandma-colorized-1.png"
    assert np.array_equal(np.asarray(Image.open(place)), expected[0])
    assert "seed=11; sample=1 of 3" in read_mark(read(place).xmp)["AIPromptInformation"]
    # As it happened: pictures came, and a bar grew.
    assert page.evaluate("window.pictures.size") >= 4
    assert any("Inventing colours" in text for text in page.evaluate("[...window.bars]"))

    page.click("#gallery button >> nth=2")
    page.wait_for_selector("#download:not([disabled]):has-text('3 of 3')")
    name, place = download(page)
    assert name == "grandma-colorized-3.png"
    assert np.array_equal(np.asarray(Image.open(place)), expected[2])


def test_compare_doubt_and_film(page, tmp_path):
    give(page, grey_photograph(tmp_path / "grandma.jpg", size=(120, 160)))
    ask(page, samples=2, seed=1)
    colorize(page)
    page.wait_for_selector("#slider [role=slider]")
    divider, start = page.locator("#slider [role=slider]"), clip(page)
    box = divider.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1], steps=4)
    page.mouse.up()
    dragged = clip(page)
    assert dragged != start
    divider.focus()
    page.keyboard.press("ArrowLeft")
    assert clip(page) not in (start, dragged)

    page.get_by_role("tab", name="Unsure").click()
    doubt = page.get_by_alt_text("with a glow where the colourings differ")
    sync_api.expect(doubt).to_be_visible()
    page.get_by_role("tab", name="Film").click()
    film = page.get_by_alt_text("as an animation")
    sync_api.expect(film).to_be_visible()
    data = page.request.get(film.get_attribute("src")).body()
    assert Image.open(io.BytesIO(data)).n_frames > 2
    assert page.evaluate(NAMELESS) == []


def test_a_click_gives_a_colour(page, pipe, tmp_path):
    path = grey_photograph(tmp_path / "grandma.png", size=(120, 160))
    give(page, path)
    photograph, points = page.locator("#photograph img"), page.locator("#points textarea")
    photograph.click(position={"x": 30, "y": 30})  # does nothing, while colours are folded away
    page.get_by_role("button", name="Colours that you know").click()
    page.wait_for_selector("#points", state="visible")
    time.sleep(1)
    assert points.input_value() == ""
    plain = photograph.get_attribute("src")
    box = photograph.bounding_box()
    photograph.click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    sync_api.expect(points).to_have_value(re.compile(r"^\d+, \d+, #8a3b2f$"))
    first = points.input_value()
    x, y = map(int, first.split(", ")[:2])
    assert abs(x - 80) <= 3 and abs(y - 60) <= 3  # the middle
    sync_api.expect(photograph).not_to_have_attribute("src", plain)  # the point is drawn
    above = {"x": box["width"] / 2, "y": box["height"] / 2 - 30}  # the picture has margins
    photograph.click(position=above)
    page.wait_for_function("document.querySelector('#points textarea').value.includes('\\n')")
    page.get_by_role("button", name="Undo").click()
    sync_api.expect(points).to_have_value(first)
    ask(page, samples=1, seed=5)
    colorize(page)
    _, place = download(page)
    hinted = np.asarray(Image.open(place))
    (expected,) = by_python(pipe, path, 1, 5, hints=[Hint(x, y, "#8a3b2f")])
    assert np.array_equal(hinted, expected)
    (free,) = by_python(pipe, path, 1, 5)
    wanted = Hint(0, 0, "#8a3b2f").chroma()
    assert np.abs(chroma_at(hinted, x, y) - wanted).max() < 15
    assert np.abs(chroma_at(free, x, y) - wanted).max() > 15
    page.get_by_role("button", name="Clear", exact=True).last.click()
    sync_api.expect(points).to_have_value("")


def test_a_swatch_is_the_colour_of_the_next_point(page, tmp_path):
    give(page, grey_photograph(tmp_path / "grandma.png", size=(120, 160)))
    page.get_by_role("button", name="Colours that you know").click()
    page.get_by_role("button", name="navy").click()
    time.sleep(1)
    page.locator("#photograph img").click()
    points = page.locator("#points textarea")
    sync_api.expect(points).to_have_value(re.compile(r"^\d+, \d+, #2f3f66$"))


def test_other_colours(page, tmp_path):
    give(page, grey_photograph(tmp_path / "grandma.png", size=(120, 160)))
    ask(page, samples=1, seed=5)
    colorize(page)
    _, first = download(page)
    page.get_by_role("button", name="Other colours").click()
    page.wait_for_selector("#cancel", state="visible")
    finished(page)
    sync_api.expect(page.locator("#seed input")).not_to_have_value("5")
    _, second = download(page)
    assert first.read_bytes() != second.read_bytes()


def chroma_at(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
    """Mean a*, b* of a few pixels."""
    patch = torch.from_numpy(pixels[y - 2 : y + 3, x - 2 : x + 3] / 255.0).movedim(-1, 0)
    return rgb_to_lab(patch.float())[1:].mean((1, 2)).numpy()


def processor_time(space: Space) -> float:
    """Seconds of a processor that the server has used."""
    fields = Path(f"/proc/{space.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_cancel(page, space, tmp_path):
    give(page, grey_photograph(tmp_path / "grandma.jpg", size=(300, 400)))
    page.get_by_role("button", name="More").click()
    for name, value in (("samples", 4), ("steps", 60), ("resolution", 192)):
        put(page, name, value)
    page.click("#colorize")
    page.wait_for_selector("#slider img")
    page.click("#cancel")
    sync_api.expect(page.locator("#status")).to_contain_text("Cancelled")
    sync_api.expect(page.locator("#colorize")).to_be_enabled()
    for _ in range(60):  # it stops after the step that it is in
        before = processor_time(space)
        time.sleep(1)
        if processor_time(space) - before < 0.3:
            break
    else:
        pytest.fail("the model works on after it was cancelled")
    assert "Cancelled" in page.locator("#status").inner_text()  # and stays
    for name, value in (("samples", 1), ("steps", 4), ("resolution", 64)):
        put(page, name, value)
    colorize(page)
    sync_api.expect(page.locator("#status")).to_contain_text("Colouring, seed")


def test_each_tab_stops_its_own_jobs(page, space, tmp_path):
    give(page, grey_photograph(tmp_path / "grandma.jpg", size=(300, 400)))
    page.get_by_role("button", name="More").click()
    for name, value in (("samples", 1), ("steps", 60), ("resolution", 192)):
        put(page, name, value)
    page.get_by_role("tab", name="Several").click()
    paths = [grey_photograph(tmp_path / f"{n}.png", n, (300, 400)) for n in range(4)]
    page.set_input_files("#files input[type=file]", paths)
    page.get_by_role("button", name="Colorize all").click()
    page.get_by_role("button", name="Cancel", exact=True).wait_for()
    page.get_by_role("tab", name="One photograph").click()
    for name, value in (("steps", 1), ("resolution", 64)):
        put(page, name, value)
    colorize(page)
    page.get_by_role("tab", name="Several").click()
    page.get_by_role("button", name="Cancel", exact=True).click()
    sync_api.expect(page.locator("#report")).to_contain_text("Cancelled")
    for _ in range(20):  # it stops after the photograph that it is at
        before = processor_time(space)
        time.sleep(1)
        if processor_time(space) - before < 0.3:
            break
    else:
        pytest.fail("the batch works on after it was cancelled")
    assert "Cancelled" in page.locator("#report").inner_text()


def test_another_photograph_takes_the_place_of_the_one_before(page, tmp_path):
    give(page, grey_photograph(tmp_path / "grandma.jpg", size=(300, 400)))
    ask(page, samples=2, seed=1)
    colorize(page)
    page.get_by_role("button", name="More").click()
    put(page, "steps", 100)
    page.click("#colorize")
    page.wait_for_selector("#status .progress-level")
    page.click("#cancel")  # then the result before is there again
    page.wait_for_selector("#download:not([disabled]):has-text('1 of 2')")
    page.click("#colorize")
    page.wait_for_selector("#cancel", state="visible")
    path = grey_photograph(tmp_path / "grandpa.jpg", 1, (200, 300))
    page.set_input_files("#photograph input[type=file]", path)
    page.wait_for_selector("#slider", state="hidden")
    page.wait_for_selector("#cancel", state="hidden")
    sync_api.expect(page.locator("#status")).to_contain_text("300 x 200 pixels")
    put(page, "steps", 4)
    colorize(page)
    assert download(page)[0] == "grandpa-colorized-1.jpg"
    page.get_by_role("button", name="Remove Image").click()
    sync_api.expect(page.locator("#colorize")).to_be_disabled()
    page.wait_for_selector("#slider", state="hidden")


@pytest.mark.parametrize("width", [390, 1280])
def test_all_colours_can_be_chosen(browser, space, width, tmp_path):
    page = open_page(browser, space, viewport={"width": width, "height": 900})
    give(page, grey_photograph(tmp_path / "grandma.jpg"))
    page.get_by_role("button", name="Colours that you know").click()
    page.locator("#color .dialog-button").click()
    page.get_by_role("button", name="HSL").click()
    inner, outer = (page.locator(name).bounding_box() for name in (".color-gradient", "#color"))
    assert inner["width"] > 200
    assert inner["x"] + inner["width"] <= outer["x"] + outer["width"]
    page.close()


def test_bad_files_get_a_message_and_the_page_goes_on(page, tmp_path):
    files = bad_files(tmp_path)
    for kind in ("text", "dot", "bomb", "scan"):
        path, message = files[kind]
        page.set_input_files("#photograph input[type=file]", path)
        sync_api.expect(page.locator("#status")).to_contain_text(message)
        sync_api.expect(page.locator("#colorize")).to_be_disabled()
        page.wait_for_selector("#photograph input[type=file]", state="attached")
        time.sleep(1)  # it may be drawn anew once more
    noise = np.random.default_rng(0).integers(0, 255, (1600, 1600), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    page.set_input_files("#photograph input[type=file]", tmp_path / "large.png")
    page.get_by_text("maximum allowed size").first.wait_for()
    give(page, grey_photograph(tmp_path / "good.jpg"))
    colorize(page)
    assert page.locator("#download").is_enabled()


def test_several_photographs(page, tmp_path):
    letter, _ = bad_files(tmp_path)["text"]
    paths = [grey_photograph(tmp_path / f"{name}.jpg", n) for n, name in enumerate("ab")]
    page.get_by_role("tab", name="Several").click()
    page.set_input_files("#files input[type=file]", [*paths, letter])
    page.get_by_role("button", name="Colorize all").click()
    report = page.locator("#report")
    sync_api.expect(report).to_contain_text("2 of 3 colorized")
    sync_api.expect(report).to_contain_text("letter.png cannot be used")
    _, place = download(page, "#archive a")
    assert zipfile.ZipFile(place).namelist() == ["a-colorized.jpg", "b-colorized.jpg"]
    assert page.evaluate(NAMELESS) == []


def test_an_example_by_keyboard(page):
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#colorize:not([disabled])")
    assert page.evaluate(NAMELESS) == []
    ask(page, samples=1, seed=0)
    page.locator("#colorize").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#download:not([disabled])")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(browser, space, scheme, tmp_path):
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    page = open_page(browser, space, color_scheme=scheme, **phone)
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in color[4:-1].split(",")) / 3
    assert light > 240 if scheme == "light" else light < 40
    give(page, grey_photograph(tmp_path / "grandma.jpg", size=(200, 300)))
    ask(page, samples=2, seed=0)
    colorize(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("slider", "gallery", "download"):
        box = page.locator(f"#{name}").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, name
    assert page.evaluate("window.scrollY") > 100  # it went to the result by itself
    page.close()


# --- settings -------------------------------------------------------------------------------------


def test_limits_come_from_the_environment():
    given = {"COLORIZE_QUEUE": "3", "COLORIZE_MAX_MB": "", "COLORIZE_KEEP_MINUTES": "0.5"}
    limits = Limits.from_environment(given)
    assert (limits.queue, limits.max_mb, limits.keep_minutes) == (3, 40, 0.5)
    for text in ("many", "0", "-1", "2.5"):
        with pytest.raises(ValueError, match=f"COLORIZE_QUEUE is a whole number .* '{text}'"):
            Limits.from_environment({"COLORIZE_QUEUE": text})


def test_a_picture_that_is_shown_again_is_not_written_again(monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    source = importlib.util.spec_from_file_location("again", ROOT / "space" / "app.py")
    app = importlib.util.module_from_spec(source)
    monkeypatch.setitem(sys.modules, "again", app)  # where Gradio looks for its source
    source.loader.exec_module(app)
    photograph, picture = app.Photograph(), Image.new("RGB", (20, 30), "teal")
    path = Path(photograph.postprocess(picture).path)
    assert Image.open(path).size == (20, 30) and path.is_relative_to(tmp_path)
    path.write_bytes(b"a browser may be reading this")
    assert photograph.postprocess(picture).path == str(path)
    assert path.read_bytes() == b"a browser may be reading this"


@pytest.mark.parametrize(
    ("model", "grids"),
    [("default", [(32, 40)] * 3 + [(64, 80)]), ("driving-regression", [(64, 80)])],
)
def test_colours_come_about_in_one_look_or_two_or_in_one_pass(model, grids):
    image = (255 * smooth_picture(256, 320, seed=1)[0].numpy()).astype(np.uint8)
    *steps, invented = coloring.invent(image, coloring.Settings(model=model))
    assert [tuple(chroma.shape[2:]) for chroma, _ in steps] == grids
    assert all(count == len(grids) for _, count in steps)
    assert len(invented.film) == len(grids)
    assert torch.equal(invented.film[-1], invented.chroma.half())


def test_on_a_gpu_space_the_model_asks_for_the_gpu(monkeypatch):
    asked = []
    fake = types.ModuleType("spaces")
    fake.GPU = lambda function: asked.append(function.__name__) or function
    monkeypatch.setitem(sys.modules, "spaces", fake)
    source = importlib.util.spec_from_file_location("again", ROOT / "space" / "coloring.py")
    source.loader.exec_module(importlib.util.module_from_spec(source))
    assert asked == ["invent"]


def test_the_documents_name_every_setting_and_package():
    text = (ROOT / "space" / "README.md").read_text("utf-8")
    for name, field in Limits.__dataclass_fields__.items():
        assert f"| `COLORIZE_{name.upper()}` | {field.default} |" in text
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = setup["options"]["install_requires"].split()
    needed += setup["options.extras_require"]["torch"].split()
    assert (ROOT / "space" / "requirements.txt").read_text("utf-8").split() == needed
