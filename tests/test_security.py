"""What an attacker tries with files, names, numbers and haste, all of it on this machine."""

import ast
import io
import os
import struct
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import load_script
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from pipeline_colorize import cli, photo
from pipeline_colorize.command import engine
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
        record(3, 60, b"\1\0") + shape + record(3, 120, b"\0\0\0\5") + record(8, 10, content)
        + record(9, 10, b"")
    )  # fmt: skip


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
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for path in sorted(disguised.iterdir()):
        for record in (
            {"path": str(path), "bytes": None},
            {"path": None, "bytes": path.read_bytes()},
        ):
            with pytest.raises(OSError):
                decode(record, 16)
            assert try_decode(record, 16) is None
        if path.suffix == ".avif":  # which `datasets` takes for no picture
            path.unlink()
    Image.new("RGB", (20, 16), "red").save(disguised / "a good one.png")
    config = DataConfig(datasets=[str(disguised)], resolution=16, validation_pictures=0)
    with pytest.warns(UserWarning, match="left out"):
        sets, *_ = load_training_pictures(config, 0, 1)
    assert sets[0].shape == (3, 16, 20)
    pictures = load_script("evaluate").load_pictures(str(disguised), "train")
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
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
                if not any(keyword.arg == "formats" for keyword in node.keywords):
                    careless.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert len(files) > 30 and not careless
