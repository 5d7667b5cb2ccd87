"""What importing costs, and which module may know of which."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(importlib.util.find_spec("pipeline_colorize").origin).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

# What each of the lower modules may import of its siblings: arrows point downward only. Modules
# that are not listed stand above all of these.
BELOW = {
    "basics": set(),
    "color": {"basics"},
    "config": set(),
    "backbone": set(),
    "unet": {"backbone"},
    "teacher": {"backbone"},
    "regression_unet": set(),
    "scheduler": set(),
    "objectives": set(),
    "ema": set(),
    "image_processor": {"color", "basics"},
    "data": {"color", "config", "objectives", "photo"},
    "metrics": set(),
    "hub": set(),
    "pipeline": {"basics", "color", "hub", "image_processor", "unet", "scheduler"},
    "photo": {"basics"},
    "onnx_runtime": {"basics"},
    "onnx_export": {"basics", "onnx_runtime"},
}


def siblings(module: str) -> set[str]:
    """Modules of the package that `module` imports, anywhere in its code."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.ImportFrom):
            name = node.module or ""
            if node.level or name.split(".")[0] == "pipeline_colorize":
                inner = name.removeprefix("pipeline_colorize").strip(".")
                found |= {inner.split(".")[0]} if inner else {a.name for a in node.names}
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            found |= {part[1] for part in parts if part[0] == "pipeline_colorize" and part[1:]}
    return found & set(MODULES)


def outside(module: str) -> set[str]:
    """Top-level names of the packages that `module` imports."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", sorted(BELOW.keys() & set(MODULES)))
def test_arrows_point_downward(module):
    assert siblings(module) <= BELOW[module]


@pytest.mark.parametrize("module", ["unet", "backbone", "regression_unet", "scheduler"])
def test_files_that_travel_import_little(module):
    assert outside(module) <= {"torch", "numpy", "diffusers"}


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
