"""The page that colorizes inside the browser: its parts in Node, the whole of it in Chromium."""

import base64
import dataclasses
import http.server
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
from conftest import load_script
from firefox_driver import running_firefox
from page_driver import (
    DAB,
    NextColors,
    check_second_answer_in_the_middle,
    choose,
    drag,
    drop,
    encoded,
    give,
    launch,
    look_at_states,
    open_page,
    overflow,
    place_color,
    save,
    see,
    set_range,
    trouble,
    violations,
    wait_until,
)
from PIL import Image, ImageOps
from skimage.color import deltaE_ciede2000, rgb2lab
from torch.nn import functional as F

from pipeline_colorize import ColorizationPipeline, Hint, photo
from pipeline_colorize.core import agreement
from pipeline_colorize.core import hints as hints_module
from pipeline_colorize.core import options as options_module
from pipeline_colorize.core.agreement import agree, agreement_weights, warmth_order
from pipeline_colorize.core.color import rgb_to_luminance
from pipeline_colorize.core.hints import hint_influence
from pipeline_colorize.core.image_processor import ColorizationImageProcessor
from pipeline_colorize.core.levels import Levels
from pipeline_colorize.core.luminance import to_luminance
from pipeline_colorize.core.margins import picture_box
from pipeline_colorize.core.sizes import look_resolutions
from pipeline_colorize.core.transparency import see_light

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "space" / "browser"
PHOTOGRAPH = ROOT / "space" / "examples" / "young-mother-oklahoma-1937.jpg"
FACTS = {
    "default_processing_resolution": 128,
    "default_second_look": 2,
    "chroma_stride": 4,
    "stride": 32,
    "longest": 8,
    "schedule": [],
}
SHARED_OPTIONS = ("least_candidates", "second_look_candidates")

build_browser = load_script("build_browser")
benchmark_browser = load_script("benchmarks.browser")

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="no node or npm on this machine"
)


# --- parts, in Node ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A function that runs an expression with the page's modules as `page`; returns its value."""
    build_browser.install()
    folder = tmp_path_factory.mktemp("units")
    options = {
        "configFile": False,
        "logLevel": "error",
        "root": str(SOURCE),
        "publicDir": False,
        "build": {"ssr": "tests/units.ts", "outDir": str(folder)},
        "ssr": {"noExternal": True},
    }
    script = f"import {{ build }} from 'vite'; await build({json.dumps(options)})"
    command = ["node", "--input-type=module"]
    subprocess.run([*command, "-e", script], cwd=SOURCE, check=True, timeout=300)

    def run(expression: str):
        script = f"import * as page from {json.dumps((folder / 'units.js').as_uri())};"
        script += f"console.log(JSON.stringify({expression}))"
        done = subprocess.run(
            command, input=script, check=True, timeout=120, capture_output=True, text=True
        )
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**33 + 5])
def test_noise_is_that_of_torch(node, seed):
    counts = [2 * 32 * 40, 16, 100, 2 * 64 * 8]
    script = f"""(() => {{
        const generator = new page.TorchGenerator({seed});
        return {counts}.map((count) => [...generator.normal(count)]);
    }})()"""
    generator = torch.Generator().manual_seed(seed)
    for count, drawn in zip(counts, node(script), strict=True):
        wanted = torch.randn(count, generator=generator)
        torch.testing.assert_close(torch.tensor(drawn), wanted, atol=1e-5, rtol=0)


def test_lightness_is_that_of_the_pipeline(node):
    values = np.random.default_rng(0).integers(0, 256, (300, 3))
    values[:256] = np.where(np.arange(256)[:, None] % 2, np.arange(256)[:, None], values[:256])
    pixels = np.concatenate([values, np.full((300, 1), 255)], axis=1).flatten().tolist()
    script = f"""(() => {{
        const out = new Float32Array(300);
        page.lightnessOf(new Uint8ClampedArray({pixels}), out);
        return [...out];
    }})()"""
    wanted = rgb_to_luminance(torch.tensor(values.T).float().view(3, 300, 1) / 255).flatten()
    torch.testing.assert_close(torch.tensor(node(script)), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("color", ["#8a3b3b", "#000000", "#FFFFFF", "#2f3f66"])
def test_colour_of_a_hint_is_that_of_the_pipeline(node, color):
    wanted = Hint(0, 0, color).chroma()
    found = np.array(node(f"page.chromaOf('{color}')"))
    np.testing.assert_allclose(found, wanted, atol=1e-3)


@pytest.mark.parametrize(
    ("size", "target"),
    [((61, 83), (16, 20)), ((40, 30), (128, 96)), ((100, 20), (100, 8)), ((7, 7), (7, 7))],
)
def test_pictures_are_made_smaller_as_torch_does(node, size, target):
    picture = 100 * torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(1))
    script = f"""(() => {{
        const resizer = new page.RowResizer({size[1]}, {size[0]}, {target[1]}, {target[0]});
        const rows = {picture[0, 0].tolist()};
        for (const row of rows) resizer.push(Float32Array.from(row));
        return [...resizer.plane.data];
    }})()"""
    wanted = F.interpolate(picture, target, mode="bilinear", antialias=True).flatten()
    torch.testing.assert_close(torch.tensor(node(script)), wanted, atol=1e-3, rtol=0)


DETAILED = {"default_processing_resolution": 256, "chroma_stride": 8, "stride": 64}


@pytest.mark.parametrize("changes", [{}, {**DETAILED, "enough_detail": 4}])
def test_working_sizes_are_those_of_the_pipeline(node, changes):
    facts = FACTS | changes
    sizes = [(768, 1024), (1000, 807), (3000, 4000), (64, 64), (1, 500), (90, 2000), (127, 129)]
    sizes += [(255, 400), (256, 400)]
    processor = ColorizationImageProcessor(facts["chroma_stride"], facts["stride"])
    pairs = [{"width": width, "height": height} for height, width in sizes]
    found = node(f"{pairs}.map((size) => page.workingSizes(size, {json.dumps(facts)}))")
    first = facts["default_processing_resolution"]
    for size, own in zip(sizes, found, strict=True):
        # Both networks give the photograph 64 cells on its short side from 256 pixels on.
        resolutions = (first, 2 * first) if min(size) >= 256 else (first,)
        assert list(resolutions) == look_resolutions(*size, first, 2, facts["chroma_stride"])
        wanted = [processor.working_size(*size, one) for one in resolutions]
        assert [(one["height"], one["width"]) for one in own] == wanted


def test_colours_come_to_the_finer_grid_as_in_the_pipeline(node):
    chroma = torch.randn(1, 2, 8, 16, generator=torch.Generator().manual_seed(2))
    numbers = f"new Float32Array({chroma.flatten().tolist()})"
    grids = '{"height": 8, "width": 16}, {"height": 16, "width": 40}'
    found = node(f"[...page.finer({numbers}, {grids})]")
    wanted = F.interpolate(chroma, (16, 40), mode="bilinear", antialias=True)
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(), atol=1e-5, rtol=0)


def test_hints_lie_in_the_cells_that_the_pipeline_gives_them(node):
    processor = ColorizationImageProcessor(4, 32)
    hints = [Hint(x, y, "#8a3b3b", 1) for x, y in ((0, 0), (400, 299), (13, 280))]
    hints.append(Hint(200, 150, "#2f3f66", 25))
    wanted = processor.rasterize_hints(hints, (300, 401), 128)
    grid = {"width": wanted.shape[3], "height": wanted.shape[2]}
    points = [{**dataclasses.asdict(one), "thing": False} for one in hints]
    size = {"width": 401, "height": 300}
    arguments = ", ".join(json.dumps(one) for one in (points, size, grid))
    found = np.array(node(f"[...page.rasterizeHints({arguments})]"))
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-3)


@pytest.mark.parametrize("second", [False, True])
def test_candidates_agree_on_what_the_pipeline_says(node, second):
    chroma = np.random.default_rng(3).normal(0, 20, (4, 2, 16, 24)).astype(np.float32)
    chroma[:, 0, :, 10:] += 50  # where they are of one mind
    hints = np.zeros((3, 16, 24), np.float32)
    hints[2, 4:6, 3] = hints[2, 12, 20] = 1
    influence = hint_influence(hints[None])
    expected = agree(chroma, agreement_weights(chroma, 4, 0.5, influence, second))[0]
    planes = f"{(chroma / 4).reshape(4, -1).tolist()}.map((one) => new Float32Array(one))"
    grid = '{"width": 24, "height": 16}'
    fade = hints_module.HINT_FADE.tolist()
    near = f"page.hintInfluence(new Float32Array({hints.ravel().tolist()}), {grid}, {fade})"
    assert np.allclose(np.reshape(node(f"Array.from({near})"), (16, 24)), influence, atol=1e-6)
    names = ("agreement_sharpness", "typical_spread", "hint_override", "second_look_gain")
    facts = {name: getattr(agreement, name.upper()) for name in names}
    facts = json.dumps(facts | {"chroma_balance": 0.5, "ab_scale": 4})
    script = f"Array.from(page.agree({planes}, {grid}, {facts}, {near}, {json.dumps(second)}))"
    found = 4 * np.reshape(node(script), (2, 16, 24))
    assert np.allclose(found, expected, atol=1e-3)


def test_several_answers_share_candidates_as_in_the_pipeline(node):
    shared = {name: getattr(options_module, name.upper()) for name in SHARED_OPTIONS}
    calls, wanted = [], []
    for drawn, samples, second in itertools.product((1, 3, 4, 6, 16), (1, 2, 8), (False, True)):
        own = options_module.ColorizationOptions(3, samples, drawn, 1.0, 1.0, 1.0, 128, 2.0)
        wanted.append(own.candidates_each(second))
        model = json.dumps(shared | {"default_num_candidates": drawn})
        calls.append(f"page.candidatesEach({model}, {samples}, {json.dumps(second)})")
    assert node(f"[{', '.join(calls)}]") == wanted
    chroma = np.random.default_rng(5).normal(0, 20, (8, 2, 4, 6)).astype(np.float32)
    planes = f"{chroma.reshape(8, -1).tolist()}.map((one) => new Float32Array(one))"
    for each in (2, 4):
        script = f"page.groupByWarmth({planes}, {each}).flat().map((one) => one[0])"
        assert np.allclose(node(script), chroma[warmth_order(chroma, each), 0, 0, 0])


def margined(kind: str) -> np.ndarray:
    """L* of an example photograph in margins, in whole steps of 8-bit grey."""
    picture = Image.open(PHOTOGRAPH).convert("L").resize((240, 300))
    levels = {"lid": ((20, 31), (12, 14), 3), "page": ((40, 40), (60, 50), 250), "bare": None}
    grey = np.asarray(picture).astype(np.uint8)
    if levels.get(kind):
        rows, columns, level = levels[kind]
        grey = np.pad(grey, (rows, columns), constant_values=level)
    if kind == "two":
        grey = np.pad(np.pad(grey, 9, constant_values=245), 20, constant_values=6)
    if kind == "large":
        large = np.asarray(picture.resize((1500, 1900)))
        grey = np.pad(large, ((33, 61), (90, 47)), constant_values=128)
    noise = np.random.default_rng(0).normal(0, 0.3, grey.shape) if kind != "two" else 0
    levels = np.arange(256)[:, None, None].repeat(3, axis=2) / 255
    return rgb2lab(levels)[:, 0, 0][grey] + noise


@pytest.mark.parametrize("kind", ["bare", "lid", "page", "two", "large"])
def test_margins_are_those_of_the_pipeline(node, kind, tmp_path):
    light = margined(kind).astype(np.float32)
    top, bottom, left, right = picture_box(light)
    assert ((bottom - top, right - left) == light.shape) == (kind == "bare")
    file = tmp_path / "light.bin"
    file.write_bytes(light.tobytes())
    rows, columns = light.shape
    reading = f"(await import('node:fs')).readFileSync({json.dumps(str(file))})"
    script = f"""await (async () => {{
        const bytes = {reading};
        const data = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
        return page.pictureBox({{ data, unit: 1, start: 0, down: {columns}, across: 1,
            rows: {rows}, columns: {columns} }});
    }})()"""
    wanted = {"top": top, "bottom": bottom, "left": left, "right": right}
    assert node(script) == wanted


@pytest.mark.parametrize("span", [(40, 66), (30, 75), (2, 95), (50, 50)])
def test_faded_photographs_are_seen_as_the_pipeline_sees_them(node, span):
    noise = np.random.default_rng(4).random((300, 170), np.float32)
    light = (span[0] + (span[1] - span[0]) * noise**0.5).astype(np.float32)
    levels = Levels.measure(light)
    assert (levels.gain == 1) == (span in ((2, 95), (50, 50)))
    script = f"""(() => {{
        const meter = new page.LevelsMeter({{ width: 170, height: 300 }});
        for (const row of {light.round(4).tolist()}) meter.push(Float32Array.from(row));
        return meter.levels;
    }})()"""
    np.testing.assert_allclose(node(script), (levels.gain, levels.offset), atol=1e-2)


@pytest.mark.parametrize("most", [255, 160])
def test_what_transparency_hides_is_seen_as_in_the_pipeline(node, most):
    rng = np.random.default_rng(6)
    light = rng.uniform(0, 100, (70, 101)).astype(np.float32)
    _, columns = np.mgrid[:70, :101]
    alpha = np.clip(most * (columns - 20) / 40, 0, most).astype(np.uint8)
    alpha[30:50, 60:80], alpha[:5] = 0, 0
    wanted = see_light(light, alpha / np.float32(255))
    pixels = np.zeros((70, 101, 4), np.uint8)
    pixels[..., 3] = alpha
    script = f"""(() => {{
        const pixels = {{ data: new Uint8ClampedArray({pixels.ravel().tolist()}) }};
        const size = {{ width: 101, height: 70 }};
        const light = {{ ...size, data: new Float32Array({light.ravel().tolist()}) }};
        const cells = new page.Cells(size);
        cells.add(pixels, light, 0);
        cells.fill(light, pixels, 0);
        return [[...light.data], cells.visible()];
    }})()"""
    seen, box = node(script)
    np.testing.assert_allclose(np.reshape(seen, light.shape), wanted.seen, atol=1e-2)
    assert (box["top"], box["bottom"], box["left"], box["right"]) == wanted.visible


def test_mark_says_what_the_command_line_says(node):
    settings = {"model": "a<b>&c", "seed": 7, "sample": None}
    script = json.dumps(settings).replace("null", "undefined")
    xmp = node(f"page.xmpPacket('1.2', {script})")
    mark = photo.Mark("1.2", {"model": "a<b>&c", "seed": 7})
    assert photo.read_mark(xmp.encode()) == mark.lines()


def test_warmth_is_that_of_the_server(node, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "space")
    coloring = pytest.importorskip("coloring")
    assert node("page.WARMTH") == list(coloring.WARMTH)


@pytest.mark.parametrize("scale", [1, 3])
def test_the_same_places_glow_as_on_the_server(node, monkeypatch, scale):
    monkeypatch.syspath_prepend(ROOT / "space")
    coloring = pytest.importorskip("coloring")
    spread = np.random.default_rng(2).gamma(2, scale, (32, 40)).astype(np.float32)
    cover = coloring.glow_cover(spread)
    values = f"new Float32Array({spread.ravel().tolist()})"
    found = np.reshape(node(f"[...page.glowPixels({values})]"), (32, 40, 4))[..., 3]
    assert np.abs(found - cover.astype(int)).max() <= 1
    assert 0 < (cover > 0).mean() < 0.31  # most places stay as they are


SPOTS = [
    {"x": 70, "y": 40, "radius": 30, "thing": True},
    {"x": 3, "y": 117, "radius": 60, "thing": True},
    {"x": 30, "y": 40, "radius": 12, "thing": False, "path": [[90, 60], [91, 100]]},
    {"x": 80, "y": 60, "radius": 9, "thing": False},
    {"x": 82, "y": 58, "radius": 1, "thing": False},  # the smallest brush
]


@pytest.mark.parametrize("spot", SPOTS)
def test_a_touch_takes_what_it_takes_on_the_server(node, monkeypatch, spot):
    monkeypatch.syspath_prepend(ROOT / "space")
    places = pytest.importorskip("places")
    grey = Image.open(PHOTOGRAPH).convert("L").resize((160, 120))
    path = ((spot["x"], spot["y"]), *map(tuple, spot.get("path", ())))
    touch = places.Touch(path, spot["radius"], spot["thing"], "anew", 0)
    wanted = places.on_grid(touch.mask(np.asarray(grey)[..., None], (32, 40)), (32, 40))
    light = to_luminance(grey).ravel().tolist()
    plane = f"{{ width: 160, height: 120, data: new Float32Array({light}) }}"
    sizes = '{"width": 160, "height": 120}, {"width": 40, "height": 32}'
    found = node(f"[...page.cover({json.dumps(spot)}, {plane}, {sizes})]")
    difference = np.abs(np.reshape(found, (32, 40)) - wanted)
    assert difference.mean() < 0.01 and difference.max() < 0.4
    assert wanted.max() > 0.9 and 0.002 < wanted.mean() < 0.3


def test_archives_hold_what_was_put_in(node, tmp_path):
    script = """await page.zip([1, 2, 1].map((size) => (
        { name: size > 1 ? "Großmutter.jpg" : "a.png", file: new Blob(["x".repeat(size)]) }
    ))).then(async (blob) => [...new Uint8Array(await blob.arrayBuffer())])"""
    (tmp_path / "all.zip").write_bytes(bytes(node(script)))
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.png", "Großmutter.jpg", "a-2.png"]
        assert archive.read("Großmutter.jpg") == b"xx"


# --- the page, in Chromium -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built page with the default model."""
    pytest.importorskip("onnx", reason="the page's model is written with onnx")
    folder = tmp_path_factory.mktemp("page") / "site"
    build_browser.build(folder, "default", "fp16")
    return folder


@pytest.fixture(scope="module")
def serve(site):
    """A function that starts a server for the page; it returns the address and what ends it."""
    servers = []

    def start():
        server = build_browser.make_server(site)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/", server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def strangers():
    """A proxy on the way to everything else; the list of what was asked of it.

    What Chromium asks for itself, such as names for its autofill, is left out.
    """
    asked = []
    own = (".google.com", ".googleapis.com", ".gstatic.com", ".gvt1.com")

    class Proxy(http.server.BaseHTTPRequestHandler):
        def note(self):
            host = urlsplit(self.path).hostname or self.path.partition(":")[0]
            if not host.endswith(own):
                asked.append(self.path)
            self.send_error(502)

        do_GET = do_POST = do_CONNECT = do_HEAD = do_PUT = note

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser(strangers):
    api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    with api.sync_playwright() as playwright:
        proxy = {"server": strangers[0], "bypass": "127.0.0.1"}  # where the page is
        launched = launch(playwright, proxy=proxy)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def visit(browser, serve):
    """A function that opens the page and waits for the model; context options as playwright's."""
    pages = []

    def go(address=None, **options):
        pages.append(open_page(browser, address or serve()[0], **options))
        return pages[-1]

    yield go
    for page in pages:
        page.context.close()


@pytest.fixture(scope="module")
def page(visit):
    """The page on a desktop, with the model loaded."""
    return visit(viewport={"width": 1200, "height": 900})


def difference(first, second) -> float:
    """Mean CIEDE2000 of two pictures."""
    first, second = (rgb2lab(np.asarray(one.convert("RGB"))) for one in (first, second))
    return float(deltaE_ciede2000(first, second).mean())


@pytest.fixture(scope="module")
def pipe():
    pipe = ColorizationPipeline.from_pretrained("default", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def set_seed(page, seed: int) -> None:
    """Colours with another seed."""
    page.eval_on_selector("#experts", "(one) => (one.open = true)")
    with NextColors(page):
        page.fill("#seed", str(seed))
        page.press("#seed", "Tab")


def test_colours_are_those_of_the_pipeline(page, pipe, tmp_path):
    give(page, PHOTOGRAPH)
    set_seed(page, 7)
    file = save(page, tmp_path, "png")
    assert file.name == f"{PHOTOGRAPH.stem}-colorized.png"
    wanted = pipe(Image.open(PHOTOGRAPH), generator=torch.Generator().manual_seed(7)).images[0]
    grey = Image.open(PHOTOGRAPH)
    assert difference(wanted, grey) > 3  # there are colours to compare
    assert difference(wanted, Image.open(file)) < 0.1
    assert not page.errors


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A photograph that is quick to colour."""
    file = tmp_path_factory.mktemp("small") / "small.png"
    Image.open(PHOTOGRAPH).convert("L").resize((160, 200)).save(file)
    return file


def test_samples_saturation_and_hints_are_those_of_the_pipeline(page, pipe, small, tmp_path):
    give(page, small)
    set_seed(page, 3)
    with NextColors(page):
        page.select_option("#samples", "2")
    see(page, "colour")
    with NextColors(page):
        place_color(page, "navy", 0.3, 0.6)
    page.keyboard.press("Escape")
    x, y = page.inner_text("#hint-list li").split("\n")[0].removeprefix("navy at ").split(", ")
    page.click("#answers button:nth-child(2)")
    set_range(page, "#saturation", 60)
    see(page, "unsure")
    result = photo.read(save(page, tmp_path, "png"))
    color = "#2f3f66"
    with NextColors(page):
        page.select_option("#samples", "1")

    image = Image.open(small)
    assert abs(int(x) - 0.3 * image.width) < 3
    assert abs(int(y) - 0.6 * image.height) < 3
    options = {"num_samples": 2, "saturation": 0.6}
    radius = max(1, round(DAB * image.width))
    options["hints"] = [Hint(int(x), int(y), color, radius)]
    wanted = pipe(image, generator=torch.Generator().manual_seed(3), **options).images
    assert difference(wanted[0], wanted[1]) > 0.5  # the samples and the hint do something
    # The model's own saturation is not 1; hints that were not divided by it would make .3.
    assert difference(wanted[1], Image.fromarray(result.image)) < 0.1
    marked = photo.read_mark(result.xmp)["AIPromptInformation"]
    for setting in (
        "seed=3",
        "sample=2 of 2",
        "saturation=0.6",
        f"mended={x},{y},{radius},brush,{color}",
    ):
        assert setting in marked


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_six_megapixels_keep_their_light_and_are_marked(page, tmp_path, kind):
    rows, columns = np.mgrid[:2000, :3000]
    grain = np.random.default_rng(0).normal(0, 4, rows.shape)
    grey = np.clip(rows / 20 + columns / 40 + grain, 0, 255).astype(np.uint8)
    give(page, ("large.png", encoded(Image.fromarray(grey), "PNG", compress_level=1)))
    result = photo.read(save(page, tmp_path, kind))
    assert result.image.shape == (2000, 3000, 3)
    part = result.image[1000:1400, 1000:1400]
    light = rgb_to_luminance(torch.tensor(part).movedim(-1, 0) / 255)[0]
    wanted = rgb_to_luminance(torch.tensor(grey[None, 1000:1400, 1000:1400]) / 255)[0]
    assert (light - wanted).abs().mean() < (0.2 if kind == "png" else 1)
    assert part.std(axis=2).mean() > 1  # it has colours
    mark = photo.read_mark(result.xmp)
    assert mark["DigitalSourceType"] == photo.DIGITAL_SOURCE_TYPE
    assert not page.errors


def test_pictures_stand_upright_and_keep_their_transparency(page, tmp_path):
    picture = Image.open(PHOTOGRAPH).resize((200, 120))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    give(page, ("turned.jpg", encoded(picture, "JPEG", exif=exif)))
    assert Image.open(save(page, tmp_path, "png")).size == (120, 200)

    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    give(page, ("clear.png", encoded(picture, "PNG")))
    clear = Image.open(save(page, tmp_path, "png"))
    assert np.array_equal(clear.getchannel("A"), picture.getchannel("A"))
    flat = np.asarray(Image.open(save(page, tmp_path, "jpeg")))
    assert flat[0].mean() > 250  # where nothing is seen, white
    assert flat[-1].mean() < 250


def large_png() -> bytes:
    """The first bytes of a PNG that says it is very large."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    return bytes(data)


def in_margins(picture: Image.Image) -> Image.Image:
    """A print on an album page, its rim a scanner's lid."""
    page = Image.new("L", (picture.width + 60, picture.height + 90), 240)
    page.paste(picture, (25, 40))
    return ImageOps.expand(page, 14, 8)


def faded(picture: Image.Image) -> Image.Image:
    """A print that has lost its black and its white."""
    return picture.point(lambda level: 95 + level // 4)


def with_something_hidden(picture: Image.Image) -> Image.Image:
    """Noise under what is fully transparent, on two sides and in a hole."""
    grey = np.asarray(picture).copy()
    alpha = np.full(grey.shape, 255, np.uint8)
    alpha[:30] = alpha[:, -50:] = alpha[90:130, 40:70] = 0
    noise = np.random.default_rng(1).integers(0, 255, grey.shape)
    grey[alpha == 0] = noise[alpha == 0]
    return Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))


@pytest.mark.parametrize("change", [in_margins, faded, with_something_hidden])
def test_worn_prints_get_the_colours_of_the_pipeline(page, pipe, tmp_path, change):
    """The margin and the hidden part have no colours; each change makes other colours."""
    bare = Image.open(PHOTOGRAPH).convert("L").resize((320, 400))
    image = change(bare)
    give(page, ("worn.png", encoded(image, "PNG")))
    set_seed(page, 5)
    found = Image.open(save(page, tmp_path, "png"))
    output = pipe(image, generator=torch.Generator().manual_seed(5))
    wanted = output.images[0]
    visible = np.ones(wanted.size[::-1], bool)
    if "A" in image.getbands():
        visible = np.asarray(image.getchannel("A")) > 0
        assert np.array_equal(found.getchannel("A"), image.getchannel("A"))
    lab = [rgb2lab(np.asarray(one.convert("RGB"))) for one in (wanted, found)]
    assert deltaE_ciede2000(*lab)[visible].mean() < 0.1
    top, bottom, left, right = output.boxes[0]
    assert np.hypot(*lab[1][top:bottom, left:right, 1:].mean((0, 1))) > 3
    if change is in_margins:
        assert (top, bottom, left, right) == (54, 454, 39, 359)
        assert np.ptp(np.asarray(found.convert("RGB"))[:top], axis=2).max() == 0
    assert not page.errors


def test_bad_files_get_a_message(page, small):
    for name, data, message in (
        ("notes.png", b"These are notes.\n" * 40, "not a picture"),
        ("empty.jpg", b"", "empty (0 bytes)"),
        ("cut.jpg", PHOTOGRAPH.read_bytes()[:300], "damaged or cut off"),
        ("scan.tif", b"II*\0" + bytes(400), "TIFF"),
        ("phone.heic", b"\0\0\0\x18ftypheic" + bytes(400), "HEIC"),
        ("huge.png", large_png(), "40000 × 40000"),
    ):
        choose(page, (name, data))
        assert message in trouble(page, name)
    give(page, small)  # it goes on
    page.wait_for_selector("#trouble", state="hidden")


@pytest.fixture
def notes(tmp_path):
    """A text file."""
    file = tmp_path / "notes.txt"
    file.write_text("These are notes.\n" * 40)
    return file


def test_a_photograph_can_be_dropped(page, small, tmp_path):
    drag(page, "dragEnter", [small])
    drag(page, "dragOver", [small])
    page.wait_for_selector("body.dragging")
    with NextColors(page):
        drag(page, "drop", [small])
    page.wait_for_selector("body:not(.dragging)")
    file = save(page, tmp_path, "jpeg")
    assert file.name == "small-colorized.jpg"
    assert Image.open(file).size == Image.open(small).size
    assert page.is_hidden("#trouble")


def test_what_is_dropped_and_is_no_photograph_gets_a_message(page, notes, tmp_path):
    drop(page, notes)
    assert "not a picture" in trouble(page, "notes.txt")
    folder = tmp_path / "album"
    folder.mkdir()
    drop(page, folder)
    assert "folder" in trouble(page, "album")
    drop(page, text="https://example.com/photo.jpg")
    trouble(page, "not a picture file")
    assert not page.errors


def test_a_film_is_said_to_need_the_command(page):
    assert page.is_hidden("#of-films") and "command colorize" in page.inner_text("#film-help")
    choose(page, ("sea.mp4", b"a film"))
    assert "command colorize" in trouble(page, "sea.mp4")
    page.click("#close-movie")
    page.wait_for_selector("#start:visible")


def test_several_that_are_dropped_fill_a_grid(page, notes, small):
    drop(page, notes, small)
    page.wait_for_selector("#items li.failed")
    page.wait_for_selector("#items li.done")
    page.wait_for_selector("#save-all:enabled")
    page.wait_for_selector("body:not([data-busy])")
    page.click("#leave")


def test_the_photograph_given_last_is_shown(page, small, tmp_path):
    choose(page, ("slow.png", encoded(Image.new("L", (4000, 3000), 90), "PNG")))
    give(page, small)
    file = save(page, tmp_path, "jpeg")
    assert file.name == "small-colorized.jpg"
    assert Image.open(file).size == Image.open(small).size


def test_a_place_is_mended(page, small, tmp_path):
    give(page, small)
    before = np.asarray(Image.open(save(page, tmp_path, "png"))).astype(int)
    page.check("#thing")
    set_range(page, "#reach", 16)
    page.get_by_role("button", name="No colour here").click()
    with NextColors(page):
        page.locator("#place").click()  # in the middle
    file = save(page, tmp_path, "png")
    change = np.abs(np.asarray(Image.open(file)).astype(int) - before).max(2)
    assert change[:40].max() <= 2 < change[85:115, 65:95].max()
    assert "mended=" in photo.read_mark(photo.read(file).xmp)["AIPromptInformation"]
    mended = np.asarray(Image.open(file))
    page.keyboard.press("Escape")
    for button, wanted in (("undo", before), ("redo", mended)):
        with NextColors(page):
            page.click(f"#{button}")
        assert np.array_equal(np.asarray(Image.open(save(page, tmp_path, "png"))), wanted)
    assert page.is_hidden("#examples-given")  # they need the server


@pytest.mark.parametrize("by", ["tool", "mouse", "touch", "keyboard"])
def test_a_place_takes_the_colours_of_another_answer(visit, small, tmp_path, by):
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True)
    give(page, small)
    check_second_answer_in_the_middle(page, by, tmp_path, "png")
    assert not page.errors


@pytest.mark.skipif(not shutil.which("firefox"), reason="there is no Firefox here")
def test_a_place_takes_the_colours_of_another_answer_in_firefox(serve, small, tmp_path):
    with running_firefox("firefox", tmp_path) as firefox:
        firefox.open(serve()[0])
        firefox.wait_until("document.body.dataset.backend === 'wasm'")
        firefox.choose("#file", small)
        firefox.wait_until("document.body.dataset.made === '1'")
        firefox.click("#views label:has(#see-unsure)")
        firefox.click("#more-answers")
        firefox.wait_until("document.body.dataset.made === '2'")
        firefox.wait_until("!document.querySelector('#place').hidden")
        firefox.click("#place")
        firefox.click("#choices button:nth-child(3)")
        firefox.wait_until("document.body.dataset.made === '3'")
        mended = firefox.evaluate("document.querySelector('#mend-list li').textContent")
        assert mended.startswith("as in answer 3 at ")
        assert firefox.evaluate("document.querySelector('#trouble').hidden")


def test_one_answer_is_joined_by_more_to_compare_it_with(page, small):
    give(page, small)
    see(page, "unsure")
    assert "only one answer" in page.inner_text("#doubt-help") and page.is_hidden("#place")
    with NextColors(page):
        page.click("#more-answers")
    page.wait_for_selector("#place:visible")
    assert page.is_checked("#see-unsure") and "glows" in page.inner_text("#doubt-help")
    page.click("#place")
    assert page.locator("#choices button").count() == 4
    see(page, "colour")
    assert page.is_hidden("#doubt") and page.is_hidden("#place")
    with NextColors(page):
        page.select_option("#samples", "1")


def test_no_state_has_a_violation_or_overflow(visit, small, notes):
    notes = notes.rename(notes.with_suffix(".png"))
    found = look_at_states(visit(viewport={"width": 390, "height": 844}), small, notes)
    assert not any(found.values()), found


def test_stop_keeps_what_was_there(page, small, tmp_path):
    give(page, small)
    before = save(page, tmp_path, "png").read_bytes()
    page.select_option("#samples", "8")
    page.click("#stop")
    page.wait_for_selector("#save:enabled")
    assert page.input_value("#samples") == "1"
    assert save(page, tmp_path, "png").read_bytes() == before


COPY = """async ([kind, data]) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const item = new ClipboardItem({ [kind]: new Blob([bytes], { type: kind }) });
    await navigator.clipboard.write([item]);
}"""


def copy(page, kind: str, data: bytes) -> None:
    """Put something into the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(COPY, [kind, base64.b64encode(data).decode()])


def test_a_photograph_can_be_pasted(page, tmp_path):
    picture = Image.open(PHOTOGRAPH).resize((180, 240))
    copy(page, "image/png", encoded(picture, "PNG"))
    with NextColors(page):
        page.keyboard.press("Control+V")
    file = save(page, tmp_path, "png")
    assert Image.open(file).size == picture.size
    assert difference(Image.open(file), picture) > 1
    light = [rgb2lab(np.asarray(one.convert("RGB")))[..., 0] for one in (Image.open(file), picture)]
    assert np.abs(light[0] - light[1]).mean() < 0.2


def test_pasted_text_gets_a_message_or_is_a_seed(page, small):
    give(page, small)
    copy(page, "text/plain", b"1234")
    page.focus("#again")
    page.keyboard.press("Control+V")
    trouble(page, "not a picture file")
    page.eval_on_selector("#experts", "(one) => (one.open = true)")
    page.fill("#seed", "")
    page.keyboard.press("Control+V")
    wait_until(page, "document.querySelector('#seed').value === '1234'")
    with NextColors(page):
        page.keyboard.press("Enter")
    page.wait_for_selector("#trouble", state="hidden")


def start_anew(page) -> None:
    """Back to the page's beginning, from wherever it is."""
    page.eval_on_selector("#close", "(button) => button.click()")
    page.wait_for_selector("#start:visible")


def test_a_picture_is_taken_with_the_camera(page, tmp_path):
    start_anew(page)
    page.click("#camera")
    page.wait_for_selector("#shoot:enabled")
    wait_until(page, "document.querySelector('#video').currentTime > 0.1")  # it moves
    size = page.evaluate("""() => {
        const video = document.querySelector("#video");
        window.stream = video.srcObject;
        return [video.videoWidth, video.videoHeight];
    }""")
    with NextColors(page):
        page.click("#shoot")
    assert page.evaluate("stream.getTracks().map((one) => one.readyState)") == ["ended"]
    file = save(page, tmp_path, "jpeg")
    assert file.name == "camera-colorized.jpg"
    assert list(Image.open(file).size) == size


def test_a_camera_is_switched_off_when_no_picture_is_wanted(page):
    start_anew(page)
    page.click("#camera")
    page.wait_for_selector("#shoot:enabled")
    page.evaluate("window.stream = document.querySelector('#video').srcObject")
    page.keyboard.press("Escape")
    wait_until(page, "stream.getTracks()[0].readyState === 'ended'")
    assert page.is_hidden("#camera-dialog")
    assert page.is_visible("#start")


def test_a_camera_that_is_refused_gets_a_message(page):
    start_anew(page)
    page.evaluate("""() => {
        const refused = () => Promise.reject(new DOMException("", "NotAllowedError"));
        navigator.mediaDevices.getUserMedia = refused;
    }""")
    page.click("#camera")
    trouble(page, "camera cannot be used")
    assert page.is_enabled("#camera")
    page.evaluate("delete navigator.mediaDevices.getUserMedia")
    assert not page.errors


def test_example_photographs_have_their_credits(visit):
    page = visit()
    sources = (ROOT / "space" / "examples" / "SOURCES.md").read_text("utf-8")
    page.wait_for_selector("#examples button")
    buttons = page.locator("#examples button").all_inner_texts()
    assert len(buttons) == len(list((ROOT / "space" / "examples").glob("*.jpg")))
    for text in buttons:
        title, credit = text.split("\n")
        author, _, date = credit.rpartition(", ")
        assert f"| {title} | {author} | {date} |" in sources
    with NextColors(page):
        page.click("#examples button")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_all_and_takes_pictures_with_its_own_camera(visit, scheme, small):
    page = visit(
        viewport={"width": 360, "height": 740}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    assert overflow(page) == 0 and violations(page) == []
    with NextColors(page):
        with page.expect_file_chooser() as chooser:
            page.tap("#camera")
        assert chooser.value.element.get_attribute("capture") == "environment"
        chooser.value.set_files(small)
    see(page, "compare")
    box = page.locator("#divider").bounding_box()
    page.locator("#divider").tap(position={"x": 0.8 * box["width"], "y": 0.5 * box["height"]})
    wait_until(page, "Math.abs(document.querySelector('#divider').value - 80) <= 10")
    assert overflow(page) == 0 and violations(page) == []
    tiny = page.evaluate("""() => [...document.querySelectorAll("button, select")]
        .map((one) => one.getBoundingClientRect())
        .filter(({ width, height }) => width && (width < 24 || height < 24)).length""")
    assert tiny == 0


def test_nothing_is_sent_anywhere(visit, serve, strangers, browser, small):
    address, _ = serve()
    asked = strangers[1]
    asked.clear()
    page = visit(address)
    requests = []
    page.context.on("request", lambda request: requests.append(request))
    give(page, small)
    with page.expect_download():
        page.click("#save")
    assert not [one.url for one in requests if not one.url.startswith((address, "blob:"))]
    assert not [one.method for one in requests if one.method != "GET"]
    assert not asked

    # The policy holds even where a script tried; without it the proxy would see the request.
    escape = "fetch('http://stranger.example/').then(() => 'out', () => 'held')"
    assert page.evaluate(escape) == "held"
    inside = "{ const work = new Worker('data:text/javascript,1'); work.onerror = done; }"
    assert page.evaluate(f"new Promise((done) => {inside}).then(() => 'held')") == "held"
    assert not asked
    elsewhere = browser.new_page()
    elsewhere.evaluate(escape)
    elsewhere.close()
    assert asked == ["http://stranger.example/"]


def test_visits_can_be_timed(browser, serve):
    seconds = benchmark_browser.visit(browser, serve()[0], PHOTOGRAPH)
    for turn in ("first", "next"):
        assert 0 < seconds[f"{turn} colours"] <= seconds[f"{turn} screen"] + 0.05  # rounded to 0.1
        assert seconds[f"{turn} JPEG"] > 0
    assert seconds["loading"] > 0


def test_policy_is_strict(site):
    html = (site / "index.html").read_text("utf-8")
    policy = build_browser.HEADERS["Content-Security-Policy"]
    assert policy in html.replace("&#39;", "'")
    assert policy.startswith("default-src 'none'")
    for loose in ("unsafe-inline", "'unsafe-eval'", "http:", "https:", "*"):
        assert loose not in policy


def test_it_works_offline_once_loaded(visit, serve, tmp_path):
    address, server = serve()
    page = visit(address)
    page.evaluate("navigator.serviceWorker.ready")
    kept = """async () => {
        const kept = await (await caches.open("colorize-large")).keys();
        return ["onnx", "wasm"].every((end) => kept.some(({ url }) => url.endsWith(end)));
    }"""
    wait_until(page, kept)
    server.shutdown()
    server.server_close()
    page.reload()
    page.wait_for_selector("body[data-backend]")
    assert page.evaluate("crossOriginIsolated")
    give(page, PHOTOGRAPH)
    assert save(page, tmp_path, "jpeg").stat().st_size > 10_000


def test_a_new_version_is_taken_past_the_browsers_cache(browser, site, tmp_path):
    folder = tmp_path / "page"
    shutil.copytree(site, folder)
    for file in folder.rglob("*"):  # files so old that browsers keep them without asking
        os.utime(file, (time.time() - 1e7,) * 2)
    with build_browser.make_server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            wait_until(page, "Boolean(navigator.serviceWorker.controller)")
            (old,) = [name for name in page.evaluate("caches.keys()") if "large" not in name]
            for name, text in (("index.html", "<h1>"), ("sw.js", old)):
                file = folder / name
                file.write_text(file.read_text("utf-8").replace(text, f"{text}2 "), "utf-8")
            page.reload()
            wait_until(page, f"caches.has('{old}').then((one) => !one)")
            kept = "caches.match('./').then((one) => one.text())"
            assert "<h1>2 " in page.evaluate(kept)
        server.shutdown()


def test_it_can_be_installed(site):
    manifest = json.loads((site / "manifest.webmanifest").read_text("utf-8"))
    assert manifest["display"] == "standalone"
    assert manifest["start_url"] == manifest["scope"] == "./"
    for icon in manifest["icons"]:
        if icon["type"] == "image/png":
            assert "{}x{}".format(*Image.open(site / icon["src"]).size) == icon["sizes"]
        else:
            assert (site / icon["src"]).is_file()
    assert {"192x192", "512x512"} <= {icon["sizes"] for icon in manifest["icons"]}


def test_a_static_space_gets_the_headers_that_threads_need(site):
    front = (site / "README.md").read_text("utf-8").split("---")[1].lower()
    assert "sdk: static" in front
    for name in ("Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy"):
        assert f"{name}: {build_browser.HEADERS[name]}".lower() in front


def test_sizes_are_as_the_docs_say(site):
    docs = (ROOT / "docs" / "browser.md").read_text("utf-8")
    for name, size in build_browser.sizes(site).items():
        assert f"{name} {size / 1e6:.1f} MB" in docs
