"""Write checkpoints of a training run that are whole or missing, whatever stops the process.

A checkpoint is a folder `checkpoint-STEP` with Accelerate's state (weights, optimizer, scaler,
random numbers), `ema.safetensors`, `state.json` and, where the best weights are kept,
`best.safetensors`. It is written under another name and renamed, and the oldest are removed only
after that. Nothing in it is unpickled without restriction.
"""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file


@dataclasses.dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    seconds: float = 0.0
    smooth_loss: float = math.nan  # running average
    best_loss: float = math.inf  # the lowest running average
    epoch_loss: float = 0.0  # sum over the epoch so far
    best_validation: float = math.inf  # the lowest figure, where the best weights are kept
    best_step: int = 0  # at which that was
    stale_validations: int = 0  # since then

    def is_best(self, validation_loss: float) -> bool:
        """Count a validation, and return whether no earlier one was as good."""
        self.stale_validations += 1
        if validation_loss < self.best_validation:
            self.best_validation, self.best_step = validation_loss, self.step
            self.stale_validations = 0
        return self.stale_validations == 0


def checkpoints(folder: Path) -> list[Path]:
    """List the whole checkpoints in a run's folder, oldest first."""
    found = [path for path in folder.glob("checkpoint-*") if _step(path) is not None]
    return sorted(found, key=lambda path: _step(path) or 0)


def _step(checkpoint: Path) -> int | None:
    """Read the step in a checkpoint's name; `None` for other names, such as those of copies."""
    number = checkpoint.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else None


def newest(folder: Path) -> Path | None:
    """Find the last whole checkpoint in a run's folder."""
    return next(reversed(checkpoints(folder)), None)


def name_newest(folder: Path) -> str:
    """Say in a sentence which checkpoint a run can go on from."""
    last = newest(folder)
    return f"Last good checkpoint: {last}." if last else "There is no checkpoint yet."


def save(
    accelerator,
    ema,
    progress: Progress,
    identity: dict,
    folder: Path,
    limit: int,
    best: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write `checkpoint-STEP` and keep the newest `limit`; to be called by every process.

    Args:
        accelerator: with the model and the optimizer prepared.
        ema: the `ExponentialMovingAverage`.
        progress: how far the run has come.
        identity: what a resumed run must have in common with this one.
        folder: of the run.
        limit: checkpoints kept.
        best: weights to keep beside the present ones.

    Raises:
        SystemExit: if it cannot be written, with the last good checkpoint.
    """
    final = folder / f"checkpoint-{progress.step}"
    partial = folder / f".{final.name}.partial"
    if final.exists():
        return
    if accelerator.is_main_process:
        for left in folder.glob(".checkpoint-*.partial"):  # by a process that was killed
            shutil.rmtree(left)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(partial)
        if accelerator.is_main_process:
            _save_own(ema, progress, identity, partial)
            if best:
                _save_tensors(best, partial / "best.safetensors")
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        message = f"{final} could not be saved: {error}. {name_newest(folder)}"
        raise SystemExit(message) from error
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        partial.rename(final)
        for old in checkpoints(folder)[:-limit]:
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.partial")))
    accelerator.wait_for_everyone()


def _save_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)


def _save_own(ema, progress: Progress, identity: dict, folder: Path) -> None:
    state = ema.state_dict()
    _save_tensors(state["model"], folder / "ema.safetensors")
    content = {
        "run": identity,
        "ema_updates": state["updates"],
        "progress": dataclasses.asdict(progress),
    }
    (folder / "state.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def find(folder: Path, wanted: str | None) -> Path | None:
    """Find the checkpoint that `wanted` means: a path, "latest" (`None` if there is none) or none.

    Raises:
        ValueError: for a path that is no checkpoint, for a new run in a folder that has a run, and
            for a folder that cannot be written.
    """
    above = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"`output_dir` {folder} cannot be written: {above} is no folder of yours.")
    last = newest(folder)
    if wanted is None:
        if last is None:
            return None
        raise ValueError(
            f"{folder} already holds a run, up to {last.name}. Go on with it by "
            "`--resume_from_checkpoint latest`, or choose another `--output_dir`."
        )
    if wanted == "latest":
        return last
    if not (Path(wanted) / "state.json").is_file():
        names = ", ".join(path.name for path in checkpoints(folder)) or "none"
        raise ValueError(f"{wanted} is no checkpoint; {folder} has {names}.")
    step = json.loads((Path(wanted) / "state.json").read_text(encoding="utf-8"))["progress"]["step"]
    if last is not None and (_step(last) or 0) > step:
        raise ValueError(
            f"{folder} already holds {last.name}, which is later than {wanted} and would be taken "
            "for the newest of this run: move it away, or choose another `--output_dir`."
        )
    return Path(wanted)


def load(
    accelerator, ema, identity: dict, checkpoint: Path
) -> tuple[Progress, dict[str, torch.Tensor]]:
    """Restore everything that `save` wrote; return how far the run was and the best weights.

    Raises:
        ValueError: if the checkpoint is of a run with another identity.
    """
    content = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    for name, value in identity.items():
        if content["run"][name] != value:
            raise ValueError(
                f"{checkpoint} was made with {name} {content['run'][name]}, not {value}: the "
                "sequence of pictures would not go on. `init_from` starts anew from its weights."
            )
    accelerator.load_state(checkpoint)
    # It counts forward passes, of which a step may have another number now.
    accelerator.step = 0
    averaged = load_file(checkpoint / "ema.safetensors", device=str(accelerator.device))
    ema.load_state_dict({"model": averaged, "updates": content["ema_updates"]})
    best = checkpoint / "best.safetensors"
    return Progress(**content["progress"]), load_file(best) if best.exists() else {}
