"""The code that a release carries: one file a class, with all that it needs joined into it.

`SavingMixin` reaches this module by name, since it stays at home. A release that is saved again
writes the code that it came with.
"""

import ast
import collections
import json
from pathlib import Path

# Stands in each code file of a release, behind its first docstring. diffusers gives the code of
# every folder one module name and one file, and runs the next release in the same module, so that
# the functions of the first one would call those of the second from then on.
_MODULE_NAME_GUARD = """
# Added when this file was saved: the code takes a module name that no other release has, since
# diffusers loads the code of every folder under the same name. It keeps its source to be saved
# again.
import hashlib
import sys
from pathlib import Path

_SOURCE = Path(__file__).read_text("utf-8")
if __name__.startswith("diffusers_modules."):
    # Bytecode is found by size and second, which another version can share.
    Path(__spec__.cached).unlink(missing_ok=True)
    _unique_name = f"{__name__}_{hashlib.sha256(_SOURCE.encode()).hexdigest()[:12]}"
    sys.modules[_unique_name] = sys.modules.pop(__name__)
    __name__ = _unique_name

"""


# A model that ships needs no copy of the code that it lies beside.
_FROM_PACKAGE = '''\
"""The class that plain diffusers needs to open this folder, from the package around it.

`save_pretrained` writes a folder that holds the code itself, and can be used without the package.
"""

from {module} import {name}

__all__ = ["{name}"]  # {bases}
'''
_MODULES = {
    "pipeline": "core.pipeline",
    "ColorizationUNet": "core.unet",
    "RegressionUNet": "core.regression_unet",
    "OffsetCosineScheduler": "core.scheduler",
}
# diffusers looks for one of these names in the code of a component.
_BASES = {"pipeline": "DiffusionPipeline", "unet": "ModelMixin", "scheduler": "SchedulerMixin"}


def package_code(folder: Path) -> dict[str, str]:
    """Return the code files of a model that ships, by their names; they import from the package.

    With them, `DiffusionPipeline.from_pretrained(FOLDER, trust_remote_code=True)` works.

    Args:
        folder: with `model_index.json`.
    """
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    parts = {"pipeline.py": index["_class_name"]}
    parts |= {f"{part}/{part}.py": index[part] for part in ("unet", "scheduler")}
    return {
        file: _FROM_PACKAGE.format(
            module=f"pipeline_colorize.{_MODULES.get(name) or _MODULES[module]}",
            name=name,
            bases=_BASES[module],
        )
        for file, (module, name) in parts.items()
        if module in _BASES
    }


def write_package_code(folder: Path) -> None:
    """Write the files of `package_code` into a folder of the package."""
    for name, source in package_code(folder).items():
        (folder / name).write_text(source, "utf-8")


def travelling_source(file: Path) -> str:
    """Write the source of a file as a release holds it: self-contained, under a unique name.

    It has the siblings that it imports before it, without what nothing there uses. Their docstrings
    are cut to the first paragraph, since the whole ones are in the package.

    Raises:
        ValueError: if a sibling is imported in a form that cannot be joined.
    """
    source = file.read_text("utf-8")
    end = ast.parse(source).body[0].end_lineno or 0
    docstring = "".join(source.splitlines(keepends=True)[:end])
    imports: dict[str, None] = {}
    siblings: dict[str, str] = {}
    body = _collect(file, imports, siblings)
    joined = "".join(
        f"# --- {name} {'-' * (93 - len(name))}\n\n{text}\n\n\n"
        for name, text in [*siblings.items(), (file.name, body)]
    )
    joined = _without_unused(_merged(imports) + "\n\n" + joined, body)
    return docstring + _MODULE_NAME_GUARD + joined.rstrip() + "\n"


def _merged(imports: dict[str, None]) -> str:
    """Statements that import other packages, one for each of the modules."""
    whole: set[str] = set()
    parts: dict[str | None, set[str]] = collections.defaultdict(set)
    for node in ast.parse("".join(imports)).body:
        assert isinstance(node, ast.Import | ast.ImportFrom)
        if isinstance(node, ast.Import):
            whole.add(ast.unparse(node))
        else:
            parts[node.module] |= {ast.unparse(alias) for alias in node.names}
    some = (f"from {module} import {', '.join(sorted(names))}" for module, names in parts.items())
    return "\n".join([*sorted(whole), *sorted(some)]) + "\n"


def _collect(file: Path, imports: dict[str, None], siblings: dict[str, str]) -> str:
    """Return the source of `file` without its docstring and imports, and add what it imports.

    Args:
        file: a module of a room whose files import siblings alone.
        imports: the statements that import other packages, in the order of their use.
        siblings: the condensed source of siblings, by their file names, each behind its own.
    """
    source = file.read_text("utf-8")
    lines = source.splitlines(keepends=True)
    docstring, *body = ast.parse(source).body
    pieces, position = [], docstring.end_lineno or 0
    for node in body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        pieces += lines[position : node.lineno - 1]
        position = node.end_lineno or position
        if isinstance(node, ast.Import) or not node.level:
            imports["".join(lines[node.lineno - 1 : position])] = None
            continue
        if node.module is None or any(alias.asname for alias in node.names):
            raise ValueError(f"{file.name}: only `from .sibling import name` can be joined.")
        sibling = file.with_name(f"{node.module}.py")
        if sibling.name not in siblings:
            text = _condensed(_collect(sibling, imports, siblings))
            siblings.setdefault(sibling.name, text)
    return "".join(pieces + lines[position:]).strip("\n")


def _condensed(source: str) -> str:
    """Return a source with the first paragraph of each docstring, and with few empty lines."""
    lines = source.splitlines(keepends=True)
    for node in reversed(_docstrings(ast.parse(source))):
        whole = "".join(lines[node.lineno - 1 : node.end_lineno]).rstrip()
        paragraph = whole.removesuffix('"""').partition("\n\n")[0].rstrip()
        lines[node.lineno - 1 : node.end_lineno] = [f'{paragraph}"""\n']
    text = "".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _docstrings(tree: ast.Module) -> list[ast.Expr]:
    """Return the docstrings of more than one line, in the order of their lines."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node):
            docstring = node.body[0]
            assert isinstance(docstring, ast.Expr)
            if docstring.end_lineno != docstring.lineno:
                found.append(docstring)
    return sorted(found, key=lambda node: node.lineno)


def _without_unused(source: str, own: str) -> str:
    """Leave out functions and constants of siblings that nothing in the file uses.

    Args:
        source: of the file with its siblings.
        own: the source of the file itself, whose names stay.
    """
    kept = {name for node in ast.parse(own).body for name in _defined(node)}
    while unused := _unused(ast.parse(source), kept):
        lines = source.splitlines(keepends=True)
        for node in reversed(unused):
            start = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
            while lines[start - 2].startswith("#") and not lines[start - 2].startswith("# ---"):
                start -= 1  # the comment above it
            end = node.end_lineno or start
            while end < len(lines) and not lines[end].strip():
                end += 1
            del lines[start - 1 : end]
        source = "".join(lines)
    return source


def _unused(tree: ast.Module, kept: set[str]) -> list[ast.stmt]:
    """Definitions whose names occur nowhere else in a module and need not be kept."""
    used = [_used(node) for node in tree.body]
    count = collections.Counter(name for names in used for name in names)
    found = []
    for node, names in zip(tree.body, used, strict=True):
        defined = _defined(node)
        if defined and not kept & defined and all(count[one] == (one in names) for one in defined):
            found.append(node)
    return found


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a module gives to a function, class or constant."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {
            one.id
            for target in node.targets
            for one in ast.walk(target)
            if isinstance(one, ast.Name)
        }
    return set()


def _used(statement: ast.stmt) -> set[str]:
    """Return the names, attributes and texts in a statement."""
    names = (
        getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "value", None)
        for node in ast.walk(statement)
        if isinstance(node, ast.Name | ast.Attribute | ast.Constant)
    )
    return {name for name in names if isinstance(name, str)}
