"""Recipes for other programs: Ray Data, jobs of the Hub."""

import importlib.util
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
from command_run import save
from PIL import Image
from pyarrow import parquet

from pipeline_colorize import read_chroma

ROOT = Path(__file__).parents[1] / "integrations"


def load(name):
    """A file of `integrations/` as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where Ray looks for it
    spec.loader.exec_module(module)
    return module


def rows_of(folder):
    """All rows of the parquet files below a folder."""
    return [
        row for file in folder.rglob("*.parquet") for row in parquet.read_table(file).to_pylist()
    ]


@pytest.fixture
def many(tmp_path):
    """Twenty small photographs, and a file that is none."""
    for index in range(20):
        save(tmp_path / "album" / f"{index:02}.png", shade=10 * index, size=(40, 32))
    (tmp_path / "album" / "torn.png").write_text("not a picture")
    return tmp_path / "album"


@pytest.fixture
def ray(monkeypatch):
    """A cluster of two workers on this machine."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would keep a password in the home folder
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray = pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("ray.data")
    root = Path(__file__).parents[1]
    paths = f"{root}{os.pathsep}{ROOT / 'ray'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    ray.init(
        num_cpus=2,  # as many as there are workers
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=100_000_000,
        runtime_env={"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}},
    )
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.process
def test_a_cluster_that_loses_a_worker_colours_every_photograph_once(ray, many, tmp_path):
    psutil = pytest.importorskip("psutil")
    recipe = load("ray/colorize_images.py")
    killed = []

    def kill_one_when_it_works():
        while not killed and not done.is_set():
            for process in psutil.process_iter(["pid", "cmdline"]):
                if "ray::MapWorker" in " ".join(process.info["cmdline"] or []):
                    time.sleep(1.5)  # until it is in the middle of it
                    os.kill(process.info["pid"], signal.SIGKILL)
                    killed.append(process.info["pid"])
                    return
            time.sleep(0.05)

    done = threading.Event()
    thread = threading.Thread(target=kill_one_when_it_works)
    thread.start()
    recipe.colorize(str(many), str(tmp_path / "out"), workers=2)
    done.set()
    thread.join()
    rows = rows_of(tmp_path / "out")
    assert killed
    assert sorted(Path(row["path"]).name for row in rows) == sorted(os.listdir(many))
    (torn,) = [row for row in rows if row["error"]]
    assert torn["path"].endswith("torn.png") and torn["image"] is None
    sound = next(row for row in rows if not row["error"])
    assert Image.open(io.BytesIO(sound["image"])).size == (40, 32)
    (tmp_path / "a.chroma.png").write_bytes(sound["chroma"])
    assert read_chroma(tmp_path / "a.chroma.png").settings == {"model": "default", "seed": 0}


# --- jobs of the Hub -----------------------------------------------------------------------------


def test_the_script_for_jobs_says_what_it_needs():
    text = (ROOT / "jobs" / "colorize_dataset.py").read_text()
    block = re.search(r"^# /// script\n(.*?)^# ///$", text, re.M | re.S)[1]  # PEP 723
    said = tomllib.loads(re.sub(r"^# ?", "", block, flags=re.M))
    assert "pipeline-colorize[remote]" in said["dependencies"]
    assert said["requires-python"] == ">=3.11"


def test_names_of_data_sets_are_addresses():
    script = load("jobs/colorize_dataset.py")
    assert script.address("user/set", "x.parquet") == "hf://datasets/user/set/x.parquet"
    assert script.address("./set", "x.parquet") == "./set/x.parquet"
    assert script.address("s3://bucket/set/", "x.parquet") == "s3://bucket/set/x.parquet"


@pytest.mark.slow
@pytest.mark.process
def test_jobs_share_a_data_set(many, tmp_path):
    from pyarrow import table

    rows = [{"bytes": file.read_bytes(), "path": file.name} for file in sorted(many.glob("[01]*"))]
    (tmp_path / "set").mkdir()
    parquet.write_table(table({"image": rows}), tmp_path / "set" / "train.parquet")
    for part in (1, 2):
        command = (ROOT / "jobs" / "colorize_dataset.py", tmp_path / "set", tmp_path / "out")
        more = ("--shard", f"{part}/2", "--steps", "1", "--candidates", "1")
        subprocess.run([sys.executable, *map(str, command + more)], check=True)
    found = [row["image"]["path"] for row in rows_of(tmp_path / "out")]
    assert sorted(found) == [f"train-{index:06}.png" for index in range(20)]
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.parquet"))
    assert names == ["train-1-of-2.parquet", "train-2-of-2.parquet"]


# --- ComfyUI -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comfyui():
    """The node, loaded beside ComfyUI's own sources."""
    source = os.environ.get("COMFYUI_SRC")
    if not source:
        pytest.skip("COMFYUI_SRC names no checkout of ComfyUI")
    before, arguments = list(sys.path), sys.argv
    sys.path.insert(0, source)
    sys.argv = ["main.py", "--cpu"]  # which ComfyUI reads when it is imported
    try:
        yield load("comfyui/node.py")
    finally:
        sys.path[:], sys.argv = before, arguments


def pictures(count=2):
    """A batch (count, 32, 48, 3) of grey pictures."""
    import torch

    ramp = torch.linspace(0.1, 0.9, 48).expand(count, 32, 48)
    return ramp[..., None].repeat(1, 1, 1, 3) * torch.linspace(1, 0.8, count).view(-1, 1, 1, 1)


@pytest.mark.slow
def test_the_node_is_one_of_comfyuis(comfyui):
    import asyncio

    extension = asyncio.run(comfyui.comfy_entrypoint())
    [node] = asyncio.run(extension.get_node_list())
    schema = node.GET_SCHEMA()
    assert schema.node_id == "PipelineColorize"
    told = node.INPUT_TYPES()
    assert set(told["required"]) == {"image", "hints", "seed", "answers", "saturation", "model"}
    assert set(told["optional"]) == {"mask"} and node.RETURN_TYPES == ["IMAGE"]


@pytest.mark.slow
def test_the_node_colours_batches_by_seed_hints_and_mask(comfyui):
    import torch

    image = pictures()
    (plain,) = comfyui.Colorize.execute(image=image, seed=3).result
    assert plain.shape == image.shape and plain.dtype == torch.float32
    assert torch.equal(plain, comfyui.colorize(image, seed=3))
    assert not torch.equal(plain, comfyui.colorize(image, seed=4))
    assert torch.equal(plain[1:], comfyui.colorize(image[1:], seed=3))  # each is by itself
    several = comfyui.colorize(image, answers=3)
    assert len(several) == 6
    red = comfyui.colorize(image, hints="20,10,red\n\n30,20,#ff2020", seed=3)
    assert (red - plain)[:, 10, 20, 0].min() > 0.02
    mask = torch.zeros(1, 32, 48)
    mask[:, :, 24:] = 1
    half = comfyui.colorize(image, mask, seed=3)
    assert torch.equal(half[:, :, :24], image[:, :, :24])
    assert torch.allclose(half[:, :, 24:], plain[:, :, 24:], atol=1e-6)
    with pytest.raises(ValueError, match="red-ish"):
        comfyui.colorize(image, hints="20,10,red-ish")
    with pytest.raises(ValueError, match="48 x 32"):
        comfyui.colorize(image, mask[:, :8])
