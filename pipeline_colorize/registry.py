"""The models that ship with the package and the samplers, each by its short name."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"

# Schedulers of diffusers that reproduce the noise schedule of the models, by the names that the
# command, the Space and the scripts use.
SAMPLERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "dpm++-single": "DPMSolverSinglestepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lcm": "LCMScheduler",
    "lms": "LMSDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
}


def shipped_models() -> list[str]:
    """List the names of the models that ship, in alphabetical order.

    >>> "default" in shipped_models()
    True
    """
    return sorted(path.parent.name for path in MODELS.glob("*/model_index.json"))


def is_shipped(name: str) -> bool:
    """Say whether this is the name of a model that ships, and of no folder here."""
    return not Path(name).is_dir() and (MODELS / name / "model_index.json").is_file()


def model_folder(name: str) -> Path:
    """Find the folder of a model: the one of that path, or the one of a model that ships.

    Raises:
        ValueError: if there is neither.
    """
    for folder in (Path(name), MODELS / name):
        if (folder / "model_index.json").is_file():
            return folder
    raise ValueError(
        f"{name!r} is neither a model's folder nor a model that ships "
        f"({', '.join(shipped_models())})."
    )


def find_model(name: str) -> str:
    """Find what diffusers can load by a name: a folder, or a repository of the Hub, "user/name".

    Raises:
        ValueError: if the name is that of no folder and no model that ships, and cannot be a
            repository's, either.
    """
    if "/" in name.replace("\\", "/") or Path(name).is_dir():
        return name
    return str(model_folder(name))


def sampler_class(name: str):
    """Import the scheduler class of diffusers that has this short name.

    Raises:
        ValueError: if there is no sampler of that name.
    """
    if name not in SAMPLERS:
        raise ValueError(f"There is no sampler {name!r}; there are {', '.join(SAMPLERS)}.")
    import diffusers

    return getattr(diffusers, SAMPLERS[name])
