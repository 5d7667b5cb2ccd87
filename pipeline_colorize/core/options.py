"""The options of one call, resolved once: torch's engine and the one without torch share them."""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from .sizes import SECOND_LOOK_START

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# Options for which a model has a default, `default_NAME`, that a call's `None` stands for.
MODEL_DEFAULTS = (
    "num_inference_steps",
    "num_candidates",
    "eta",
    "temperature",
    "processing_resolution",
    "second_look",
)

# Several results share the candidates of one, but each is made of this many at least.
LEAST_CANDIDATES = 4
# A second look draws this many for each result at most: they differ little, so more change nothing.
SECOND_LOOK_CANDIDATES = 4


def share_candidates(candidates: int, samples: int) -> int:
    """Return the number of candidates that each of several results is made of.

    They share those of one, so that they differ more and cost less, but each has
    `LEAST_CANDIDATES` or, where that is less, as many as one result would have.

    >>> [share_candidates(16, samples) for samples in (1, 2, 4, 8)]
    [16, 8, 4, 4]
    """
    return max(candidates // samples, min(candidates, LEAST_CANDIDATES))


@dataclass(frozen=True)
class ColorizationOptions:
    """How pictures are coloured in one call; every value is checked.

    Args:
        num_inference_steps: denoising steps of the first look, 1 or more.
        num_samples: results for each picture, 1 or more.
        num_candidates: colourings drawn for a result, 1 or more; several results share them.
        eta: share of fresh noise in each step, 0 to 1.
        temperature: factor on all noise, 0 or more.
        saturation: factor on chroma, 0 or more, beside the model's own.
        processing_resolution: short side of the working picture in pixels; 0 for the picture's own.
        second_look: how many times as fine the second look is; 1 for none.
        batch_size: pictures through the network at a time; `None` for all of one size.
        output_type: "pil", "np", "pt" or "latent".
        output_uncertainty: whether the spread of the colourings is returned, too.
        output_intermediates: whether the estimate after each step is returned, too.
        find_margins: whether even margins around a photograph are found and left neutral.
        match_input_resolution: whether results are as large as the input.
        strength: how far back to noise colours that are there are brought, 0 to 1.

    Raises:
        ValueError: which names the value that is out of range.
    """

    num_inference_steps: int
    num_samples: int
    num_candidates: int
    eta: float
    temperature: float
    saturation: float
    processing_resolution: int
    second_look: float
    batch_size: int | None = None
    output_type: str = "pil"
    output_uncertainty: bool = False
    output_intermediates: bool = False
    find_margins: bool = True
    match_input_resolution: bool = True
    strength: float = 1.0

    @classmethod
    def resolve(cls, defaults: Mapping[str, Any], **given: Any) -> "ColorizationOptions":
        """Take the options that a call gives, and for those that are `None` the model's defaults.

        Args:
            defaults: the model's configuration or properties, with `default_NAME` for each name
                in `MODEL_DEFAULTS`.
            given: the options of the call, by name.
        """
        for name in MODEL_DEFAULTS:
            if given[name] is None:
                given[name] = defaults[f"default_{name}"]
        return cls(**given)

    def candidates_each(self, second_look: bool = False) -> int:
        """Return the number of colourings that each result is made of, in one of the looks."""
        candidates = share_candidates(self.num_candidates, self.num_samples)
        return min(candidates, SECOND_LOOK_CANDIDATES) if second_look else candidates

    def toning(self, balance: float, second_look: bool) -> tuple[float, float]:
        """Return the `balance` and the `second_look` of `agreement_weights` in one of the looks.

        Colours that are only brought part of the way back to noise have their balance already.
        """
        if second_look:
            return 0, min(self.strength / SECOND_LOOK_START, 1)
        return balance if self.strength == 1 else 0, 0

    def drawn(self, second_look: bool = False) -> int:
        """Return the number of colourings that are drawn for each picture in one of the looks."""
        return self.num_samples * self.candidates_each(second_look)

    def __post_init__(self):
        for name, least in (
            ("num_inference_steps", 1),
            ("num_samples", 1),
            ("num_candidates", 1),
            ("batch_size", 1),
            ("processing_resolution", 0),
        ):
            value = getattr(self, name)
            if value is None and name == "batch_size":
                continue
            if not isinstance(value, Integral) or value < least:
                raise ValueError(
                    f"`{name}` must be a whole number of at least {least}, not {value!r}."
                )
            object.__setattr__(self, name, int(value))  # NumPy's whole numbers are welcome
        self._check_ranges()

    def _check_ranges(self) -> None:
        for name in ("eta", "strength", "temperature", "saturation", "second_look"):
            if not isinstance(getattr(self, name), Real):
                raise ValueError(f"`{name}` must be a number, not {getattr(self, name)!r}.")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"`eta` must lie between 0 and 1, not at {self.eta}.")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"`strength` must lie between 0 and 1, not at {self.strength}.")
        for name in ("temperature", "saturation"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"`{name}` must be 0 or more, not {getattr(self, name)}.")
        if not 1 <= self.second_look < float("inf"):
            raise ValueError(f"`second_look` must be 1 or more, not {self.second_look}.")
        if self.output_type not in OUTPUT_TYPES:
            names = ", ".join(repr(name) for name in OUTPUT_TYPES)
            raise ValueError(f"`output_type` must be one of {names}, not {self.output_type!r}.")
        if self.output_uncertainty and self.drawn() < 2:
            raise ValueError(
                "`output_uncertainty` compares colourings, so `num_samples` or `num_candidates` "
                "must be more than 1."
            )


def per_picture(name: str, given: Any, count: int) -> list:
    """One value for each picture: a list is checked for its length, anything else is repeated.

    Raises:
        ValueError: if the list is longer or shorter than `count`.
    """
    if not isinstance(given, list | tuple):
        return [given] * count
    if len(given) != count:
        raise ValueError(
            f"`{name}` needs one {name} a picture, so {count}, but it has {len(given)}."
        )
    return list(given)


def generators_by_picture(given: Any, count: int, kind: type) -> list:
    """List the generator of each picture: its own, or the same for all; `None` where none is.

    Raises:
        ValueError: if the list is longer or shorter than `count`, or holds something else.
    """
    each = per_picture("generator", given, count)
    for one in each:
        if one is not None and not isinstance(one, kind):
            raise ValueError(
                f"`generator` is a {kind.__name__} of {kind.__module__} or a list of them, "
                f"not {one!r}."
            )
    return each
