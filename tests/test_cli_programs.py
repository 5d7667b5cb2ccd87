"""`colorize` as programs use it: pipes, JSON, parts for several machines, completion, manual."""

import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
from click.shell_completion import BashComplete
from command_run import names, run, save
from PIL import Image

from pipeline_colorize import cli, photo, registry
from pipeline_colorize.command import engine, report
from pipeline_colorize.command.sharing import Share
from pipeline_colorize.registry import model_folder

pytestmark = pytest.mark.usefixtures("other_tests_hear_diffusers")


def encoded(kind="JPEG", **options):
    buffer = io.BytesIO()
    Image.new("L", (24, 16), 90).save(buffer, kind, **options)
    return buffer.getvalue()


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


# --- pipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_from_standard_input_to_standard_output(pipe, kind):
    result = run("-", stdin=encoded(kind))
    assert result.exit_code == 0 and result.stderr == ""
    picture = Image.open(io.BytesIO(result.stdout_bytes))
    assert (picture.format, picture.mode, picture.size) == (kind, "RGB", (24, 16))


def test_formats_that_are_not_written_leave_as_png(pipe, tmp_path):
    assert run("-", stdin=encoded("BMP")).stdout_bytes.startswith(b"\x89PNG")
    save(tmp_path / "a.gif")
    result = run(tmp_path / "a.gif", "-o", "-")
    assert result.stdout_bytes.startswith(b"\x89PNG") and names(tmp_path) == ["a.gif"]


def test_streams_and_files_get_the_same_colours(album, pipe, tmp_path):
    source = album / "a.png"
    assert run(source, "-o", tmp_path / "x.png").exit_code == 0
    by_stream = run("-", "-o", "-", stdin=source.read_bytes()).stdout_bytes
    assert by_stream == (tmp_path / "x.png").read_bytes()
    assert run("-", "-o", tmp_path / "y.png", stdin=source.read_bytes()).exit_code == 0
    assert (tmp_path / "y.png").read_bytes() == by_stream
    assert run(source, "-o", "-").stdout_bytes == by_stream


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["-", "a.png"], "a single picture"),
        (["-", "--samples", 2], "a single picture"),
        (["-", "--compare"], "a single picture"),
        (["a.png", "b.png", "-o", "-"], "a single picture"),
        (["-", "--json"], "--output FILE"),
        (["-", "-o", "."], "needs a file"),
        (["-", "-o", "new/"], "needs a file"),
    ],
)
def test_what_streams_cannot_do(album, pipe, monkeypatch, arguments, words):
    monkeypatch.chdir(album)
    result = run(*arguments, stdin=encoded())
    assert result.exit_code == 2 and words in result.stderr and result.stdout == ""
    assert names(album) == ["a.png", "b.png", "c.png"] and not pipe.calls


@pytest.mark.parametrize("data, words", [(b"", "nothing came"), (b"%!PS", "not a picture")])
def test_what_comes_in_is_no_picture(pipe, data, words):
    result = run("-", stdin=data)
    assert result.exit_code == 1 and result.stdout == ""
    assert f"colorize: standard input: {words}" in result.stderr


def test_a_terminal_gives_and_gets_no_picture(album, pipe, monkeypatch):
    monkeypatch.setattr("pipeline_colorize.command.targets.is_terminal", lambda stream: True)
    result = run(album / "a.png", "-o", "-")
    assert result.exit_code == 2 and "output is a terminal" in result.stderr
    result = run("-", "-o", "x.png")
    assert result.exit_code == 2 and "input is a terminal" in result.stderr and result.stdout == ""


# --- what is printed -----------------------------------------------------------------------------


def test_an_object_for_each_photograph(album, pipe, tmp_path):
    save(album / "done.png")
    run(album / "done.png", "-o", tmp_path / "out")
    (album / "bad.png").write_text("?")
    photo.write_picture(album / "ours.png", Image.new("RGB", (9, 9)), photo.Mark("1", {}))
    frames = [Image.new("L", (12, 8), value) for value in (10, 200)]
    frames[0].save(album / "film.gif", save_all=True, append_images=frames[1:])
    result = run(album, "-o", tmp_path / "out", "--json", "--seed", 3)
    found = {os.path.basename(record["input"]): record for record in records(result)}
    assert {name: record["status"] for name, record in found.items()} == {
        "a.png": "colorized",
        "b.png": "colorized",
        "c.png": "colorized",
        "film.gif": "colorized",
        "bad.png": "failed",
        "done.png": "done already",
        "ours.png": "left out",
    }
    output = str(tmp_path / "out" / "a.png")
    assert found["a.png"]["output"] == output and found["a.png"]["outputs"] == [output]
    assert (found["a.png"]["model"], found["a.png"]["seed"]) == ("default", 3)
    assert 0 < found["a.png"]["seconds"] < 60 and found["a.png"]["warnings"] == []
    assert "only the first one" in found["film.gif"]["warnings"][0]
    assert "not a picture" in found["bad.png"]["error"] and found["bad.png"]["output"] is None
    assert found["done.png"]["output"] == str(tmp_path / "out" / "done.png")
    assert "4 colorized" in result.stderr


def test_the_page_names_all_keys_and_statuses(album, pipe, tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "command-line.md").read_text("utf-8")
    table = page[page.index("| key | value |") :].partition("\n\n")[0]
    keys = {key for row in table.splitlines()[2:] for key in re.findall("`([a-z]+)`", row)}
    (album / "bad.png").write_text("?")
    found = records(run(album, "-o", tmp_path / "out", "--json"))
    assert {key for record in found for key in record} <= keys
    assert {record["status"] for record in found} <= keys
    assert all(f"`{status}`" in table for status in ("done already", "left out", "to do"))


def test_an_object_names_all_files(album, pipe, tmp_path):
    options = ("-o", tmp_path / "x.png", "--json", "--samples", 2, "--compare")
    (record,) = records(run(album / "a.png", *options))
    files = ["x-1.png", "x-2.png", "x-compare.jpg"]
    assert record["outputs"] == [str(tmp_path / name) for name in files]
    assert record["output"] == record["outputs"][0]


def test_objects_of_what_is_not_there_and_of_odd_names(album, pipe, tmp_path):
    (album / "a.png").rename(album / "caf\udce9 \n.png")
    result = run(album / "none.png", album, "-o", tmp_path / "out", "--json")
    first, *others = records(result)
    assert first["input"] == str(album / "none.png") and first["status"] == "failed"
    assert {record["input"] for record in others} == {str(path) for path in album.iterdir()}


def test_quiet_prints_failures_alone(album, pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "is_terminal", lambda stream: True)
    assert run(album, "-o", tmp_path / "out", "-q").output == ""
    assert run(album, "-o", tmp_path / "out", "-q").output == ""
    (album / "bad.png").write_text("?")
    result = run(album, "-o", tmp_path / "out", "-q")
    assert result.exit_code == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "bad.png" in result.stderr
    lines = records(run(album, "-o", tmp_path / "new", "-q", "--json"))
    assert sorted(line["status"] for line in lines) == ["colorized"] * 3 + ["failed"]


def test_a_dry_run_writes_nothing(album, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "load_model", lambda settings: pytest.fail("loaded"))
    out = tmp_path / "out"
    result = run(album, album / "none.png", "-o", out, "--dry-run")
    assert result.exit_code == 1 and "3 to colorize, 1 failed" in result.stderr
    assert result.stdout.splitlines()[0] == f"{album / 'a.png'} -> {out / 'a.png'}"
    assert not out.exists()
    save(out / "b.png")
    result = run(album, "-o", out, "-n", "--json")
    assert [line["status"] for line in records(result)] == ["done already", "to do", "to do"]
    assert "2 to colorize, 1 done already" in result.stderr
    result = run(album, "-o", out, "-n", "--model", "defualt")
    assert result.exit_code == 1 and "no model 'defualt'" in result.stderr


# --- photographs in colour -----------------------------------------------------------------------


@pytest.fixture
def mixed(album):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(album / "color.png")
    return album


def test_photographs_in_colour_are_left_out(mixed, pipe, tmp_path):
    result = run(mixed, "-o", tmp_path / "out")
    assert result.exit_code == 0 and names(tmp_path / "out") == ["a.png", "b.png", "c.png"]
    assert "color.png: left out; it is already in colour (--recolor" in result.stderr
    result = run(mixed, "-o", tmp_path / "out", "--recolor")
    assert "color.png" in names(tmp_path / "out") and "in colour" not in result.stderr


def test_of_a_single_photograph_in_colour_it_is_said(mixed, pipe, tmp_path):
    result = run(mixed / "color.png", "-o", tmp_path / "x.png")
    assert result.exit_code == 0 and names(tmp_path) == [
        *(f"album/{name}.png" for name in ("a", "b", "c", "color")),
        "x.png",
    ]
    assert "color.png: is already in colour" in result.stderr
    assert "in colour" not in run(mixed / "color.png", "--recolor").stderr


# --- pages ---------------------------------------------------------------------------------------


def test_pages_are_photographs_where_they_are_asked_for(pipe, tmp_path):
    pages = [Image.new("L", (24, 16 + index), 20 * index) for index in range(11)]
    (tmp_path / "in").mkdir()
    pages[0].save(tmp_path / "in" / "scan.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "in" / "one.tif")
    (tmp_path / "in" / "bad.tif").write_text("?")
    result = run(tmp_path / "in", "-o", tmp_path / "first")
    assert names(tmp_path / "first") == ["one.tif", "scan.tif"] and "11 pages" in result.stderr
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--pages", "--json")
    files = ["one.tif", *(f"scan-page{number:02d}.tif" for number in range(1, 12))]
    assert names(tmp_path / "out") == files and "12 colorized, 1 failed" in result.stderr
    heights = [Image.open(tmp_path / "out" / name).height for name in files[1:]]
    assert heights == [16 + index for index in range(11)]
    found = [record["page"] for record in records(result) if "page" in record]
    assert sorted(found) == list(range(1, 12))
    (tmp_path / "out" / "scan-page07.tif").unlink()
    result = run(tmp_path / "in", "-o", tmp_path / "out", "--pages")
    assert "scan.tif, page 7 -> " in result.stdout and "1 colorized, 11 done" in result.stderr
    assert run(tmp_path / "in" / "scan.tif", "--pages").exit_code == 0
    assert "scan-page01-colorized.tif" in names(tmp_path / "in")


# --- parts for several machines ------------------------------------------------------------------


@pytest.mark.parametrize("count, batch", [(1, 1), (2, 1), (3, 2), (7, 1)])
def test_shards_are_all_and_none_twice(pipe, tmp_path, count, batch):
    for index in range(11):
        save(tmp_path / "in" / f"{index}.png", shade=index)
    done = []
    for which in range(1, count + 1):
        options = ("--shard", f"{which}/{count}", "--batch-size", batch)
        result = run(tmp_path / "in", "-o", tmp_path / "out", *options)
        assert result.exit_code == 0
        done += result.stdout.splitlines()
        again = run(tmp_path / "in", "-o", tmp_path / "out", *options)
        assert again.stdout == "" and "colorized" in again.stderr
    assert len(done) == len(set(done)) == 11 == len(names(tmp_path / "out"))


@pytest.mark.parametrize("shard", ["0/2", "3/2", "2", "1/0", "a/b", "-1/2", "1/2/3"])
def test_a_shard_that_is_none(album, pipe, shard):
    result = run(album, f"--shard={shard}")
    assert result.exit_code == 2 and "is not I/N with I from 1 to N" in result.stderr


def test_the_processes_of_a_shard_share_it(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert Share.from_environment((3, 4)) == Share(5, 8)
    items = list(range(40))
    shares = []
    for which in range(1, 5):
        for rank in range(2):
            monkeypatch.setenv("RANK", str(rank))
            shares += Share.from_environment((which, 4)).of(items, 1)
    assert sorted(shares) == items


SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, Share()),
        ({"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1"}, Share(1, 3, 1)),
        ({"WORLD_SIZE": "1"}, Share()),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, Share(1, 2)),
        ({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}, Share(5, 8, 1)),
        # A step of fewer tasks than the job has.
        (
            {
                "SLURM_JOB_ID": "7",
                "SLURM_STEP_ID": "0",
                "SLURM_PROCID": "1",
                "SLURM_NTASKS": "8",
                "SLURM_STEP_NUM_TASKS": "2",
            },
            Share(1, 2),
        ),
        # The script of a job, which srun did not start: it is alone.
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Share()),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, Share()),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}, Share()),
        # A launcher for four processes on each of two nodes, by srun.
        (
            {"RANK": "5", "WORLD_SIZE": "8", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
            Share(5, 8),
        ),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, Share(1, 2)),
    ],
)
def test_the_share_that_launchers_give(clean_environment, variables, expected):
    for name, text in variables.items():
        clean_environment.setenv(name, text)
    assert Share.from_environment() == expected


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"RANK": "1"}, "RANK=1"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK=2 WORLD_SIZE=2"),
        ({"SLURM_PROCID": "1"}, "SLURM_PROCID=1"),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "2"}, "SLURM_PROCID=2"),
        # Each of two tasks has its own launcher, which knows of one process.
        (
            {"RANK": "0", "WORLD_SIZE": "1", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
            "srun started 2 tasks, but WORLD_SIZE is 1",
        ),
    ],
)
def test_processes_that_would_believe_they_are_alone(
    clean_environment, album, pipe, variables, words
):
    for name, text in variables.items():
        clean_environment.setenv(name, text)
    result = run(album)
    assert result.exit_code == 1 and words in result.stderr
    assert names(album) == ["a.png", "b.png", "c.png"]


@pytest.fixture
def clean_environment(monkeypatch):
    for name in list(os.environ):
        if name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") or name.startswith(("SLURM_", "OMPI_")):
            monkeypatch.delenv(name)
    return monkeypatch


def test_without_torch_each_process_has_its_own_summary(clean_environment, album, pipe, tmp_path):
    variables = {"RANK": "0", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, text in variables.items():
        clean_environment.setenv(name, text)
    clean_environment.setitem(sys.modules, "torch", None)
    result = run(album, "-o", tmp_path / "out")
    assert "0 colorized, 1 failed" in result.stderr  # for the stand-in does need torch


def test_two_tasks_of_srun_do_each_photograph_once(clean_environment, album, pipe, tmp_path):
    lines = []
    for task in range(2):
        clean_environment.setenv("SLURM_PROCID", str(task))
        clean_environment.setenv("SLURM_NTASKS", "2")
        lines += run(album, "-o", tmp_path / "out").stdout.splitlines()
    assert len(lines) == 3 == len(names(tmp_path / "out")) == len(pipe.calls)


# --- help ----------------------------------------------------------------------------------------


def test_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["python -m", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("pipeline_colorize", run_name="__main__")
    assert end.value.code == 0 and capsys.readouterr().out.startswith("colorize, version ")


def test_help_names_every_option_in_lines_of_a_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = run("--help").stdout
    options = [option for param in cli.main.params for option in param.opts if "-" in option]
    assert options and all(option in text for option in options)
    assert max(map(len, text.splitlines())) <= 80
    assert all(sampler in text for sampler in registry.SAMPLERS)
    assert all(command in text for command, _ in cli.EXAMPLES)


@pytest.mark.parametrize("command, _", cli.EXAMPLES)
def test_examples_of_the_help_are_command_lines(command, _):
    words = re.sub(r' [<>] \S+|"', "", command).split()
    assert words[0] == "colorize" and cli.main.make_context("colorize", words[1:])


def test_the_manual_page():
    page = run("--man").stdout
    assert page.startswith('.TH COLORIZE 1 "" "colorize ')
    sections = re.findall(r"^\.SH (.*)$", page, re.M)
    assert sections == ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES"]
    context = click.Context(cli.main, info_name="colorize")
    for records in cli.main.sections(context).values():
        for term, _ in records:
            assert f".B {term}".replace("-", "\\-") in page
    if shutil.which("man"):
        done = subprocess.run(
            ["man", "--warnings", "-l", "-"], input=page, capture_output=True, text=True
        )
        assert done.returncode == 0 and done.stderr == "" and "--recursive" in done.stdout


def completions(*words):
    completer = BashComplete(cli.main, {}, "colorize", "_COLORIZE_COMPLETE")
    return [
        (item.type, item.value) for item in completer.get_completions(list(words[:-1]), words[-1])
    ]


def test_shells_complete_options_models_samplers_and_files():
    assert ("plain", "--second-look") in completions("--sec")
    assert ("plain", "default") in completions("--model", "def")
    assert completions("--scheduler", "dpm") == [("plain", "dpm++"), ("plain", "dpm++-single")]
    assert completions("gran") == [("file", "gran")]
    assert completions("-o", "col") == [("file", "col")]


# --- models of the Hub, without torch ------------------------------------------------------------


@pytest.fixture
def no_torch(monkeypatch):
    """A base install, where torch is missing."""
    monkeypatch.setattr(engine, "_has_torch", lambda: False)


def test_a_model_of_the_hub_runs_without_torch(tmp_path, no_torch, monkeypatch):
    asked = []

    def fetch(repository, patterns, options):
        asked.append((repository, patterns))
        return str(model_folder("default"))

    monkeypatch.setattr("pipeline_colorize.hub.fetch", fetch)
    save(tmp_path / "a.png", size=(64, 48))
    options = ("--model", "user/name", "--steps", 1, "--candidates", 1)
    result = run(tmp_path / "a.png", "-o", tmp_path / "b.png", *options)
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "b.png").mode == "RGB"
    [(repository, patterns)] = asked
    assert repository == "user/name" and "unet/model.onnx" in patterns


def test_without_the_client_of_the_hub_the_message_names_the_extra(tmp_path, no_torch, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "pipeline_colorize.hub", raising=False)
    save(tmp_path / "a.png")
    result = run(tmp_path / "a.png", "--model", "user/name")
    assert result.exit_code == 1 and "pipeline-colorize[remote]" in result.stderr
