"""What is published: the wheel and the source archive, and that the wheel works by itself."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("build")
pytestmark = [pytest.mark.slow, pytest.mark.process]

ROOT = Path(__file__).resolve().parents[1]
PHOTOGRAPH = ROOT / "space" / "examples" / "apsaroke-mother-1908.jpg"
NO_SOURCE = (".*", "__pycache__", "*.egg-info", "build", "dist", "node_modules", "page", "runs")


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The wheel, built from the source archive, and that archive."""
    folder = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*NO_SOURCE))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist"]
    subprocess.run([*command, folder / "source"], check=True, capture_output=True, timeout=300)
    return next(folder.glob("dist/*.whl")), next(folder.glob("dist/*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(archives):
    return zipfile.ZipFile(archives[0])


@pytest.fixture(scope="module")
def metadata(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_the_package_and_its_models_whole(wheel):
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pipeline_colorize").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    data = {name for name in held if ".data/data/share/pipeline-colorize/" in name}
    assert held - data == wanted | {"train_colorize.py"}
    configs = {name.partition("/share/pipeline-colorize/")[2] for name in data}
    assert configs == {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "configs").rglob("*.yaml")
        if path.parent.name not in ("data", "studies")
    }
    assert {"pipeline_colorize/py.typed", "pipeline_colorize/models/default/LICENSE"} < held


def test_the_licence_is_that_of_the_code_and_of_the_weights(wheel, metadata):
    assert metadata["License-Expression"] == "Apache-2.0 AND LicenseRef-non-commercial-research"
    models = sorted(path.name for path in (ROOT / "pipeline_colorize" / "models").iterdir())
    files = ["LICENSE", *(f"pipeline_colorize/models/{name}/LICENSE" for name in models)]
    assert metadata.get_all("License-File") == files
    for file in files:
        held = next(name for name in wheel.namelist() if name.endswith(f"/licenses/{file}"))
        assert wheel.read(held) == (ROOT / file).read_bytes()
    assert all("non-commercial" in (ROOT / file).read_text("utf-8") for file in files[1:])


def test_the_source_archive_holds_what_the_commands_of_the_manual_need(archives):
    with tarfile.open(archives[1]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "CHANGELOG.md",
        "LICENSE",
        "configs/tiny.yaml",
        "constraints.txt",
        "scripts/evaluate.py",
        "space/app.py",
        "space/examples/apsaroke-mother-1908.jpg",
        "tests/conftest.py",
        "train_colorize.py",
    } <= held
    assert not any("__pycache__" in name or "node_modules" in name for name in held)


def test_the_installed_wheel_colours_a_photograph_by_itself(archives, tmp_path):
    """The wheel alone is in the environment; what it depends on is borrowed from this one."""
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, archives[0]], check=True, capture_output=True, timeout=120)
    site = next(home.glob("lib/python*/site-packages"))
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*command) -> str:
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=300,
        )
        return done.stdout

    settings = run(
        python,
        "-m",
        "train_colorize",
        "--config",
        "configs/tiny.yaml",
        "--datasets",
        PHOTOGRAPH.parent / "color",
        "--dry_run",
        "true",
    )
    assert "steps of 16 pictures" in settings
    where = run(python, "-c", "import pipeline_colorize; print(pipeline_colorize.__file__)")
    assert Path(where.strip()).is_relative_to(site)
    run(home / "bin" / "colorize", PHOTOGRAPH, "-o", tmp_path / "color.png")
    with Image.open(PHOTOGRAPH) as before, Image.open(tmp_path / "color.png") as after:
        assert after.size == before.size and after.mode == "RGB"
