"""What importing costs, and which module may know of which."""

import ast
import collections
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_colorize.release_code import travelling_source

PACKAGE = Path(importlib.util.find_spec("pipeline_colorize").origin).parent

# Every module, and what it may import of the package: modules or whole rooms. Arrows point one
# way; `pipeline_colorize` alone stands for its public names.
CORE_NUMPY = {
    "core.agreement",
    "core.colorimetry",
    "core.finishing",
    "core.hints",
    "core.levels",
    "core.luminance",
    "core.margins",
    "core.mending",
    "core.options",
    "core.pictures",
    "core.sizes",
    "core.transparency",
}
MODULES = {
    "__init__": {"archive", "core", "onnx", "training", "video"},
    "__main__": {"cli"},
    "cli": {
        "command.manual",
        "command.options",
        "command.run",
        "command.settings",
        "photo",
        "pipeline_colorize",
        "registry",
    },
    "hub": set(),
    "release_code": set(),
    "colorfulness": set(),
    "core.agreement": set(),
    "core.colorimetry": set(),
    "core.finishing": set(),
    "core.hints": {"core.colorimetry"},
    "core.levels": set(),
    "core.luminance": {
        "core.colorimetry",
        "core.pictures",
        "core.sizes",
        "core.transparency",
    },
    "core.margins": {"core.transparency"},
    "core.mending": {
        "core.agreement",
        "core.colorimetry",
        "core.finishing",
        "core.margins",
        "core.options",
        "core.pictures",
        "core.sizes",
    },
    "core.sizes": set(),
    "core.options": {"core.sizes"},
    "core.pictures": set(),
    "core.transparency": {"core.sizes"},
    "core.color": {"core.colorimetry"},
    "core.looks": {*CORE_NUMPY},
    "core.backbone": set(),
    "core.unet": {"core.backbone"},
    "core.regression_unet": set(),
    "core.scheduler": set(),
    "core.image_processor": {*CORE_NUMPY, "core.color"},
    "core.sampling": {*CORE_NUMPY, "core.color", "core.image_processor", "core.looks"},
    "core.results": {*CORE_NUMPY, "core.image_processor", "core.looks", "core.sampling"},
    # It reaches `hub`, `registry` and `release_code` by name, in the home package alone.
    "core.saving": set(),
    "core.pipeline": {
        *CORE_NUMPY,
        "core.image_processor",
        "core.looks",
        "core.results",
        "core.sampling",
        "core.saving",
    },
    "telling": set(),
    "telling.masks": {"core.hints", "core.luminance"},
    "telling.matching": set(),
    "telling.albums": {
        "onnx.noise",
        "core.hints",
        "core.luminance",
        "core.margins",
        "core.mending",
        "telling.choosing",
        "telling.matching",
    },
    "telling.choosing": {"core.colorimetry", "core.hints", "core.margins"},
    "telling.references": {
        "telling.albums",
        "telling.choosing",
        "telling.matching",
        "core.colorimetry",
        "core.hints",
        "core.luminance",
        "core.mending",
    },
    "telling.retouching": {"core.colorimetry", "core.luminance", "core.mending"},
    "registry": set(),
    "onnx.calibration": set(),
    "onnx.embedding": set(),
    "onnx.files": set(),
    "onnx.mending": set(),
    "onnx.noise": set(),
    "onnx.schedule": {"core.sizes"},
    "onnx.runtime": {
        *CORE_NUMPY,
        "hub",
        "onnx.embedding",
        "onnx.files",
        "onnx.mending",
        "onnx.noise",
        "onnx.schedule",
        "registry",
    },
    "onnx.graph": {*CORE_NUMPY, "onnx.files", "onnx.runtime", "onnx.schedule", "pipeline_colorize"},
    "photo": {
        "photo.content",
        "photo.decode",
        "photo.encode",
        "photo.limits",
        "photo.opening",
        "photo.profiles",
        "photo.record",
        "photo.strips",
        "photo.xmp",
    },
    "photo.column": {"photo.opening"},
    "photo.record": set(),
    "photo.content": {"core.colorimetry"},
    "photo.display": set(),
    "photo.limits": {"core.sizes", "photo.record"},
    "photo.boxes": {"photo.limits"},
    "photo.jp2": {"photo.boxes", "photo.limits"},
    "photo.jxl": {"photo.boxes", "photo.limits", "photo.profiles", "photo.record"},
    "photo.opening": {"photo.boxes", "photo.jxl", "photo.limits", "photo.record"},
    "photo.mending": {"photo.limits", "photo.record"},
    "photo.hidden": {"core.transparency"},
    "photo.profiles": {"core.colorimetry", "core.pictures", "photo.hidden"},
    "photo.xmp": {"photo.limits", "photo.record"},
    "photo.upright": {"photo.xmp"},
    "photo.captions": {"photo.xmp"},
    "photo.sidecar": {"photo.limits", "photo.xmp"},
    "photo.metadata": {"photo.limits", "photo.upright", "photo.xmp"},
    "photo.strips": {
        "core.sizes",
        "photo.decode",
        "photo.encode",
        "photo.limits",
        "photo.metadata",
        "photo.opening",
        "photo.profiles",
        "photo.record",
        "photo.sidecar",
        "photo.tiff",
        "photo.xmp",
    },
    "photo.tiff": {
        "core.sizes",
        "photo.limits",
        "photo.mending",
        "photo.metadata",
        "photo.opening",
        "photo.profiles",
        "photo.record",
    },
    "photo.rare_jpeg": {"photo.limits", "photo.opening", "photo.record", "photo.tiff"},
    "photo.decode": {
        "photo.content",
        "photo.hidden",
        "photo.jp2",
        "photo.jxl",
        "photo.limits",
        "photo.mending",
        "photo.metadata",
        "photo.opening",
        "photo.profiles",
        "photo.rare_jpeg",
        "photo.record",
        "photo.sidecar",
        "photo.tiff",
        "photo.upright",
        "photo.xmp",
    },
    "photo.encode": {
        "photo.captions",
        "photo.mending",
        "photo.metadata",
        "photo.profiles",
        "photo.record",
        "photo.sidecar",
        "photo.tiff",
        "photo.xmp",
    },
    "archive.chroma": {"core.luminance", "core.sizes", "photo"},
    "archive.upsampling": {"core.colorimetry", "core.finishing"},
    "archive.overlay": {
        "archive.chroma",
        "archive.upsampling",
        "core.finishing",
        "core.luminance",
        "core.sizes",
    },
    "archive.invention": {
        "archive.chroma",
        "core.hints",
        "core.luminance",
        "core.margins",
        "core.pictures",
    },
    "archive.masters": {"archive.chroma", "archive.overlay", "core.luminance", "photo"},
    "command.settings": set(),
    "command.web": {"photo", "pipeline_colorize"},
    "command.places": {"command.web", "photo"},
    "command.parquet": {"command.places"},
    "command.containers": {"command.parquet", "command.places", "photo", "pipeline_colorize"},
    "command.bundle": {
        "command.containers",
        "command.finished",
        "command.job",
        "command.places",
        "command.provenance",
        "command.settings",
        "command.sharing",
    },
    "command.options": {"command.settings", "registry"},
    "command.manual": {"command.options"},
    "command.finished": {
        "archive.chroma",
        "command.places",
        "command.provenance",
        "command.settings",
        "photo",
        "pipeline_colorize",
    },
    "command.job": {
        "archive.chroma",
        "command.finished",
        "command.places",
        "command.settings",
    },
    "command.report": {"command.job", "command.settings", "core.margins"},
    "command.discovery": {
        "command.containers",
        "command.places",
        "command.web",
        "command.job",
        "command.parquet",
        "command.report",
        "command.settings",
        "photo",
        "pipeline_colorize",
    },
    "command.targets": {
        "command.telling",
        "command.containers",
        "command.places",
        "command.web",
        "archive.chroma",
        "command.discovery",
        "command.job",
        "command.parquet",
        "command.provenance",
        "command.report",
        "command.settings",
        "photo",
        "pipeline_colorize",
    },
    "command.sharing": {"command.job", "command.report"},
    "command.engine": {
        "registry",
        "command.report",
        "command.settings",
        "command.sharing",
        "onnx",
        "pipeline_colorize",
    },
    "command.provenance": {"command.settings", "photo", "pipeline_colorize"},
    "command.decoding": {
        "command.containers",
        "command.job",
        "command.parquet",
        "command.places",
        "core.margins",
        "photo",
        "pipeline_colorize",
    },
    "command.telling": {
        "command.job",
        "telling.albums",
        "command.provenance",
        "command.settings",
        "photo",
        "pipeline_colorize",
        "telling.masks",
        "telling.references",
    },
    "command.albums": {
        "archive.chroma",
        "command.coloring",
        "command.decoding",
        "command.job",
        "command.places",
        "command.settings",
        "command.telling",
        "photo",
        "pipeline_colorize",
    },
    "command.coloring": {
        "archive.invention",
        "archive.chroma",
        "command.telling",
        "core.hints",
        "core.luminance",
        "core.margins",
        "command.engine",
        "command.report",
        "command.settings",
        "photo",
        "pipeline_colorize",
    },
    "command.encoding": {
        "command.places",
        "archive.chroma",
        "command.coloring",
        "command.decoding",
        "command.job",
        "command.provenance",
        "command.report",
        "command.settings",
        "core.finishing",
        "photo",
        "pipeline_colorize",
    },
    "command.work": {
        "command.albums",
        "command.coloring",
        "command.decoding",
        "command.encoding",
        "command.engine",
        "command.job",
        "command.report",
        "command.settings",
        "command.sharing",
        "photo",
        "pipeline_colorize",
    },
    "command.masters": {
        "command.places",
        "archive.chroma",
        "archive.masters",
        "command.decoding",
        "command.encoding",
        "command.job",
        "command.report",
        "command.settings",
        "command.sharing",
        "photo",
        "pipeline_colorize",
    },
    "command.film_references": {
        "command.provenance",
        "command.report",
        "command.settings",
        "photo",
        "photo.display",
        "video",
    },
    "command.films": {
        "command.engine",
        "command.film_references",
        "command.job",
        "command.provenance",
        "command.report",
        "command.settings",
        "command.sharing",
        "pipeline_colorize",
        "video",
    },
    "command.run": {
        "command.telling",
        "command.bundle",
        "command.films",
        "command.masters",
        "command.engine",
        "command.job",
        "command.report",
        "command.settings",
        "command.sharing",
        "command.targets",
        "command.work",
    },
    "training.config": set(),
    "training.checks": {"training.config"},
    "training.build": {
        "core.pipeline",
        "core.saving",
        "pipeline_colorize",
        "training.config",
        "training.optimizers",
    },
    "training.objectives": {"core.sampling"},
    "training.ema": set(),
    "training.optimizers": {"training.config"},
    "training.checkpoint": set(),
    "training.teacher": {"core.backbone"},
    "training.autoencoder": {"core.unet"},
    "training.draws": set(),
    "training.decoding": {"core.color", "photo"},
    "training.augmentation": {"training.draws"},
    "training.wear": {
        "core.color",
        "core.colorimetry",
        "training.config",
        "training.draws",
    },
    "training.hinting": {"training.config", "training.draws"},
    "training.baselines": {
        "core.color",
        "training.augmentation",
        "training.batches",
        "training.config",
        "training.objectives",
    },
    "training.cleaning": {"photo", "training.decoding"},
    "training.collecting": {"photo", "training.cleaning"},
    "training.pairs": {"training.augmentation", "training.decoding", "training.survey"},
    "training.pretrained": {"pipeline_colorize", "core.unet"},
    "training.survey": {
        "training.augmentation",
        "training.cleaning",
        "training.config",
        "training.decoding",
        "training.draws",
        "training.sources",
    },
    "training.sources": {"photo", "training.config", "training.decoding", "training.draws"},
    "training.batches": {
        "core.color",
        "training.augmentation",
        "training.config",
        "training.decoding",
        "training.draws",
        "training.hinting",
        "training.objectives",
        "training.sources",
        "training.wear",
    },
    "training.meter": {"training.batches", "training.checkpoint", "training.config"},
    "training.grids": {"training.decoding"},
    "training.colors": {"colorfulness", "training.decoding"},
    "training.memory": {"training.batches", "training.objectives"},
    "training.card": {"training.checkpoint", "training.config", "training.terms"},
    "training.terms": {"hub", "registry", "training.config"},
    "evaluation.metrics": {"colorfulness"},
    "evaluation.film": {"colorfulness", "video.colorizer", "video.light"},
    "evaluation.protocol": {
        "core.sizes",
        "evaluation.metrics",
        "evaluation.pairs",
        "evaluation.report",
        "onnx.noise",
        "onnx.runtime",
        "photo",
        "pipeline_colorize",
        "registry",
    },
    "evaluation.pairs": set(),
    "evaluation.report": {"evaluation.metrics"},
    "video": {
        "video.colorizer",
        "video.film",
        "video.names",
        "video.reading",
        "video.references",
    },
    "video.scenes": {"telling.references"},
    "video.references": {"video.chroma", "video.colorizer", "video.light", "video.writing"},
    "video.names": set(),
    "video.light": {"core.colorimetry", "core.sizes"},
    "video.chroma": {"core.colorimetry", "core.finishing", "video.light"},
    "video.flow": set(),
    "video.shots": set(),
    "video.propagation": {"video.flow"},
    "video.colorizer": {
        "core.colorimetry",
        "onnx.noise",
        "video.chroma",
        "video.light",
        "video.propagation",
        "video.shots",
    },
    "video.reading": {"video.light", "video.names"},
    "video.codecs": {"video.reading"},
    "video.writing": {"video.chroma", "video.codecs", "video.light", "video.reading"},
    "video.muxing": {"video.codecs", "video.reading"},
    "video.work": {"video.reading", "video.shots"},
    "video.film": {
        "video.chroma",
        "video.codecs",
        "video.colorizer",
        "video.light",
        "video.muxing",
        "video.names",
        "video.reading",
        "video.references",
        "video.scenes",
        "video.shots",
        "video.work",
        "video.writing",
    },
}
ROOMS = {"archive", "core", "onnx", "command", "training", "evaluation"}


def name_of(path: Path) -> str:
    """The dotted name of a module below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts)


FILES = {
    name_of(path): path
    for path in PACKAGE.rglob("*.py")
    if "models" not in path.parts and name_of(path) not in ROOMS
}


def imported(module: str) -> set[str]:
    """Modules and rooms of the package that `module` imports, anywhere in its code."""
    file, found = FILES[module], set()
    room = name_of(file.parent / "__init__.py").removesuffix("__init__")
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = node.module or ""
        if node.level:
            above = room.split(".") if room else []
            above = above[: len(above) - node.level + 1]
            base = ".".join([*above, *([base] if base else [])])
        elif base.split(".")[0] == "pipeline_colorize":
            base = base.removeprefix("pipeline_colorize").strip(".")
        else:
            continue
        for alias in node.names:
            inner = f"{base}.{alias.name}".strip(".")
            found.add(inner if inner in FILES else base or "pipeline_colorize")
    return found


def outside(module: str) -> set[str]:
    """Top-level names of the packages that `module` imports."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


def test_every_module_is_known():
    assert FILES.keys() == MODULES.keys()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_arrows_point_one_way(module):
    allowed = MODULES[module]
    strangers = {
        name for name in imported(module) - allowed if name.partition(".")[0] not in allowed
    }
    assert not strangers


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("core.")])
def test_files_that_travel_import_little(module):
    assert outside(module) <= {"torch", "numpy", "diffusers", "PIL"}


@pytest.mark.parametrize("name, most", [("pipeline", 2800), ("unet", 750), ("scheduler", 320)])
def test_a_release_carries_code_that_is_whole_and_short(name, most):
    """ruff finds every name that leaving out what seemed unused has made unknown."""
    source = travelling_source(PACKAGE / "core" / f"{name}.py")
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "-q",
        "--isolated",
        "--select",
        "F401,F821",
        "-",
    ]
    result = subprocess.run(command, input=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert len(source.splitlines()) <= most


def test_a_release_does_not_carry_what_only_other_rooms_use():
    source = travelling_source(PACKAGE / "core" / "pipeline.py")
    assert "def y_to_lightness" in FILES["core.colorimetry"].read_text()
    assert "def y_to_lightness" not in source
    assert "def decode_srgb" in source  # hints use it
    assert source.count("import numpy") == 1


def test_no_name_is_defined_twice_where_files_are_joined():
    """A release holds pipeline.py and its siblings as one module, where names must not clash."""
    reached, left = set(), ["core.pipeline"]
    while left:
        if (module := left.pop()) not in reached:
            reached.add(module)
            left += [name for name in imported(module) if name in FILES]
    names = collections.Counter()
    for module in reached:
        for node in ast.parse(FILES[module].read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else [node]
            found = [getattr(one, "name", None) or getattr(one, "id", None) for one in targets]
            names.update(name for name in found if name)
    assert [name for name, count in names.items() if count > 1] == []


def test_importing_the_package_pulls_in_nothing_heavy():
    code = (
        "import sys, pipeline_colorize;"
        "heavy = ['accelerate', 'datasets', 'gradio', 'transformers'];"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""
