"""Make, check and publish releases of models, and the Space beside them.

    python scripts/release.py card runs/mine/model --notes notes.yaml --evaluation runs/evaluation
    python scripts/release.py build runs/mine/model release
    python scripts/release.py check release
    python scripts/release.py push runs/mine/model --repo_id user/name --tag v1.0

`push` builds and checks by itself; what does not pass the check does not go up. The token is that
of HF_TOKEN or `hf auth login`. docs/releasing.md tells the whole way.
"""

import ast
import configparser
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import evaluate
import numpy as np
import torch
import yaml
from diffusers.utils import logging
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import SafetensorError, safe_open

from pipeline_colorize import ColorizationPipeline, __version__, photo
from pipeline_colorize.hub import address_card, full_name, publish
from pipeline_colorize.onnx.files import FILE_NAME as ONNX_NAME
from pipeline_colorize.onnx.files import graph_file, weights_file
from pipeline_colorize.onnx.graph import export_model, write_graph
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.registry import is_shipped
from pipeline_colorize.training.terms import conflicts, terms_of

ROOT = Path(__file__).resolve().parents[1]
PICTURES = (".jpg", ".png", ".webp")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5")
PACKAGES = {"torch", "numpy", "PIL", "diffusers", "huggingface_hub", "safetensors"}
FRONT_MATTER = ("license", "library_name", "pipeline_tag", "tags", "datasets")
SECTIONS = ("Use", "Training data", "Recipe", "Limits", "How results are marked")
FIGURE = re.compile(
    r"\b(PSNR|SSIM|FID|KID|LPIPS|CIEDE2000|colou?rfulness|RMSE)\b[^.\n\d]{0,30}\d+\.\d", re.I
)
LOCAL_PATH = re.compile(r"(?:^|\s)(?:/[\w.-]+/[\w.-]|~/\w|[A-Za-z]:\\)")
TOLERANCE = 1e-5
ONNX_TOLERANCE = 1e-3  # of sRGB in [0, 1]

CARD = """\
# {name}

{summary}

{previews}

## Use

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{repo_id}", trust_remote_code=True)
pipe(image).images[0].save("colorized.png")
```

This needs diffusers alone, and a published copy: its address on the Hub, or a folder that
`scripts/release.py build` has made. `trust_remote_code=True` lets the Python files of the copy run
on your machine, as any program would: read them, or pin the `revision` that you have read. With the
package `pipeline-colorize`, the flag is not needed and no code of the repository runs:

```python
from pipeline_colorize import ColorizationPipeline

pipe = ColorizationPipeline.from_pretrained("{repo_id}")
pipe(image).images[0].save("colorized.png")
```

Of a published copy, `variant="fp16"` fetches half as many bytes. {parameters:,} parameters.

{results}## Training data

{training_data}

## Recipe

{recipe}

## Limits

- **The colours are invented.** They are believable ones, not those that were there: a dress, a car
  or a flag may have had any other. Do not use a result as evidence of how something looked, and say
  that it is colourized wherever it is shown. Historical photographs are unlike the training
  pictures: in their film, their wear and what people wore.
- **Skin.** How light a face is comes from the photograph, but its tint comes from the training
  pictures, and groups that are rare there are coloured less well. Nothing about a person's origin
  can be read from a result.
{several}{limits}

## How results are marked

The command `colorize` writes into each file that its colours were generated: IPTC
`DigitalSourceType` (`compositeWithTrainedAlgorithmicMedia`), with the system, its version, the
model and the seed. The pictures of this card are marked so. In Python, that is up to you.
"""


# --- cards --------------------------------------------------------------------------------------


def read_evaluation(folder: Path, name: str) -> dict:
    """The report of scripts/evaluate.py, with the model's name and no path of this machine."""
    report = json.loads((folder / "results.json").read_text("utf-8"))
    report["settings"]["model"] = name
    report["notes"] = [note.split("; to have it")[0].rstrip(".") + "." for note in report["notes"]]
    return report


def results_text(report: dict) -> str:
    """The section about results, with tables and protocol."""
    return "## Results\n" + evaluate.to_markdown(report).split("\n", 1)[1].rstrip() + "\n\n"


def write_previews(pipe: ColorizationPipeline, name: str, captions: dict, folder: Path) -> str:
    """Photographs as taken and as coloured, side by side; the lines that show them."""
    lines = []
    for path, caption in captions.items():
        taken = photo.open_picture(path).convert("L").convert("RGB")
        taken.thumbnail((480, 480), Image.Resampling.LANCZOS)
        (coloured,) = pipe(taken, generator=torch.Generator().manual_seed(0)).images
        pair = Image.new("RGB", (2 * taken.width, taken.height))
        pair.paste(taken, (0, 0))
        pair.paste(coloured, (taken.width, 0))
        file = f"preview-{Path(path).stem}.jpg"
        mark = photo.Mark(__version__, {"model": name, "seed": 0})
        photo.write_picture(folder / file, pair, mark)
        lines.append(f"![{caption}]({file})\n*{caption}. Left as taken, right coloured.*")
    return "\n\n".join(lines)


SEVERAL = """\
- Single results can have a wrong tint over a whole picture, or blotches. Ask for several, and look
  at where they differ (`output_uncertainty=True`).
"""


def make_card(
    notes: dict, report: dict | None, previews: str, parameters: int, one_pass: bool
) -> ModelCard:
    """The card's front matter and text."""
    data = {"library_name": "diffusers", "pipeline_tag": "image-to-image", "tags": notes["tags"]}
    for key in ("license", "license_name", "license_link", "base_model", "datasets"):
        if key in notes:
            data[key] = notes[key]
    if report is not None:
        data["metrics"] = ["ciede2000", "psnr", "ssim", "colorfulness"]
    text = CARD.format(
        **{key: str(notes.get(key, "")).strip() for key in ("name", "summary", "limits")},
        **{key: notes[key].strip() for key in ("training_data", "recipe")},
        repo_id=notes.get("repo_id", notes["name"]), previews=previews, parameters=parameters,
        several="" if one_pass else SEVERAL,
        results="" if report is None else results_text(report),
    )  # fmt: skip
    return ModelCard(f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n\n{text}")


def read_notes(path: Path) -> dict:
    """What a card needs and no file of the model says."""
    notes = {"tags": ["colorization"], **yaml.safe_load(path.read_text("utf-8"))}
    missing = [key for key in ("name", "summary", "license", "datasets", "training_data", "recipe")
               if not notes.get(key)]  # fmt: skip
    if missing:
        raise click.ClickException(f"{path} lacks {', '.join(missing)}.")
    return notes


# --- building -----------------------------------------------------------------------------------


def build_release(model: str, folder: Path, repo_id: str | None, max_shard_size: str) -> None:
    """Write the weights in float32 and as variant fp16, the code, the ONNX graph and the card."""
    pipe = ColorizationPipeline.from_pretrained(model, dtype=torch.float32)
    source = Path(pipe.config["_name_or_path"])
    pipe.save_pretrained(folder, max_shard_size=max_shard_size)
    pipe.unet.half()
    if not all(tensor.isfinite().all() for tensor in pipe.unet.state_dict().values()):
        raise click.ClickException(f"{model} has weights beyond what float16 can hold.")
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


# --- checking -----------------------------------------------------------------------------------


def fetched_files(folder: Path, variant: str | None = None) -> list[str]:
    """The files of a release that diffusers would fetch from the Hub."""
    index = json.loads((folder / "model_index.json").read_text("utf-8"))
    names = {"model_index.json", f"{index['_class_name'][0]}.py"}
    for key, value in index.items():
        if key.startswith("_") or not isinstance(value, list) or value[0] is None:
            continue
        stem = f"*_model.{variant}" if variant else "*_model"
        patterns = ["*"]
        if any((folder / key).glob("*.safetensors")):
            patterns = [f"{value[0]}.py", "config.json", f"{stem}.safetensors",
                        f"{stem}-*.safetensors", f"*_model.safetensors.index.{variant}.json"
                        if variant else "*_model.safetensors.index.json"]  # fmt: skip
        found = [path for one in patterns for path in (folder / key).glob(one)]
        names |= {path.relative_to(folder).as_posix() for path in found}
    return sorted(name for name in names if (folder / name).is_file())


def variants(folder: Path) -> list[str | None]:
    """None, and the names under which there are other weights."""
    pattern = re.compile(r"_model\.(\w+?)(-\d+-of-\d+)?\.safetensors$")
    found = {match[1] for path in folder.glob("*/*") if (match := pattern.search(path.name))}
    return [None, *sorted(found)]


def is_pickle(path: Path) -> bool:
    """By name, or by content: pickles, and the zip files that torch puts them into."""
    with open(path, "rb") as file:
        start = file.read(4)
    by_content = start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05"
    return path.suffix in PICKLES or by_content or start == b"PK\x03\x04"


def check_files(folder: Path) -> list[str]:
    """Pickles, broken weights, and files that have no business in a release."""
    wanted = {"README.md", "LICENSE", "evaluation.json", ".gitattributes", f"unet/{ONNX_NAME}"}
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
    """All keys and texts in a JSON value."""
    if isinstance(value, dict):
        return [*value, *(text for one in value.values() for text in strings(one))]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []


def check_configuration(folder: Path) -> list[str]:
    """The index as diffusers needs it, and nothing in the files about this machine."""
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
    """Code that brings along all that it needs."""
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
    """Front matter, sections, and that all figures are those of the evaluation beside them."""
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
    own, text = "", card.text
    if "## Results\n" in text:
        before, _, rest = text.partition("## Results\n")
        own, text = "## Results\n" + rest.split("\n## ")[0], before
        text += "".join("\n## " + part for part in rest.split("\n## ")[1:])
    if not (folder / "evaluation.json").is_file():
        if own or data.get("metrics") or data.get("model-index"):
            problems.append("README.md has figures, but there is no evaluation.json beside it.")
    else:
        report = json.loads((folder / "evaluation.json").read_text("utf-8"))
        problems += check_figures(card, own, report)
    problems += [f"README.md has figures outside its results: {match[0]!r}."
                 for match in FIGURE.finditer(text)]  # fmt: skip
    return problems


def check_figures(card: ModelCard, own: str, report: dict) -> list[str]:
    """The card's results against the evaluation's."""
    problems = []
    if own.strip() != results_text(report).strip():
        problems.append("README.md has other results than evaluation.json.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "README.md")
        card.save(path)
        evaluate.update_card(path, report)
        expected = ModelCard.load(path).data.eval_results
    if card.data.eval_results != expected:
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
for folder, picture, variant, result in json.loads(sys.argv[1]):
    pipe = DiffusionPipeline.from_pretrained(folder, variant=variant, trust_remote_code=True)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    numpy.save(result, pipe(numpy.load(picture), generator=generator, output_type="np").images)
"""


def sample_picture() -> np.ndarray:
    """A grey picture with soft and hard edges, (72, 96), 8 bits."""
    y, x = np.mgrid[:72, :96]
    waves = 128 + 60 * np.sin(x / 9) * np.cos(y / 13) + 40 * (np.hypot(x - 60, y - 30) < 18)
    return waves.astype(np.uint8)


def clean_environment(home: Path) -> dict[str, str]:
    """Variables without paths to our package, tokens or the way to the Hub."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    kept = {key: value for key, value in kept.items() if not key.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    # How work is split between threads decides the last bits.
    return kept | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def check_loading(folder: Path) -> list[str]:
    """Colours in a clean process by plain diffusers, with only what it would fetch, and ours."""
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
        command = [sys.executable, "-I", "-c", CLEAN, json.dumps(jobs)]
        done = subprocess.run(
            command, cwd=place, env=clean_environment(place), capture_output=True, text=True
        )
        if done.returncode:
            return [f"Plain diffusers cannot use it: {done.stderr.strip().splitlines()[-1]}"]
        for *_, variant, result in jobs:
            theirs, ours = np.load(result), own_result(folder, variant)
            difference = np.abs(theirs - ours).max()
            if not difference <= TOLERANCE:
                name = f"variant {variant}" if variant else "the model"
                problems.append(f"Plain diffusers' result of {name} is {difference:.1e} off ours.")
    return problems


def check_onnx(folder: Path) -> list[str]:
    """Compare the ONNX graph, where there is one, with a new one and with our colours."""
    graph = graph_file(folder)
    if not graph.is_file():
        return []
    try:
        pipe = ORTColorizationPipeline(graph)
        written = export_model(folder, "external").SerializeToString()
    except Exception as error:  # onnxruntime has its own
        return [f"unet/{ONNX_NAME} cannot be used: {' '.join(str(error).split())}"]
    if written != graph.read_bytes():
        return [f"unet/{ONNX_NAME} is not what this version writes; build the release again."]
    output = pipe([sample_picture()], generator=[TorchGenerator()], output_type="np")
    difference = np.abs(output.images[0] - own_result(folder, None)[0]).max()
    if difference <= ONNX_TOLERANCE:
        return []
    return [f"The result of unet/{ONNX_NAME} is {difference:.1e} off ours."]


def own_result(folder: Path, variant: str | None) -> np.ndarray:
    """What CLEAN computes, by our package."""
    pipe = ColorizationPipeline.from_pretrained(folder, variant=variant, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.to(memory_format=torch.contiguous_format)  # as plain diffusers has it
    generator = torch.Generator().manual_seed(0)
    return np.stack(pipe(sample_picture(), generator=generator, output_type="np").images)


def check_release(folder: Path) -> list[str]:
    """What keeps a folder from being a release, a line each; its code runs last, if at all."""
    if not (folder / "model_index.json").is_file():
        return [f"{folder} holds no model: it has no model_index.json."]
    problems = check_files(folder) + check_configuration(folder) + check_code(folder)
    problems += check_card(folder)
    return problems or check_loading(folder) + check_onnx(folder)


def require(problems: list[str]) -> None:
    if problems:
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise click.ClickException(f"this is no release:{lines}")


# --- the Space ----------------------------------------------------------------------------------


def build_space(source: Path, folder: Path) -> str:
    """The Space's files with the package beside them; its SDK."""
    for name in ("app.py", "README.md"):
        if not (source / name).is_file():
            raise click.ClickException(f"there is no Space to publish: {source / name} is missing.")
    sdk = ModelCard.load(source / "README.md", ignore_metadata_errors=True).data.get("sdk")
    if not sdk:
        raise click.ClickException(f"{source / 'README.md'} has no sdk in front.")
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


# --- commands -----------------------------------------------------------------------------------

SHARD = click.option(
    "--max-shard-size", default="5GB", show_default=True, help="Larger weights get several files."
)


@click.group(help=__doc__.split("\n\n")[0])
def main():
    logging.disable_progress_bar()


@main.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--notes", required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--evaluation", type=click.Path(exists=True, path_type=Path))
def card(model, notes, evaluation):
    """Write the card of the folder MODEL, with previews, LICENSE and evaluation.json.

    NOTES is a YAML file: name, summary, license, datasets, training_data, recipe, limits and
    previews (photograph: caption). EVALUATION is what scripts/evaluate.py wrote.
    """
    facts = read_notes(notes)
    if base_models := terms_of(str(model)).base_models:
        facts["base_model"] = base_models
        if found := conflicts(base_models, facts):
            raise click.ClickException(f"{notes} names another licence: {'; '.join(found)}.")
    pipe = ColorizationPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    previews = write_previews(pipe, facts["name"], facts.get("previews") or {}, model)
    report = read_evaluation(evaluation, facts["name"]) if evaluation else None
    parameters = sum(parameter.numel() for parameter in pipe.unet.parameters())
    one_pass = pipe.scheduler is None
    make_card(facts, report, previews, parameters, one_pass).save(model / "README.md")
    if report is not None:
        (model / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        evaluate.update_card(model / "README.md", report)
    if not (model / "LICENSE").exists():
        terms = facts.get("terms", "").strip()
        text = (ROOT / "LICENSE").read_text("utf-8")
        (model / "LICENSE").write_text(f"{terms}\n\n{text}" if terms else text, "utf-8")
    click.echo(f"{model / 'README.md'} is written.")


@main.command()
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path))
@SHARD
def build(model, folder, max_shard_size):
    """Make FOLDER, a release of MODEL: a folder, or a model that ships."""
    if folder.exists():
        raise click.ClickException(f"{folder} exists already.")
    build_release(model, folder, None, max_shard_size)
    click.echo(f"{folder} is written; `release.py check {folder}` says whether it may go up.")


@main.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def check(folder):
    """Say whether FOLDER is fit to be published."""
    require(check_release(folder))
    click.echo(f"{folder} is fit to be published.")


@main.command()
@click.argument("model")
@click.option("--repo_id", "--repo-id", required=True, metavar="USER/NAME")
@click.option("--tag", help="Name of the version, such as v1.0; it can be loaded by that for ever.")
@click.option("--private", is_flag=True, help="If the repository is made for this.")
@click.option(
    "--space", is_flag=False, flag_value="", metavar="[USER/NAME]",
    help="Also publish the demo, as a Space of that name, or else of the same.",
)  # fmt: skip
@SHARD
def push(model, repo_id, tag, private, space, max_shard_size):
    """Publish MODEL: a folder, or a model that ships.

    In one commit, after the check; doing it again changes nothing.
    """
    with tempfile.TemporaryDirectory() as temporary:
        release, demo = Path(temporary, "release"), Path(temporary, "space")
        sdk = None if space is None else build_space(ROOT / "space", demo)
        repo_id = called(full_name, repo_id)  # a wrong token shows at once
        build_release(model, release, repo_id, max_shard_size)
        require(check_release(release))
        published = publish_release(release, "model", repo_id, None, private, tag)
        report_push(published)
        if space is not None:
            if not is_shipped(model):  # else it is in the package already
                (demo / "model.txt").write_text(published[1] + "\n", "utf-8")
            space = called(full_name, space or repo_id)
            report_push(publish_release(demo, "space", space, sdk, private, None))


def called(function, *arguments, **options):
    """What a function of the Hub returns, with its errors for people."""
    try:
        return function(*arguments, **options)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None


def publish_release(folder, kind, repo_id, sdk, private, tag) -> tuple[str, str, bool]:
    """Bring a folder to the Hub; (kind, "user/name@commit", whether that is new)."""
    message = f"Release {tag}" if tag else "Release"
    place, new = called(
        publish, folder, repo_id, message, repo_type=kind, space_sdk=sdk, private=private or None,
        replace=("*",), tag=tag,
    )  # fmt: skip
    return kind, place, new


def report_push(result: tuple[str, str, bool]) -> None:
    kind, place, new = result
    done = "is published" if new else "was there already; nothing has changed"
    click.echo(f"{kind} {place} {done}.")


if __name__ == "__main__":
    main()
