"""Write the card of a trained model, with the terms of the models that it started from."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard

from pipeline_colorize.hub import fetch
from pipeline_colorize.registry import MODELS

from .checkpoint import Progress
from .config import ModelConfig, to_yaml

_CARD = """---
{front}---

# {name}

Gives black-and-white photographs colours that are believable, but invented.

```python
from pipeline_colorize import ColorizationPipeline

pipe = ColorizationPipeline.from_pretrained("{where}")
pipe(image).images[0].save("colorized.png")
```

{network}, {parameters:,} parameters, trained with `train_colorize.py` on {data}: {steps:,} steps,
{pictures:,} pictures at {size}, {hours:.2f} hours. Training loss {loss:.4f} (average of
the last steps), validation loss of these weights {validation:.4f}.{stopped}

{terms}

```yaml
{config}```
"""
_LICENSE = ("license", "license_name", "license_link")


@dataclasses.dataclass(frozen=True)
class Terms:
    """What weights inherit from the models that they started from.

    Args:
        base_models: names of those models, for the front of a card.
        license: the lines of their cards about the licence.
        text: their LICENSE files.
    """

    base_models: list[str]
    license: dict[str, str]
    text: str


def inherited_terms(config: ModelConfig) -> Terms:
    """Collect the terms of all models whose weights a network starts from or holds."""
    names = [config.init_from, config.init_encoder_from, config.model.get("encoder_backbone")]
    found = [_terms_of(name) for name in names if isinstance(name, str)]
    base_models = list(dict.fromkeys(name for one in found for name in one.base_models))
    texts = list(dict.fromkeys(one.text for one in found if one.text))
    licenses = [one.license for one in found if one.license]
    license = licenses[0] if licenses else {}
    if any(one != license for one in licenses):
        license = {"license": "other", "license_name": "several", "license_link": "LICENSE"}
        texts = [f"{one.base_models}: {one.license}\n{one.text}" for one in found]
    return Terms(base_models, license, "\n\n".join(texts))


def _terms_of(name: str) -> Terms:
    """Read the terms of a model that ships, of a folder, or of a repository of the Hub."""
    folder = Path(name).expanduser()
    base_models = []
    if not folder.is_dir():
        base_models, folder = [name], MODELS / name
    if not folder.is_dir():
        with contextlib.suppress(OSError):  # without the Hub, the card names the model all the same
            folder = Path(fetch(name, ["README.md", "LICENSE"], {}))
    data: dict[str, Any] = {}
    if (folder / "README.md").is_file():
        data = ModelCard.load(folder / "README.md", ignore_metadata_errors=True).data.to_dict()
    if not base_models:
        above = data.get("base_model") or []
        base_models = [above] if isinstance(above, str) else list(above)
    text = folder / "LICENSE"
    license = {key: data[key] for key in _LICENSE if key in data}
    return Terms(base_models, license, text.read_text("utf-8") if text.is_file() else "")


def model_card(
    where: str,
    parts: list,
    progress: Progress,
    pictures_per_step: int,
    parameters: int,
    validation: float,
    terms: Terms,
) -> str:
    """Write the card of a trained model in Markdown; it names data sets, not their paths.

    Args:
        where: for `from_pretrained` in its example.
        parts: the four parts of the configuration.
        progress: where the run ended.
        pictures_per_step: of all processes.
        parameters: how many the network has.
        validation: loss of the weights that are released.
        terms: of the models that it started from.
    """
    pictures, model, optim, run = parts
    sources, large = (
        [Path(source).name for source in sets]
        for sets in (pictures.datasets, pictures.large_datasets)
    )
    size, steps, stopped = f"{pictures.resolution} px", progress.step, ""
    if run.early_stopping_patience is not None:
        steps = progress.best_step
        stopped = f" Training stopped at step {progress.step:,}; these did best in validation."
    if large:
        size += (
            f" ({pictures.large_share:.0%} of the steps: fewer, of {', '.join(large)}, at "
            f"{pictures.large_resolution} px)"
        )
    named = dataclasses.replace(pictures, datasets=sources, large_datasets=large)
    return _CARD.format(
        front=_front_matter(terms),
        name=run.hub_model_id or Path(run.output_dir).name,
        where=where,
        network=model.model_class or "ColorizationUNet",
        parameters=parameters,
        data=", ".join(sources),
        steps=steps,
        pictures=steps * pictures_per_step,
        size=size,
        hours=progress.seconds / 3600,
        loss=progress.smooth_loss,
        validation=validation,
        stopped=stopped,
        terms=_terms_text(terms),
        config=to_yaml([named, model, optim]),
    )


def _front_matter(terms: Terms) -> str:
    front: dict[str, Any] = {
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["colorization"],
        **terms.license,
    }
    if terms.base_models:
        front["base_model"] = terms.base_models
    return yaml.safe_dump(front, sort_keys=False)


def _terms_text(terms: Terms) -> str:
    own = "The terms of the training pictures apply to the weights: state them here before sharing."
    if not terms.base_models:
        return own
    license = terms.license.get("license_name") or terms.license.get("license")
    also = f" ({license})" if license else ""
    names = ", ".join(terms.base_models)
    return f"The weights started from {names}, whose terms go on to apply{also}.\n{own}"
