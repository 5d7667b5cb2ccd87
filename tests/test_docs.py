"""The pages: links lead somewhere, the drawing is that of the imports, the notebook is complete.

The examples of docstrings and of the README are run, on the model and photographs that ship.
"""

import doctest
import importlib
import inspect
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import test_import
from PIL import Image

import pipeline_colorize
from pipeline_colorize.archive.chroma import Chroma, Fingerprint, write_chroma
from pipeline_colorize.core.luminance import to_luminance
from pipeline_colorize.onnx.graph import write_model
from pipeline_colorize.registry import model_folder
from pipeline_colorize.training import config

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook"
LINK = re.compile(r"\]\(([^)\s]+)\)")
LONGEST = {"README.md": 160, "docs/model.md": 150}


def pages() -> list[str]:
    """Markdown files of the repository, as git lists them; those not yet added, too."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = listed.stdout.split()
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        found = [str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")]
        found += [path.name for path in ROOT.glob("*.md")]
    return sorted(name for name in found if (ROOT / name).is_file())


def prose(path: Path) -> str:
    """The text of a page without its code."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]+`", lambda code: code[0].replace("](", "] ("), text)


def anchors(path: Path) -> set[str]:
    """What the headings of a page can be addressed by, as GitHub makes it."""
    heads = re.findall(r"^#+ (.+)$", prose(path), re.M)
    plain = [re.sub(r"[^\w\- ]", "", head.lower()) for head in heads]
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page):
    path = ROOT / page
    for link in LINK.findall(prose(path)):
        if re.match(r"\w+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", LONGEST)
def test_pages_that_everyone_reads_are_short(page):
    assert len((ROOT / page).read_text("utf-8").splitlines()) <= LONGEST[page]


ENTRIES = sorted(path.name for path in NOTEBOOK.glob("2*.md"))


def test_the_notebook_lists_every_page_once():
    listed = LINK.findall((NOTEBOOK / "README.md").read_text("utf-8"))
    assert sorted(link for link in listed if link in ENTRIES) == ENTRIES


@pytest.mark.parametrize("name", ENTRIES)
def test_a_page_of_the_notebook_asks_and_answers(name):
    title, _, summary = (NOTEBOOK / name).read_text("utf-8").split("\n", 2)
    assert title.startswith("# ") and title.endswith("?")
    summary = " ".join(summary.strip().split("\n\n")[0].split())
    assert summary.startswith("*") and summary.endswith("*")
    day = date.fromisoformat(name[:10])
    written = rf"\*(\d+ to |\d+ and )?{day.day}( \w+ \d+)? {day:%B} {day.year}[.,;]"
    assert re.match(written, summary)
    assert re.search(r"(Can|Cannot|can|cannot) be repeated", summary)


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def place(name: str) -> Path:
    """A file or folder that the architecture page names, of the package or of the repository."""
    inside = test_import.PACKAGE / name
    return inside if inside.exists() else ROOT / name


def test_the_drawing_of_rooms_is_that_of_the_imports():
    drawing = re.search(r"```mermaid\ngraph TD\n(.*?)```", ARCHITECTURE, re.S)[1]
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", drawing, re.M))
    modules = test_import.FILES.keys() - {"__init__", "__main__"}
    pairs = {(one, other) for one in modules for other in test_import.imported(one)}
    arrows = {tuple(name.partition(".")[0] for name in pair) for pair in pairs}
    real = {(a, b) for a, b in arrows if a != b and b != "pipeline_colorize"}
    assert drawn == real
    assert set(re.findall(r"\w+", drawing)) == {name.partition(".")[0] for name in modules}


def test_the_architecture_names_files_that_exist():
    names = re.findall(r"`([\w/]+(?:\.\w+|/))`", ARCHITECTURE)
    bare = {"graph.py", "runtime.py"}  # the sentence names their room
    assert len(names) > 30
    assert [name for name in names if not place(name).exists() and name not in bare] == []
    for name in bare:
        assert list(test_import.PACKAGE.rglob(name)), name


@pytest.mark.parametrize(
    "symbol, file", sorted(set(re.findall(r"`(\w+)` in `([\w/.]+)`", ARCHITECTURE)))
)
def test_a_rule_is_where_the_architecture_says(symbol, file):
    found = re.search(rf"^(def|class) {symbol}\b|^{symbol} =", place(file).read_text(), re.M)
    assert found, f"{file} defines no {symbol}"


# --- examples ------------------------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to run examples in, with the photographs and files that they speak of."""
    (tmp_path / "space").symlink_to(ROOT / "space")
    for name in ("photograph.jpg", "grandma.jpg"):
        shutil.copy(ROOT / "space" / "examples" / "mark-twain-1907.jpg", tmp_path / name)
    write_model(model_folder("default"), tmp_path / "default.onnx")
    light = to_luminance(Image.open(tmp_path / "photograph.jpg"))
    height, width = light.shape
    write_chroma(
        tmp_path / "photograph.chroma.png",
        Chroma(
            np.full((2, 64, 96), 10, np.float32),
            (height, width),
            (0, height, 0, width),
            Fingerprint.of(light),
            {"seed": 7},
        ),
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def examples(module: str) -> list[doctest.DocTest]:
    """The examples in the docstrings of a module and of what it defines."""
    name = f"pipeline_colorize.{module}" if module != "__init__" else "pipeline_colorize"
    loaded = importlib.import_module(name)
    defined = [one for _, one in inspect.getmembers(loaded) if inspect.getmodule(one) is loaded]
    classes = [one for one in defined if inspect.isclass(one)]
    members = [one for cls in classes for one in vars(cls).values()]
    found = []
    for thing in [loaded, *defined, *members]:
        text = inspect.getdoc(getattr(thing, "__func__", thing)) or ""
        text = re.sub(r"^```.*$", "", text, flags=re.M)  # fences, as diffusers has them
        title = f"{name}.{getattr(thing, '__qualname__', '')}"
        if ">>> " in text:
            scope = dict(vars(loaded))
            found.append(doctest.DocTestParser().get_doctest(text, scope, title, None, 0))
    return found


def test_every_public_class_has_an_example():
    public = set(pipeline_colorize.__all__) - {"__version__", "ColorizationPipelineOutput"}
    for name in public:
        assert ">>> " in getattr(pipeline_colorize, name).__doc__, name


def with_examples() -> list[str]:
    """Modules whose text has examples; the others need not be imported to know that."""
    files = test_import.FILES.items()
    return sorted(name for name, file in files if ">>> " in file.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("module", with_examples())
def test_examples_of_docstrings_hold(module, desk):
    found = examples(module)
    assert found
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report = []
    for example in found:
        runner.run(example, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.slow
def test_the_python_of_the_readme_runs(desk):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert len(blocks) == 2 and len(scope["result"].images) == 4
    for name in ("colorized.png", "uncertainty.png"):
        assert (desk / name).stat().st_size > 1000


# --- commands ------------------------------------------------------------------------------------


def shown_commands() -> set[tuple[str, str]]:
    """Each pair of a program of this project and an option that a page gives to it."""
    found = set()
    for page in pages():
        blocks = re.findall(r"^```bash\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.M | re.S)
        for line in "".join(blocks).replace("\\\n", " ").splitlines():
            for command in re.split(r"&&| ?# ", line):
                match = re.search(r"(?:^|\s)(colorize|\S+\.py)(\s.*|$)", command)
                if match:
                    options = re.findall(r"\s(--[a-z][\w-]*)", match[2])
                    found |= {(match[1], option) for option in options}
    return found


def takes(program: str, option: str) -> bool:
    """Whether the source of a program has an option, or a field of its configuration."""
    file = "pipeline_colorize/cli.py" if program == "colorize" else program
    source = (ROOT / file).read_text("utf-8")
    if "train_colorize" in source:  # fields of the configuration are flags
        source += inspect.getsource(config)
    field = option.removeprefix("--").replace("-", "_")
    return bool(re.search(rf'"{option}["/=]|^    {field}: ', source, re.M))


@pytest.mark.parametrize("program, option", sorted(shown_commands()))
def test_options_that_the_pages_show_exist(program, option):
    assert takes(program, option), f"{program} has no {option}"
