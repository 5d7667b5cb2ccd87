"""Write the card of a trained model, with the terms of the models that it started from."""

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from .checkpoint import Progress
from .config import to_yaml
from .terms import Terms

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
    pictures = (
        "The terms of the training pictures apply to the weights: state them here before sharing."
    )
    if not terms.base_models:
        return pictures
    license = terms.license.get("license_name") or terms.license.get("license")
    also = f" ({license})" if license else ""
    names = ", ".join(terms.base_models)
    return f"The weights started from {names}, whose terms go on to apply{also}.\n{pictures}"
