"""The `colorize` command, mostly on a stand-in for the model that is quick and predictable."""

import errno
import gc
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from command_run import StubPipe, names, run, save
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError
from PIL import Image

from pipeline_colorize import (
    ColorizationPipeline,
    ColorizationUNet,
    OffsetCosineScheduler,
    cli,
    photo,
)
from pipeline_colorize.command import encoding, engine, report, work
from pipeline_colorize.command.settings import Settings
from pipeline_colorize.photo.display import side_by_side
from pipeline_colorize.registry import SAMPLERS

pytestmark = pytest.mark.usefixtures("other_tests_hear_diffusers")


def one_line_error(result, *words, code=1):
    """The messages of a failed run: each in one line, without a traceback, and to the point."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("colorize: ")]
    assert any(all(word in line for word in words) for line in lines), result.stderr
    return lines


# --- names ---------------------------------------------------------------------------------------


def test_without_output_results_lie_beside(album, pipe):
    result = run(album / "a.png")
    assert result.exit_code == 0, result.output
    assert names(album) == ["a-colorized.png", "a.png", "b.png", "c.png"]
    assert result.stdout == f"{album / 'a.png'} -> {album / 'a-colorized.png'}\n"


@pytest.mark.parametrize("name", ["out.jpg", "out.webp", "sub/deeper/out.tif"])
def test_output_file(album, pipe, tmp_path, name):
    assert run(album / "a.png", "-o", tmp_path / name).exit_code == 0
    assert Image.open(tmp_path / name).mode == "RGB"


@pytest.mark.parametrize("inputs", [["."], ["*.png"], ["a.png", "b.png", "c.png"], [".", "a.png"]])
def test_output_folder(album, pipe, tmp_path, inputs, monkeypatch):
    monkeypatch.chdir(album)
    assert run(*inputs, "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]


def test_formats_that_are_not_written_become_png(pipe, tmp_path):
    save(tmp_path / "a.gif")
    save(tmp_path / "b.bmp")
    run(tmp_path, "-o", tmp_path / "out")
    assert names(tmp_path / "out") == ["a.png", "b.png"]


def test_sub_folders_are_kept(album, pipe, tmp_path):
    save(album / "1911" / "a.png")
    save(album / "1911" / ".hidden" / "a.png")
    run(album, "-o", tmp_path / "flat")
    assert names(tmp_path / "flat") == ["a.png", "b.png", "c.png"]
    run(album, "-o", tmp_path / "deep", "--recursive")
    assert names(tmp_path / "deep") == ["1911/a.png", "a.png", "b.png", "c.png"]


def test_results_in_the_folder_above(album, pipe, tmp_path, monkeypatch):
    assert run(album, "-o", tmp_path).exit_code == 0
    assert {"a.png", "b.png", "c.png"} < set(names(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "3 done already" in run("album", "-o", ".").stderr


def test_a_link_to_itself_is_no_obstacle(album, pipe, tmp_path):
    (album / "loop.png").symlink_to("loop.png")
    assert run(album, "-o", tmp_path / "out").exit_code == 0
    result = run(album / "loop.png", album / "a.png", "-o", tmp_path / "out2")
    one_line_error(result, "loop.png")
    assert names(tmp_path / "out2") == ["a.png"]


def test_results_are_not_taken_as_photographs(album, pipe):
    for output in ([], ["-o", album / "color"], ["-o", album]):
        assert run(album, "-r", "--compare", *output).exit_code == 0
    before = names(album)
    for output in ([], ["-o", album / "color"], ["-o", album]):
        again = run(album, "-r", "--compare", *output)
        assert again.exit_code == 0 and "3 done already" in again.stderr
    marked = [name for name in before if name.startswith("color/")]
    assert marked == [
        f"color/{name}"
        for name in ("a-compare.jpg", "a.png", "b-compare.jpg", "b.png", "c-compare.jpg", "c.png")
    ]
    # Without -o, only the mark in the files tells that album/color holds results.
    assert names(album) == before


def test_a_shell_pattern_can_be_repeated(album, pipe):
    for expected in ("3 colorized", "3 done already"):
        result = run(*sorted(album.glob("*.png")), "--samples", 2)
        assert result.exit_code == 0 and expected in result.stderr
    assert "6 left out" in result.stderr
    assert len(names(album)) == 9


def test_a_single_result_can_be_colorized_again(album, pipe):
    run(album / "a.png")
    assert run(album / "a-colorized.png", "--seed", 1).exit_code == 0
    assert "a-colorized-colorized.png" in names(album)


def test_an_output_that_is_also_an_input_is_refused(album, pipe):
    one_line_error(run(album / "a.png", "-o", album / "a.png", "--overwrite"), "over", code=2)
    save(album / "x" / "a.png")
    result = run(album / "a.png", album / "x" / "a.png", "-o", album / "x")
    one_line_error(result, "a.png", "over the photograph")
    assert names(album / "x") == ["a-colorized.png", "a.png"]


def test_two_inputs_with_one_output_fail_and_the_rest_go_on(album, pipe, tmp_path):
    first, second = album / "a.png", save(album / "x" / "a.png")
    result = run(first, second, album / "b.png", "-o", tmp_path / "out")
    lines = one_line_error(result, f"{first}: would be written to", f"as would {second}")
    assert any(line.startswith(f"colorize: {second}: ") for line in lines)
    assert names(tmp_path / "out") == ["b.png"] and "1 colorized, 2 failed" in result.stderr


@pytest.mark.parametrize(
    "found, expected",
    [
        (["1.jpg", "3.bmp", "3.png"], ["1.jpg", "3-bmp.png", "3.png"]),
        (["2.bmp", "2.gif"], ["2-bmp.png", "2-gif.png"]),
        (["2.bmp", "2.jpg"], ["2.jpg", "2.png"]),
    ],
)
def test_photographs_that_share_a_name_get_distinct_results(pipe, tmp_path, found, expected):
    for name in found:
        save(tmp_path / "in" / name)
    assert run(tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == expected
    assert f"{len(found)} done already" in run(tmp_path / "in", "-o", tmp_path / "out").stderr
    assert run(tmp_path / "in").exit_code == 0
    beside = [f"{Path(name).stem}-colorized{Path(name).suffix}" for name in expected]
    assert names(tmp_path / "in") == sorted(found + beside)


@pytest.mark.parametrize("pattern", ["album [1912]/*.jpg", "album [1912]/a[[]1].jpg", "*/a[1].jp*"])
def test_brackets_in_the_names_of_folders_and_files(pipe, tmp_path, monkeypatch, pattern):
    save(tmp_path / "album [1912]" / "a[1].jpg")
    monkeypatch.chdir(tmp_path)
    assert run(pattern, "-o", "out").exit_code == 0
    assert names(tmp_path / "out") == ["a[1].jpg"]


def test_brackets_are_a_pattern_where_nothing_is_called_so(album, pipe, tmp_path):
    assert run(album / "[ab].png", "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a.png", "b.png"]


# --- what is not taken ---------------------------------------------------------------------------


def test_pictures_that_are_not_taken_are_named_by_ending(album, pipe, tmp_path):
    for name in ("x.CR2", "y.cr2", "art.psd", "notes.txt", ".hidden.cr2", "Thumbs.db"):
        (album / name).write_bytes(b"?")
    (album / "gone.png").symlink_to("nowhere.png")
    result = run(album, "-o", tmp_path / "out")
    assert result.exit_code == 0 and len(names(tmp_path / "out")) == 3
    assert "colorize: not taken: 2 .cr2, 1 .psd, 1 link to nothing\n" in result.stderr
    assert "not taken" not in run(album / "a.png", "-o", tmp_path / "out").stderr


def test_a_folder_of_pictures_that_are_not_taken(pipe, tmp_path):
    (tmp_path / "x.psd").write_bytes(b"?")
    result = run(tmp_path)
    one_line_error(result, "no photographs")
    one_line_error(result, "not taken: 1 .psd")


@pytest.mark.parametrize("name", ["0.png", "z.png"])  # before and after the photograph
def test_a_link_does_not_take_the_place_of_its_photograph(album, pipe, tmp_path, name):
    (album / name).symlink_to("b.png")
    result = run(album, "-o", tmp_path / "out")
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    assert "not taken: 1 link to photographs that are taken anyway" in result.stderr


def test_links_into_other_folders_are_taken_once(album, pipe, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    for name in ("one.png", "two.png"):
        (links / name).symlink_to(album / "a.png")
    result = run(links, "-o", tmp_path / "out")
    assert names(tmp_path / "out") == ["one.png"] and "1 link to photographs" in result.stderr
    (tmp_path / "same").symlink_to(album)
    run(tmp_path / "same", album, "-o", tmp_path / "out2")
    assert names(tmp_path / "out2") == ["a.png", "b.png", "c.png"]


# --- where to ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["x.xyz", "x.pdf", "sub/y.heic"])
def test_an_ending_that_is_not_written_makes_no_folder(album, pipe, tmp_path, monkeypatch, target):
    monkeypatch.chdir(tmp_path)
    for inputs in (["album/a.png"], ["album"]):
        result = run(*inputs, "-o", target)
        one_line_error(result, f"--output {target}", ".png", f"{target}/", code=2)
        assert names(tmp_path) == ["album/a.png", "album/b.png", "album/c.png"]
    assert run("album", "-o", f"{target}/").exit_code == 0
    assert names(tmp_path / target) == ["a.png", "b.png", "c.png"]
    assert "3 done already" in run("album", "-o", target).stderr


@pytest.mark.parametrize("target", ["album.1912", "St. Ives in summer", "v2.0", ".color"])
def test_a_folder_whose_name_has_a_dot(album, pipe, tmp_path, target):
    assert run(album, "-o", tmp_path / target).exit_code == 0
    assert names(tmp_path / target) == ["a.png", "b.png", "c.png"]


def test_an_output_that_is_neither_a_picture_nor_a_folder(album, pipe, tmp_path):
    result = run(album / "a.png", "-o", "/dev/null")
    one_line_error(result, "/dev/null is neither a file nor a folder", code=2)
    (tmp_path / "notes").write_text("mine")
    result = run(album / "a.png", "-o", tmp_path / "notes")
    one_line_error(result, "notes is a file", code=2)
    assert "make room" not in result.stderr and (tmp_path / "notes").read_text() == "mine"


def test_addresses_are_no_folders(album, pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "upath", None)  # as where the extra is not installed
    result = run("album/a.png", "-o", "s3://bucket/x")
    one_line_error(result, "pipeline-colorize[remote]", code=2)
    result = run("s3://bucket/a.jpg", "album/a.png", "-o", "out")
    one_line_error(result, "s3://bucket/a.jpg", "pipeline-colorize[remote]")
    assert {path.name for path in tmp_path.iterdir()} == {"album", "out"}


def test_a_file_in_a_closed_folder_is_not_called_missing(album, pipe, monkeypatch):
    stat = os.stat

    def refuse(path, *others, **more):
        if str(path).endswith("closed/a.png"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *others, **more)

    monkeypatch.setattr(os, "stat", refuse)
    result = run(album / "closed" / "a.png")
    one_line_error(result, "closed/a.png", "Permission denied")
    assert "no such file" not in result.stderr


def test_many_photographs_into_one_file_are_refused(album, pipe, tmp_path):
    one_line_error(run(album, "-o", tmp_path / "x.png"), "one file", "3 photographs", code=2)
    one_line_error(run(album / "a.png", "-o", tmp_path / "x.gif"), ".gif", ".png", code=2)


# --- what is done stays done ---------------------------------------------------------------------


def test_what_is_done_is_skipped(album, pipe, tmp_path):
    out = tmp_path / "out"
    run(album / "b.png", "-o", out / "b.png")
    (out / "b.png").write_text("mine")
    result = run(album, "-o", out)
    assert "2 colorized, 1 done already" in result.stderr
    assert (out / "b.png").read_text() == "mine"
    assert "3 done already" in run(album, "-o", out).stderr
    assert len(pipe.calls) == 3
    assert run(album, "-o", out, "--overwrite").exit_code == 0
    assert Image.open(out / "b.png").size == (24, 16)


def test_file_dates_are_kept_where_that_is_asked_for(album, pipe, tmp_path):
    for name in names(album):
        os.utime(album / name, (10**9, 10**9))
    run(album / "a.png", "-o", tmp_path / "out")
    assert (tmp_path / "out" / "a.png").stat().st_mtime > 10**9
    run(album, "-o", tmp_path / "out", "--keep-dates", "--overwrite", "--compare")
    dates = {path.stat().st_mtime for path in (tmp_path / "out").iterdir()}
    assert dates == {10**9} and len(names(tmp_path / "out")) == 6
    assert "3 done already" in run(album, "-o", tmp_path / "out").stderr


def test_only_what_is_missing_is_written(album, pipe, tmp_path):
    run(album, "-o", tmp_path / "out")
    (tmp_path / "out" / "a.png").write_text("mine")
    assert run(album, "-o", tmp_path / "out", "--compare").exit_code == 0
    assert "a-compare.jpg" in names(tmp_path / "out")
    assert (tmp_path / "out" / "a.png").read_text() == "mine"


def test_the_model_is_not_loaded_for_nothing(album, pipe, tmp_path, monkeypatch):
    run(album, "-o", tmp_path / "out")
    monkeypatch.setattr(engine, "load_model", lambda settings: pytest.fail("loaded"))
    assert run(album, "-o", tmp_path / "out").exit_code == 0


def test_ctrl_c_keeps_what_is_finished(album, pipe, tmp_path, monkeypatch):
    call = StubPipe.__call__

    def interrupted(self, images, **options):
        if len(self.calls) == 2:
            self.calls.append(None)
            signal.raise_signal(signal.SIGINT)
        return call(self, images, **options)

    monkeypatch.setattr(StubPipe, "__call__", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it
    result = run(album, "-o", tmp_path / "out")
    signal.signal(signal.SIGINT, before)
    assert result.exit_code == 130
    assert "continues from here" in result.stderr and "Traceback" not in result.output
    done = names(tmp_path / "out")
    assert set(done) < {"a.png", "b.png", "c.png"}  # no half file, nothing temporary
    assert f"{len(done)} colorized" in result.stderr
    assert run(album, "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]


def test_a_photograph_that_was_replaced_is_done_again(album, pipe, tmp_path):
    out = tmp_path / "out"
    run(album, "-o", out, "--compare")
    before = (out / "a.png").read_bytes(), (out / "b.png").read_bytes()
    save(album / "a.png", shade=200, size=(30, 20))
    later = os.stat(out / "a-compare.jpg").st_mtime_ns + 10**9
    os.utime(album / "a.png", ns=(later, later))
    result = run(album, "-o", out, "--compare")
    expected = "1 colorized (1 of them had changed since the last run), 2 done already"
    assert expected in result.stderr
    assert Image.open(out / "a.png").size == (30, 20)
    assert ((out / "a.png").read_bytes(), (out / "b.png").read_bytes())[1] == before[1]
    assert Image.open(out / "a-compare.jpg").height == 20
    os.utime(out / "a.png", ns=(later, later))  # as young as the photograph
    os.utime(out / "a-compare.jpg", ns=(later, later))
    assert "3 done already" in run(album, "-o", out, "--compare").stderr


def test_two_runs_at_once_count_their_own_work(album, pipe, tmp_path, monkeypatch):
    out, call = tmp_path / "out", StubPipe.__call__

    def meanwhile(self, images, **options):
        for name in ("a.png", "c.png"):  # of which the first one is on its way here
            save(out / name)
        return call(self, images, **options)

    monkeypatch.setattr(StubPipe, "__call__", meanwhile)
    result = run(album, "-o", out)
    count = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", result.stderr)}
    assert count["colorized"] + count["done"] == 3 and count["done"] >= 1
    assert count["colorized"] == len(result.stdout.splitlines())


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_a_photograph_that_another_run_is_at_work_on_is_left_to_it(album, pipe, tmp_path):
    out = tmp_path / "out"
    other = (
        "import sys, pathlib; from pipeline_colorize.command.sharing import Claims\n"
        "claims, path = Claims(), pathlib.Path(sys.argv[1])\n"
        "print(claims.take(path), flush=True); sys.stdin.readline(); path.write_text('other')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other, str(out / "a.png")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "True\n"
        threading.Timer(0.5, lambda: (process.stdin.write("\n"), process.stdin.flush())).start()
        result = run(album, "-o", out)
    assert "2 colorized, 1 done already" in result.stderr
    assert (out / "a.png").read_text() == "other" and len(pipe.calls) == 2


def test_a_request_to_end_keeps_what_is_finished(album, pipe, tmp_path, monkeypatch):
    call = StubPipe.__call__

    def terminated(self, images, **options):
        if len(self.calls) == 1:
            signal.raise_signal(signal.SIGTERM)
        return call(self, images, **options)

    monkeypatch.setattr(StubPipe, "__call__", terminated)
    before = signal.getsignal(signal.SIGTERM)
    result = run(album, "-o", tmp_path / "out")
    assert result.exit_code == 143 and "continues from here" in result.stderr
    assert names(tmp_path / "out") == ["a.png"]
    assert signal.getsignal(signal.SIGTERM) is before


# --- the same answer -----------------------------------------------------------------------------


def pixels(path):
    return np.asarray(Image.open(path))


def test_a_photograph_alone_or_in_company_gets_the_same_colours(album, pipe, tmp_path):
    run(album, "-o", tmp_path / "one")
    run(album, "-o", tmp_path / "three", "--batch-size", 3)
    run(album / "c.png", "-o", tmp_path / "alone.png")
    assert [call["images"] for call in pipe.calls] == [1, 1, 1, 3, 1]
    for name in ("a.png", "b.png", "c.png"):
        one, three = tmp_path / "one" / name, tmp_path / "three" / name
        assert one.read_bytes() == three.read_bytes()
    assert np.array_equal(pixels(tmp_path / "alone.png"), pixels(tmp_path / "one" / "c.png"))


def test_another_seed_gives_other_colours(album, pipe, tmp_path):
    run(album / "a.png", "-o", tmp_path / "0.png")
    run(album / "a.png", "-o", tmp_path / "1.png", "--seed", 1)
    assert not np.array_equal(pixels(tmp_path / "0.png"), pixels(tmp_path / "1.png"))


def test_several_samples_are_numbered(album, pipe, tmp_path):
    run(album / "a.png", "-o", tmp_path / "x.png", "--samples", 3)
    assert names(tmp_path)[3:] == ["x-1.png", "x-2.png", "x-3.png"]
    assert not np.array_equal(pixels(tmp_path / "x-1.png"), pixels(tmp_path / "x-2.png"))
    mark = photo.read_mark(photo.read(tmp_path / "x-2.png").xmp)
    assert "seed=0" in mark["AIPromptInformation"]
    assert "sample=2 of 3" in mark["AIPromptInformation"]


def test_the_mark_tells_the_settings(album, pipe, tmp_path):
    run(
        album / "a.png",
        "-o",
        tmp_path / "x.png",
        "--seed",
        9,
        "--saturation",
        0.8,
        "--hint",
        "3,4,#AA0011",
    )
    marked = photo.read_mark(photo.read(tmp_path / "x.png").xmp)["AIPromptInformation"]
    assert marked == "model=default; seed=9; steps=5; saturation=0.8; hints=3,4,#aa0011"


def test_a_model_folder_is_told_without_its_path(album, pipe, tmp_path):
    (tmp_path / "secret" / "mine").mkdir(parents=True)
    run(album / "a.png", "-o", tmp_path / "x.png", "--model", tmp_path / "secret" / "mine")
    marked = photo.read_mark(photo.read(tmp_path / "x.png").xmp)["AIPromptInformation"]
    assert marked.startswith("model=mine;")


def test_a_command_line_without_options_has_the_defaults_of_the_settings():
    options = cli.main.make_context("colorize", ["a.png"]).params
    assert Settings(**options) == Settings(inputs=("a.png",))


def test_options_reach_the_pipeline(album, pipe, tmp_path):
    run(
        album / "a.png",
        "-o",
        tmp_path / "x.png",
        "--steps",
        7,
        "--eta",
        0.5,
        "--saturation",
        2,
        "--processing-resolution",
        64,
        "--temperature",
        0.3,
        "--candidates",
        5,
        "--second-look",
        1.5,
        "--no-find-margins",
        "--hint",
        "3,4.5,#AA0011",
    )
    (call,) = pipe.calls
    assert (call["num_inference_steps"], call["eta"], call["saturation"]) == (7, 0.5, 2)
    assert (call["processing_resolution"], call["temperature"]) == (64, 0.3)
    assert (call["num_samples"], call["num_candidates"]) == (1, 5)
    assert call["second_look"] == 1.5 and call["find_margins"] is False
    ((hint,),) = call["hints"]
    assert (hint.x, hint.y, hint.color) == (3, 4.5, "#aa0011")


def test_depths_are_not_mixed_in_a_batch(pipe, tmp_path):
    for name, dtype in (("a", np.uint8), ("b", np.uint16), ("c", np.uint16), ("d", np.uint8)):
        Image.fromarray(np.ones((8, 8), dtype)).save(tmp_path / f"{name}.png")
    run(tmp_path, "-o", tmp_path / "out", "--batch-size", 4)
    assert [call["images"] for call in pipe.calls] == [1, 2, 1]
    assert photo.read(tmp_path / "out" / "b.png").depth == 16


# --- pictures besides ----------------------------------------------------------------------------


def test_compare_shows_before_and_after(album, pipe, tmp_path):
    run(album / "a.png", "-o", tmp_path / "x.png", "--compare")
    picture = Image.open(tmp_path / "x-compare.jpg")
    assert picture.height == 16 and picture.width == 2 * 24 + 2
    after = np.asarray(picture)[4:-4, -12:-4].reshape(-1, 3).mean(0)
    assert np.abs(after - pixels(tmp_path / "x.png").reshape(-1, 3).mean(0)).max() < 6
    assert photo.read_mark(photo.read(tmp_path / "x-compare.jpg").xmp)


def test_compare_of_large_and_unequal_pictures():
    large, small = Image.new("RGB", (3000, 2000)), Image.new("RGB", (300, 1800))
    row = side_by_side([large, small], 1200)
    assert row.size == (1800 + 20 + 200, 1200)


def test_compare_of_many_wide_pictures():
    row = side_by_side([Image.new("RGB", (20_000, 600))] * 5, 1200)
    assert 60_000 < row.width <= 65_500


def test_uncertainty_draws_samples_of_its_own(album, pipe, tmp_path):
    run(album / "a.png", "-o", tmp_path / "x.png", "--uncertainty")
    run(album / "a.png", "-o", tmp_path / "plain.png")
    assert Image.open(tmp_path / "x-uncertainty.png").size == (24, 16)
    run(album / "a.png", "-o", tmp_path / "y.png", "--uncertainty", "--candidates", 3)
    assert [call["num_samples"] for call in pipe.calls] == [4, 1, 1]
    assert np.array_equal(pixels(tmp_path / "x.png"), pixels(tmp_path / "plain.png"))


def test_intermediates(album, pipe, tmp_path):
    run(album / "a.png", "-o", tmp_path / "x.png", "--intermediates", "--samples", 2)
    assert [name for name in names(tmp_path) if "intermediates" in name] == [
        f"x-{n}-intermediates.{kind}" for n in (1, 2) for kind in ("gif", "png")
    ]
    assert Image.open(tmp_path / "x-1-intermediates.png").width > 4 * 256
    assert min(Image.open(tmp_path / "x-1-intermediates.gif").size) >= 240


# --- bad photographs, bad folders ----------------------------------------------------------------


def test_one_bad_file_is_named_and_the_rest_go_on(album, pipe, tmp_path):
    (album / "empty.jpg").write_bytes(b"")
    (album / "text.jpg").write_text("Dear diary")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(album / "cut.jpg")
    (album / "cut.jpg").write_bytes((album / "cut.jpg").read_bytes()[:400])
    result = run(album, "-o", tmp_path / "out")
    for name, reason in (("empty", "empty"), ("text", "not a picture"), ("cut", "cut off")):
        one_line_error(result, f"{name}.jpg", reason)
    assert "3 colorized, 3 failed" in result.stderr
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]


def test_a_name_too_long_for_a_result_is_one_photographs(album, pipe):
    save(album / f"{'n' * 245}.png")
    one_line_error(run(album), "nnn.png", "cannot be written", "name too long")
    assert len(names(album)) == 4 + 3


def test_names_as_long_as_they_can_be(pipe, tmp_path):
    name = f"{'n' * 251}.png"
    save(tmp_path / "in" / name)
    assert run(tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == [name]


@pytest.mark.parametrize("error", [BrokenPipeError(32, "gone"), OSError(errno.ENOSPC, "full")])
def test_a_list_that_nobody_takes_is_no_failure(album, pipe, tmp_path, monkeypatch, error):
    echo = report.click.echo

    def refuse(message=None, file=None, nl=True, err=False, color=None):
        if not err:
            raise error
        echo(message, file, nl, err, color)

    monkeypatch.setattr(report.click, "echo", refuse)
    result = run(album, "-o", tmp_path / "out")
    assert result.exit_code == 0 and "3 colorized" in result.stderr, result.output
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="names have no such characters there")
def test_names_do_not_steer_the_terminal(pipe, tmp_path):
    for name in ("a\nb.png", "\x1b]0;title\x07.png", "gnp.\u202eexe.png", "\x9b2J.png"):
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "\x1b[2J.jpg").write_text("no picture")
    result = run(tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 1 and len(names(tmp_path / "out")) == 4
    assert len(result.stdout.splitlines()) == 4 and r"a\nb.png -> " in result.stdout
    assert not set("\x1b\x07\x9b\u202e") & set(result.output)


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_not_text(album, pipe, tmp_path):
    (album / "a.png").rename(album / "caf\udce9.png")
    result = run(album, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert b"caf\xe9.png" in result.stdout_bytes


def test_many_failures_are_listed_again_at_the_end(pipe, tmp_path):
    for index in range(25):
        save(tmp_path / f"{index}.png")
    (tmp_path / "bad.png").write_text("?")
    result = run(tmp_path, "-o", tmp_path / "out")
    assert result.stderr.count("bad.png") == 2


def test_frames_and_other_warnings_are_shown(pipe, tmp_path):
    frames = [Image.new("L", (12, 8), value) for value in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    result = run(tmp_path / "a.gif")
    assert result.exit_code == 0 and "only the first one" in result.stderr


def test_the_pixel_limit_can_be_set(album, pipe, tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    result = run(album / "a.png", "-o", tmp_path / "x.png", "--max-pixels", 383)
    one_line_error(result, "24 x 16", "383", "--max-pixels")
    assert run(album / "a.png", "-o", tmp_path / "x.png", "--max-pixels", 384).exit_code == 0
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_sub_folder_that_cannot_be_read_is_named(album, pipe, tmp_path, monkeypatch):
    (album / "closed").mkdir()
    scandir = os.scandir

    def refuse(path="."):
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    result = run(album, "-r", "-o", tmp_path / "out")
    one_line_error(result, "closed", "cannot be read")
    assert names(tmp_path / "out") == ["a.png", "b.png", "c.png"]


def test_no_input_matched(pipe, tmp_path):
    one_line_error(run(tmp_path / "none.jpg"), "none.jpg", "no such file")
    one_line_error(run(tmp_path / "*.jpg"), "*.jpg", "no such file")
    one_line_error(run(tmp_path), "no photographs", "--recursive")


def test_an_input_that_is_a_link_to_nothing(album, pipe):
    (album / "link.png").symlink_to("nowhere.png")
    one_line_error(run(album / "link.png"), "link.png: a link to nothing")


@pytest.mark.parametrize("arguments", [[""], ["a.png", "-o", ""]])
def test_empty_paths(album, pipe, monkeypatch, arguments):
    monkeypatch.chdir(album)
    result = run(*arguments)
    assert result.exit_code == 2 and "a path cannot be empty" in result.stderr
    assert names(album) == ["a.png", "b.png", "c.png"]


def test_a_missing_input_does_not_stop_the_others(album, pipe, tmp_path):
    result = run(album / "none.png", album / "a.png", "-o", tmp_path / "out")
    assert result.exit_code == 1 and names(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize(
    "hint", ["red", "1,2", "1,2,#12345", "1,2,#red", "-1,2,#123456", "1,2,red,"]
)
def test_a_wrong_hint(album, pipe, hint):
    result = run(album / "a.png", f"--hint={hint}")
    assert result.exit_code == 2 and "is not X,Y,COLOR" in result.stderr


@pytest.mark.parametrize("color", ["DarkRed", "8B0000", "#8b0000"])
def test_colours_of_hints_have_names(album, pipe, tmp_path, color):
    assert run(album / "a.png", "-o", tmp_path / "x.png", "--hint", f"1,2,{color}").exit_code == 0
    assert pipe.calls[-1]["hints"][0][0].color == "#8b0000"


def test_a_hint_may_be_doubtful(album, pipe, tmp_path):
    hints = ("--hint", "1,2,red", "--hint", "3, 4, red, 0.6", "--hint", "5,6,red,1")
    assert run(album / "a.png", "-o", tmp_path / "x.png", *hints).exit_code == 0
    assert [hint.confidence for hint in pipe.calls[-1]["hints"][0]] == [1, 0.6, 1]
    mark = photo.read_mark(photo.read_packet(tmp_path / "x.png"))["AIPromptInformation"]
    assert "hints=1,2,#ff0000 3,4,#ff0000,0.6 5,6,#ff0000" in mark
    for wrong in ("0", "1.5"):
        result = run(album / "a.png", "--hint", f"1,2,red,{wrong}")
        assert result.exit_code == 2 and f"is at most 1, not {wrong}" in result.stderr


def test_a_colour_without_that_name(album, pipe):
    result = run(album / "a.png", "--hint", "1,2,reddish")
    assert result.exit_code == 2 and "no colour named 'reddish'" in result.stderr


@pytest.mark.parametrize("option", ["saturation", "temperature", "eta", "second-look"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_none(album, pipe, option, value):
    assert run(album / "a.png", f"--{option}", value).exit_code == 2


def test_hints_are_for_one_photograph(album, pipe):
    one_line_error(run(album, "--hint", "1,2,#123456"), "--hint", "3", code=2)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_output_folder_that_takes_nothing_ends_the_run(
    album, pipe, tmp_path, monkeypatch, number
):
    def fail(path, *_):
        raise OSError(number, "Out of order")

    monkeypatch.setattr(photo, "write", fail)
    result = run(album, "-o", tmp_path / "out")
    one_line_error(result, "cannot write to", str(tmp_path / "out"), "--output")
    assert names(tmp_path / "out") == []


def test_an_output_folder_is_tried_before_the_model_is_loaded(album, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "load_model", lambda settings: pytest.fail("loaded"))
    (tmp_path / "file").write_text("in the way")
    one_line_error(run(album, "-o", tmp_path / "file" / "out"), "cannot write to", "--output")


def test_a_folder_that_takes_nothing_does_not_stop_the_others(album, pipe, monkeypatch):
    save(album / "1911" / "d.png")
    probe = encoding._probe

    def refuse(folder):
        return PermissionError(13, "Permission denied") if folder == album else probe(folder)

    monkeypatch.setattr(encoding, "_probe", refuse)
    result = run(album, "--recursive")
    one_line_error(result, "a.png", "cannot write to", "Permission denied")
    assert "1 colorized, 3 failed" in result.stderr
    assert "1911/d-colorized.png" in names(album)


def test_a_failure_of_the_model_is_one_photographs(album, pipe, tmp_path, monkeypatch):
    call = StubPipe.__call__

    def picky(self, images, **options):
        if any(image.flat[0] == 40 for image in images):
            raise ValueError("too\nodd")
        return call(self, images, **options)

    monkeypatch.setattr(StubPipe, "__call__", picky)
    result = run(album, "-o", tmp_path / "out", "--batch-size", 3)
    one_line_error(result, "b.png", "too odd")
    assert names(tmp_path / "out") == ["a.png", "c.png"]


# --- memory --------------------------------------------------------------------------------------


def most_photographs_at_once(folder, count, monkeypatch, batch):
    alive, most, lock = set(), [0], threading.Lock()
    original_read, original_write = photo.read, photo.write

    def read(*arguments):
        found = original_read(*arguments)
        with lock:
            alive.add(id(found))
            weakref.finalize(found, alive.discard, id(found))
            most[0] = max(most[0], len(alive))
        return found

    def slow_write(*arguments):
        time.sleep(0.004)  # so that photographs pile up where they can
        return original_write(*arguments)

    for index in range(count):
        save(folder / f"{index}.png")
    monkeypatch.setattr(photo, "read", read)
    monkeypatch.setattr(photo, "write", slow_write)
    assert run(folder, "-o", folder / "out", "--batch-size", batch).exit_code == 0
    monkeypatch.undo()
    gc.collect()
    assert not alive
    return most[0]


@pytest.mark.parametrize("batch", [1, 4])
def test_few_photographs_are_in_memory_however_many_there_are(tmp_path, monkeypatch, batch):
    stub = StubPipe()
    # Read, coloured, written, and between.
    bound = (batch + work.THREADS) + batch + 2 * work.THREADS + 2
    for count in (12, 60):
        with monkeypatch.context() as patch:
            patch.setattr(engine, "load_model", lambda settings: stub)
            most = most_photographs_at_once(tmp_path / str(count), count, patch, batch)
        assert batch <= most <= bound


# --- start-up and the real pipeline --------------------------------------------------------------


@pytest.mark.process
def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys; from pipeline_colorize.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "Examples:" in done.stdout and "colorize grandma.jpg --samples 4" in done.stdout
    # Processor time: a busy machine is not the command's fault.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    unet = ColorizationUNet(
        chroma_stride=4, hint_channels=3, block_out_channels=(8, 16), layers_per_block=1
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    pipeline = ColorizationPipeline(
        unet,
        OffsetCosineScheduler(),
        default_num_inference_steps=2,
        default_processing_resolution=32,
    )
    pipeline.save_pretrained(folder)
    return folder


def test_with_a_real_model(album, model, tmp_path):
    rows, columns = np.mgrid[0:40, 0:52]
    light = (rows * 3 + columns * 2).astype(np.uint8)
    Image.fromarray(light).save(album / "a.png")
    out = tmp_path / "out"
    result = run(album, "-o", out, "--model", model, "--uncertainty", "--intermediates")
    assert result.exit_code == 0, result.output
    assert result.stderr == "3 colorized\n"  # nobody else has anything to say
    found = photo.read(out / "a.png")
    assert found.image.shape == (40, 52, 3)
    assert np.ptp(found.image.astype(int), axis=2).max() > 0  # it has colours
    assert np.abs(lightness(found.image) - lightness(light)).max() <= 1
    assert Image.open(out / "a-uncertainty.png").size == (52, 40)
    assert Image.open(out / "a-intermediates.gif").n_frames == 2


def lightness(image):
    from skimage.color import rgb2lab

    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return rgb2lab(rgb)[..., 0]


@pytest.mark.parametrize("scheduler", sorted(SAMPLERS))
def test_every_scheduler_name(album, model, tmp_path, scheduler):
    result = run(
        album / "a.png", "-o", tmp_path / "x.png", "--model", model, "--scheduler", scheduler
    )
    assert result.exit_code == 0, result.output
    marked = photo.read_mark(photo.read(tmp_path / "x.png").xmp)["AIPromptInformation"]
    assert f"scheduler={SAMPLERS[scheduler]}" in marked


def test_eta_needs_a_sampler_that_knows_it(album, model, tmp_path):
    options = ["-o", tmp_path / "x.png", "--model", model, "--eta", 0.5]
    one_line_error(run(album / "a.png", *options, "--scheduler", "unipc"), "UniPC", "--eta")
    assert run(album / "a.png", *options).exit_code == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 400)])
def test_thin_photographs(model, tmp_path, size):
    save(tmp_path / "a.png", size=size)
    result = run(tmp_path / "a.png", "-o", tmp_path / "x.png", "--model", model)
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "x.png").size == size


def test_a_hint_outside_the_photograph(album, model):
    result = run(album / "a.png", "--model", model, "--hint", "24,3,#123456")
    one_line_error(result, "a.png", "outside the picture")


def test_missing_and_damaged_models(album, model, tmp_path):
    photograph = album / "a.png"
    one_line_error(run(photograph, "--model", tmp_path / "none"), "no model", "none")
    one_line_error(run(photograph, "--model", "defualt"), "no model 'defualt'", "--model takes")
    one_line_error(run(photograph, "--model", tmp_path), "model_index.json")
    broken = tmp_path / "broken"
    for weights in (None, b"\x10\0\0\0\0\0\0\0garbage"):
        subprocess.run(["cp", "-r", str(model), str(broken)], check=True)
        file = broken / "unet" / "diffusion_pytorch_model.safetensors"
        file.unlink()
        if weights:
            file.write_bytes(weights)
        result = run(photograph, "--model", broken)
        (line,) = one_line_error(result, "cannot load the model", "broken")
        assert len(line) < 500
        subprocess.run(["rm", "-r", str(broken)], check=True)


@pytest.mark.parametrize(
    "error, words",
    [
        (LocalEntryNotFoundError("offline\nand more"), "cannot be reached"),
        (RepositoryNotFoundError.__new__(RepositoryNotFoundError, "404"), "has no repository"),
    ],
)
def test_a_repository_that_cannot_be_had(album, monkeypatch, error, words):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("pipeline_colorize.hub.fetch", refuse)
    monkeypatch.setattr(ColorizationPipeline, "download", refuse)
    one_line_error(run(album / "a.png", "--model", "nobody/nothing"), "nobody/nothing", words)


def test_a_device_that_is_not_there(album, model):
    for device in ("cuda:7", "toaster"):
        result = run(album / "a.png", "--model", model, "--device", device)
        one_line_error(result, device, "--device cpu")


def test_with_terminal_there_is_a_bar(album, pipe, tmp_path, monkeypatch):
    shown = []
    from rich.progress import Progress

    monkeypatch.setattr(Progress, "advance", lambda self, task: shown.append(task))
    monkeypatch.setattr(report, "is_terminal", lambda stream: True)
    (album / "bad.png").write_text("?")
    run(album, "-o", tmp_path / "out")
    assert len(shown) == 4  # failures count, too
