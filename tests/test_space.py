"""The Space: the real server, by its API and by its page in a real browser."""

import configparser
import importlib.util
import io
import re
import shutil
import struct
import sys
import threading
import time
import types
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import av
import diffusers
import httpx
import numpy as np
import pytest
import torch
from conftest import load_script, smooth_picture
from firefox_driver import running_firefox
from page_driver import (
    PATIENCE,
    NextColors,
    check_second_answer_in_the_middle,
    choose,
    download,
    drop,
    give,
    grey_photograph,
    launch,
    look_at_states,
    open_page,
    overflow,
    pixels,
    place_color,
    save,
    see,
    set_range,
    trouble,
    violations,
    wait_until,
)
from PIL import Image
from space_server import ROOT, Space, running_space
from test_video import pan, write_film

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

WAIT = PATIENCE
SETTINGS = {
    "COLORIZE_MAX_MB": "2",
    "COLORIZE_MAX_PIXELS": "4000000",
    "COLORIZE_MAX_PHOTOGRAPHS": "4",
    "COLORIZE_MAX_REFERENCES": "2",
    "COLORIZE_MAX_FILM_FRAMES": "30",
    "COLORIZE_MCP": "1",
}


# --- pictures -------------------------------------------------------------------------------------


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
    folder = tmp_path_factory.mktemp("space")
    settings = {**SETTINGS, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    settings["GRADIO_TEMP_DIR"] = str(folder / "files")
    log = folder / "log.txt"
    with running_space(ROOT / "space" / "app.py", log, settings) as space:
        space.files = folder / "files"
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
        ({"resolution": 4000}, "working resolution lies between 64 and 1024"),
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


def same_in_color(folder: Path) -> Path:
    """Write part.png, a grey photograph, and red.png and blue.png, which show it in colour."""
    with Image.open(ROOT / "space" / "examples" / "color" / "kodim07.jpg") as whole:
        whole.thumbnail((300, 300))
        whole.crop((0, 0, 160, 200)).convert("L").save(folder / "part.png")
    for name, hue in (("red", (90, 20, 20)), ("blue", (20, 20, 90))):
        Image.blend(whole, Image.new("RGB", whole.size, hue), 0.5).save(folder / f"{name}.png")
    return folder / "part.png"


def test_pictures_in_colour_are_followed(client, grandma, tmp_path):
    part = same_in_color(tmp_path)

    def color(photograph, *references, **told):
        given = [handle_file(path) for path in references]
        told |= {"references": given} if references else {}
        quick = {"steps": 1, "resolution": 64, "api_name": "/colorize"}
        (file,) = client.predict(photograph=handle_file(photograph), **quick, **told)
        return np.asarray(Image.open(file), float).mean((0, 1)), read_mark(read(file).xmp)

    red, mark = color(part, tmp_path / "red.png")
    blue, _ = color(part, tmp_path / "blue.png")
    assert red[0] - red[2] > 10 > -10 > blue[0] - blue[2]
    assert re.search(r"; references=red\.png#[0-9a-f]{16}$", mark["AIPromptInformation"])
    assert np.array_equal(color(grandma, tmp_path / "red.png")[0], color(grandma)[0])
    with pytest.raises(Exception, match="grandma.jpg cannot be followed: it has no colours"):
        color(part, grandma)
    with pytest.raises(Exception, match="At most 2 pictures in colour"):
        color(part, *[tmp_path / "red.png"] * 3)


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


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A film with sound of a kind that browsers do not play."""
    path = tmp_path_factory.mktemp("clips") / "sea.avi"
    return write_film(path, pan(1, 8), codec="mpeg4", sound=True)


@pytest.fixture(scope="module")
def long_clip(clip):
    return write_film(clip.with_name("long.mkv"), pan(2, 40))


def test_the_endpoint_gives_a_film_that_plays(client, clip, long_clip):
    file = client.predict(clip=handle_file(clip), seed=3, api_name="/film")
    assert file.endswith("sea-colorized.mp4")
    with av.open(str(clip)) as before, av.open(file) as after:
        picture, sound = after.streams
        assert (picture.codec_context.name, picture.pix_fmt) == ("h264", "yuv420p")
        assert (sound.codec_context.name, sound.channels) == ("aac", 2)
        assert "seed=3" in after.metadata["comment"]
        for old, new in zip(before.decode(video=0), after.decode(video=0), strict=True):
            assert float(old.time) == pytest.approx(float(new.time), abs=1e-3)
            difference = old.to_ndarray(format="gray").astype(int) - new.to_ndarray(format="gray")
            assert np.abs(difference).mean() < 1.5
        assert np.ptp(new.to_ndarray(format="rgb24"), axis=2).max() > 10  # it has colours
    with pytest.raises(Exception, match="and 30 frames can be coloured here"):
        client.predict(clip=handle_file(long_clip), api_name="/film")


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
    assert len(schema) == 3, list(tools)
    assert "believable" in str(schema)


# --- by the page ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync_api.expect.set_options(timeout=WAIT)
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visit(browser, space):
    """A function that opens the page; context options as playwright's."""
    pages = []

    def go(**options):
        pages.append(open_page(browser, space.url, **options))
        return pages[-1]

    yield go
    for page in pages:
        assert page.strange == [] and page.errors == []
        page.context.close()


@pytest.fixture(scope="module")
def desk(visit):
    """The page on a desktop, which the tests share."""
    return visit(viewport={"width": 1280, "height": 900})


@pytest.fixture
def page(desk):
    """The page at its beginning."""
    desk.eval_on_selector("#leave", "(button) => button.click()")
    desk.wait_for_selector("#start:visible")
    return desk


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    """A photograph that is quick to colour."""
    return grey_photograph(tmp_path_factory.mktemp("portrait") / "grandma.png", 2, (120, 160))


def choose_by(page, control: str, value: str) -> None:
    """Set a control of the experts, and wait for the colours."""
    page.eval_on_selector("#experts", "(one) => (one.open = true)")
    with NextColors(page):
        page.fill(f"#{control}", value)
        page.press(f"#{control}", "Tab")


def test_two_clicks_from_a_photograph_to_a_download(page, pipe, portrait, tmp_path):
    give(page, portrait)
    file = save(page, tmp_path)
    assert file.name == "grandma-colorized.png"
    assert np.array_equal(pixels(file), by_python(pipe, portrait, 1, 0)[0])
    assert "model=default; seed=0" in read_mark(read(file).xmp)["AIPromptInformation"]


def test_answers_doubt_and_film(page, pipe, portrait, tmp_path):
    give(page, portrait)
    choose_by(page, "seed", "11")
    with NextColors(page):
        page.select_option("#samples", "3")
    assert page.is_visible("#answers button >> nth=2") and page.is_hidden("#viewer")  # large
    page.click("#answers button >> nth=2")
    page.wait_for_selector("#viewer:visible")
    file = save(page, tmp_path)
    assert file.name == "grandma-colorized-3.png"
    assert np.array_equal(pixels(file), by_python(pipe, portrait, 3, 11)[2])
    with page.expect_response(lambda answer: "/unsure" in answer.url) as doubt:
        see(page, "unsure")
    assert doubt.value.ok
    see(page, "film")
    page.wait_for_selector("#reel:visible")
    assert page.get_attribute("#frame-number", "max") == "3"
    page.click("#play")
    film = download(page, "#film", tmp_path)
    with Image.open(film) as animation:
        assert animation.n_frames == 3


def test_given_colours_can_be_placed_moved_and_removed(page, pipe, portrait, tmp_path):
    give(page, portrait)
    with NextColors(page):
        place_color(page, "dark red", 0.5, 0.5)
    x, y = map(int, re.findall(r"\d+", page.inner_text("#hint-list li")))
    assert abs(x - 80) <= 1 and abs(y - 60) <= 1  # the middle
    hinted = pixels(save(page, tmp_path))
    (expected,) = by_python(pipe, portrait, 1, 0, hints=[Hint(x, y, "#8a2f3b", 1)])
    assert np.array_equal(hinted, expected)
    assert np.abs(chroma_at(hinted, x, y) - Hint(0, 0, "#8a2f3b").chroma()).max() < 15
    swatch = page.get_by_role("button", name="dark red", exact=True)
    assert swatch.get_attribute("aria-pressed") == "true"  # for the next place
    page.keyboard.press("Escape")
    assert swatch.get_attribute("aria-pressed") == "false" and page.is_hidden("#place")
    box = page.locator("#frame").bounding_box()
    point = page.locator(".point")
    with NextColors(page):
        point.hover()
        page.mouse.down()
        page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.25 * box["height"], steps=4)
        page.mouse.up()
    assert re.match(r"dark red at (39|40|41), (29|30|31)", page.inner_text("#hint-list li"))
    with NextColors(page):
        point.focus()
        page.keyboard.press("ArrowRight")
    assert re.match(r"dark red at 4[2-5], ", page.inner_text("#hint-list li"))
    with NextColors(page):
        page.keyboard.press("Delete")
    assert page.locator("#hint-list li").count() == 0
    with NextColors(page):
        page.click("#undo")
    assert page.locator("#hint-list li").count() == 1


def place_in_view(page):
    """Scroll to the photograph, and measure where it is."""
    page.locator("#place").scroll_into_view_if_needed()
    return page.locator("#place").bounding_box()


def test_a_place_is_mended_and_all_else_stays(page, portrait, tmp_path):
    give(page, portrait)
    before = pixels(save(page, tmp_path)).astype(int)
    for name, is_grey in (("Other colours here", False), ("No colour here", True)):
        page.get_by_role("button", name=name).click()
        with NextColors(page):  # two clicks, and one for the download
            page.locator("#place").click()  # in the middle
        file = save(page, tmp_path)
        after = pixels(file).astype(int)
        change = np.abs(after - before).max(2)
        assert change[:, :50].max() == change[:, 110:].max() == 0 < change[55:65, 75:85].max()
        assert not is_grey or np.ptp(after[58:62, 78:82], axis=2).max() <= 4
    assert "mended=80," in read_mark(read(file).xmp)["AIPromptInformation"]
    assert page.locator("#mend-list li").count() == 2
    with NextColors(page):  # what was touched last becomes larger
        set_range(page, "#reach", 30)
    larger = np.abs(pixels(save(page, tmp_path)).astype(int) - before).max(2)
    assert (larger > 0).sum() > (change > 0).sum()
    with NextColors(page):
        page.click("#undo")
    page.check("#brush")
    box = place_in_view(page)
    with NextColors(page):
        page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.8 * box["height"], steps=6)
        page.mouse.up()
    stroked = pixels(save(page, tmp_path)).astype(int)
    assert np.ptp(stroked[30:90, 31:34], axis=2).max() <= 5 < np.ptp(stroked[30:90, :20]).max()
    with NextColors(page):
        page.click("#undo")
    page.keyboard.press("Escape")
    for _ in range(2):
        with NextColors(page):
            page.click("#undo")
    assert np.array_equal(pixels(save(page, tmp_path)), before)
    with NextColors(page):
        page.select_option("#samples", "2")
    page.get_by_role("button", name="As in answer 2 here").click()
    with NextColors(page):
        page.locator("#place").click(position={"x": 20, "y": 20})
    assert "as in answer 2" in page.inner_text("#mend-list")


def test_the_smallest_brush_mends_a_small_photograph_that_was_dropped(page, portrait, tmp_path):
    with NextColors(page):
        drop(page, portrait)
    before = pixels(save(page, tmp_path)).astype(int)
    strength = np.ptp(before, axis=2)
    strength[:10] = strength[-10:] = strength[:, :10] = strength[:, -10:] = 0
    y, x = np.unravel_index(strength.argmax(), strength.shape)
    page.check("#brush")
    set_range(page, "#reach", 2)
    page.get_by_role("button", name="No colour here").click()
    box = place_in_view(page)
    at = {"x": (x + 0.5) / 160 * box["width"], "y": (y + 0.5) / 120 * box["height"]}
    with NextColors(page):
        page.locator("#place").click(position=at)
    mended = pixels(save(page, tmp_path)).astype(int)
    assert np.ptp(mended[y, x]) < strength[y, x] / 2 and np.array_equal(mended[:5], before[:5])
    page.keyboard.press("Escape")
    for button, wanted in (("undo", before), ("redo", mended)):
        with NextColors(page):
            page.click(f"#{button}")
        assert np.array_equal(pixels(save(page, tmp_path)), wanted)


@pytest.mark.parametrize("by", ["mouse", "touch", "keyboard"])
def test_a_place_takes_the_colours_of_another_answer(visit, portrait, tmp_path, by):
    page = visit(viewport={"width": 1024, "height": 768}, has_touch=True)
    give(page, portrait)
    check_second_answer_in_the_middle(page, by, tmp_path)


def test_mends_that_are_nonsense_are_refused():
    settings = coloring.Settings()
    for text, why in (
        ("1 2, 3, thing, red, 1", "x y, radius"),
        ("1 2, 3, thing, anew, 2", "x y, radius"),
        ("1 2, 3, thing, 2, 1", "x y, radius"),
        ("1 2 3, 3, brush, grey, 1", "x y, radius"),
        ("1 2, 3, thing, grey, 1\n" * 300, "too many points"),
        ("1 2, 3, thing, anew, 1\n" * 190, "too much for one job"),
    ):
        with pytest.raises(coloring.Refused, match=why):
            coloring.read_touches(text, settings, Limits())
    assert len(coloring.read_touches("1 2.5 4 5, 3, brush, anew, 1\n", settings, Limits())) == 1


def test_an_example_in_colour_is_followed_and_taken_off(page, grandma, tmp_path):
    give(page, same_in_color(tmp_path))
    before = pixels(save(page, tmp_path))
    with NextColors(page):
        choose(page, tmp_path / "red.png", by="#example")
    assert "red.png" in page.inner_text("#example-list")
    wait_until(page, "document.querySelector('#example-list img').naturalWidth === 300")
    file = save(page, tmp_path)
    red, _, blue = pixels(file).mean((0, 1)) - before.mean((0, 1))
    assert red > 3 > blue
    assert "references=red.png#" in read_mark(read(file).xmp)["AIPromptInformation"]
    choose(page, grandma, by="#example")
    assert "no colours" in trouble(page, "grandma.jpg cannot be followed")
    assert page.locator("#example-list li").count() == 1  # as it was
    with NextColors(page):
        page.get_by_role("button", name="Remove red.png").click()
    assert np.array_equal(pixels(save(page, tmp_path)), before)
    assert page.locator("#example-list li").count() == 0
    with NextColors(page):
        page.click("#undo")
    assert np.array_equal(pixels(save(page, tmp_path)), pixels(file))
    with NextColors(page):
        page.click("#redo")
    assert np.array_equal(pixels(save(page, tmp_path)), before)


def test_strength_and_warmth_need_no_other_run(page, pipe, portrait, tmp_path):
    give(page, portrait)
    asked = []
    page.on("request", lambda one: asked.append(one.url) if "queue/join" in one.url else None)
    set_range(page, "#saturation", 0)
    grey = pixels(save(page, tmp_path)).astype(int)
    assert np.ptp(grey, axis=2).max() <= 1
    set_range(page, "#saturation", 100)
    set_range(page, "#warmth", 100)
    file = save(page, tmp_path)
    plain = by_python(pipe, portrait, 1, 0)[0].astype(int)
    red, _, blue = (pixels(file).astype(int) - plain).mean((0, 1))
    assert red > 1 > -1 > blue
    assert "warmth=1" in read_mark(read(file).xmp)["AIPromptInformation"]
    page.click("#undo")
    sync_api.expect(page.locator("#warmth")).to_have_value("0")
    assert np.array_equal(pixels(save(page, tmp_path)), plain)
    assert asked == []


def colorfulness(page, selector: str) -> list[float]:
    """How far the channels of some canvases of the page lie apart, in the mean."""
    return page.eval_on_selector_all(
        selector,
        """(all) => all.map((one) => {
            const copy = new OffscreenCanvas(one.width, one.height).getContext("2d");
            copy.drawImage(one, 0, 0);
            const { data } = copy.getImageData(0, 0, one.width, one.height);
            let sum = 0;
            for (let at = 0; at < data.length; at += 4) {
                const pixel = data.subarray(at, at + 3);
                sum += Math.max(...pixel) - Math.min(...pixel);
            }
            return (4 * sum) / data.length;
        })""",
    )


def test_small_pictures_follow_strength(page, portrait):
    def wait_for(wanted: Callable[[list[float]], bool]) -> None:
        until = time.monotonic() + WAIT / 1000
        while not wanted(found := colorfulness(page, "#answers canvas, #choices canvas")):
            assert time.monotonic() < until, found
            page.wait_for_timeout(100)

    give(page, portrait)
    with NextColors(page):
        page.select_option("#samples", "2")
    see(page, "unsure")
    page.click("#place")
    wait_for(lambda all_of_them: len(all_of_them) == 4 and min(all_of_them) > 5)
    set_range(page, "#saturation", 0)
    wait_for(lambda all_of_them: len(all_of_them) == 4 and max(all_of_them) < 1)
    page.click("#undo")  # which leaves the view of doubt
    wait_for(lambda all_of_them: len(all_of_them) == 2 and min(all_of_them) > 5)


def test_settings_for_experts_reach_the_model(page, pipe, portrait, tmp_path):
    give(page, portrait)
    choose_by(page, "steps", "12")
    choose_by(page, "resolution", "64")
    with NextColors(page):
        page.select_option("#sampler", "unipc")
    scheduler = pipe.scheduler
    try:
        pipe.scheduler = diffusers.UniPCMultistepScheduler.from_config(scheduler.config)
        options = {"num_inference_steps": 12, "processing_resolution": 64}
        (expected,) = by_python(pipe, portrait, 1, 0, **options)
    finally:
        pipe.scheduler = scheduler
    assert np.array_equal(pixels(save(page, tmp_path)), expected)
    with NextColors(page):
        page.select_option("#model", "driving-regression")
    assert page.is_hidden("#of-sampler") and page.is_hidden("#of-steps")
    with NextColors(page):
        page.select_option("#model", "default")


def chroma_at(pixels: np.ndarray, x: int, y: int) -> np.ndarray:
    """Mean a*, b* of a few pixels."""
    patch = torch.from_numpy(pixels[y - 2 : y + 3, x - 2 : x + 3] / 255.0).movedim(-1, 0)
    return rgb_to_lab(patch.float())[1:].mean((1, 2)).numpy()


# --- when something goes wrong -------------------------------------------------------------------


def all_works(page, photograph: Path) -> None:
    """No button stays dead: another photograph gets colours and can be downloaded."""
    page.wait_for_selector("body:not([data-busy])")
    give(page, photograph)
    assert page.is_enabled("#again") and page.is_enabled("#save") and page.is_hidden("#stop")
    assert page.is_hidden("#trouble")


def test_bad_files_get_a_message_and_the_page_goes_on(page, portrait, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1600, 1600), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    files = bad_files(tmp_path) | {"large": (tmp_path / "large.png", "more than 2 MB")}
    for kind in ("text", "empty", "dot", "bomb", "large"):
        path, message = files[kind]
        choose(page, path)
        assert message.removeprefix(f"{path.name} ") in trouble(page, path.name)
    all_works(page, portrait)


def test_a_point_outside_and_too_much_are_said_and_all_stays(page, portrait, tmp_path):
    give(page, portrait)
    before = pixels(save(page, tmp_path))
    page.eval_on_selector("#experts", "(one) => (one.open = true)")
    page.eval_on_selector("#resolution", "(one) => (one.value = 1024)")
    page.eval_on_selector("#steps", "(one) => (one.value = 100)")
    page.select_option("#samples", "8")
    assert "too much for one job" in trouble(page, "too much")
    page.wait_for_selector("#save:enabled")
    assert page.input_value("#samples") == "1" and page.input_value("#steps") == ""  # as it was
    assert np.array_equal(pixels(save(page, tmp_path)), before)
    all_works(page, portrait)


def answering(status: int, **content: str):
    """A server that answers like this, whatever it is asked."""
    return lambda route: route.fulfill(status=status, json=content)


def test_a_full_queue_and_a_crash_are_said(page, portrait):
    for status, words in ((503, "Many people are waiting"), (400, "8 jobs of yours")):
        page.route("**/queue/join", answering(status, detail="8 jobs of yours are waiting."))
        choose(page, portrait)
        assert words in trouble(page, words)
        page.unroute("**/queue/join")
    all_works(page, portrait)


def test_a_lost_connection_comes_back(page, portrait, tmp_path):
    page.context.set_offline(True)
    choose(page, portrait)
    sync_api.expect(page.locator("#status")).to_contain_text("connection is lost")
    with NextColors(page):
        page.context.set_offline(False)
    page.context.set_offline(True)
    page.click("#again")
    sync_api.expect(page.locator("#status")).to_contain_text("connection is lost")
    page.click("#stop")  # nobody has to wait for it
    page.wait_for_selector("#save:enabled")
    page.context.set_offline(False)
    assert save(page, tmp_path).name == "grandma-colorized.png"
    all_works(page, portrait)


def test_what_the_server_forgot_is_made_again(page, space, portrait, tmp_path):
    give(page, portrait)
    before = pixels(save(page, tmp_path))
    for file in space.files.rglob("grandma*"):
        file.unlink()
    gone = answering(404, error="That result is no longer on the server.")
    page.route("**/results/*/file*", gone, times=1)
    assert np.array_equal(pixels(save(page, tmp_path)), before)
    all_works(page, portrait)


def processor_time(space: Space) -> float:
    """Seconds of a processor that the server has used."""
    fields = Path(f"/proc/{space.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_stop_stops_the_model_and_keeps_what_was_there(page, space, portrait, tmp_path):
    give(page, portrait)
    before = pixels(save(page, tmp_path))
    page.eval_on_selector("#experts", "(one) => (one.open = true)")
    page.fill("#steps", "100")
    page.press("#steps", "Tab")
    sync_api.expect(page.locator("#status")).to_contain_text("step")
    page.click("#stop")
    sync_api.expect(page.locator("#status")).to_have_text("Stopped.")
    until = time.monotonic() + WAIT / 1000
    used = processor_time(space)
    while used + 0.3 < (used := space_rests(space)):  # it stops after the step that it is in
        assert time.monotonic() < until, "the model works on"
    page.wait_for_selector("#save:enabled")
    assert page.input_value("#steps") == ""
    assert np.array_equal(pixels(save(page, tmp_path)), before)
    all_works(page, portrait)


def space_rests(space: Space) -> float:
    """Its processor time after a second more."""
    time.sleep(1)
    return processor_time(space)


# --- several photographs, and what was made ------------------------------------------------------


def test_several_photographs_fill_a_grid(page, pipe, tmp_path):
    letter, _ = bad_files(tmp_path)["text"]
    paths = [grey_photograph(tmp_path / f"{name}.png", n) for n, name in enumerate("ab")]
    (tmp_path / "other").mkdir()
    twin = grey_photograph(tmp_path / "other" / "a.png", 5)
    choose(page, *paths, letter, twin)
    sync_api.expect(page.locator("#items li.done")).to_have_count(3)
    sync_api.expect(page.locator("#items li.failed")).to_contain_text("not a picture")
    page.wait_for_selector("body:not([data-busy])")
    archive = download(page, "#save-all", tmp_path)
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        names = ["a-colorized.png", "b-colorized.png", "a-colorized-2.png"]
        assert file.namelist() == names
        held = np.asarray(Image.open(io.BytesIO(file.read(names[1]))))
    assert np.array_equal(held, by_python(pipe, paths[1], 1, 0)[0])
    again = page.get_by_role("button", name="Another try for b.png")
    with page.expect_response(lambda answer: "/file" in answer.url):
        again.click()
    page.wait_for_selector("body:not([data-busy])")
    file = download(page, "#items li:nth-child(2) p button:nth-child(2)", tmp_path)
    assert np.array_equal(pixels(file), by_python(pipe, paths[1], 1, 1)[0])
    with NextColors(page):  # one of them, large
        page.click("#items li:nth-child(1) .large")
    page.click("#back")
    page.wait_for_selector("#items:visible")


def test_a_stopped_batch_keeps_what_is_finished(page, tmp_path):
    paths = [grey_photograph(tmp_path / f"{n}.png", n, (300, 400)) for n in range(4)]
    choose(page, *paths)
    page.wait_for_selector("#items li.done")
    page.click("#stop")
    page.wait_for_selector("#resume:visible")
    assert 1 <= page.locator("#items li.done").count() < 4 and page.is_enabled("#save-all")
    page.click("#resume")
    sync_api.expect(page.locator("#items li.done")).to_have_count(4)
    choose(page, paths[0], by="#more")  # five, and four are the limit
    trouble(page, "4 photographs can be done at a time")


def test_what_was_made_is_kept_on_the_device(visit, space, portrait, tmp_path):
    page = visit()
    give(page, portrait)
    page.wait_for_selector("#made button")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]  # it was not downloaded
    with NextColors(page):
        page.click("#made button")
    save(page, tmp_path)
    page.reload()
    assert asked == ["beforeunload"]
    page.wait_for_selector("#made button")
    page.click("#forget")
    page.reload()
    page.wait_for_selector("body[data-model]")
    assert page.is_hidden("#strip")


def test_before_and_after_as_one_picture(page, portrait, tmp_path):
    give(page, portrait)
    page.click("summary:has-text('Before and after')")
    plain = pixels(download(page, "#share", tmp_path)).astype(int)
    assert plain.shape[0] > 240  # one above the other: it is wide
    assert np.ptp(plain[:115], axis=2).max() < 12 < np.ptp(plain[130:], axis=2).max()
    page.wait_for_selector("#share:enabled")
    page.check("#visible-mark")
    file = download(page, "#share", tmp_path)
    assert np.abs(pixels(file).astype(int) - plain)[-20:, -60:].max() > 60
    assert "TrainedAlgorithmicMedia" in read_mark(read(file).xmp)["DigitalSourceType"]


# --- a film --------------------------------------------------------------------------------------


def test_a_film_is_chosen_played_and_downloaded(page, clip, long_clip, tmp_path):
    page.set_viewport_size({"width": 390, "height": 844})
    assert "up to 20 seconds" in page.inner_text("#film-help")
    page.focus("#clip")  # the keyboard reaches it
    choose(page, clip, by="#clip")
    page.click("#stop")
    page.wait_for_selector("#status:has-text('Stopped.')")
    page.click("#recolor-movie")
    page.wait_for_selector("#status:has-text('Done in')")
    assert page.is_enabled("#save-movie") and page.is_hidden("#stop")
    assert violations(page) == [] and overflow(page) == 0
    played = page.evaluate("""async () => {
        const movie = document.querySelector("#movie");
        await movie.play();
        while (movie.currentTime === 0) await new Promise(requestAnimationFrame);
        return [movie.videoWidth, movie.videoHeight];
    }""")
    assert played == [96, 64]
    assert download(page, "#save-movie", tmp_path).name == "sea-colorized.mp4"
    choose(page, long_clip, by="#clip")
    assert "30 frames" in trouble(page, "too long")
    page.click("#close-movie")
    page.wait_for_selector("#start:visible")
    page.set_viewport_size({"width": 1280, "height": 900})


# --- for everybody -------------------------------------------------------------------------------


def test_keyboard_alone(page, tmp_path):
    page.focus("#examples button")
    with NextColors(page):
        page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "BODY"
    page.focus("#see-colour")
    page.keyboard.press("ArrowRight")
    page.focus("#divider")
    page.keyboard.press("Home")
    clip = "getComputedStyle(document.querySelector('#after')).clipPath"
    assert page.evaluate(clip) == "inset(0px 0px 0px 0%)"
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 0px 0px 30%)"
    assert "30 %" in page.get_attribute("#divider", "aria-valuetext")
    page.focus("#swatches button")
    page.keyboard.press("Enter")
    for key in ["ArrowRight", "Shift+ArrowUp"]:
        page.keyboard.press(key)
    with NextColors(page):
        page.keyboard.press("Enter")
    assert page.locator("#hint-list li").count() == 1
    page.focus("#hold")
    page.keyboard.down("Space")
    assert page.is_hidden("#after")
    page.keyboard.up("Space")
    assert page.is_visible("#after")
    page.focus("#closer")
    page.keyboard.press("Enter")
    moved = page.get_attribute("#stage", "style")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#stage", "style") != moved
    page.focus("#save")
    with page.expect_download():
        page.keyboard.press("Enter")


WINDOWS = {
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "tablet in the dark": {"viewport": {"width": 1024, "height": 768}, "color_scheme": "dark"},
    "at 200 %": {"viewport": {"width": 640, "height": 450}, "device_scale_factor": 2},
}


@pytest.mark.parametrize("window", WINDOWS)
def test_no_state_has_a_violation_or_overflow(visit, window, portrait, tmp_path):
    letter, _ = bad_files(tmp_path)["text"]
    found = look_at_states(visit(**WINDOWS[window]), portrait, letter)
    assert not any(found.values()), found


def test_all_tools_are_in_sight(page, portrait):
    page.set_viewport_size({"width": 1280, "height": 800})
    give(page, portrait)
    for tool in ("save", "again", "mends", "swatches", "shape", "saturation", "warmth", "tools"):
        box = page.locator(f"#{tool}").bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= 800, tool
    page.set_viewport_size({"width": 1280, "height": 900})


@pytest.mark.skipif(not shutil.which("firefox"), reason="there is no Firefox here")
def test_a_place_is_mended_in_firefox(space, portrait, tmp_path):
    with running_firefox("firefox", tmp_path) as firefox:
        firefox.open(space.url)
        firefox.wait_until("Boolean(document.body.dataset.model)")
        firefox.choose("#file", portrait)
        firefox.wait_until("document.body.dataset.made === '1'")
        firefox.click("#mends button:nth-child(2)")
        firefox.click("#place")
        firefox.wait_until("document.body.dataset.made === '2'")
        assert firefox.evaluate("document.querySelector('#trouble').hidden")
        mended = firefox.evaluate("document.querySelector('#mend-list li').textContent")
        assert re.match(r"no colour at (79|80|81), (59|60|61)", mended)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert firefox.evaluate(wide) == 0


def test_a_photograph_that_the_browser_cannot_show_is_shown(page, tmp_path):
    deep = (smooth_picture(40, 50).mean(0).numpy() * 65535).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.tif")
    give(page, tmp_path / "deep.tif")
    wait_until(page, "document.querySelector('#before').naturalWidth === 50")
    assert read(save(page, tmp_path)).depth == 16


# --- settings -------------------------------------------------------------------------------------


def test_limits_come_from_the_environment():
    given = {"COLORIZE_QUEUE": "3", "COLORIZE_MAX_MB": "", "COLORIZE_KEEP_MINUTES": "0.5"}
    limits = Limits.from_environment(given)
    assert (limits.queue, limits.max_mb, limits.keep_minutes) == (3, 40, 0.5)
    for text in ("many", "0", "-1", "2.5"):
        with pytest.raises(ValueError, match=f"COLORIZE_QUEUE is a whole number .* '{text}'"):
            Limits.from_environment({"COLORIZE_QUEUE": text})


@pytest.mark.parametrize(
    ("model", "grids"),
    [("default", [(32, 40)] * 3 + [(64, 80)]), ("driving-regression", [(64, 80)])],
)
def test_colours_come_about_in_one_look_or_two_or_in_one_pass(model, grids):
    image = (255 * smooth_picture(256, 320, seed=1)[0].numpy()).astype(np.uint8)
    *steps, invented = coloring.invent(image, coloring.Settings(model=model))
    assert [tuple(chroma.shape[2:]) for chroma, _ in steps] == grids
    assert all(count == len(grids) for _, count in steps)
    assert torch.equal(steps[-1][0], invented.chroma)


def test_on_a_gpu_space_the_model_asks_for_the_gpu(monkeypatch):
    asked = []
    fake = types.ModuleType("spaces")
    fake.GPU = lambda function: asked.append(function.__name__) or function
    monkeypatch.setitem(sys.modules, "spaces", fake)
    source = importlib.util.spec_from_file_location("again", ROOT / "space" / "coloring.py")
    source.loader.exec_module(importlib.util.module_from_spec(source))
    assert asked == ["invent", "invent_anew"]


@pytest.mark.slow
def test_the_page_is_what_its_source_says(tmp_path):
    if not shutil.which("npm"):
        pytest.skip("no npm on this machine")
    build_browser = load_script("build_browser")
    build_browser.build_for_server(tmp_path / "page")
    kept = ROOT / "space" / "page"
    names = sorted(path.name for path in (tmp_path / "page").iterdir())
    assert names == sorted(path.name for path in kept.iterdir())
    for name in names:  # else: `npm run server` in space/browser
        assert (tmp_path / "page" / name).read_bytes() == (kept / name).read_bytes(), name


def test_the_documents_name_every_setting_and_package():
    text = (ROOT / "space" / "README.md").read_text("utf-8")
    for name, field in Limits.__dataclass_fields__.items():
        assert f"| `COLORIZE_{name.upper()}` | {field.default} |" in text
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    needed = setup["options"]["install_requires"].split()
    for extra in ("torch", "tell", "video"):
        needed += setup["options.extras_require"][extra].split()
    given = (ROOT / "space" / "requirements.txt").read_text("utf-8").split()
    assert given == list(dict.fromkeys(needed))
