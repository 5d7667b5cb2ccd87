"""`colorize` on many photographs: several processes, and data sets."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
import time

import numpy as np
import pyarrow
import pytest
import torch
from click.testing import CliRunner
from conftest import load_script, smooth_picture, tiny_unet
from PIL import Image
from pyarrow import parquet as arrow_parquet

from pipeline_colorize import ColorizationPipeline, OffsetCosineScheduler, cli
from pipeline_colorize.command import engine, parquet
from pipeline_colorize.command.sharing import Share

psutil = pytest.importorskip("psutil")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("other_tests_hear_diffusers")

COUNT = 15  # in the album, and one that is no picture
COMMAND = ("-m", "pipeline_colorize.cli")
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")
LAUNCH += ("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, an album with a sub-folder and its colours by a single process."""
    folder = tmp_path_factory.mktemp("scale")
    pipe = ColorizationPipeline(
        tiny_unet("hints"), OffsetCosineScheduler(), default_processing_resolution=32
    )
    pipe.save_pretrained(folder / "model")
    (folder / "album" / "1911").mkdir(parents=True)
    for index in range(COUNT):
        save_picture(folder / "album" / ("1911" if index % 3 else "") / f"{index}.png", index)
    (folder / "album" / "torn.png").write_text("not a picture")
    done = start(folder, "one").communicate()
    assert done[1].strip().endswith(f"{COUNT} colorized, 1 failed")
    return folder


def save_picture(path, seed):
    picture = smooth_picture(32, 32 + 8 * (seed % 2), seed=seed).movedim(0, -1).numpy()
    Image.fromarray((255 * picture).round().astype(np.uint8)).convert("L").save(path)
    return path


def start(folder, output, *launch):
    """A run over the album in a program of its own."""
    environment = {key: one for key, one in os.environ.items() if key not in ("RANK", "WORLD_SIZE")}
    environment |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    options = ("album", "-r", "-o", output, "--model", "model", "--steps", "60")
    return subprocess.Popen(
        [sys.executable, *launch, *COMMAND, *options],
        env=environment,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def results(folder):
    """Bytes by name; hidden files that a killed process left are no results."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


@pytest.mark.slow
@pytest.mark.process
def test_two_processes_do_what_one_does(folder):
    process = start(folder, "two", *LAUNCH)
    output, complaints = process.communicate()
    assert results(folder / "two") == results(folder / "one")
    done = [line.partition(" -> ")[0] for line in output.splitlines()]
    assert len(done) == len(set(done)) == COUNT  # none twice
    # One word about it all; the process that failed did not take the other down with it.
    assert complaints.count(f"{COUNT} colorized, 1 failed") == complaints.count("colorized,") == 1
    assert complaints.count("torn.png: not a picture") == 1
    assert process.returncode == 1


@pytest.mark.slow
@pytest.mark.process
def test_a_run_that_lost_a_process_is_finished_by_the_same_command(folder):
    output = folder / "killed"
    process = start(folder, "killed", *LAUNCH)
    while not (output.exists() and results(output)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    (second,) = [one for one in workers if one.environ().get("RANK") == "1"]
    second.kill()
    process.communicate()
    assert process.returncode != 0
    before = results(output)
    assert 0 < len(before) < COUNT  # it was cut off
    again = start(folder, "killed", *LAUNCH)
    lines, complaints = again.communicate()
    skipped = f"{COUNT - len(before)} colorized, {len(before)} done already"
    assert skipped in complaints
    assert len(lines.splitlines()) == COUNT - len(before)
    assert results(output) == results(folder / "one")


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count, size", [(1, 1), (2, 1), (3, 4), (5, 2), (8, 16)])
def test_shares_are_all_and_none_twice(count, size):
    items = list(range(37))
    shares = [Share(rank, count).of(items, size) for rank in range(count)]
    assert sorted(itertools.chain(*shares)) == items
    for share in shares:  # whole batches, as a single process makes them
        assert all(start % size == 0 for start in share[::size])


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "two"},
    ],
)
def test_an_environment_that_cannot_be(folder, monkeypatch, variables):
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    result = run(folder / "album", "-o", folder / "none")
    assert result.exit_code == 1 and f"RANK={variables['RANK']}" in result.stderr
    assert not (folder / "none").exists()


def test_without_a_launcher_each_has_its_own_summary(folder, monkeypatch, tmp_path):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for rank, count in enumerate((8, COUNT + 1 - 8)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        options = ("--model", folder / "model", "--steps", 1)
        result = run(folder / "album", "-r", "-o", tmp_path, *options)
        summary = result.stderr.splitlines()[-1]
        assert sum(int(word) for word in summary.split() if word.isdecimal()) == count
    assert results(tmp_path).keys() == results(folder / "one").keys()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert engine._best_device() == "cuda:0"
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert engine._best_device() == "cuda:1"


# --- data sets -----------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def image_table(files, **others):
    column = [{"bytes": file and file.read_bytes(), "path": None} for file in files]
    return pyarrow.table({"label": ["?"] * len(files), "image": column, **others})


@pytest.fixture
def data_set(folder, tmp_path):
    """The pictures of the album in a parquet file, a row group for each four."""
    files = sorted(path for path in (folder / "album").rglob("*.png") if path.stem != "torn")
    arrow_parquet.write_table(image_table(files), tmp_path / "album.parquet", row_group_size=4)
    return tmp_path / "album.parquet", files


def test_the_pictures_of_a_data_set(folder, data_set, tmp_path):
    path, files = data_set
    output = tmp_path / "out"
    result = run(path, "-o", output, "--model", folder / "model", "--steps", 5)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[6] == f"{path}, row 6 -> {output / 'album-000006.png'}"
    assert sorted(results(output)) == [f"album-{row:06}.png" for row in range(COUNT)]
    run(*files, "-o", tmp_path / "files", "--model", folder / "model", "--steps", 5)
    for row, file in enumerate(files):
        expected = (tmp_path / "files" / file.name).read_bytes()
        assert (output / f"album-{row:06}.png").read_bytes() == expected


def test_a_data_set_goes_on_where_it_was_cut_off(folder, data_set, tmp_path, monkeypatch):
    output, read = tmp_path / "out", []
    original = parquet._read_group
    monkeypatch.setattr(
        parquet, "_read_group", lambda *given: read.append(given[1]) or original(*given)
    )
    options = ("-o", output, "--model", folder / "model", "--steps", 1)
    run(data_set[0], *options)
    assert read == [0, 1, 2, 3]
    whole = results(output)
    for row in (5, 6, 14):
        (output / f"album-{row:06}.png").unlink()
    result = run(data_set[0], *options)
    assert "3 colorized, 12 done already" in result.stderr
    assert read[4:] == [1, 3]  # the others lie still
    assert results(output) == whole


def test_a_folder_of_data_sets(folder, data_set, tmp_path):
    _path, files = data_set
    arrow_parquet.write_table(image_table(files[:1]), tmp_path / "test-0.parquet")
    arrow_parquet.write_table(pyarrow.table({"file_name": ["x"]}), tmp_path / "metadata.parquet")
    save_picture(tmp_path / "photograph.png", 1)
    options = ("--model", folder / "model", "--steps", 1, "-o", tmp_path / "out")
    result = run(tmp_path, *options)
    assert result.exit_code == 0 and "metadata.parquet: no column" in result.stderr
    expected = [f"album-{row:06}.png" for row in range(COUNT)]
    assert sorted(results(tmp_path / "out")) == [*expected, "photograph.png", "test-0-000000.png"]


def test_rows_that_are_no_pictures_are_named(folder, tmp_path):
    good = save_picture(tmp_path / "good.png", 0)
    (tmp_path / "bad.png").write_text("?")
    table = image_table([good, None, tmp_path / "bad.png", good])
    arrow_parquet.write_table(table, tmp_path / "x.parquet")
    output = tmp_path / "out"
    result = run(tmp_path / "x.parquet", "-o", output, "--model", folder / "model", "--steps", 1)
    assert result.exit_code == 1 and "2 colorized, 2 failed" in result.stderr
    assert "row 1: this row has no picture" in result.stderr
    assert "row 2: not a picture" in result.stderr
    assert sorted(results(output)) == ["x-000000.png", "x-000003.png"]


def test_the_column_of_pictures(tmp_path):
    def column(table):
        arrow_parquet.write_table(table, tmp_path / "x.parquet")
        found = parquet.find_pictures(tmp_path / "x.parquet")
        return found and found.column

    plain = pyarrow.table({"number": [1], "jpeg": [b"x"], "more": [b"y"]})
    assert column(plain) == "jpeg"
    assert list(parquet.read_rows(tmp_path / "x.parquet", [0])) == [b"x"]
    sound = {"bytes": b"x", "path": "a.wav"}
    both = pyarrow.table({"audio": [sound], "picture": [sound]})
    assert column(both) == "audio.bytes"
    features = {"audio": {"_type": "Audio"}, "picture": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    assert column(both.replace_schema_metadata(metadata)) == "picture.bytes"
    assert column(pyarrow.table({"file_name": ["a.png"]})) is None


def test_data_sets_that_cannot_be_read(folder, data_set, tmp_path, monkeypatch):
    path, _ = data_set
    options = ("--model", folder / "model", "--steps", 1)
    result = run(path, *options)
    assert result.exit_code == 2 and "--output" in result.stderr
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    result = run(tmp_path / "no.parquet", "-o", tmp_path / "out", *options)
    assert result.exit_code == 1 and "not a parquet file" in result.stderr
    arrow_parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "x.parquet")
    result = run(tmp_path / "x.parquet", "-o", tmp_path / "out", *options)
    assert result.exit_code == 1 and "no column" in result.stderr
    data = bytearray(path.read_bytes())  # its footer is whole
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    (tmp_path / "album.parquet").write_bytes(data)
    result = run(path, "-o", tmp_path / "out", *options)
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert int(result.stderr.splitlines()[-1].split()[0]) == len(results(tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run(path, "-o", tmp_path / "out", *options)
    assert result.exit_code == 1 and "pip install pyarrow" in result.stderr


def test_few_rows_are_in_memory_however_many_there_are(tmp_path):
    column = pyarrow.array([os.urandom(20_000)] * 400)
    path = tmp_path / "x.parquet"
    arrow_parquet.write_table(
        pyarrow.table({"image": column}), path, row_group_size=50, use_dictionary=False
    )
    before, most = pyarrow.total_allocated_bytes(), 0
    for _ in parquet.read_rows(path, list(range(400))):
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert 0 < most < 3 * 50 * 20_000 < path.stat().st_size


# --- the benchmark -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark():
    return load_script("benchmarks.scale")


def test_a_benchmark_s_run_is_counted(benchmark, folder, tmp_path):
    for index in range(3):
        save_picture(tmp_path / f"{index}.png", index)
        Image.open(tmp_path / f"{index}.png").save(tmp_path / f"{index}.jpg")
    benchmark.make_pictures(tmp_path, tmp_path / "made", 8, side=24)
    sizes = [Image.open(path).size for path in sorted((tmp_path / "made").iterdir())]
    assert sizes == [(24, 24), (30, 24), (24, 24)] * 2 + [(24, 24), (30, 24)]
    options = ["--model", str(folder / "model"), "--steps", "1"]
    done = benchmark.measure(tmp_path / "made", tmp_path / "out", 1, 600, options)
    assert (done.pictures, done.done, done.processes) == (8, 8, 1)
    assert done.rate > 8 / done.seconds > 0  # start-up does not count
    assert 100 < done.peak_mib < 4000
    stopped = dataclasses.replace(done, done=5, rate=2 * done.rate, peak_mib=1.5 * done.peak_mib)
    rows = benchmark.by_pictures([done, stopped]).splitlines()[2:]
    assert rows[0].split(" | ")[0] == "| 8" and rows[1].split(" | ")[:3:2] == ["| 5 of 8", "1.500"]
    assert " | 2.00 | " in benchmark.by_processes([done, stopped]).splitlines()[3]
