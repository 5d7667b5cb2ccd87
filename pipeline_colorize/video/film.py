"""Colours a film from file to file: `colorize_film`."""

import bisect
import concurrent.futures
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from .chroma import grid_chroma
from .codecs import CODECS, choose_codec, choose_still
from .colorizer import KEYFRAME_INTERVAL, PART_FRAMES, Seen, VideoColorizer
from .light import picture_area, working_light
from .muxing import Clock, Segment, assemble, check_sound
from .names import is_numbered
from .reading import (
    FilmError,
    FilmFacts,
    FilmReader,
    Timeline,
    luma_plane,
    next_time,
    number_of,
    numbered_files,
    planar,
)
from .references import Reference, references_line
from .scenes import ShotLights, find_scenes, roots, scene_place
from .shots import Shot, ShotFinder, read_shots, read_starts, shots_between
from .work import WorkFolder, fingerprint
from .writing import (
    Area,
    FrameColorer,
    SegmentWriter,
    StillsWriter,
    area_slices,
    as_rgb,
    result_levels,
)

# Seconds that a film may be shorter than its file says before that is worth a note.
_CUT_SHORT = 0.5

Progress = Callable[[str, int, int], None]
"""Takes what goes on, how many frames of it are done, and of how many (0 if unknown)."""


@dataclass(frozen=True)
class FilmOptions:
    """Holds how a film is coloured and written.

    Args:
        codec: a name of `CODECS`; `None` for what the container begins with.
        quality: of the codec, lower is better; `None` is its default.
        most_bits: of a sample of the result; `None` for as many as the film has.
        start: where the stretch that is coloured begins, in seconds.
        stop: where it ends; `None` is the film's end.
        shots: a table of shots to use, see `read_shots`; `None` to find them.
        shard: which of how many shares of the shots this run colours, from 1.
        keep_work: whether the work folder stays when the film is finished.
        references: pictures whose colours the film gets where it shows the same.
        max_pixels: of a frame.
        seed: start of the random numbers.
        keyframe_interval: the most frames from one keyframe to the next.
        call: other arguments of the pipeline's call.
        mark: metadata about how the colours came to be.
    """

    codec: str | None = None
    quality: int | None = None
    most_bits: int | None = None
    start: float = 0.0
    stop: float | None = None
    shots: str | None = None
    shard: tuple[int, int] = (1, 1)
    keep_work: bool = False
    references: tuple[Reference, ...] = ()
    max_pixels: int = 100_000_000
    seed: int = 0
    keyframe_interval: int = KEYFRAME_INTERVAL
    call: dict[str, Any] = field(default_factory=dict)
    mark: dict[str, str] = field(default_factory=dict)


@dataclass
class FilmResult:
    """Says what became of a film.

    Args:
        frames: how many frames it has.
        shots: how many shots.
        finished: whether the result is written; other shards may have to finish first.
        notes: what was lost or changed, one line each.
    """

    frames: int
    shots: int
    finished: bool
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A shot, or a part of a long one.

    Args:
        number: of the part, from 1.
        shot: number of its shot, from 1.
        start: its first frame.
        stop: the frame after its last.
        follows: whether it goes on with the shot of the part before.
    """

    number: int
    shot: int
    start: int
    stop: int
    follows: bool


def divide(shots: list[Shot], longest: int = PART_FRAMES) -> list[Part]:
    """Divide shots into parts of at most `longest` frames, each shot evenly.

    >>> [(part.start, part.stop, part.follows) for part in divide([Shot(0, 7)], 3)]
    [(0, 2, False), (2, 5, True), (5, 7, True)]
    """
    parts: list[Part] = []
    for number, shot in enumerate(shots, 1):
        count = -(-(shot.stop - shot.start) // longest)
        edges = [
            round(shot.start + step * (shot.stop - shot.start) / count) for step in range(count + 1)
        ]
        for start, stop in pairwise(edges):
            parts.append(Part(len(parts) + 1, number, start, stop, start > shot.start))
    return parts


def share_of(
    parts: list[Part], shard: tuple[int, int], scenes: Sequence[int | None] = ()
) -> list[Part]:
    """Return the parts of one shard: whole shots, about as many frames as in the others.

    Args:
        parts: of the film.
        shard: which of how many.
        scenes: from `find_scenes`; shots that show the same again go into one shard.
    """
    which, count = shard
    total = max(part.stop for part in parts)
    begins = {part.shot: part.start for part in reversed(parts) if not part.follows}
    first = roots(scenes) if scenes else range(len(begins))
    return [
        part for part in parts if begins[first[part.shot - 1] + 1] * count // total == which - 1
    ]


def colorize_film(
    source: str | Path,
    target: str | Path,
    pipe: Any,
    options: FilmOptions | None = None,
    progress: Progress | None = None,
) -> FilmResult:
    """Colour a film, and write it with its sound and everything else that it has.

    Args:
        source: any file that FFmpeg reads.
        target: the result; its ending says the container.
        pipe: an `ORTColorizationPipeline` or a `ColorizationPipeline`.
        options: how.
        progress: is called with how far it is.

    Raises:
        FilmError: if the film cannot be read or the result not be written as asked for.
    """
    film = _Film(Path(source), Path(target), options or FilmOptions(), progress)
    return film.colorize(pipe)


class _Film:
    def __init__(self, source, target, options: FilmOptions, progress: Progress | None):
        self.source, self.target, self.options = source, target, options
        self.tell = progress or (lambda *_: None)
        self.stills = is_numbered(str(target))
        ending = target.suffix.lower()
        self.codec = (
            choose_still(ending) if self.stills else CODECS[choose_codec(ending, options.codec)]
        )
        if options.most_bits:
            self.codec = self.codec.limited(options.most_bits)
        self.avi = ending == ".avi"
        self.notes: list[str] = []
        self._reader: _SequentialReader | None = None

    def colorize(self, pipe: Any) -> FilmResult:
        with FilmReader(self.source, self.options.max_pixels) as reader:
            self.facts = reader.facts()
            if not self.stills:
                check_sound(reader, self.target.suffix.lower())
        self._check_codec()
        files = numbered_files(self.source)
        self.first_number = number_of(files[0], self.source) if files else 1
        self.work = WorkFolder(self.target, self._identity())
        self.work.open()
        if self.work.was_stale:
            self.notes.append("the film or the options have changed, so everything is done anew")
        self._look_through()
        if self.avi:
            self._clock()  # which fails at once where AVI cannot hold the film
        parts = divide(self.shots)
        self._color(share_of(parts, self.options.shard, self.scenes), pipe)
        found = [self.work.part_state(part.number) for part in parts]
        states = [state for state in found if state is not None]
        finished = len(states) == len(parts)
        if finished:
            if not self.stills:
                self._assemble(parts, states)
            if not self.options.keep_work:
                self.work.remove()
        return FilmResult(len(self.timeline.times), len(self.shots), finished, self.notes)

    def _check_codec(self) -> None:
        self.depth = self.codec.depth_for(self.facts)
        if self.depth < self.facts.levels.depth:
            bits = self.facts.levels.depth
            self.notes.append(f"its {bits} bits are rounded to {self.depth}; ffv1 keeps them")
        if self.facts.interlaced and not self.codec.fields:
            self.notes.append("it is interlaced, which this codec takes for whole frames")

    def _identity(self) -> dict[str, Any]:
        options = asdict(replace(self.options, references=()))  # each part knows of them itself
        del options["references"]
        for name in ("shard", "keep_work", "mark", "max_pixels"):
            del options[name]
        if self.options.shots:
            options["shots"] = Path(self.options.shots).read_text()
        return {
            "version": 3,
            "source": fingerprint(self.source),
            "mark": self.options.mark,
            **options,
        }

    # --- what there is ----------------------------------------------------------------------------

    def _look_through(self) -> None:
        """Find all frames and shots, or read what an earlier run has found."""
        found = self.work.read_frames()
        if found is None:
            found = self._analyse()
        self.timeline = Timeline(**found["timeline"])
        self.offset, self.area = found["offset"], tuple(found["area"])
        self.shots = self.work.shots(len(self.timeline.times))
        self.scenes: list[int | None] = found["scenes"]
        self.placed = self._place_references(found["origin"])
        if found["missing"]:
            self.notes.append(f"its last {found['missing']:.1f} s are missing from the file")
        if self.timeline.lost:
            self.notes.append(f"{self.timeline.lost} damaged packets could not be decoded")

    def _analyse(self) -> dict[str, Any]:
        state = fingerprint(self.source)
        look = _Look(self.options, self.facts)
        with FilmReader(self.source, self.options.max_pixels) as reader:
            guess = int(reader.stream.frames or 0)
            for frame in reader.frames():
                if not look.add(frame):
                    break
                self.tell("looking through", look.count, guess)
            else:
                look.hear(reader.announced)
            look.timeline.lost = reader.lost
        if fingerprint(self.source) != state:
            raise FilmError("is still being written; try again when it is complete")
        if look.brightest is None:
            raise FilmError("has no frames in this stretch")
        shots = look.shots()
        lights = look.lights.finished()
        scenes = find_scenes(lights, lambda done: self.tell("comparing shots", done, len(lights)))
        found = {
            "timeline": asdict(look.timeline),
            "offset": look.skipped,
            "origin": look.origin,
            "area": look.area(),
            "scenes": scenes,
            "missing": look.missing,
        }
        begins = [float(time * self.facts.time_base) for time in look.timeline.times]
        self.work.write_frames(found, shots, begins)
        return found

    def _place_references(self, origin: int) -> list[tuple[Reference, int | None]]:
        """Return the references, each with the frame that it is of, if its time is given."""
        placed: list[tuple[Reference, int | None]] = []
        seconds = [(time - origin) * self.facts.time_base for time in self.timeline.times]
        end = seconds[-1] + max(self.timeline.last, 1) * self.facts.time_base
        for one in self.options.references:
            if one.time is None:
                placed.append((one, None))
            elif seconds[0] - 1e-3 <= one.time < end:
                placed.append((one, max(bisect.bisect(seconds, one.time + 1e-3) - 1, 0)))
            else:
                self.notes.append(f"{one.name} is of {one.time:g} s, which is not coloured here")
        return placed

    # --- the colours ------------------------------------------------------------------------------

    def _color(self, parts: list[Part], pipe: Any) -> None:
        """Colour the parts that are not finished; the next one's colours are found meanwhile."""
        todo = [part for part in parts if not self._is_done(part)]
        done = sum(part.stop - part.start for part in parts if part not in todo)
        total = sum(part.stop - part.start for part in parts)
        self.tell("colorizing", done, total)
        if not todo:
            return
        colorer = _PartColorer(self, pipe)
        pool = concurrent.futures.ThreadPoolExecutor(1)
        try:
            future = pool.submit(colorer, todo[0])
            for part, following in zip(todo, [*todo[1:], None], strict=True):
                chroma, given = future.result()
                if following:
                    future = pool.submit(colorer, following)
                self._write(part, chroma, done, total)
                self._finish(part, given)
                done += part.stop - part.start
        finally:
            pool.shutdown(cancel_futures=True)
            colorer.close()
            if self._reader:
                self._reader.close()

    def _is_done(self, part: Part) -> bool:
        """Tell whether a part is finished, with the colours that are given for it by now."""
        state = self.work.part_state(part.number)
        return state is not None and state.get("given") == self.given(part.shot)

    def given(self, shot: int) -> list[str]:
        """Digests of the pictures in colour given for a shot, or for one that it shows again."""
        place = self.shots[shot - 1]
        given = [
            one.digest for one, at in self.placed if at is None or place.start <= at < place.stop
        ]
        given.append(self.work.own_picture(shot) or "")
        earlier = self.scenes[shot - 1]
        return given if earlier is None else [*given, *self.given(earlier + 1)]

    def _write(self, part: Part, chroma: list[np.ndarray], done: int, total: int) -> None:
        pixel_format = self.codec.pixel_format(self.facts)
        color = FrameColorer(self.facts, pixel_format, self.depth, self.area)
        writer = self._writer(part)
        try:
            for count, (frame, ab) in enumerate(zip(self._frames(part), chroma, strict=True), 1):
                colored = color(frame, ab)
                if count - 1 == picture_place(part) and not part.follows:
                    self._keep_picture(part.shot, colored)
                writer.write(colored, self.timeline.times[part.start + count - 1])
                self.tell("colorizing", done + count, total)
            writer.close()
        except BaseException:
            writer.discard()
            raise
        self._order = writer.order

    def _finish(self, part: Part, given: list[str]) -> None:
        """Note that a part is written."""
        state = {"order": self._order, "stills": self.stills, "given": given}
        self.work.finish_part(part.number, state)

    def _writer(self, part: Part) -> SegmentWriter | StillsWriter:
        if self.stills:
            first = self.first_number + part.start
            return StillsWriter(self.target, first, self.facts, self.codec)
        path = self.work.segment(part.number)
        return SegmentWriter(path, self.facts, self.codec, self.options.quality)

    def _keep_picture(self, shot: int, frame: Any) -> None:
        """Write the picture of a shot, which somebody may replace by one with other colours."""
        content = io.BytesIO()
        rgb = as_rgb(frame, result_levels(self.facts, self.depth))
        PIL.Image.fromarray(np.rint(rgb * 255).astype(np.uint8)).save(content, "PNG")
        self.work.keep_picture(shot, content.getvalue())

    def given_chroma(self, part: Part, lights: list[np.ndarray]) -> dict[int, np.ndarray]:
        """Return the colours of a part's frames that people have given, by the frames' places."""
        given: dict[int, np.ndarray] = {}
        size = self.facts.height, self.facts.width
        if not part.follows and self.work.own_picture(part.shot):
            path = self.work.picture(part.shot)
            with PIL.Image.open(path, formats=["PNG", "JPEG"]) as picture:
                rgb = np.asarray(picture.convert("RGB"))
            if rgb.shape[:2] != size:
                raise FilmError(f"{path} must have the size of the film's frames")
            place = picture_place(part)
            rows, columns = (side // 4 for side in lights[place].shape)
            given[place] = grid_chroma(rgb[area_slices(size, self.area)], rows, columns)
        for one, at in self.placed:
            if at is not None and part.start <= at < part.stop:
                place = at - part.start
                chroma = one.as_frame(size, self.area, lights[place])
                if chroma is not None:
                    given[place] = chroma
        return given

    def seen(self, part: Part, given: Collection[int]) -> list[Seen]:
        """Return pictures that may show what a part shows, but for those of its `given` frames."""
        shot, found = self.shots[part.shot - 1], []
        earlier = self.scenes[part.shot - 1]
        if earlier is not None and (frame := self.work.scene(earlier + 1)):
            found.append(Seen.of_frame(*frame))
        for one, at in self.placed:
            of_shot = at is None or shot.start <= at < shot.stop
            if of_shot and (at is None or at - part.start not in given):
                found.append(Seen(one.picture))
        return found

    def keep_scene(self, part: Part, lights: list, chroma: list) -> None:
        """Keep the frame of a shot that later shots show again."""
        if part.shot - 1 in self.scenes and not part.follows:
            shot = self.shots[part.shot - 1]
            place = scene_place(shot.stop - shot.start)
            self.work.keep_scene(part.shot, lights[place], chroma[place])

    def _frames(self, part: Part) -> Iterator:
        """Return the frames of a part, from the reader that writes."""
        if self._reader is None:
            self._reader = _SequentialReader(self)
        return self._reader.take(part.start, part.stop)

    def _assemble(self, parts: list[Part], states: list[dict]) -> None:
        self.tell("joining", 0, 0)
        clock = self._clock()
        segments = [
            Segment(self.work.segment(part.number), state["order"])
            for part, state in zip(parts, states, strict=True)
        ]
        self.notes += assemble(self.source, self.target, self.facts, segments, clock, self._mark())

    def _clock(self) -> Clock:
        """Tell when the frames of the result are shown."""
        base = self.facts.time_base
        times, last = self.timeline.times, self.timeline.last
        cut = self.options.start > 0 or self.options.stop is not None
        clock = Clock(
            times,
            last,
            base,
            start=times[0] * base,
            stop=(times[-1] + last) * base if self.options.stop is not None else None,
            whole=not cut,
        )
        return clock.even(self.facts.rate) if self.avi else clock

    def _mark(self) -> dict[str, str]:
        """Return the metadata about how the colours came to be."""
        line = references_line(one for one, _ in self.placed)
        if not line:
            return self.options.mark
        before = self.options.mark.get("comment")
        return {**self.options.mark, "comment": f"{before} {line}" if before else line}


class _Look:
    """What is found out while a film is looked through."""

    def __init__(self, options: FilmOptions, facts: FilmFacts):
        self._options, self._facts = options, facts
        self._step = max(round(1 / (facts.rate * facts.time_base)), 1)
        self._finder, self._starts = ShotFinder(), [0]
        self._given = set(read_starts(Path(options.shots))) if options.shots else None
        self.timeline, self.lights = Timeline(), ShotLights()
        self.skipped = self.count = 0
        self.origin = 0
        self.missing = 0.0  # seconds at the end of the film
        self.brightest: np.ndarray | None = None

    def add(self, frame: Any) -> bool:
        """Take the next frame; `False` if the stretch has ended before it."""
        before = self.timeline.raw, self.timeline.times
        next_time(frame, self.timeline, self._step)
        if not self.count and not self.skipped:
            self.origin = self.timeline.times[0]
        time = self.timeline.times[-1]
        seconds = float((time - self.origin) * self._facts.time_base)
        if self._options.stop is not None and seconds >= self._options.stop - 1e-6:
            for one in before:
                one.pop()
            return False
        if seconds < self._options.start - 1e-6:
            self.skipped += 1
            return True
        self.count += 1
        light = working_light(luma_plane(planar(frame)), self._facts.levels)
        brightest = self.brightest
        self.brightest = light if brightest is None else np.maximum(brightest, light)
        self.lights.add(light, self._new(light))
        return True

    def hear(self, announced: float | None) -> None:
        """Hold the film's length, after its last frame, against what the file says."""
        if announced is None or not self.timeline.times:
            return
        ticks = self.timeline.times[-1] + self.timeline.last - self.origin
        missing = announced - float(ticks * self._facts.time_base)
        if missing > max(_CUT_SHORT, 0.02 * announced):
            self.missing = missing

    def _new(self, light: np.ndarray) -> int | None:
        """Return how many frames of a new shot there are, if it is known now that one has begun."""
        if self._given is not None:
            return 1 if self.count - 1 in self._given else None
        new = self._finder.add(light)
        if new is not None:
            self._starts.append(self.count - new)
        return new

    def shots(self) -> list[Shot]:
        """Return the shots of the stretch; the timeline loses the frames before it."""
        for times in (self.timeline.raw, self.timeline.times):
            del times[: self.skipped]
        if self._options.shots:
            return read_shots(Path(self._options.shots), self.count)
        return shots_between(self._starts, self.count)

    def area(self) -> Area:
        """Tell where the picture lies within black bars."""
        assert self.brightest is not None  # since there are frames
        top, bottom, left, right = picture_area(self.brightest)
        height, width = self.brightest.shape
        return top / height, bottom / height, left / width, right / width


class _SequentialReader:
    """Hands out stretches of frames, and decodes on where the last one ended if it can."""

    def __init__(self, film: _Film):
        self._film = film
        self._reader = FilmReader(film.source, film.options.max_pixels)
        self._at, self._frames = -1, iter(())

    def take(self, start: int, stop: int) -> Iterator:
        """Return the frames from `start` to `stop` - 1 of the stretch that is coloured."""
        if self._at != start:
            self._frames = self._enter(start)
        for index in range(start, stop):
            self._at = -1
            frame = next(self._frames, None)
            if frame is None:
                raise FilmError("has fewer frames than before; has it changed?")
            self._at = index + 1
            yield frame

    def _enter(self, start: int) -> Iterator:
        film = self._film
        skipped = film.offset + start
        found = self._reader.sought(start, film.timeline) if skipped else None
        if found is not None:
            return found
        self._reader.restart()
        return islice(self._reader.frames(), skipped, None)

    def close(self) -> None:
        self._reader.close()


class _PartColorer:
    """Finds the chroma of whole parts, one after the other."""

    def __init__(self, film: _Film, pipe: Any):
        self._film, self._reader = film, _SequentialReader(film)
        options = film.options
        self._colorizer = VideoColorizer(
            pipe, options.seed, options.keyframe_interval, dict(options.call)
        )

    def __call__(self, part: Part) -> tuple[list[np.ndarray], list[str]]:
        """Find the chroma of each frame, with digests of the pictures in colour given for it."""
        film, digests = self._film, self._film.given(part.shot)
        lights = [
            area_light(luma_plane(planar(frame)), film.facts, film.area)
            for frame in self._reader.take(part.start, part.stop)
        ]
        lead = film.work.lead(part.number - 1) if part.follows else None
        given = film.given_chroma(part, lights)
        chroma = self._colorizer.color_part(lights, lead, given, film.seen(part, given))
        film.work.keep_lead(part.number, lights[-1], chroma[-1])
        film.keep_scene(part, lights, chroma)
        return chroma, digests

    def close(self) -> None:
        self._reader.close()


def picture_place(part: Part) -> int:
    """Return the frame of a part that is shown as the picture of its shot: one in its middle."""
    return (part.stop - part.start) // 2


def area_light(luma: np.ndarray, facts: FilmFacts, area: Area) -> np.ndarray:
    """Return the working light (h, w) of the picture within black bars."""
    return working_light(np.ascontiguousarray(luma[area_slices(luma.shape, area)]), facts.levels)
