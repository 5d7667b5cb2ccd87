"""The card of a model: from notes, from an evaluation, and with photographs that it coloured."""

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image

from pipeline_colorize import ColorizationPipeline, __version__, photo
from pipeline_colorize.evaluation.report import to_markdown, update_card
from pipeline_colorize.training.terms import conflicts, terms_of

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("name", "summary", "license", "datasets", "training_data", "recipe")

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


def read_evaluation(folder: Path, name: str) -> dict:
    """Read the report of scripts/evaluate.py, with the model's name and no path of this machine."""
    report = json.loads((folder / "results.json").read_text("utf-8"))
    report["settings"]["model"] = name
    report["notes"] = [note.split("; to have it")[0].rstrip(".") + "." for note in report["notes"]]
    return report


def results_text(report: dict) -> str:
    """Write the section about results, with tables and protocol."""
    return "## Results\n" + to_markdown(report).split("\n", 1)[1].rstrip() + "\n\n"


def write_previews(pipe: Any, name: str, captions: dict, folder: Path) -> str:
    """Draw photographs as taken and as coloured; returns the lines of Markdown that show them."""
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
    """Make the card: front matter and text."""
    data = {"library_name": "diffusers", "pipeline_tag": "image-to-image", "tags": notes["tags"]}
    for key in ("license", "license_name", "license_link", "base_model", "datasets"):
        if key in notes:
            data[key] = notes[key]
    if report is not None:
        data["metrics"] = ["ciede2000", "psnr", "ssim", "colorfulness"]
    text = CARD.format(
        **{key: str(notes.get(key, "")).strip() for key in ("name", "summary", "limits")},
        **{key: notes[key].strip() for key in ("training_data", "recipe")},
        repo_id=notes.get("repo_id", notes["name"]),
        previews=previews,
        parameters=parameters,
        several="" if one_pass else SEVERAL,
        results="" if report is None else results_text(report),
    )
    return ModelCard(f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n\n{text}")


def read_notes(path: Path) -> dict:
    """Read what a card needs and no file of the model says.

    Raises:
        ValueError: if something is missing.
    """
    notes = {"tags": ["colorization"], **yaml.safe_load(path.read_text("utf-8"))}
    if missing := [key for key in NEEDED if not notes.get(key)]:
        raise ValueError(f"{path} lacks {', '.join(missing)}.")
    return notes


def write_card(model: Path, notes: Path, evaluation: Path | None) -> None:
    """Write the card of a model, with previews, LICENSE and evaluation.json, into its folder.

    Args:
        model: folder of the model.
        notes: a YAML file, as `read_notes` reads it.
        evaluation: the folder that scripts/evaluate.py wrote.

    Raises:
        ValueError: if the notes lack something, or name a licence that the model's origin forbids.
    """
    facts = read_notes(notes)
    if base_models := terms_of(str(model)).base_models:
        facts["base_model"] = base_models
        if found := conflicts(base_models, facts):
            raise ValueError(f"{notes} names another licence: {'; '.join(found)}.")
    pipe = ColorizationPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    previews = write_previews(pipe, facts["name"], facts.get("previews") or {}, model)
    report = read_evaluation(evaluation, facts["name"]) if evaluation else None
    parameters = sum(parameter.numel() for parameter in pipe.unet.parameters())
    one_pass = pipe.scheduler is None
    make_card(facts, report, previews, parameters, one_pass).save(model / "README.md")
    if report is not None:
        (model / "evaluation.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
        update_card(model / "README.md", report)
    if not (model / "LICENSE").exists():
        terms = facts.get("terms", "").strip()
        text = (ROOT / "LICENSE").read_text("utf-8")
        (model / "LICENSE").write_text(f"{terms}\n\n{text}" if terms else text, "utf-8")
