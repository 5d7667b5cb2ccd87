"""Read the licence of a model, which goes on to apply to all that is trained from its weights."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from pipeline_colorize.hub import fetch
from pipeline_colorize.registry import MODELS

from .config import ModelConfig

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
    found = [terms_of(name) for name in names if isinstance(name, str)]
    base_models = list(dict.fromkeys(name for one in found for name in one.base_models))
    texts = list(dict.fromkeys(one.text for one in found if one.text))
    licenses = [one.license for one in found if one.license]
    license = licenses[0] if licenses else {}
    if any(one != license for one in licenses):
        license = {"license": "other", "license_name": "several", "license_link": "LICENSE"}
        texts = [f"{one.base_models}: {one.license}\n{one.text}" for one in found]
    return Terms(base_models, license, "\n\n".join(texts))


def terms_of(name: str) -> Terms:
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


def conflicts(base_models: list[str], license: dict[str, Any]) -> list[str]:
    """Say in a line each which base models are under another licence than `license`.

    Args:
        base_models: names of models that ship, or ids on the Hub.
        license: the front matter of a card.
    """
    found = []
    for name in base_models:
        terms = terms_of(name).license
        if any(license.get(key) != terms.get(key) for key in ("license", "license_name") if terms):
            wanted = terms.get("license_name") or terms["license"]
            found.append(f"its base model {name} is under {wanted}, which goes on to apply")
    return found
