"""What is published: the wheel and the source archive, and that the wheel works by itself."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import HeaderParser
from importlib import metadata as metadata_of
from pathlib import Path

import numpy as np
import pytest
import tifffile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import ExifTags, Image

from pipeline_colorize import photo

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
        "integrations/ray/colorize_images.py",
        "scripts/evaluate.py",
        "space/app.py",
        "space/examples/apsaroke-mother-1908.jpg",
        "tests/conftest.py",
        "train_colorize.py",
    } <= held
    assert not any("__pycache__" in name or "node_modules" in name for name in held)


def test_an_index_accepts_both(archives):
    pytest.importorskip("twine", reason="twine is not installed")
    command = [sys.executable, "-m", "twine", "check", "--strict", *archives]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def clean() -> dict[str, str]:
    """The variables of this process, without a path on which another copy of the package lies."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def add_needed(texts: list[str], found: dict[str, metadata_of.Distribution]) -> None:
    """Add the distributions that requirements name without extras, and all that these need."""
    for text in texts:
        requirement = Requirement(text)
        is_extra = requirement.marker and not requirement.marker.evaluate({"extra": ""})
        if canonicalize_name(requirement.name) not in found and not is_extra:
            distribution = metadata_of.distribution(requirement.name)
            found[canonicalize_name(requirement.name)] = distribution
            add_needed(distribution.requires or [], found)


@pytest.fixture
def base(archives, metadata, tmp_path):
    """A Python that has the wheel, what it depends on without extras, and nothing else."""
    home = tmp_path / "base"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    site = next(home.glob("lib/python*/site-packages"))
    found: dict[str, metadata_of.Distribution] = {}
    add_needed(metadata.get_all("Requires-Dist"), found)
    for distribution in found.values():
        for top in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install"]
    more = ["--no-deps", "--no-index", archives[0]]
    subprocess.run([*pip, *more], env=clean(), check=True, capture_output=True, timeout=120)
    return home / "bin"


def test_the_base_package_alone_colours_a_folder(base, tmp_path):
    """Without torch: a TIFF of 16 bits with a profile, and a JPEG with EXIF."""
    environment = clean()
    script = "import importlib.util as u; print([u.find_spec(n) for n in ('torch', 'diffusers')])"
    found = subprocess.run(
        [base / "python", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[None, None]"
    album = tmp_path / "album"
    album.mkdir()
    with Image.open(PHOTOGRAPH) as opened:
        grey = opened.convert("L").resize((96, 120))
    deep = np.asarray(grey).astype(np.uint16) * 257
    profile = photo.srgb_profile()
    tifffile.imwrite(album / "deep.tif", deep, iccprofile=profile, software="Scanner 1")
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Edward S. Curtis"
    grey.save(album / "small.jpg", exif=exif, icc_profile=profile)
    command = [base / "colorize", album, "-o", tmp_path / "out", "--steps", "1"]
    subprocess.run(command, env=environment, check=True, timeout=300, cwd=tmp_path)
    result = tifffile.imread(tmp_path / "out" / "deep.tif")
    assert result.dtype == np.uint16 and result.shape == (120, 96, 3)
    assert np.ptp(result.astype(int), axis=2).max() > 1000
    with Image.open(tmp_path / "out" / "small.jpg") as result:
        assert result.getexif()[ExifTags.Base.Artist] == "Edward S. Curtis"
        assert result.info["icc_profile"] and result.mode == "RGB"


def test_the_installed_wheel_colours_a_photograph_by_itself(archives, tmp_path):
    """The wheel alone is in the environment; what it depends on is borrowed from this one."""
    home = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, archives[0]], env=clean(), check=True, capture_output=True, timeout=120)
    site = next(home.glob("lib/python*/site-packages"))
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    environment = clean()

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
