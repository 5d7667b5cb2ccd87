"""The card of a model that was trained."""

import dataclasses
from pathlib import Path

from .checkpoint import Progress
from .config import to_yaml

_CARD = """---
library_name: diffusers
pipeline_tag: image-to-image
tags: [colorization]
---

# {name}

Gives black-and-white photographs colours: believable ones, not known ones.

```python
from pipeline_colorize import ColorizationPipeline

pipe = ColorizationPipeline.from_pretrained("{where}")
pipe(image).images[0].save("colorized.png")
```

{network}, {parameters:,} parameters, trained with `train_colorize.py` on {data}: {steps:,} steps,
{pictures:,} pictures at {size}, {hours:.2f} hours. Training loss {loss:.4f} (average of
the last steps), validation loss of these weights {validation:.4f}.{stopped}

The terms of the training pictures apply to the weights: state them here before sharing them.

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
) -> str:
    """The card of a trained model, in Markdown; it names data sets, not their paths.

    Args:
        where: for `from_pretrained` in its example.
        parts: the four parts of the configuration.
        progress: where the run ended.
        pictures_per_step: of all processes.
        parameters: of the network.
        validation: loss of the weights that are released.
    """
    pictures, model, optim, run = parts
    sources, closer = (
        [Path(source).name for source in sets]
        for sets in (pictures.datasets, pictures.closer_datasets)
    )
    size, steps, stopped = f"{pictures.resolution} px", progress.step, ""
    if run.early_stopping_patience is not None:
        steps = progress.best_step
        stopped = f" Training stopped at step {progress.step:,}; these did best in validation."
    if closer:
        size += (
            f" ({pictures.closer_share:.0%} of the steps: fewer, of {', '.join(closer)}, at "
            f"{pictures.closer_resolution} px)"
        )
    named = dataclasses.replace(pictures, datasets=sources, closer_datasets=closer)
    return _CARD.format(
        name=run.hub_model_id or Path(run.output_dir).name,
        where=where,
        network=model.model_class,
        parameters=parameters,
        data=", ".join(sources),
        steps=steps,
        pictures=steps * pictures_per_step,
        size=size,
        hours=progress.seconds / 3600,
        loss=progress.smooth_loss,
        validation=validation,
        stopped=stopped,
        config=to_yaml([named, model, optim]),
    )
