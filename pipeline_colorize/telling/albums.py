"""Photographs that show the same things get the same colours: an album agrees with itself.

The picture that shares most with the others is coloured first. Its colours become hints for those
that show the same, theirs for the next, and so on, the surest match first. It needs the extra
`tell` (OpenCV).
"""

import heapq
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.hints import Hint
from ..core.luminance import see
from ..core.margins import Box, Frame
from ..core.mending import read_mend
from .choosing import MOST_HINTS, Match, choose_hints
from .matching import Features, Matches, fill_between, find_features, match_features, sample_grid

# Features that are remembered of a picture.
_MOST_FEATURES = 1200
# Up to this many pictures, each is compared with each; beyond, with so many that look alike.
_COMPARED = 40
# Features that stand for all kinds of features, to tell which pictures look alike.
_WORDS = 400
# Invented colours are handed on this much stronger: candidates that see the same hints agree more
# than those of a picture alone, so balance tones them down more. With it, albums are as colourful
# together as alone, in the mean (docs/notebook/2026-11-30-albums.md).
_GAIN = 1.07
# Cells along the short side of the grid on which a picture's colours are remembered.
_CELLS = 64


@dataclass(frozen=True)
class _Member:
    """A picture of an album; its features and colours lie in files.

    Args:
        size: height and width, in pixels.
        box: where the photograph lies inside even margins, which take no hints.
        is_given: whether its colours were there from the start.
    """

    size: tuple[int, int]
    box: Box
    is_given: bool


class Album:
    """The photographs of an album, what they share, and the colours that some have already.

    Of each picture, about 0.2 MB of features and colours are kept, in temporary files, and what it
    shares with others in memory. Pictures themselves are not kept.

    Example:
        album = Album()
        members = [album.add(photograph) for photograph in photographs]
        for member in album.order():
            result = pipe(photographs[member], hints=album.hints(member)).images[0]
            album.color(member, result)
    """

    def __init__(self) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="colorize-album-")
        self._members: list[_Member] = []
        self._links: dict[int, dict[int, Matches]] = {}
        self._colored: set[int] = set()
        self._words: np.ndarray | None = None
        self._counts = self._rarity = np.empty(0, np.float32)

    def __len__(self) -> int:
        return len(self._members)

    def add(self, image: Any, colors: Any = None, box: Box | None = None) -> int:
        """Add a picture, and return its number in the album.

        Args:
            image: PIL or array; only its luminance is used.
            colors: its colours if it has some that are right, as in `color`.
            box: as in `color`.
        """
        light = see(image)
        number, frame = len(self), Frame.find(light, find_margins=True)
        self._members.append(_Member(frame.size, frame.box, colors is not None))
        features = find_features(light.luminance, _MOST_FEATURES)
        np.savez(
            self._file(number, "features"),
            places=features.places,
            described=features.described,
            light=features.light,
        )
        if colors is not None:
            self.color(number, colors, box)
        return number

    def color(self, number: int, colors: Any, box: Box | None = None) -> None:
        """Remember the colours of a picture, to hand them on.

        Args:
            number: of the picture.
            colors: the picture in colour (PIL or array), as large; or chroma a*b* (2, h, w).
            box: `(top, bottom, left, right)` of the part that chroma lies over; the whole by
                default.
        """
        size = self._members[number].size
        mend = read_mend(colors, None, size)
        assert mend is not None  # since there are colours
        if mend.is_chroma:
            chroma = mend.colors
        else:
            cell = min(size) / _CELLS
            grid = [max(round(side / cell), 1) for side in size]
            chroma = mend.chroma_on(grid, Frame(size, (0, size[0], 0, size[1])))
        place = np.array(box or (0, size[0], 0, size[1]))
        np.savez(self._file(number, "colors"), chroma=chroma.astype(np.float16), place=place)
        self._colored.add(number)

    def order(self) -> list[int]:
        """Compare the pictures, and return those without colours in the order to colour them.

        It follows the surest matches from pictures with colours on (a maximum spanning tree, Prim
        1957). Where there are none, it begins with the picture that shares most with the others.
        Pictures that share nothing come last.
        """
        self._compare()
        total = {one: sum(map(len, links.values())) for one, links in self._links.items()}
        left = [number for number in range(len(self)) if number not in self._colored]
        starts = sorted(left, key=lambda number: (-total.get(number, 0), number))
        done = set(self._colored)
        found: list[int] = []
        edges = [edge for number in done for edge in self._edges(number)]
        heapq.heapify(edges)
        while len(found) < len(left):
            number = next((n for n in self._popped(edges) if n not in done), None)
            if number is None:
                number = next(one for one in starts if one not in done)
            done.add(number)
            found.append(number)
            for edge in self._edges(number):
                heapq.heappush(edges, edge)
        return found

    def hints(self, number: int, most: int = MOST_HINTS) -> list[Hint]:
        """Give a picture the colours of others that show the same and have some already.

        Args:
            number: of a picture, after `order`.
            most: the largest number of hints.

        Returns:
            Hints for a call of the pipeline; an empty list where nothing is shared.
        """
        links = self._links.get(number, {})
        return self._hints(self._members[number], links, most)

    def sources(self, number: int) -> list[int]:
        """Return the pictures whose colours `hints` hands to a picture."""
        return sorted(one for one in self._links.get(number, {}) if one in self._colored)

    def hints_of(self, image: Any, most: int = MOST_HINTS) -> list[Hint]:
        """Give a picture that is not in the album the colours of those that are.

        Args:
            image: PIL or array; only its luminance is used.
            most: the largest number of hints.
        """
        light = see(image)
        frame = Frame.find(light, find_margins=True)
        features = find_features(light.luminance, _MOST_FEATURES)
        links = {one: self._shared(features, one) for one in self._alike(features)}
        return self._hints(_Member(frame.size, frame.box, False), links, most)

    # --- what pictures share ----------------------------------------------------------------------

    def _compare(self) -> None:
        """Find what each picture shares with others; two with given colours are not compared."""
        self._links = {}
        for number in range(len(self)):
            if self._members[number].is_given:
                continue
            features = self._features(number)
            for other in self._alike(features):
                known = other in self._links.get(number, {})
                if other == number or known or (other < number and not self._is_given(other)):
                    continue
                if len(found := self._shared(features, other)):
                    self._links.setdefault(number, {})[other] = found
                    self._links.setdefault(other, {})[number] = found.reversed()

    def _shared(self, features: Features, other: int) -> Matches:
        """Find the places that a picture shares with one of the album."""
        theirs = self._features(other)
        matches = match_features(features, theirs)
        return fill_between(features, theirs, matches) if len(matches) else matches

    def _is_given(self, number: int) -> bool:
        return self._members[number].is_given

    def _alike(self, features: Features) -> list[int]:
        """Return the pictures to compare with: all, or in a large album those that look alike.

        Pictures look alike if they have the same kinds of features (a bag of words, Sivic and
        Zisserman 2003).
        """
        if len(self) <= _COMPARED:
            return list(range(len(self)))
        if self._words is None or len(self._counts) < len(self):
            self._count_words()
        likeness = self._counts @ self._weighted(self._counted(features))
        return sorted(np.argsort(-likeness, kind="stable")[:_COMPARED].tolist())

    def _count_words(self) -> None:
        """Count the kinds of features of each picture; some features of the album are the kinds."""
        random = np.random.default_rng(0)
        chosen = random.permutation(len(self))[:_WORDS]
        some = [self._features(number).described for number in chosen]
        share = max(_WORDS // len(chosen), 1)
        words = [random.permutation(one)[:share] for one in some]
        self._words = np.concatenate(words).astype(np.float32)
        counts = [self._counted(self._features(number)) for number in range(len(self))]
        seen = np.count_nonzero(counts, axis=0)
        self._rarity = np.log(len(self) / seen.clip(min=1)).astype(np.float32)
        self._counts = np.stack([self._weighted(one) for one in counts])

    def _counted(self, features: Features) -> np.ndarray:
        """Count the features of each kind, (words,)."""
        assert self._words is not None  # since they are chosen first
        described = features.described.astype(np.float32)
        nearest = (described @ self._words.T - np.square(self._words).sum(1) / 2).argmax(1)
        return np.bincount(nearest, minlength=len(self._words)).astype(np.float32)

    def _weighted(self, counts: np.ndarray) -> np.ndarray:
        """Weigh counts by how rare each kind is, to a length of 1."""
        weighted = counts * self._rarity
        return weighted / max(float(np.linalg.norm(weighted)), 1e-9)

    def _edges(self, number: int) -> list[tuple[int, int]]:
        """Return the links of a picture for a heap, the strongest first."""
        return [(-len(found), other) for other, found in self._links.get(number, {}).items()]

    @staticmethod
    def _popped(edges: list[tuple[int, int]]) -> Iterator[int]:
        while edges:
            yield heapq.heappop(edges)[1]

    # --- colours ----------------------------------------------------------------------------------

    def _hints(self, member: _Member, links: dict[int, Matches], most: int) -> list[Hint]:
        found = []
        for other, matches in links.items():
            if other in self._colored:
                chroma = self._chroma_at(other, matches.theirs)
                first = self._is_given(other)
                chroma = chroma if first else _GAIN * chroma
                found += [
                    (first, sure, Match(float(x), float(y), ab, float(sure)))
                    for (x, y), ab, sure in zip(
                        matches.ours, chroma, matches.confidence, strict=True
                    )
                ]
        found.sort(key=lambda each: (-each[0], -each[1]))
        return choose_hints([match for *_, match in found], member.size, member.box, most)

    def _chroma_at(self, number: int, places: np.ndarray) -> np.ndarray:
        """Return the a*b* of a picture at places (N, 2) as x, y in pixels, (N, 2)."""
        with np.load(self._file(number, "colors")) as file:
            chroma, (top, bottom, left, right) = file["chroma"], file["place"]
        inner = places - (left, top)
        planes = [sample_grid(plane, (bottom - top, right - left), inner) for plane in chroma]
        return np.stack(planes, axis=1)

    def _features(self, number: int) -> Features:
        with np.load(self._file(number, "features")) as file:
            parts = file["places"], file["described"], file["light"]
        return Features(self._members[number].size, *parts)

    def _file(self, number: int, kind: str) -> Path:
        return Path(self._files.name) / f"{number}-{kind}.npz"


def color_album(
    pipe: Any,
    images: Sequence[Any],
    references: Sequence[Any] = (),
    seeds: Sequence[int] | None = None,
    **options: Any,
) -> Iterator[tuple[int, Any]]:
    """Colour pictures so that what several of them show gets the same colours.

    Pictures are taken from `images` twice, one at a time, so a sequence that opens files keeps the
    memory small.

    Args:
        pipe: a `ColorizationPipeline` or an `ORTColorizationPipeline` that takes hints.
        images: pictures (PIL or array).
        references: pictures in colour of the same event, if there are some; they count first.
        seeds: one for each picture; by default 0 for all.
        options: of the call, such as `num_inference_steps`; one sample a picture.

    Yields:
        The number of a picture among `images`, and its result, in the order of colouring.

    Example:
        for number, result in color_album(pipe, images):
            result.save(f"{number}.png")
    """
    album = Album()
    for image in images:
        album.add(image)
    for image in references:
        album.add(image, colors=image)
    for number in album.order():
        image, seed = images[number], seeds[number] if seeds else 0
        hints = [album.hints(number)]
        [result] = pipe([image], hints=hints, generator=[_generator(pipe, seed)], **options).images
        album.color(number, result)
        yield number, result


def _generator(pipe: Any, seed: int) -> Any:
    """Make a generator of the pipeline's own kind."""
    if hasattr(pipe, "unet"):
        import torch

        return torch.Generator().manual_seed(seed)
    from ..onnx.noise import TorchGenerator

    return TorchGenerator().manual_seed(seed)
