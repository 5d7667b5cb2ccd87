"""Loads the test suite of diffusers, so that its mixins can be run on the classes of this project.

Set `DIFFUSERS_SRC` to a checkout of https://github.com/huggingface/diffusers, best at the tag next
to the version installed: the package on PyPI has no tests. Without it the tests here are skipped.
"""

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

_ALIAS = "diffusers_tests"


def load(module: str) -> ModuleType:
    """A module of diffusers' `tests` folder, by its dotted name below it."""
    source = os.environ.get("DIFFUSERS_SRC")
    if not source:
        pytest.skip("DIFFUSERS_SRC names no diffusers checkout", allow_module_level=True)
    folder = Path(source) / "tests"
    if not (folder / "__init__.py").exists():
        raise FileNotFoundError(f"DIFFUSERS_SRC={source} is no diffusers checkout: no {folder}")
    if _ALIAS not in sys.modules:
        # They import each other relatively only, so the package can go by another name than
        # "tests", which might be anybody's.
        spec = importlib.util.spec_from_file_location(
            _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        package = importlib.util.module_from_spec(spec)
        sys.modules[_ALIAS] = package
        spec.loader.exec_module(package)
    return importlib.import_module(f"{_ALIAS}.{module}")
