"""Stages of a long piece of work: each is done once, and again where its inputs have changed."""

import dataclasses
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click


@dataclasses.dataclass
class Stage:
    """One step of a longer piece of work, with a folder for what it makes.

    Args:
        name: of the folder.
        inputs: function that says what the stage depends on, texts by label; it is called when the
            stage's turn has come.
        work: function that does the work in the folder.
        product: the file or folder that is there when the stage is done.
        resumes: whether it continues in a folder that it has not finished.
        mild: labels of inputs whose change spoils nothing that a stage that resumes has done.
    """

    name: str
    inputs: Callable[[], dict[str, str]]
    work: Callable[[Path], None]
    product: str
    resumes: bool = False
    mild: tuple[str, ...] = ()


def checksum(folder: Path, *patterns: str) -> str:
    """Compute a SHA-256 over names and contents of a folder's files, or those like `patterns`."""
    total = hashlib.sha256()
    for file in sorted({file for one in patterns or ("*",) for file in folder.rglob(one)}):
        if file.is_file() and file.name != "stage.json":
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            total.update(f"{file.relative_to(folder)} {content}\n".encode())
    return total.hexdigest()


def checksum_of_source(name: str) -> str:
    """Compute the checksum of a data set or model; one of the Hub is represented by its name."""
    path = Path(name).expanduser()
    return checksum(path) if path.exists() else name


def read_record(folder: Path) -> dict:
    """Read `stage.json`; without one, the record is empty."""
    file = folder / "stage.json"
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def write_record(folder: Path, inputs: dict, finished: bool, seconds: float) -> None:
    """Write `stage.json`."""
    record = {"finished": finished, "seconds": round(seconds, 1), "inputs": inputs}
    (folder / "stage.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def changed_inputs(record: dict, inputs: dict) -> list[str]:
    """List the labels of inputs that are not as they were."""
    before = record.get("inputs", {})
    return [label for label in {**before, **inputs} if before.get(label) != inputs.get(label)]


def set_aside(folder: Path) -> Path:
    """Move what a stage made earlier to `old/`, under a name that is free."""
    old = folder.parent / "old"
    old.mkdir(exist_ok=True)
    number = 1
    while (target := old / f"{folder.name}-{number}").exists():
        number += 1
    return folder.rename(target)


def make_room(stage: Stage, folder: Path, record: dict, changed: list[str]) -> None:
    """Leave the folder to a stage that resumes; for any other, begin with an empty one."""
    if not folder.exists() or (stage.resumes and record and set(changed) <= set(stage.mild)):
        return
    if record and not record["finished"] and not stage.resumes:
        shutil.rmtree(folder)
    else:
        click.echo(f"  what was there is now in {set_aside(folder)}")


def run_stage(stage: Stage, folder: Path, again: bool = False) -> bool:
    """Do the work of a stage unless it is done; returns whether anything was done."""
    inputs, record = stage.inputs(), read_record(folder)
    changed = changed_inputs(record, inputs)
    if record.get("finished") and not changed and not again and (folder / stage.product).exists():
        click.echo(f"{stage.name}: done already, nothing has changed")
        return False
    reason = f" ({', '.join(changed)} changed)" if record and changed else ""
    click.echo(f"{stage.name} ...{reason}")
    make_room(stage, folder, record, [*changed, "again"] if again else changed)
    folder.mkdir(parents=True, exist_ok=True)
    spent = read_record(folder).get("seconds", 0.0)
    write_record(folder, inputs, False, spent)
    started, finished = time.perf_counter(), False
    try:
        stage.work(folder)
        finished = (folder / stage.product).exists()
    finally:
        write_record(folder, inputs, finished, spent + time.perf_counter() - started)
    if not finished:
        raise click.ClickException(f"{stage.name} stopped early; the same command goes on with it.")
    return True


def call(*command) -> None:
    """Run a program to its end; Ctrl-C and SIGTERM are left to it.

    Raises:
        ClickException: if it fails.
    """
    child = subprocess.Popen([sys.executable, *map(str, command)])
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),  # a terminal tells both
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
    }
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:
        raise click.ClickException(f"{' '.join(map(str, command[:2]))} ... ended with {code}.")
