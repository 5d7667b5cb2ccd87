"""The folders that are published: a model's release, and the Space."""

import configparser
import contextlib
import shutil
from pathlib import Path

import torch
from huggingface_hub import ModelCard

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.hub import address_card
from pipeline_colorize.onnx.files import INT8, graph_file, weights_file
from pipeline_colorize.onnx.graph import stored_ranges, write_graph

ROOT = Path(__file__).resolve().parents[2]
PICTURES = (".jpg", ".png", ".webp")


def build_release(model: str, folder: Path, repo_id: str | None, max_shard_size: str) -> None:
    """Write the weights in float32 and as variant fp16, the code, the ONNX graph and the card.

    Args:
        model: a folder, or the name of a model that ships.
        folder: to be made.
        repo_id: "user/name", for the lines of the card that show how to load the model.
        max_shard_size: larger weights get several files, such as "5GB".

    Raises:
        ValueError: if float16 cannot hold the weights.
    """
    pipe = ColorizationPipeline.from_pretrained(model, dtype=torch.float32)
    source = Path(pipe.config["_name_or_path"])
    pipe.save_pretrained(folder, max_shard_size=max_shard_size)
    pipe.unet.half()
    if not all(tensor.isfinite().all() for tensor in pipe.unet.state_dict().values()):
        raise ValueError(f"{model} has weights beyond what float16 can hold.")
    pipe.save_pretrained(folder, variant="fp16", max_shard_size=max_shard_size)
    for file in source.iterdir() if source.is_dir() else ():
        beside = ("README.md", "LICENSE", "evaluation.json")
        if file.name in beside or file.suffix in PICTURES:
            shutil.copyfile(file, folder / file.name)
    if repo_id and (folder / "README.md").exists():
        address_card(folder / "README.md", repo_id)
    with contextlib.suppress(ValueError):  # some networks have no ONNX, and shards cannot have any
        if weights_file(folder).is_file():
            write_graph(folder)
            if (whole := graph_file(source, INT8)).is_file():
                write_graph(folder, stored_ranges(whole))


def build_space(source: Path, folder: Path) -> str:
    """Put the Space's files and the package into a folder; returns the name of its SDK.

    Raises:
        ValueError: if there is no Space in `source`, or its README.md names no SDK.
    """
    for name in ("app.py", "README.md"):
        if not (source / name).is_file():
            raise ValueError(f"there is no Space to publish: {source / name} is missing.")
    sdk = ModelCard.load(source / "README.md", ignore_metadata_errors=True).data.get("sdk")
    if not sdk:
        raise ValueError(f"{source / 'README.md'} has no sdk in front.")
    left_out = ("__pycache__", "*.pyc", ".*", "browser", "node_modules")
    ignore = shutil.ignore_patterns(*left_out, "*.pyi")  # gradio writes those beside the app
    shutil.copytree(source, folder, ignore=ignore, dirs_exist_ok=True)
    shutil.copytree(ROOT / "pipeline_colorize", folder / "pipeline_colorize", ignore=ignore)
    if not (folder / "requirements.txt").exists():
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg", encoding="utf-8")
        parts = setup["options"]["install_requires"], setup["options.extras_require"]["torch"]
        needed = "\n".join(part.strip() for part in parts)
        (folder / "requirements.txt").write_text(needed + "\n", "utf-8")
    return sdk
