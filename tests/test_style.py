"""Limits of style that no linter counts, over all code but the tests."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("pipeline_colorize", "scripts", "space", "docs")
FILES = [
    ROOT / "train_colorize.py",
    *(file for place in PLACES for file in sorted((ROOT / place).rglob("*.py"))),
]
# Public calls, whose arguments are the options that a user has; constructors may have many, too.
CALLS = {"ColorizationPipeline.__call__", "ORTColorizationPipeline.__call__"}
MOST_PARAMETERS = 8
MOST_LINES = 60
MOST_SKIPPED = 5  # places that the formatter leaves alone
MOST_SCRIPTS = 12


def functions(file: Path) -> list[tuple[str, ast.FunctionDef]]:
    """All functions of a file, with the names of their classes."""
    found = []

    def walk(node: ast.AST, above: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", "")
            if isinstance(child, ast.FunctionDef):
                found.append((above + name, child))
            walk(child, f"{above}{name}." if isinstance(child, ast.ClassDef) else above)

    walk(ast.parse(file.read_text("utf-8")), "")
    return found


def parameters(function: ast.FunctionDef) -> list[str]:
    """The names of a function's parameters, without `self` and `cls`."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def lines(function: ast.FunctionDef) -> int:
    """How many lines the body of a function has, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_functions_are_short_and_take_few_parameters(file):
    for name, function in functions(file):
        if name not in CALLS and not name.endswith("__init__"):
            assert len(parameters(function)) <= MOST_PARAMETERS, name
        assert lines(function) <= MOST_LINES, name


NOUN_PHRASE = re.compile(r"(The|An?|How|What|Which|Whether|Where|When|All|L\*|Chroma)\b|[^\w`]|`")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_say_what_a_function_does(file):
    """Each begins with a verb; those of properties name what they hold, those of commands ask."""
    for name, function in functions(file):
        decorators = " ".join(ast.unparse(one) for one in function.decorator_list)
        if "property" in decorators or "command" in decorators:
            continue
        docstring = ast.get_docstring(function) or ""
        assert not NOUN_PHRASE.match(docstring), (name, docstring)


def test_the_formatter_decides_nearly_everywhere():
    comment = "# fmt" + ": skip"
    found = [
        (file.relative_to(ROOT).as_posix(), number)
        for file in (*FILES, *(ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if comment in line
    ]
    assert len(found) <= MOST_SKIPPED, found


def test_scripts_are_few_and_each_has_an_option_style():
    scripts = sorted(file.name for file in (ROOT / "scripts").glob("*.py"))
    assert len(scripts) <= MOST_SCRIPTS, scripts
    for name in scripts:
        source = (ROOT / "scripts" / name).read_text("utf-8")
        options = [
            node.value
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Constant) and str(node.value).startswith("--")
        ]
        assert [option for option in options if "_" in str(option)] == [], name
