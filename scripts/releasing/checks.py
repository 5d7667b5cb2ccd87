"""Whether a folder is fit to be published: files, configuration, code, card, and that it loads."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open

from pipeline_colorize import ColorizationPipeline
from pipeline_colorize.evaluation.report import update_card
from pipeline_colorize.onnx.files import INT8, file_name, graph_file
from pipeline_colorize.onnx.graph import export_model, stored_ranges
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.training.terms import conflicts

from .building import PICTURES
from .card import results_text

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5")
PACKAGES = {"torch", "numpy", "PIL", "diffusers", "huggingface_hub", "safetensors"}
FRONT_MATTER = ("license", "library_name", "pipeline_tag", "tags", "datasets")
SECTIONS = ("Use", "Training data", "Recipe", "Limits", "How results are marked")
FIGURE = re.compile(
    r"\b(PSNR|SSIM|FID|KID|LPIPS|CIEDE2000|colou?rfulness|RMSE)\b[^.\n\d]{0,30}\d+\.\d", re.I
)
LOCAL_PATH = re.compile(r"(?:^|\s)(?:/[\w.-]+/[\w.-]|~/\w|[A-Za-z]:\\)")
TOLERANCE = 1e-5
STEPS = 3  # enough to run all of the code, and quick with any model
ONNX_TOLERANCE = 1e-3  # of sRGB in [0, 1]
INT8_TOLERANCE = 0.25  # the same, of a graph that computes in 8 bits


def fetched_files(folder: Path, variant: str | None = None) -> list[str]:
    """List the files of a release that diffusers would fetch from the Hub."""
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    names = {"model_index.json", f"{index['_class_name'][0]}.py"}
    for key, value in index.items():
        if key.startswith("_") or not isinstance(value, list) or value[0] is None:
            continue
        stem = f"*_model.{variant}" if variant else "*_model"
        patterns = ["*"]
        if any((folder / key).glob("*.safetensors")):
            index_stem = (
                f"*_model.safetensors.index.{variant}" if variant else "*_model.safetensors.index"
            )
            patterns = [f"{value[0]}.py", "config.json", f"{index_stem}.json"]
            patterns += [f"{stem}.safetensors", f"{stem}-*.safetensors"]
        found = [path for one in patterns for path in (folder / key).glob(one)]
        names |= {path.relative_to(folder).as_posix() for path in found}
    return sorted(name for name in names if (folder / name).is_file())


def variants(folder: Path) -> list[str | None]:
    """List the variants of the weights; `None` stands for those without a name."""
    pattern = re.compile(r"_model\.(\w+?)(-\d+-of-\d+)?\.safetensors$")
    found = {match[1] for path in folder.glob("*/*") if (match := pattern.search(path.name))}
    return [None, *sorted(found)]


def is_pickle(path: Path) -> bool:
    """Recognise pickles, and the zip files that torch puts them into, by name or content."""
    with open(path, "rb") as file:
        start = file.read(4)
    by_content = start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"
    return path.suffix in PICKLES or by_content or start == b"PK\x03\x04"


def check_files(folder: Path) -> list[str]:
    """Find pickles, broken weights, and files that have no business in a release."""
    wanted = {"README.md", "LICENSE", "evaluation.json", ".gitattributes"}
    wanted |= {f"unet/{file_name(variant)}" for variant in (None, INT8)}
    for variant in variants(folder):
        wanted.update(fetched_files(folder, variant))
    card = folder / "README.md"
    text = card.read_text("utf-8") if card.is_file() else ""
    problems = []
    for path in sorted(path for path in folder.rglob("*") if not path.is_dir()):
        name = path.relative_to(folder).as_posix()
        shown = path.suffix in PICTURES and f"]({name})" in text
        if is_pickle(path):
            problems.append(f"{name} is a pickle, or may hold one: opening it could run code.")
        elif path.is_symlink() or not (name in wanted or shown):
            problems.append(f"{name} does not belong into a release.")
        elif path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt"):
                    pass
            except SafetensorError as error:
                problems.append(f"{name} is damaged: {error}.")
    return problems


def strings(value) -> list[str]:
    """List all keys and texts in a JSON value."""
    if isinstance(value, dict):
        return [*value, *(text for one in value.values() for text in strings(one))]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []


def check_configuration(folder: Path) -> list[str]:
    """Find an index that diffusers cannot use, and what the files say about this machine."""
    problems = []
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    if not isinstance(index.get("_class_name"), list):
        problems.append("model_index.json: `_class_name` has to be [file, class].")
    texts = {path: strings(json.loads(path.read_text("utf-8"))) for path in folder.rglob("*.json")}
    if (card := folder / "README.md").is_file():
        texts[card] = card.read_text("utf-8").splitlines()
    for path, lines in texts.items():
        for text in lines:
            if text in ("_name_or_path", "auto_map") or LOCAL_PATH.search(text):
                problems.append(f"{path.relative_to(folder)} holds {text!r}.")
    return problems


def check_code(folder: Path) -> list[str]:
    """Find imports of what a release does not bring along."""
    problems = []
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = ["." * node.level + (node.module or "")]
            for name in names:
                if name.split(".")[0] not in PACKAGES | sys.stdlib_module_names:
                    problems.append(f"{path.relative_to(folder)} imports {name}.")
    return problems


def check_card(folder: Path) -> list[str]:
    """Find what a card lacks, and figures that are not those of the evaluation beside it."""
    if not (folder / "README.md").is_file():
        return ["There is no card (README.md); `release.py card` writes one."]
    problems = [] if (folder / "LICENSE").is_file() else ["There is no LICENSE."]
    card = ModelCard.load(folder / "README.md", ignore_metadata_errors=True)
    data = card.data.to_dict()
    problems += [f"README.md has no {key} in front." for key in FRONT_MATTER if not data.get(key)]
    base_models = data.get("base_model") or []
    base_models = [base_models] if isinstance(base_models, str) else base_models
    problems += [f"README.md names another licence: {one}." for one in conflicts(base_models, data)]
    heads = re.findall(r"^## (.+)$", card.text, re.M)
    problems += [f'README.md has no section "{one}".' for one in SECTIONS if one not in heads]
    results, text = "", card.text
    if "## Results\n" in text:
        before, _, rest = text.partition("## Results\n")
        results, text = "## Results\n" + rest.split("\n## ")[0], before
        text += "".join("\n## " + part for part in rest.split("\n## ")[1:])
    if not (folder / "evaluation.json").is_file():
        if results or data.get("metrics") or data.get("model-index"):
            problems.append("README.md has figures, but there is no evaluation.json beside it.")
    else:
        report = json.loads((folder / "evaluation.json").read_text("utf-8"))
        problems += check_figures(card, results, report)
    strays = FIGURE.finditer(text)
    problems += [f"README.md has figures outside its results: {match[0]!r}." for match in strays]
    return problems


def check_figures(card: ModelCard, results: str, report: dict) -> list[str]:
    """Compare the results of the card with those of the evaluation."""
    problems = []
    if results.strip() != results_text(report).strip():
        problems.append("README.md has other results than evaluation.json.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "README.md")
        card.save(path)
        update_card(path, report)
        expected = ModelCard.load(path).data.get("eval_results")
    if card.data.get("eval_results") != expected:
        problems.append("The model-index in front of README.md is not that of evaluation.json.")
    if not card.data.to_dict().get("metrics"):
        problems.append("README.md has no metrics in front.")
    return problems


# Runs without our package: what someone has who installed only diffusers.
CLEAN = """
import json, sys
sys.modules["pipeline_colorize"] = None
import numpy, torch
from diffusers import DiffusionPipeline
steps = int(sys.argv[2])
for folder, picture, variant, result in json.loads(sys.argv[1]):
    pipe = DiffusionPipeline.from_pretrained(folder, variant=variant, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    image = numpy.load(picture)
    numpy.save(result, pipe(image, steps, generator=generator, output_type="np").images)
"""


def sample_picture() -> np.ndarray:
    """Make a grey picture with soft and hard edges, (72, 96), 8 bits."""
    y, x = np.mgrid[:72, :96]
    waves = 128 + 60 * np.sin(x / 9) * np.cos(y / 13) + 40 * (np.hypot(x - 60, y - 30) < 18)
    return waves.astype(np.uint8)


def clean_environment(home: Path) -> dict[str, str]:
    """Make an environment without paths to our package, tokens or the way to the Hub."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    kept = {key: value for key, value in kept.items() if not key.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    # How work is split between threads decides the last bits.
    return kept | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def check_loading(folder: Path) -> list[str]:
    """Compare our colours with those of plain diffusers, which has only what it would fetch."""
    problems, jobs = [], []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        np.save(place / "picture.npy", sample_picture())
        for variant in variants(folder):
            copy = place / f"copy-{variant}"
            for name in fetched_files(folder, variant):
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, copy / name)
            result = place / f"{variant}.npy"
            jobs.append([str(copy), str(place / "picture.npy"), variant, str(result)])
        command = [sys.executable, "-I", "-c", CLEAN, json.dumps(jobs), str(STEPS)]
        done = subprocess.run(
            command, cwd=place, env=clean_environment(place), capture_output=True, text=True
        )
        if done.returncode:
            return [f"Plain diffusers cannot use it: {done.stderr.strip().splitlines()[-1]}"]
        for *_, variant, file in jobs:
            theirs, ours = np.load(str(file)), our_result(folder, variant)
            difference = np.abs(theirs - ours).max()
            if not difference <= TOLERANCE:
                name = f"variant {variant}" if variant else "the model"
                problems.append(f"Plain diffusers' result of {name} is {difference:.1e} off ours.")
    return problems


def check_onnx(folder: Path, variant: str | None = None) -> list[str]:
    """Compare an ONNX graph, where there is one, with a new one and with our colours."""
    graph = graph_file(folder, variant)
    if not graph.is_file():
        return []
    try:
        pipe = ORTColorizationPipeline(graph)
        ranges = stored_ranges(graph) if variant else None
        written = export_model(folder, "external", ranges=ranges).SerializeToString()
    except Exception as error:  # onnxruntime has its own
        return [f"unet/{graph.name} cannot be used: {' '.join(str(error).split())}"]
    if written != graph.read_bytes():
        return [f"unet/{graph.name} is not what this version writes; build the release again."]
    output = pipe(sample_picture(), STEPS, generator=TorchGenerator(), output_type="np")
    difference = np.abs(output.images[0] - our_result(folder, None)[0]).max()
    if difference <= (INT8_TOLERANCE if variant else ONNX_TOLERANCE):
        return []
    return [f"The result of unet/{graph.name} is {difference:.1e} off ours."]


def our_result(folder: Path, variant: str | None) -> np.ndarray:
    """Compute what CLEAN computes, by our package."""
    pipe = ColorizationPipeline.from_pretrained(folder, variant=variant, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.to(memory_format=torch.contiguous_format)  # as plain diffusers has it
    generator = torch.Generator().manual_seed(0)
    return np.stack(pipe(sample_picture(), STEPS, generator=generator, output_type="np").images)


def check_release(folder: Path) -> list[str]:
    """List what keeps a folder from being a release; its code runs last, if at all."""
    if not (folder / "model_index.json").is_file():
        return [f"{folder} holds no model: it has no model_index.json."]
    problems = check_files(folder) + check_configuration(folder) + check_code(folder)
    problems += check_card(folder)
    return problems or check_loading(folder) + check_onnx(folder) + check_onnx(folder, INT8)
