"""The controls of a job, which Gradio's endpoints take one by one, as one object.

Gradio names the parameters of an endpoint after those of its function, and programs call it by
these names. So the fields of `Controls` are parameters of the API: renaming one breaks them.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable

import gradio as gr
from gradio.components import Component


@dataclasses.dataclass(frozen=True)
class Controls:
    """What somebody asks for, as it was sent: the values may be of any type, and unchecked."""

    samples: int = 1
    seed: int = 0
    steps: int | None = None
    sampler: str = ""
    saturation: float = 1.0
    resolution: int | None = None
    points: str = ""
    model: str = ""


class GivenNumber(gr.Number):
    """A number as it was sent, whatever it is: the Space's own limits say what is wrong with it."""

    is_template = True

    def preprocess(self, payload):
        """Return what was sent, where Gradio's own field would check it."""
        return payload


def control_inputs(model: str) -> dict[str, Component]:
    """Make Gradio's components for the controls, by name and in their order.

    `model` is the name of the model that is used where nobody asks for one.
    """
    defaults = dataclasses.asdict(Controls(model=model))
    texts = {"sampler", "points", "model"}
    whole = set(defaults) - texts - {"saturation"}
    return {
        name: gr.Textbox(value, label=name)
        if name in texts
        else GivenNumber(value, precision=0 if name in whole else None, label=name)
        for name, value in defaults.items()
    }


def with_controls(function: Callable) -> Callable:
    """Let Gradio see the fields of `Controls` where a function has the parameter `controls`."""
    parameters = list(inspect.signature(function).parameters.values())
    place = [one.name for one in parameters].index("controls")
    end = place + len(dataclasses.fields(Controls))
    parameters[place : place + 1] = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=field.default,
            annotation=field.type,
        )
        for field in dataclasses.fields(Controls)
    ]

    def gathered(values: tuple) -> tuple:
        return *values[:place], Controls(*values[place:end]), *values[end:]

    @functools.wraps(function)
    def returning(*values):
        return function(*gathered(values))

    @functools.wraps(function)
    def yielding(*values):
        yield from function(*gathered(values))

    # Gradio looks at a function whether it is a generator.
    spread = yielding if inspect.isgeneratorfunction(function) else returning
    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return spread
