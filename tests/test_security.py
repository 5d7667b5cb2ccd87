"""What an attacker tries with files, names, numbers and haste, all of it on this machine."""

import ast
import contextlib
import io
import itertools
import json
import os
import socket
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import EpsImagePlugin, Image, UnidentifiedImageError
from space_server import running_space

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler, cli, photo
from pipeline_colorize.command import engine, work
from pipeline_colorize.core.options import ColorizationOptions
from pipeline_colorize.evaluation.protocol import load_pictures
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.photo.xmp import IPTC_EXTENSION
from pipeline_colorize.training.config import DataConfig
from pipeline_colorize.training.decoding import decode, try_decode
from pipeline_colorize.training.sources import load_training_pictures

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "space"))

pytestmark = pytest.mark.usefixtures("other_tests_hear_diffusers")


# --- programs that a "photograph" starts ---------------------------------------------------------

POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 64 48
%%EndComments
0.5 setgray 0 0 64 48 rectfill
showpage
%%EOF
"""
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
WMF = struct.pack("<IHhhhhHIH", 0x9AC6CDD7, 0, 0, 0, 640, 480, 96, 0, 0) + struct.pack(
    "<HHHIHIH", 1, 9, 0x300, 12, 0, 3, 0
)


def dos_eps(postscript: bytes) -> bytes:
    """An EPS with the binary header of DOS, which says where the PostScript lies."""
    header = struct.pack("<IIIIIII", 0xC6D3D0C5, 32, len(postscript), 0, 0, 0, 0)
    return header.ljust(32, b"\xff") + postscript


def iptc_around(content: bytes) -> bytes:
    """A picture of IPTC's own kind; Pillow opens what lies in it as whatever that is."""

    def record(group: int, number: int, value: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, group, number, len(value)) + value

    shape = record(3, 20, b"\0\0\0\x40") + record(3, 30, b"\0\0\0\x30")
    return (
        record(3, 60, b"\1\0")
        + shape
        + record(3, 120, b"\0\0\0\5")
        + record(8, 10, content)
        + record(9, 10, b"")
    )


PROGRAMS = {
    "EPS": POSTSCRIPT,
    "PostScript": POSTSCRIPT.replace(b" EPSF-3.0", b""),
    "DOS EPS": dos_eps(POSTSCRIPT),
    "EPS in IPTC": iptc_around(POSTSCRIPT),
    "PDF": PDF,
    "WMF": WMF,
}
ENDINGS = sorted(photo.READABLE)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A file that appears when anything starts one of the programs that draw PostScript."""
    marker = tmp_path / "started"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c", "gsc", "pdftoppm", "convert", "magick", "ppmtogif"):
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "$0 $@" >> "{marker}"\necho 10.0\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow remembers what it found
    return marker


@pytest.fixture
def disguised(tmp_path):
    """Files that start programs, each under every ending that a photograph may have."""
    folder = tmp_path / "album"
    folder.mkdir()
    for kind, content in PROGRAMS.items():
        for ending in ENDINGS:
            (folder / f"{kind} as {ending[1:]}{ending}").write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", ["EPS", "PostScript", "DOS EPS", "EPS in IPTC"])
def test_pillow_by_itself_would_start_a_program(started, kind):
    with pytest.raises(OSError):
        Image.open(io.BytesIO(PROGRAMS[kind])).load()
    assert "gs" in started.read_text()


def test_files_start_no_program(started, disguised):
    for path in sorted(disguised.iterdir()):
        with pytest.raises(photo.PhotoError, match="not a picture") as caught:
            photo.read(path)
        assert "\n" not in str(caught.value)
        with pytest.raises(UnidentifiedImageError):
            photo.open_picture(io.BytesIO(path.read_bytes()))
    assert not started.exists()


def test_the_command_starts_no_program(started, disguised, monkeypatch):
    monkeypatch.setattr(engine, "load_model", lambda settings: None)
    named = [disguised / name for name in ("a.eps", "b.ps", "c.pdf", "d")]
    for path in named:
        path.write_bytes(POSTSCRIPT)
    result = CliRunner().invoke(cli.main, [str(disguised), *map(str, named)])
    lines = result.stderr.splitlines()
    refused = [line for line in lines if line.startswith("colorize: ") and "not a picture" in line]
    assert result.exit_code == 1 and len(refused) == len(list(disguised.iterdir()))
    assert not started.exists()


def test_training_and_evaluation_start_no_program(started, disguised, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("accelerate")
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

    known = ImageFolder.EXTENSIONS
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for path in sorted(disguised.iterdir()):
        for record in (
            {"path": str(path), "bytes": None},
            {"path": None, "bytes": path.read_bytes()},
        ):
            with pytest.raises(OSError):
                decode(record, 16)
            assert try_decode(record, 16) is None
        if path.suffix not in known:  # others make `datasets` take the folder for no pictures
            path.unlink()
    Image.new("RGB", (20, 16), "red").save(disguised / "a good one.png")
    config = DataConfig(datasets=[str(disguised)], resolution=16, validation_pictures=0)
    with pytest.warns(UserWarning, match="left out"):
        sets, *_ = load_training_pictures(config, 0, 1)
    assert sets[0].shape == (3, 16, 20)
    pictures = load_pictures(str(disguised), "train")
    good = 0
    for index in range(len(pictures)):
        try:
            good += pictures[index].size == (20, 16)
        except UnidentifiedImageError:
            continue
    assert good == 1 and len(pictures) > 40
    assert not started.exists()


def test_a_record_that_is_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(OSError, match="no file"):
        decode({"path": str(tmp_path / "pipe.png"), "bytes": None}, 16)


def test_the_space_starts_no_program(started, disguised, tmp_path):
    coloring = pytest.importorskip("coloring")
    limits = coloring.Limits()
    for path in disguised.iterdir():
        with pytest.raises(coloring.Refused, match=f"{path.name} cannot be used: not a picture"):
            coloring.look(str(path), limits)
    settings = coloring.Settings(model="default")
    paths = [str(path) for path in disguised.glob("EPS as *")]
    outcome = list(coloring.color_all(paths, settings, limits, tmp_path / "all.zip"))
    assert len(outcome) == len(ENDINGS) and all("not a picture" in why for _, why in outcome)
    assert not started.exists()


def test_no_picture_is_opened_as_whatever_it_is():
    """Each `Image.open` in this repository names the formats that it means."""
    files = [ROOT / "train_colorize.py"]
    for folder in ("pipeline_colorize", "scripts", "space", "integrations"):
        files += (ROOT / folder).rglob("*.py")
    careless = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            opens = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open")
            if opens and all(keyword.arg != "formats" for keyword in node.keywords):
                careless.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert len(files) > 30 and not careless


# --- small files, huge cost ----------------------------------------------------------------------

MEGABYTES = 450  # that reading any of these may take, with Python and its libraries
SECONDS = 8
# Reads a photograph and marks its metadata, as the command does; says what came of it.
READER = r"""
import re, sys, time
from PIL import Image
from pipeline_colorize import photo
Image.new("L", (9, 9)).save(sys.argv[2])
photo.read(sys.argv[2])
began, outcome = time.process_time(), "read"
with photo.pixel_limit(50_000_000):
    try:
        read = photo.read(sys.argv[1])
        photo.read_mark(read.xmp)
        photo.marked_xmp(read.xmp, photo.Mark("1", {}))
        outcome = "read " + "; ".join(read.warnings)
    except photo.PhotoError as error:
        outcome = str(error)
status = open("/proc/self/status").read()  # getrusage's peak is that of the process before, too
peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1000
print(f"{peak}\n{time.process_time() - began}\n{outcome}")
"""


def png(width: int, height: int, *chunks: tuple[bytes, bytes], rows: bytes | None = None) -> bytes:
    """An 8-bit grey PNG; black, or nothing but a promise where `rows` is empty."""

    def chunk(name: bytes, content: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + end

    rows = bytes((width + 1) * height) if rows is None else rows
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def packet(inside: str) -> bytes:
    """An XMP packet with something in its description."""
    rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{rdf}"><rdf:Description '
        f'xmlns:t="http://ns.adobe.com/tiff/1.0/">{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


def png_with_xmp(xmp: bytes) -> bytes:
    itxt = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp, 9)
    return png(32, 24, (b"iTXt", itxt))


def tiff(tags: dict[int, tuple[int, int, int]], parts: bytes = b"", order: str = "<") -> bytes:
    """A TIFF of (type, count, value) by tag, and of what lies behind its directory."""
    body = struct.pack(order + "H", len(tags))
    for tag, (kind, count, value) in sorted(tags.items()):
        short = kind == 3 and count == 1
        body += struct.pack(order + ("HHIHxx" if short else "HHII"), tag, kind, count, value)
    return b"II*\0" + struct.pack(order + "I", 8) + body + bytes(4) + parts


def tiff_of(
    width: int,
    height: int,
    bits: int,
    samples: int,
    compression: int,
    part: bytes,
    **others: tuple[int, int, int],
) -> bytes:
    """A TIFF of one strip, with other tags by their number."""
    tags = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, bits),
        259: (3, 1, compression),
        262: (3, 1, 1),
        277: (3, 1, samples),
        278: (4, 1, height),
        279: (4, 1, len(part)),
    }
    tags |= {int(name[1:]): value for name, value in others.items()}
    tags[273] = (4, 1, 8 + 2 + 12 * (len(tags) + 1) + 4)
    return tiff(tags, part)


def jpeg(width: int, height: int, **options) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "JPEG", **options)
    return stream.getvalue()


def claiming(content: bytes, width: int, height: int) -> bytes:
    """A baseline JPEG that says it has another size."""
    place = content.index(b"\xff\xc0") + 5
    return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]


def scans(count: int) -> bytes:
    """A large progressive JPEG whose last scan comes again and again."""
    content = jpeg(6000, 6000, progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + b"\xff\xd9"


def jp2_that_decodes_larger(side: int) -> bytes:
    """A JPEG 2000 whose box says 32 x 32, and whose codestream says more."""
    stream = io.BytesIO()
    Image.new("L", (32, 32)).save(stream, "JPEG2000")
    content = bytearray(stream.getvalue())
    place = content.index(b"\xff\x4f\xff\x51") + 8
    content[place : place + 8] = struct.pack(">II", side, side)  # of the picture
    content[place + 16 : place + 24] = struct.pack(">II", side, side)  # and of its tile
    return bytes(content)


def many_tags() -> bytes:
    """A TIFF with thousands of tags, all of which hold the same megabyte."""
    content = tiff_of(16, 16, 8, 1, 1, bytes(256))
    tags = dict.fromkeys(range(40_000, 44_000), (7, 1_000_000, 8))
    tags |= {
        256: (4, 1, 16),
        257: (4, 1, 16),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, 16),
        279: (4, 1, 256),
    }
    return tiff(tags, bytes(1_000_000)) + content


def deflated(size: int) -> bytes:
    """Zeros that inflate to `size` bytes."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = ((size >> 20 << 20) % 65521 << 16) + 1  # Adler's, of so many zeros
    return b"\x78\xda" + block * (size >> 20) + b"\x03\0" + struct.pack(">I", checksum)


BOMBS = {  # name -> (how to make it, ending, what is said)
    "samples": (
        lambda: tiff_of(5000, 5000, 8, 64, 8, deflated(5000 * 5000 * 64)),
        ".tif",
        "64 samples a pixel",
    ),
    "deep samples": (
        lambda: tiff_of(7000, 7000, 64, 3, 8, deflated(1 << 20), t339=(3, 1, 3)),
        ".tif",
        "the limit",
    ),
    "strip larger than said": (lambda: tiff_of(64, 48, 16, 1, 8, deflated(3 << 30)), ".tif", ""),
    "tile": (
        lambda: tiff_of(
            64,
            48,
            8,
            1,
            8,
            deflated(1 << 20),
            t322=(4, 1, 60_000),
            t323=(4, 1, 60_000),
            t324=(4, 1, 8),
            t325=(4, 1, 1000),
        ),
        ".tif",
        "the limit",
    ),
    "deep tile": (
        lambda: tiff_of(
            64,
            48,
            16,
            1,
            8,
            deflated(1 << 20),
            t322=(4, 1, 60_000),
            t323=(4, 1, 60_000),
            t324=(4, 1, 8),
            t325=(4, 1, 1000),
        ),
        ".tif",
        "the limit",
    ),
    "JPEG in TIFF": (
        lambda: tiff_of(64, 48, 8, 5, 7, claiming(jpeg(64, 48), 60_000, 60_000)),
        ".tif",
        "",
    ),
    "tags": (many_tags, ".tif", "tags hold more"),
    "long XMP": (lambda: png_with_xmp(packet("a" * 60_000_000)), ".png", "XMP of more than"),
    "XMP of many elements": (
        lambda: png_with_xmp(packet("<a/>" * 1_000_000)),
        ".png",
        "XMP of more than",
    ),
    "XMP of a megabyte": (lambda: png_with_xmp(packet("<a/>" * 240_000)), ".png", "read"),
    "nested XMP": (
        lambda: png_with_xmp(packet("<a>" * 100_000 + "</a>" * 100_000)),
        ".png",
        "read",
    ),
    "nested descriptions": (
        lambda: png_with_xmp(
            packet(
                "<rdf:Description>" * 700 + "<t:Orientation/>" * 40_000 + "</rdf:Description>" * 700
            )
        ),
        ".png",
        "read",
    ),
    "profile": (
        lambda: png(32, 24, (b"iCCP", b"x\0\0" + deflated(60 << 20))),
        ".png",
        "colour profile",
    ),
    "text": (lambda: png(32, 24, (b"zTXt", b"x\0\0" + deflated(60 << 20))), ".png", "read"),
    "long and thin": (
        lambda: png(3_000_000, 16, rows=deflated(3_000_001 * 16)),
        ".png",
        "no picture's shape",
    ),
    "thin and long": (lambda: png(16, 300_000), ".png", "no picture's shape"),
    "scans": (lambda: scans(1000), ".jpg", "scans"),
    "JPEG 2000": (lambda: jp2_that_decodes_larger(40_000), ".jp2", "different sizes"),
}


@pytest.mark.process
@pytest.mark.parametrize("name", BOMBS)
def test_what_a_file_may_cost(tmp_path, name):
    make, ending, expected = BOMBS[name]
    path = tmp_path / f"bomb{ending}"
    path.write_bytes(make())
    assert path.stat().st_size < 4_000_000
    command = [sys.executable, "-c", READER, str(path), str(tmp_path / "small.png")]
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    peak, seconds, outcome = done.stdout.splitlines()
    assert expected in outcome and "Traceback" not in outcome
    assert float(peak) < MEGABYTES and float(seconds) < SECONDS, done.stdout


@pytest.mark.parametrize("size", [(16, 300_000), (66_000, 350), (20, 5000)])
@pytest.mark.parametrize("as_pil", [False, True])
def test_pictures_handed_over_are_no_longer_than_files(make_unet, size, as_pil):
    """Both engines; what they take for such a picture grows with its long side, not its area."""
    picture = np.zeros(size, np.uint8)
    picture = Image.fromarray(picture) if as_pil else picture
    pipe = ColorizationPipeline(make_unet("grid"), OffsetCosineScheduler())
    with pytest.raises(ValueError, match="no picture's shape"):
        pipe(picture)
    onnx = SimpleNamespace(properties={"hint_channels": 0})
    options = ColorizationOptions(1, 1, 1, 1.0, 1.0, 1.0, 128, 1.0)
    with pytest.raises(ValueError, match="no picture's shape"):
        ORTColorizationPipeline._prepare(onnx, picture, [], (None, None), options)


@pytest.mark.parametrize(
    "damaged", ["<a>" * 1000 + "</a>" * 1000, "&b;", '<t:Orientation/><a b="1" b="2"/>']
)
def test_odd_xmp_is_replaced(damaged):
    marked = photo.marked_xmp(packet(damaged), photo.Mark("1", {}))
    assert photo.read_mark(marked)["AISystemUsed"] == photo.SYSTEM


def test_an_empty_orientation_in_xmp_is_set_upright():
    marked = photo.marked_xmp(packet("<t:Orientation/>kept"), photo.Mark("1", {})).decode()
    assert "<t:Orientation>1</t:Orientation>" in marked and "kept" in marked


# --- one odd file among others -------------------------------------------------------------------

ODD = [
    AttributeError,
    RecursionError,
    MemoryError,
    struct.error,
    KeyError,
    AssertionError,
    SyntaxError,
    ZeroDivisionError,
    UnicodeDecodeError("utf-8", b"", 0, 1, ""),
]


@pytest.fixture
def three(tmp_path):
    """Photographs, of which the second will be odd."""
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "three" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "three" / name).write_bytes(photograph())
    return tmp_path / "three"


@pytest.fixture
def tinted(monkeypatch):
    """A model of the command's that needs no time."""

    def pipe(images, num_samples, **_):
        results = [Image.new("RGB", one.shape[1::-1], "teal") for one in images]
        boxes = [(0, one.shape[0], 0, one.shape[1]) for one in images]
        return SimpleNamespace(images=results * num_samples, boxes=boxes)

    pipe.config = SimpleNamespace(default_num_inference_steps=2)
    pipe.scheduler = None
    monkeypatch.setattr(engine, "load_model", lambda settings: pipe)


def fail_at(monkeypatch, owner, name: str, place: int, error) -> None:
    """Let the call number `place` of a function raise `error`."""
    function, calls = getattr(owner, name), itertools.count()

    def wrapper(*args, **options):
        if next(calls) == place:
            raise error
        return function(*args, **options)

    monkeypatch.setattr(owner, name, wrapper)


@pytest.mark.parametrize("error", ODD, ids=lambda one: getattr(one, "__name__", "text"))
@pytest.mark.parametrize("stage", ["read", "read_mark", "write"])
def test_whatever_a_file_causes_is_its_failure_alone(monkeypatch, three, tinted, stage, error):
    monkeypatch.setattr(work, "THREADS", 1)
    fail_at(monkeypatch, photo, stage, 1, error)
    result = CliRunner().invoke(cli.main, [str(three)])
    done = sorted(path.name for path in three.glob("*-colorized.png"))
    assert result.exit_code == 1 and done == ["a-colorized.png", "c-colorized.png"]
    assert f"{three / 'b.png'}: " in result.stderr and "2 colorized, 1 failed" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("error", ODD, ids=lambda one: getattr(one, "__name__", "text"))
def test_whatever_a_file_causes_leaves_the_others_in_the_archive(monkeypatch, three, error):
    coloring = pytest.importorskip("coloring")
    fail_at(monkeypatch, coloring, "open_photograph", 1, error)

    def invent(image, settings):
        yield SimpleNamespace(chroma=[None])

    monkeypatch.setattr(coloring, "invent", invent)

    def save(read, settings, chroma, sample, path):
        path.write_bytes(photograph())
        return path

    monkeypatch.setattr(coloring, "save_full", save)
    paths, settings = sorted(map(str, three.iterdir())), coloring.Settings()
    archive = three / "all.zip"
    found = list(coloring.color_all(paths, settings, coloring.Limits(), archive))
    assert [bool(why) for _, why in found] == [False, True, False]
    assert found[1][1].startswith("b.png cannot be used: ") and "\n" not in found[1][1]
    assert zipfile.ZipFile(archive).namelist() == ["a-colorized.png", "c-colorized.png"]


@pytest.mark.parametrize("error", ODD, ids=lambda one: getattr(one, "__name__", "text"))
def test_whatever_a_picture_causes_ends_no_training(monkeypatch, error):
    from pipeline_colorize.photo import column

    record = {"path": None, "bytes": photograph()}
    fail_at(monkeypatch, column, "open_picture", 0, error)
    assert try_decode(record, 16) is None and try_decode(record, 16).shape == (3, 16, 20)
    assert try_decode({"path": None, "bytes": None}, 16) is None


@pytest.mark.parametrize(
    "inside",
    [
        "<t:Orientation/>",
        "<a>" * 900 + "</a>" * 900,
        f'<i:AISystemUsed xmlns:i="{IPTC_EXTENSION}"><a/>x</i:AISystemUsed>',
        "<rdf:RDF/>" * 3,
        '<a xmlns=""/>',
    ],
)
def test_odd_metadata_loses_no_picture(three, tinted, inside):
    (three / "b.png").write_bytes(png_with_xmp(packet(inside)))
    result = CliRunner().invoke(cli.main, [str(three)])
    assert result.exit_code == 0 and len(list(three.glob("*-colorized.png"))) == 3
    assert photo.read_mark(photo.read(three / "b-colorized.png").xmp)["AISystemVersionUsed"]


def test_a_data_set_that_is_not_what_it_says_is_named(three, tinted):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"image": [b"x"]})
    for name, words in (("json", b"{"), ("shape", b"[1]"), ("deep", b"[" * 100_000)):
        path = three / f"{name}.parquet"
        parquet.write_table(table.replace_schema_metadata({b"huggingface": words}), path)
    result = CliRunner().invoke(cli.main, [str(three), "-o", str(three / "out")])
    assert result.exit_code == 1 and len(list(three.glob("out/*.png"))) == 3
    assert result.stderr.count(".parquet: ") == 3 and "Traceback" not in result.output


# --- the Space -----------------------------------------------------------------------------------

KEEP = 30  # seconds
SPACE = {
    "COLORIZE_KEEP_MINUTES": str(KEEP / 60),
    "COLORIZE_MAX_MB": "2",
    "COLORIZE_MAX_JOBS": "5",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Where the Space keeps its files."""
    return tmp_path_factory.mktemp("stored")


@pytest.fixture(scope="module")
def space(tmp_path_factory, stored):
    """The Space of this repository, which forgets quickly; it logs no traceback in all this."""
    pytest.importorskip("gradio")
    log = tmp_path_factory.mktemp("space") / "log.txt"
    settings = {**SPACE, "GRADIO_TEMP_DIR": str(stored), "COLORIZE_SECONDS_TO_BEGIN": "4"}
    with running_space(ROOT / "space" / "app.py", log, settings) as space:
        yield space
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def visitor(space):
    """Somebody on this machine who knows the Space's API."""
    with httpx.Client(base_url=f"{space.url}/gradio_api/", timeout=60) as visitor:
        yield visitor


def photograph(width: int = 60, height: int = 48) -> bytes:
    shades = np.linspace(0, 255, width).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.tile(shades, (height, 1))).save(stream, "PNG")
    return stream.getvalue()


def upload(visitor: httpx.Client, content: bytes, name: str = "grandma.png") -> str:
    answer = visitor.post("upload", files={"files": (name, content)})
    assert answer.status_code == 200, answer.text
    return answer.json()[0]


DEFAULTS = {
    "samples": 1,
    "seed": 0,
    "steps": 2,
    "sampler": "",
    "saturation": 1.0,
    "resolution": 64,
    "points": "",
    "model": "default",
}
JSON = {"Content-Type": "application/json"}


def order(visitor: httpx.Client, path: object, **changed) -> httpx.Response:
    """Ask for colours, and do not wait for them."""
    file = {"path": path, "meta": {"_type": "gradio.FileData"}} if isinstance(path, str) else path
    body = {"data": [file, *(DEFAULTS | changed).values()]}
    return visitor.post("call/colorize", content=json.dumps(body), headers=JSON)


def outcome(visitor: httpx.Client, event: str) -> str:
    """What a client reads about its job until there is no more to read."""
    return visitor.get(f"call/colorize/{event}").text


def break_off_an_upload(space) -> None:
    """Begin an upload, and hang up in the middle of it."""
    host, port = space.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as line:
        head = 'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        line.sendall(
            b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1500000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            b"--b\r\n" + head.encode() + bytes(400_000)
        )
        time.sleep(0.2)


def test_a_folder_is_swept_by_age(tmp_path):
    housekeeping = pytest.importorskip("housekeeping")
    for name in ("old/a", "own/b"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / "own" / "b", (0, 0))
    sweeper = housekeeping.Sweeper(tmp_path, 0.5, lambda: [str(tmp_path / "own" / "b")])
    sweeper.sweep()
    assert (tmp_path / "old" / "a").exists()
    with sweeper:
        time.sleep(0.4)
        (tmp_path / "young").write_text("x")
        until = time.monotonic() + 5
        while (tmp_path / "old").exists() and time.monotonic() < until:
            time.sleep(0.05)
        left = sorted(path.name for path in tmp_path.iterdir())
    assert left in (["own", "young"], ["own"]) and (tmp_path / "own" / "b").exists()


@dataclass
class Given:
    """What visitors gave and got, and what the Space had of its own before."""

    own: set[Path]
    there: set[Path]
    photograph: str
    results: list[str]
    began: float


@pytest.fixture(scope="module")
def given(space, visitor, stored) -> Given:
    """A photograph with two colourings, and uploads that were broken off."""
    own = {path for path in stored.rglob("*") if path.is_file()}
    path, began = upload(visitor, photograph()), time.time()
    for _ in range(3):
        break_off_an_upload(space)
    answer = outcome(visitor, order(visitor, path, samples=2).json()["event_id"])
    assert "event: complete" in answer, answer
    results = [one["path"] for one in json.loads(answer.split("data: ")[-1])[0]]
    assert len(results) == 2
    there = {path for path in stored.rglob("*") if path.is_file()} - own
    assert {path, *results} <= set(map(str, there)) and len(there) >= 6
    return Given(own, there, path, results, began)


def refusal(visitor: httpx.Client, answer: httpx.Response) -> str:
    """What a client reads that asked for what cannot be had."""
    if answer.status_code != 200:
        assert answer.status_code in (400, 404, 422), answer.text
        return answer.text
    text = outcome(visitor, answer.json()["event_id"])
    assert "event: error" in text and "event: complete" not in text, text
    said = json.loads(text.rsplit("data: ", 1)[-1])
    assert said["error"], text
    return said["error"]


NONSENSE = [-1, 0, 1e9, 10**400, float("nan"), float("inf"), "", "x", "7", True, [], [1], {}, 1.5]
NUMBERS = {
    "samples": "The number of colourings ",
    "steps": "The number of steps ",
    "resolution": "The working resolution ",
    "seed": "The seed ",
    "saturation": "The saturation ",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_checked_in_one_place(name):
    coloring = pytest.importorskip("coloring")
    for value in NONSENSE:
        if (name, value) in [("seed", 0), ("seed", 1e9), ("saturation", 0), ("saturation", 1.5)]:
            continue
        with pytest.raises(coloring.Refused, match=NUMBERS[name]) as caught:
            coloring.read_settings({name: value}, ["default"], coloring.Limits())
        assert len(str(caught.value)) < 150
    settings = coloring.read_settings({name: None}, ["default"], coloring.Limits())
    assert settings.samples == 1 and settings.seed == 0 and settings.steps is None
    assert settings.processing_resolution is None and settings.saturation == 1


def test_nonsense_is_refused_in_words(space, visitor, given):
    path = upload(visitor, photograph())
    for name, value in [
        *(("samples", value) for value in ("", float("nan"), 10**400, [1], 0)),
        *((name, value) for name in ("steps", "resolution", "saturation") for value in (-1, "x")),
        ("seed", {}),
    ]:
        assert NUMBERS[name] in refusal(visitor, order(visitor, path, **{name: value}))
    for changed, words in (
        ({"points": "1,1,#ff0000\n" * 100_000}, "too many points"),
        ({"points": "1,1,#ff0000\n" * 300}, "too many points"),
        ({"points": "x" * 9000}, "A point of colour is"),
        ({"model": "/etc"}, "no model /etc here"),
        ({"model": ["default"]}, "no model"),
        ({"sampler": "x" * 10_000}, "no sampler"),
        ({"model": "<img src=x onerror=alert(1)>"}, "&lt;img"),
    ):
        said = refusal(visitor, order(visitor, path, **changed))
        assert words in said and len(said) < 400
    for call, content in (
        ("call/colorize", b'{"data": []}'),
        ("call/colorize", b'{"data": "x"}'),
        ("call/colorize", b"{"),
        ("call/colorize", b"[" * 100_000),
        ("call/colorize", b'{"data": [NaN]}'),
        ("call/colorize", b'{"nan": NaN}'),
        ("call/nothing", b'{"data": [1]}'),
        ("call/v2/nothing", b"{}"),
        ("call/v2/colorize", b'{"x": 1}'),
        ("run/nothing", b'{"data": []}'),
        ("queue/join", b'{"data": [], "fn_index": 12345, "session_hash": "x"}'),
    ):
        answer = visitor.post(call, content=content, headers=JSON)
        assert refusal(visitor, answer) and "Traceback" not in answer.text


PATHS = [
    "/etc/passwd",
    "//etc/passwd",
    "../setup.cfg",
    "file:///etc/passwd",
    "/proc/self/environ",
    "",
    "http://127.0.0.1:9/x.png",
    "http://169.254.169.254/latest",
    "https://localhost/x",
    "~/.bashrc",
    "x\0.png",
    "a" * 5000,
    "data:image/png;base64,AAAA",
    "\\\\host\\share",
]


def test_only_what_was_uploaded_is_read(space, visitor):
    for path in [*PATHS, str(ROOT / "setup.cfg"), str(ROOT / "space" / "app.py"), 5, [], {}, None]:
        said = refusal(visitor, order(visitor, path))
        assert "root:" not in said and "metadata" not in said and len(said) < 1000
    uploaded = upload(visitor, photograph())
    for path in (
        "/etc/passwd",
        str(ROOT / "docs" / "images" / "examples.jpg"),
        5,
        "http://x/y.png",
    ):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        for references in ([file], file, path):
            said = refusal(visitor, order(visitor, uploaded, references=references))
            assert "root:" not in said and len(said) < 1000
    for path in filter(None, [*PATHS, "%2e%2e/%2e%2e/etc/passwd", str(ROOT / "setup.cfg")]):
        for prefix in ("file=", "file/", "/file=", "/static/", "/assets/", "/theme/", "proxy="):
            place = httpx.URL(f"{space.url}/").join(
                prefix if prefix[0] == "/" else f"/gradio_api/{prefix}"
            )
            answer = visitor.get(f"{place}{quote(path)}", follow_redirects=False)
            assert answer.status_code >= 400 and "root:" not in answer.text, (prefix, path)


def test_names_of_files_stay_names(space, visitor, stored):
    for name in (
        "../../x.png",
        "..",
        "a/b.png",
        "C:\\x.png",
        "x\r\nX: y.png",
        "a" * 400 + ".png",
        "<img src=x onerror=alert(1)>.png",
        ".png",
        "-rf.png",
        "con.png",
    ):
        answer = visitor.post("upload", files={"files": (name, b"no picture")})
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            (path,) = answer.json()
            assert Path(path).resolve().is_relative_to(stored) and len(Path(path).name) < 256
            assert "<" not in refusal(visitor, order(visitor, path))


LONG = {"samples": 8, "steps": 100, "resolution": 192}  # takes a while, within the budget


def test_a_job_is_no_longer_than_the_budget(space, visitor):
    coloring = pytest.importorskip("coloring")
    path = upload(visitor, photograph())
    said = refusal(visitor, order(visitor, path, samples=8, steps=100, resolution=1024))
    assert "too much for one job" in said and "839 million" in said and "40 million" in said
    limits, models = coloring.Limits(), ["default"]
    assert coloring.read_settings(LONG, models, limits)
    assert coloring.read_settings({}, models, limits, photographs=limits.max_photographs)
    with pytest.raises(coloring.Refused, match="too much for one job"):
        coloring.read_settings({"steps": 100}, models, limits, photographs=20)


def test_one_visitor_does_not_hold_all_places_and_who_left_is_not_served(space, visitor):
    """Neither by another session for each, nor by the name of another address."""
    path = upload(visitor, photograph())
    began = time.monotonic()
    left = []
    for number in range(12):
        visitor.headers["X-Forwarded-For"] = f"10.0.0.{number}"
        left.append(order(visitor, path, **LONG))
    del visitor.headers["X-Forwarded-For"]
    assert [answer.status_code for answer in left] == [200] * 5 + [400] * 7
    assert "5 jobs of yours are waiting" in left[-1].json()["detail"]
    for call in ("run/colorize", "api/colorize"):  # past the queue
        assert visitor.post(call, json={"data": []}).status_code == 404
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=visitor.base_url, timeout=120, transport=elsewhere) as other:
        answer = outcome(other, order(other, path).json()["event_id"])
    assert "event: complete" in answer
    # It comes second, before four jobs that were asked for earlier, and the first one has ended.
    assert time.monotonic() - began < 90
    for one in left[1:5]:
        assert "Nobody waited" in refusal(visitor, one)
    assert "event: complete" not in outcome(visitor, left[0].json()["event_id"])


def test_photographs_are_not_kept_by_others(space, visitor):
    path = upload(visitor, photograph())
    (result,) = json.loads(
        outcome(visitor, order(visitor, path).json()["event_id"]).rsplit("data: ", 1)[-1]
    )[0]
    for answer in (visitor.get(f"file={path}"), visitor.get(f"file={result['path']}")):
        assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    part = visitor.get(f"file={path}", headers={"Range": "bytes=0-9"})
    assert part.headers["Cache-Control"] == "no-store"
    page = upload(visitor, b"<script>alert(1)</script>", "page.html")
    answer = visitor.get(f"file={page}")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert httpx.get(space.url).headers["X-Content-Type-Options"] == "nosniff"


def test_turns_are_taken_in_the_queue():
    guards = pytest.importorskip("guards")
    presence = guards.Presence()
    client = {name: SimpleNamespace(client=SimpleNamespace(host=name)) for name in "abc"}
    line = [
        SimpleNamespace(
            _id=f"{name}{n}", session_hash=name, enqueue_time=time.monotonic(), request=client[name]
        )
        for n, name in enumerate("aaaabbc")
    ]
    queue = SimpleNamespace(
        push=None,
        get_events=None,
        active_jobs=[None, [line.pop(0)]],
        event_queue_per_concurrency_id={"work": SimpleNamespace(queue=line)},
        event_ids_to_events={},
        pending_messages_per_session={},
    )
    fair = guards.FairQueue(SimpleNamespace(_queue=queue), presence, 3)
    fair.take_turns()
    assert [event._id for event in line] == ["b4", "c6", "a1", "b5", "a2", "a3"]
    with presence.listening("a"):
        for event in line:
            event.enqueue_time -= guards.TO_BEGIN
        fair.drop_those_who_left()
        assert {event.session_hash for event in line} == {"a"}
    fair.drop_those_who_left()
    assert len(line) == 3  # they may come back
    presence._left["a"] -= guards.TO_RETURN
    fair.drop_those_who_left()
    assert not line


def test_photographs_and_results_are_deleted_as_promised(space, visitor, stored, given):
    while left := {path for path in given.there if path.exists()}:
        assert time.time() - given.began < 4 * KEEP, left
        time.sleep(0.3)
    for path in {path for path in stored.rglob("*") if path.is_file()} - given.own:
        with contextlib.suppress(FileNotFoundError):  # what other tests gave is young, or goes now
            assert time.time() - path.lstat().st_ctime < 1.5 * KEEP, path
    for path in (given.photograph, *given.results):
        assert visitor.get(f"file={path}").status_code in (403, 404)
    page = httpx.get(space.url).text
    assert all(path.exists() and path.name in page for path in given.own)
