"""Lets the photographs of a run agree: what they share, and the colours that are handed on."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline_colorize import Hint, photo
from pipeline_colorize.archive.chroma import SUFFIX as CHROMA
from pipeline_colorize.archive.chroma import read_chroma

from . import places
from .coloring import Coloring
from .decoding import contents, decode
from .job import Job
from .settings import Settings
from .telling import new_album, reference_pictures


class ConsistentAlbum:
    """Holds what the photographs of a run share, and which colours they have by now.

    Pictures are read one after the other, and only their features are kept.

    Args:
        settings: of the run, whose references count first.
        jobs: the photographs that are to be coloured.
        finished: those that have colours already, which are handed on.
        is_left_out: tells of a photograph whether it will not be coloured.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: list[Job],
        finished: list[Job],
        is_left_out: Callable[[photo.Photo], object],
    ):
        self._settings = settings
        self._album = new_album()
        self._numbers: dict[Job, int] = {}
        self._names: dict[int, str] = {}
        for name, image in reference_pictures(settings):
            self._names[self._album.add(image, colors=image)] = name
        self._read(finished, lambda read: False)
        for job in finished:
            self._color_finished(job)
        self._read(jobs, is_left_out)

    def _read(self, jobs: Iterable[Job], is_left_out: Callable[[photo.Photo], object]) -> None:
        for job, content in contents(jobs):
            try:
                read, _ = decode(job, content)
            except Exception:  # it is reported when it is to be coloured
                continue
            if not is_left_out(read):
                self._numbers[job] = self._album.add(read.image_with_alpha)
                self._names[self._numbers[job]] = Path(str(job.member or job.source)).name

    def _color_finished(self, job: Job) -> None:
        """Take the colours of a result that is there; without any where it cannot be read."""
        result = job.results(self._settings)[0]
        if job not in self._numbers:
            return
        try:
            with places.local_copy(result) as file:
                if result.name.endswith(CHROMA):
                    chroma = read_chroma(file)
                    self._album.color(self._numbers[job], chroma.ab, chroma.box)
                else:
                    self._album.color(self._numbers[job], photo.read(file).image)
        except (OSError, ValueError):
            return

    def order(self, jobs: list[Job]) -> list[Job]:
        """Sort photographs so that each follows those that its colours come from."""
        place = {number: index for index, number in enumerate(self._album.order())}
        return sorted(jobs, key=lambda job: place.get(self._numbers.get(job, -1), len(place)))

    def hints(self, job: Job) -> list[Hint]:
        """Return the colours that a photograph gets from others."""
        return self._album.hints(self._numbers[job]) if job in self._numbers else []

    def sources(self, job: Job) -> list[str]:
        """Name the pictures that a photograph's colours come from."""
        if job not in self._numbers:
            return []
        return [self._names[number] for number in self._album.sources(self._numbers[job])]

    def color(self, job: Job, coloring: Coloring) -> None:
        """Remember the colours of a photograph, to hand them on."""
        if job not in self._numbers:
            return
        if coloring.chroma:
            chroma = coloring.chroma[0]
            self._album.color(self._numbers[job], chroma.ab, chroma.box)
        else:
            self._album.color(self._numbers[job], coloring.images[0])
