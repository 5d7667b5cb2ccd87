"""What scripts/build_browser.py does to the folder that it is given."""

import pytest
from click.testing import CliRunner
from conftest import load_script


@pytest.fixture
def script(monkeypatch):
    """The script without npm, whose build is one file."""
    module = load_script("build_browser")

    def npm(*arguments, **variables):
        folder = module.Path(arguments[arguments.index("--outDir") + 1])
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():  # as vite does
            file.unlink()
        (folder / "index.html").write_text("page")

    monkeypatch.setattr(module, "npm", npm)
    monkeypatch.setattr(module, "install", lambda: None)
    monkeypatch.setattr(module, "add_model", lambda *arguments: None)
    monkeypatch.setattr(module, "sizes", lambda folder: {"page": 4})
    return module


def test_only_an_earlier_page_is_replaced(script, tmp_path):
    page = tmp_path / "page"
    for _ in range(2):
        done = CliRunner().invoke(script.main, ["--output", str(page)])
        assert done.exit_code == 0, done.output
        assert (page / "index.html").read_text() == "page"
    (tmp_path / "empty").mkdir()
    assert CliRunner().invoke(script.main, ["--output", str(tmp_path / "empty")]).exit_code == 0


def test_a_folder_with_other_files_is_refused_and_kept(script, tmp_path):
    letter = tmp_path / "mine" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("dear")
    done = CliRunner().invoke(script.main, ["--output", str(letter.parent)])
    assert done.exit_code == 1 and "choose a new or empty folder" in done.stderr
    assert letter.read_text() == "dear"
