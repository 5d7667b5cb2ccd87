"""Results in one file: they are collected in a folder, and packed when all are there."""

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import click

from . import containers, places
from .finished import made_otherwise
from .job import Job
from .provenance import given_colors
from .settings import Settings
from .sharing import Share

_CACHE = "pipeline-colorize"


@dataclass(frozen=True)
class Bundle:
    """Holds results that go into one tar, zip or parquet file.

    Until it is complete, results lie in a folder beside it, where a repeated command finds them.

    Args:
        target: the file.
        folder: where results are collected.
    """

    target: Path
    folder: Path

    @classmethod
    def of(cls, settings: Settings, share: Share) -> "Bundle | None":
        """Return the bundle that --output names, of which each share has its own, if it does."""
        output = settings.output or ""
        if output.startswith("zip://::"):
            output = output.removeprefix("zip://::")
        suffix = Path(output).suffix.lower()
        if suffix not in containers.WRITTEN or os.path.isdir(output):
            return None
        try:
            target = places.place_of(output)
        except ValueError as error:
            raise click.UsageError(f"--output: {error}.") from error
        if share.count > 1:
            width = len(str(share.count))
            part = f"{share.rank + 1:0{width}d}-of-{share.count}"
            target = target.with_name(f"{target.stem}-{part}{target.suffix}")
        return cls(target, _folder_for(target))

    def settings(self, settings: Settings) -> Settings:
        """Return the settings of a run that writes to the folder."""
        return replace(settings, output=f"{self.folder}{os.sep}")

    def is_done(self, jobs: list[Job], settings: Settings) -> bool:
        """Tell whether the file is there, newer than all photographs, and made as is asked for."""
        made = None if settings.overwrite else places.time_of(self.target)
        if made is None:
            return False
        sources = {str(job.source): job.source for job in jobs}.values()
        if any((places.time_of(source) or 0) > made for source in sources):
            return False
        return not given_colors(settings) or not self._made_otherwise(settings)

    def _made_otherwise(self, settings: Settings) -> bool:
        """Tell whether the first result in the file was made by other words about its colours."""
        with tempfile.TemporaryDirectory() as folder:
            name, content = containers.first_member(self.target)
            file = Path(folder) / PurePath(name).name
            file.write_bytes(content)
            return made_otherwise(file, settings)

    def pack(self) -> int:
        """Write the file from the results, and remove the folder; returns how many there are."""
        if not self.folder.is_dir():
            return 0
        try:
            count = containers.pack(self.folder, self.target)
        except containers.ContainerError as error:
            raise click.ClickException(str(error)) from error
        except (OSError, ValueError) as error:
            raise click.ClickException(
                f"cannot write {self.target} ({error}); the results are in {self.folder}, and the "
                "same command tries again"
            ) from error
        shutil.rmtree(self.folder)
        return count

    def shown(self, path: Path) -> str:
        """Name a result for people, as a part of the file."""
        if self.folder not in path.parents:
            return str(path)
        return f"{self.target}, {path.relative_to(self.folder).as_posix()}"


def _folder_for(target: Path) -> Path:
    """Return the folder beside a file, or for an address one in the user's cache."""
    if not places.is_remote(target):
        return target.with_name(f"{target.name}.parts")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    digest = hashlib.sha256(str(target).encode()).hexdigest()[:16]
    return Path(cache) / _CACHE / f"{digest}-{target.name}.parts"
