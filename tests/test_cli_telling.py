"""What people say of colours, by `colorize`: what is done anew, and what a result tells of it."""

import re
from types import SimpleNamespace

import pytest
from command_run import run, save

from pipeline_colorize import photo
from pipeline_colorize.command import telling


def one_line_error(result, *words):
    """Check that a run was refused, in a line that has these words."""
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("colorize: ")]
    assert any(all(word in line for word in words) for line in lines), result.stderr


def mark_of(path):
    return photo.read_mark(photo.read_packet(path))["AIPromptInformation"]


@pytest.fixture
def no_matches(monkeypatch):
    """Let references give nothing, without the packages that match them."""
    album = SimpleNamespace(hints_of=lambda image: [])
    references = SimpleNamespace(reference_album=lambda images: list(images) and album)
    monkeypatch.setattr(telling, "_from_extra", lambda name, option: references)


def test_other_references_make_a_result_anew(album, pipe, tmp_path, no_matches):
    out, examples = tmp_path / "out", tmp_path / "examples"
    colored = save(examples / "a; b.png")
    told = [album, "-o", out, "--reference", examples]
    assert "3 colorized" in run(*told).stderr
    assert re.search(r"; references=examples#[0-9a-f]{16}$", mark_of(out / "a.png"))
    assert "3 done already" in run(*told).stderr
    assert "3 done already" in run(album, "-o", out).stderr  # nothing is said, so nothing differs
    assert "3 colorized" in run(album, "-o", out, "--reference", colored).stderr
    assert "; references=a, b.png#" in mark_of(out / "a.png")
    save(examples / "a; b.png", shade=200)
    assert "3 colorized" in run(album, "-o", out, "--reference", colored).stderr
    save(examples / "second.png")
    both = [album, "-o", out, "--reference", colored, "--reference", examples / "second.png"]
    assert "3 colorized" in run(*both).stderr
    assert "3 done already" in run(*both).stderr


def test_other_hints_make_a_result_anew(album, pipe, tmp_path):
    def hinted(*colors):
        hints = [part for color in colors for part in ("--hint", f"3,4,{color}")]
        return run(album / "a.png", "-o", tmp_path / "x.tif", "--json", *hints).stdout

    assert '"colorized"' in hinted("red")
    assert '"done already"' in hinted("red")
    assert '"colorized"' in hinted("red", "green")
    assert '"done already"' in hinted()
    (tmp_path / "x.tif").write_text("it does not say how it was made")
    assert '"colorized"' in hinted("red", "green")


def test_other_mends_make_a_result_anew(album, pipe, tmp_path):
    base = save(tmp_path / "base.png", shade=77)

    def mended(*more):
        told = [album / "a.png", "-o", tmp_path / "x.png", "--colored", base, "--json", *more]
        return run(*told).stdout

    assert '"colorized"' in mended("--strength", 0.5)
    assert re.search(
        r"; colored=base\.png#[0-9a-f]{16}; strength=0\.5$", mark_of(tmp_path / "x.png")
    )
    assert '"done already"' in mended("--strength", 0.5)
    assert '"colorized"' in mended("--strength", 0.6)
    save(base, shade=78)
    assert '"colorized"' in mended("--strength", 0.6)
    assert '"done already"' in mended("--strength", 0.6)


@pytest.mark.parametrize("ending", ["tar", "zip", "parquet"])
def test_other_references_make_a_file_of_results_anew(album, pipe, tmp_path, no_matches, ending):
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    colored = save(tmp_path / "colored.png")
    told = [album, "-o", tmp_path / f"all.{ending}", "--reference", colored]
    for expected in ("3 colorized", "3 done already"):
        assert expected in run(*told).stderr
    save(colored, shade=200)
    assert "3 colorized" in run(*told).stderr


def test_what_is_mended_is_not_written_over(album, pipe):
    run(album / "a.png")
    told = ["--colored", album / "a-colorized.png", "--strength", 0.5]
    one_line_error(run(album / "a.png", *told), "--colored", "over", "--output")


def test_chroma_files_say_how_they_were_made(album, tmp_path):
    quick = ["--steps", 1, "--candidates", 1, "--chroma-only", "--json"]
    told = [album / "a.png", "-o", f"{tmp_path / 'out'}/", *quick]
    for hint, status in (("red", "colorized"), ("red", "done already"), ("blue", "colorized")):
        assert f'"{status}"' in run(*told, "--hint", f"3,4,{hint}").stdout
