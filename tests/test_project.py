"""The files around the code agree: supported Pythons, pinned versions, what is run by CI."""

import configparser
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import pipeline_colorize

ROOT = Path(__file__).resolve().parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", "utf-8")
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8"))


def requirements() -> list[Requirement]:
    """What the package and its extras need, but for the package itself."""
    texts = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    found = [Requirement(line) for text in texts for line in text.split("\n") if line]
    return [one for one in found if one.name != SETUP["metadata"]["name"]]


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_supported_pythons_are_the_same_everywhere():
    classifiers = re.findall(r"Python :: (3\.\d+)", SETUP["metadata"]["classifiers"])
    oldest = classifiers[0]
    assert SETUP["options"]["python_requires"] == f">={oldest}"
    assert workflow("ci")["jobs"]["test"]["strategy"]["matrix"]["python-version"] == classifiers
    assert TOOLS["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert TOOLS["mypy"]["python_version"] == oldest
    assert f"Python {oldest} or newer" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_the_tested_version_of_every_requirement_is_pinned_and_admitted(requirement):
    pinned = pins()[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pinned)


def test_every_requirement_has_a_lower_bound():
    assert all(any(one.operator == ">=" for one in each.specifier) for each in requirements())


def test_tools_that_check_a_commit_are_installed_by_the_extra():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"][0]
    tools = {hook["entry"].split()[0] for hook in hooks["hooks"]}
    lint = SETUP["options.extras_require"]["lint"]
    assert tools == {tool for tool in tools if re.search(rf"^{tool}\b", lint, re.M)}


def test_lint_comes_first_and_all_else_waits_for_it():
    jobs = workflow("ci")["jobs"]
    assert all(job.get("needs") == "lint" for name, job in jobs.items() if name != "lint")
    commands = "\n".join(step.get("run", "") for step in jobs["lint"]["steps"])
    assert "ruff check" in commands and "ruff format --check" in commands


def test_the_changelog_describes_this_version_or_the_next():
    newest = re.search(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    ours = Version(pipeline_colorize.__version__)
    assert Version(newest[1]) == ours or (Version(newest[1]) > ours and newest[2] == "unreleased")
