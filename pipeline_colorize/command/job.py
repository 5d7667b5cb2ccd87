"""Names all files that a `colorize` run writes for a photograph."""

import functools
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePath

from pipeline_colorize.archive.chroma import SUFFIX as CHROMA

from .finished import made_otherwise
from .places import is_remote, time_of
from .settings import Settings

STDIN = Path("/dev/stdin")
"""The source of a photograph that comes from standard input."""

STDOUT = Path("/dev/stdout")
"""The target of a result that goes to standard output."""

_RESULT_NAME = re.compile(r"-colorized(-\d+)?(-compare|-uncertainty|-intermediates)?$")


def is_named_like_a_result(path: Path) -> bool:
    """Tell whether a file's name is one that this command gives to its results."""
    return path.name.endswith(CHROMA) or _RESULT_NAME.search(path.stem) is not None


def real_path(path: str | Path) -> str:
    """Return `os.path.realpath` of a file, quickly for many files in one folder."""
    if not isinstance(path, str | PurePath):  # an address
        return str(path)
    if os.path.islink(path):
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    return os.path.join(real_folder(folder), name)


@functools.lru_cache(maxsize=4096)
def real_folder(folder: str) -> str:
    """Return `os.path.realpath` of a folder, from memory if it is there."""
    return os.path.realpath(folder)


@dataclass(frozen=True, slots=True)  # there may be very many
class Job:
    """Pairs a photograph with the file that its colours go to."""

    source: Path
    target: Path
    row: int | None = None  # where the source is a data set
    page: int | None = None  # where the source has several, from 0
    member: str | None = None  # where the source is a tar or zip file
    chroma: Path | None = None  # the chroma file that its colours are taken from

    @property
    def name(self) -> str:
        """Name the photograph for people."""
        if self.source == STDIN:
            return "standard input"
        if self.row is not None:
            return f"{self.source}, row {self.row}"
        if self.member is not None:
            return f"{self.source}, {self.member}"
        return str(self.source) if self.page is None else f"{self.source}, page {self.page + 1}"

    def results(self, settings: Settings) -> list[Path]:
        """Return the files of the samples, one for each."""
        if settings.samples == 1:
            return [self.target]
        return [self._beside(f"-{n + 1}", self.target.suffix) for n in range(settings.samples)]

    def extras(self, settings: Settings) -> list[Path]:
        """Return the extra files that are asked for."""
        paths = [self.compare] if settings.compare else []
        paths += [self.uncertainty] if settings.uncertainty else []
        if settings.intermediates:
            paths += itertools.chain.from_iterable(self.films(settings))
        return paths

    def films(self, settings: Settings) -> list[tuple[Path, Path]]:
        """Return the animation and the strip of the denoising, a pair for each sample."""
        stems = [path.with_name(f"{path.stem}-intermediates") for path in self.results(settings)]
        return [(Path(f"{stem}.gif"), Path(f"{stem}.png")) for stem in stems]

    @property
    def is_plain_file(self) -> bool:
        """Tell whether the photograph is a file of this machine by itself."""
        is_part = self.row is not None or self.member is not None
        return not is_part and self.source != STDIN and not is_remote(self.source)

    @property
    def compare(self) -> Path:
        """Name the picture that shows before and after."""
        return self._beside("-compare", ".jpg")

    @property
    def uncertainty(self) -> Path:
        """Name the picture that shows where the samples disagree."""
        return self._beside("-uncertainty", ".png")

    def missing(self, settings: Settings) -> set[Path]:
        """Return the files that have to be written: those absent or older than the photograph.

        If a result was made by other hints, references or mends than those that are given, all have
        to be. With --overwrite, and on standard output, all of them have to be.
        """
        paths = {*self.results(settings), *self.extras(settings)}
        if settings.overwrite or self.target == STDOUT:
            return paths
        changed = self._time_of_source()
        missing = {path for path in paths if (time := time_of(path)) is None or time < changed}
        there = [path for path in self.results(settings) if path not in missing]
        return paths if there and made_otherwise(there[0], settings) else missing

    def has_changed(self, settings: Settings) -> bool:
        """Tell whether results exist that are older than the photograph."""
        if settings.overwrite or self.target == STDOUT:
            return False
        times, changed = map(time_of, self.results(settings)), self._time_of_source()
        return any(time is not None and time < changed for time in times)

    def _time_of_source(self) -> int:
        time = 0 if self.source == STDIN else time_of(self.source) or 0
        return max(time, time_of(self.chroma) or 0) if self.chroma else time

    def _beside(self, addition: str, suffix: str) -> Path:
        name = self.target.name
        if name.endswith(CHROMA):
            return self.target.with_name(f"{name.removesuffix(CHROMA)}{addition}{CHROMA}")
        return self.target.with_name(f"{self.target.stem}{addition}{suffix}")
