"""Does a picture in colour help another one? Crops, frames, things of one kind, and other things.

Each pair is a picture, whose colours are known, and a reference. The picture is made grey and
coloured in several ways; what comes out is compared with the truth at equal light.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from skimage.color import deltaE_ciede2000
from tqdm import tqdm

from pipeline_colorize import Hint
from pipeline_colorize.colorfulness import colorfulness
from pipeline_colorize.evaluation.metrics import to_lab
from pipeline_colorize.evaluation.protocol import spread_indices
from pipeline_colorize.onnx.noise import TorchGenerator
from pipeline_colorize.onnx.runtime import ORTColorizationPipeline
from pipeline_colorize.telling.choosing import Match, choose_hints
from pipeline_colorize.telling.references import reference_hints

from .album import AlbumOptions, load, make_view

# Short side at which a network of another task sees a picture, and the stride of its cells.
NETWORK_SIDE, STRIDE = 448, 16
# A match of cells counts if its cosine distance is at most this share of the second best's.
RATIO = 0.85
# Answers among which the palette of a reference chooses.
ANSWERS = 4
FILMS = (".mp4", ".mkv", ".mov", ".avi")


@dataclass(frozen=True)
class Pair:
    """A picture and a reference.

    Args:
        protocol: what the two have in common.
        grey: (H, W), uint8, the picture as it is given.
        truth: (H, W, 3), uint8, its colours.
        reference: (h, w, 3), uint8.
    """

    protocol: str
    grey: np.ndarray
    truth: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True)
class ReferenceOptions:
    """What is compared.

    Args:
        films: a folder of films; `None` for none.
        kinds: a data set whose pictures have a label, of which two of one label make a pair.
        network: a folder with an EfficientNet of transformers, whose features match as well.
        pairs: of each protocol, at most.
        seconds: between the two frames of a film.
        side: short side of a picture, in pixels.
        seed: of the colours.
    """

    films: Path | None = None
    kinds: str | None = None
    network: Path | None = None
    pairs: int = 16
    seconds: float = 2.0
    side: int = 224
    seed: int = 0


# --- pairs ---------------------------------------------------------------------------------------


def crops(folder: Path, options: ReferenceOptions) -> Iterator[Pair]:
    """Two crops of one photograph, turned, tilted and in another light; then of two photographs."""
    size = AlbumOptions(options.pairs, side=options.side)
    random = np.random.default_rng(0)
    views = [
        [make_view(photograph, number, options.side, random) for _ in range(2)]
        for number, photograph in enumerate(load(folder, size))
    ]
    for number, (one, other) in enumerate(views):
        yield Pair("crops", one.grey, one.truth, other.truth)
        yield Pair("something else", one.grey, one.truth, views[number - 1][1].truth)


def frames(folder: Path, options: ReferenceOptions) -> Iterator[Pair]:
    """Two frames of one film, some seconds apart, from the beginning, the middle and later."""
    files = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in FILMS]
    places = [(file, start) for file in files for start in (0, 0.3, 0.6)]
    for index in spread_indices(len(places), options.pairs):
        file, start = places[index]
        found = two_frames(file, start, options.seconds)
        if found is not None:
            earlier, later = (fit(frame, options.side) for frame in found)
            yield Pair("frames", to_grey(later), later, earlier)


def two_frames(file: Path, start: float, seconds: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Read a frame at a share of a film and another some seconds later; `None` past its end."""
    film = cv2.VideoCapture(str(file))
    count, rate = film.get(cv2.CAP_PROP_FRAME_COUNT), film.get(cv2.CAP_PROP_FPS)
    found = []
    for place in (start * count, start * count + seconds * rate):
        film.set(cv2.CAP_PROP_POS_FRAMES, int(place))
        was_read, frame = film.read()
        if not was_read:
            return None
        found.append(np.ascontiguousarray(frame[..., ::-1]))
    return found[0], found[1]


def kinds(name: str, options: ReferenceOptions) -> Iterator[Pair]:
    """Two pictures of one label, as two flowers of one kind; and two of different labels."""
    from datasets import load_dataset

    data = load_dataset(name, split="validation")
    labels: dict[Any, list[int]] = {}
    for index, label in enumerate(data["label"]):
        labels.setdefault(label, []).append(index)
    groups = [members for members in labels.values() if len(members) > 1]
    for number in range(options.pairs):
        group, other = groups[number % len(groups)], groups[(number + 1) % len(groups)]
        turn = 2 * (number // len(groups))
        places = [
            group[turn % len(group)],
            group[(turn + 1) % len(group)],
            other[turn % len(other)],
        ]
        one, same, different = (
            fit(np.asarray(data[place]["image"].convert("RGB")), options.side) for place in places
        )
        yield Pair("one kind", to_grey(one), one, same)
        yield Pair("another kind", to_grey(one), one, different)


def fit(picture: np.ndarray, side: int) -> np.ndarray:
    """Resize a picture to a short side."""
    scale = side / min(picture.shape[:2])
    size = [round(scale * length) for length in picture.shape[1::-1]]
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def to_grey(picture: np.ndarray) -> np.ndarray:
    """Make a picture black and white."""
    return np.asarray(Image.fromarray(picture).convert("L"))


# --- ways to colour ------------------------------------------------------------------------------


def true_hints(pair: Pair, count: int) -> list[Hint]:
    """Give true colours at random places."""
    random, (height, width) = np.random.default_rng(0), pair.grey.shape
    found = []
    for y, x in random.random((count, 2)) * (height, width):
        top, left = max(int(y) - 2, 0), max(int(x) - 2, 0)
        color = pair.truth[top : top + 5, left : left + 5].reshape(-1, 3).mean(0)
        red, green, blue = color.round().astype(int).tolist()
        found.append(Hint(x, y, (red, green, blue)))
    return found


class NetworkMatcher:
    """Matches cells of features of a network that was trained to tell things apart.

    Args:
        folder: of an `EfficientNetModel`, as `scripts/pretrained.py teacher` makes it.
    """

    def __init__(self, folder: Path):
        from transformers import EfficientNetModel

        self._network = EfficientNetModel.from_pretrained(folder).eval()

    def hints(self, pair: Pair, most: int) -> list[Hint]:
        """Give the colours of cells that are each other's nearest by far, the surest first."""
        ours, grid = self._features(pair.grey)
        theirs, other = self._features(to_grey(pair.reference))
        likeness = ours @ theirs.T
        best = likeness.argmax(1)
        mutual = likeness.argmax(0)[best] == np.arange(len(ours))
        first, second = np.sort(1 - likeness, axis=1)[:, :2].T
        ratio = first / second.clip(1e-6)
        kept = np.flatnonzero(mutual & (ratio < RATIO))
        kept = kept[np.argsort(ratio[kept])]
        lab = to_lab(
            np.asarray(Image.fromarray(pair.reference).resize(other, Image.Resampling.BOX))
        )
        size = np.array(pair.grey.shape[::-1])
        places = (np.stack([kept % grid[0], kept // grid[0]], 1) + 0.5) * size / grid
        colors = lab.reshape(-1, 3)[best[kept], 1:]
        matches = [
            Match(float(x), float(y), chroma, 1.0)
            for (x, y), chroma in zip(places, colors, strict=True)
        ]
        height, width = pair.grey.shape
        return choose_hints(matches, (height, width), (0, height, 0, width), most)

    def _features(self, grey: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Unit vectors of cells (N, C), and the columns and rows of cells."""
        import torch

        scale = NETWORK_SIDE / min(grey.shape)
        width, height = (round(scale * side / 32) * 32 for side in grey.shape[::-1])
        small = np.asarray(Image.fromarray(grey).resize((width, height)), np.float32)
        x = torch.from_numpy(small / 127.5 - 1)[None, None].repeat(1, 3, 1, 1)
        columns, rows = width // STRIDE, height // STRIDE
        with torch.inference_mode():
            maps = self._network(x, output_hidden_states=True).hidden_states
        last = [one for one in maps if one.shape[2:] == (rows, columns)][-1][0]
        cells = last.flatten(1).T.numpy()
        cells = cells - cells.mean(0)
        return cells / np.linalg.norm(cells, axis=1, keepdims=True), (columns, rows)


def palette_distance(picture: np.ndarray, reference: np.ndarray) -> float:
    """Return how far the a*b* of two pictures are from each other, wherever they are in them.

    The sliced Wasserstein distance (Rabin et al. 2011) over eight directions.
    """
    angles = np.arange(8) * np.pi / 8
    directions = np.stack([np.cos(angles), np.sin(angles)])
    shares = np.linspace(0, 1, 101)
    one, other = (
        np.quantile(to_lab(each)[..., 1:].reshape(-1, 2) @ directions, shares, axis=0)
        for each in (picture, reference)
    )
    return float(np.abs(one - other).mean())


def color_pair(pipe, pair: Pair, network: NetworkMatcher | None, seed: int) -> dict[str, Any]:
    """Colour a picture in all ways; figures of each, and how many hints there were."""

    def color(hints: list[Hint], samples: int = 1) -> list[np.ndarray]:
        generator = [TorchGenerator().manual_seed(seed)]
        # Even margins take no hints, and true ones lie anywhere.
        call: dict[str, Any] = {"hints": [hints], "num_samples": samples, "find_margins": False}
        return [np.asarray(one) for one in pipe([pair.grey], generator=generator, **call).images]

    found = reference_hints(pair.grey, [pair.reference])
    [plain] = color([])

    def followed(hints: list[Hint]) -> np.ndarray:
        return color(hints)[0] if hints else plain

    true = true_hints(pair, len(found))
    ways = {"none": plain, "reference": followed(found), "true hints": followed(true)}
    counts = {"reference": len(found), "true hints": len(true)}
    if network is not None:
        for most in (24, 100):
            hints = network.hints(pair, most)
            ways[f"network, {most}"], counts[f"network, {most}"] = followed(hints), len(hints)
    answers = color([], ANSWERS)
    figures = {name: measure(result, pair.truth) for name, result in ways.items()}
    each = [measure(answer, pair.truth) for answer in answers]
    nearest = int(np.argmin([palette_distance(answer, pair.reference) for answer in answers]))
    figures["any of four"] = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    figures["palette, of four"] = each[nearest]
    truth = float(colorfulness(pair.truth))
    return {"protocol": pair.protocol, "figures": figures, "hints": counts, "truth": truth}


def measure(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean CIEDE2000 at equal light, and colourfulness."""
    ours, lab = to_lab(result), to_lab(truth)
    ours = np.concatenate([lab[..., :1], ours[..., 1:]], axis=-1)
    return {
        "ciede2000": float(deltaE_ciede2000(lab, ours).mean()),
        "colorfulness": colorfulness(result),
    }


# --- the study -----------------------------------------------------------------------------------


def run(folder: Path, model: str, output: Path, options: ReferenceOptions) -> str:
    """Colour all pairs in all ways, and return a table of figures.

    Args:
        folder: of photographs in colour.
        model: a name that ships, or a folder.
        output: folder for the figures.
        options: of the study.

    Raises:
        ValueError: if there is no such model or photograph.
    """
    pipe = ORTColorizationPipeline.from_pretrained(model)
    network = NetworkMatcher(options.network) if options.network else None
    pairs = list(crops(folder, options))
    pairs += frames(options.films, options) if options.films else []
    pairs += kinds(options.kinds, options) if options.kinds else []
    output.mkdir(parents=True, exist_ok=True)
    records = []
    for pair in tqdm(pairs):
        records.append(color_pair(pipe, pair, network, options.seed))
        (output / "figures.json").write_text(json.dumps(records, indent=1))
    return "\n".join(table(records))


def table(records: list[dict[str, Any]]) -> Iterator[str]:
    """Write the means of each protocol, a row a way."""
    yield "| protocol, pairs | way | with hints | hints | CIEDE2000 | change | colourfulness |"
    yield "|---|---|---|---|---|---|---|"
    for protocol in dict.fromkeys(record["protocol"] for record in records):
        some = [record for record in records if record["protocol"] == protocol]
        truth = np.mean([record["truth"] for record in some])
        yield f"| {protocol}, {len(some)} | truth | | | 0 | | {truth:.1f} |"
        before = np.mean([record["figures"]["none"]["ciede2000"] for record in some])
        for way in some[0]["figures"]:
            error, color = (
                np.mean([record["figures"][way][name] for record in some])
                for name in ("ciede2000", "colorfulness")
            )
            given = [record["hints"].get(way, 0) for record in some]
            counts = f"{np.count_nonzero(given)} | {np.mean(given):.0f}" if any(given) else " | "
            yield f"| | {way} | {counts} | {error:.2f} | {error / before - 1:+.1%} | {color:.1f} |"
