"""Photographs from a data set of the Hub and results into another, by the real client."""

import io
import os
import subprocess
import sys

import pytest
from hub_server import HubServer, Repository
from PIL import Image

pytest.importorskip("upath")
pytest.importorskip("huggingface_hub")


def encoded(shade):
    buffer = io.BytesIO()
    Image.new("L", (48, 32), shade).save(buffer, "PNG")
    return buffer.getvalue()


def colorize(hub, home, *arguments):
    command = [sys.executable, "-m", "pipeline_colorize", *arguments]
    environment = os.environ | hub.environment(home)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_data_set_of_the_hub_is_coloured_into_another(tmp_path):
    with HubServer() as hub:
        album = hub.repositories["dataset", "tester/album"] = Repository()
        color = hub.repositories["dataset", "tester/color"] = Repository()
        album.commit({f"in/{name}.png": encoded(shade) for name, shade in (("a", 60), ("b", 180))})
        color.commit({"README.md": b"# In colour\n"})
        command = ("hf://datasets/tester/album/in/", "-o", "hf://datasets/tester/color/out/")
        options = ("--steps", "1", "--candidates", "1")
        done = colorize(hub, tmp_path, *command, *options)
        assert done.returncode == 0, done.stderr
        assert sorted(color.files) == ["README.md", "out/a.png", "out/b.png"]
        assert Image.open(io.BytesIO(color.files["out/a.png"])).size == (48, 32)
        again = colorize(hub, tmp_path, *command, *options)
        assert again.returncode == 0 and "2 done already" in again.stderr
