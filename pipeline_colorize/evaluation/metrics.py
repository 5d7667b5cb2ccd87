"""What a colorization paper would report, for a picture and for a set of pictures.

Pictures are 8-bit sRGB arrays (H, W, 3), as a file would hold them: results are judged after
rounding and gamut mapping. Distances in colour are in units of CIE L*a*b* (D65). The conversion to
Lab, CIEDE2000, PSNR and SSIM are scikit-image's, so that a mistake in this package's own colour
conversion cannot hide itself.
"""

import itertools
import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import uniform_filter
from scipy.stats import spearmanr
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import mean_squared_error, structural_similarity

from ..colorfulness import colorfulness, colorfulness_absolute, count_chroma, histogram_distance

# What FID, KID and LPIPS need: packages, and a network that torchmetrics would download.
_NETWORKS = {
    "FID and KID": (
        ("torchmetrics", "torch_fidelity"),
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
    ),
    "LPIPS": (
        ("torchmetrics", "torchvision"),
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ),
}

_EVEN_LUMINANCE = 2.0  # standard deviation of L* under which a neighbourhood counts as even
_EDGES = 0.9  # pixels whose luminance gradient is above this quantile count as edges,
_LEAST_EDGE = 1.0  # if it is at least this, in L* a pixel
_MET = 5.0  # CIEDE2000 under which a hint counts as met
_FAR = 20.0  # distance in a*b* from which on a pixel counts as odd or pale


def to_lab(picture: np.ndarray) -> np.ndarray:
    """Convert 8-bit sRGB (H, W, 3) to L*a*b*, float32."""
    return rgb2lab(picture.astype(np.float32) / 255)


def psnr(result: np.ndarray, truth: np.ndarray) -> float:
    """Compute the peak signal-to-noise ratio over all channels in dB; equal pictures have 100."""
    error = mean_squared_error(result, truth)
    return min(10 * math.log10(255**2 / error), 100.0) if error else 100.0


def ssim(result: np.ndarray, truth: np.ndarray) -> float:
    """Compute structural similarity (Wang et al. 2004; 7x7 windows), a mean over R, G and B."""
    if min(truth.shape[:2]) < 7:
        raise ValueError(f"SSIM needs pictures of at least 7x7 pixels, not {truth.shape[:2]}.")
    return float(structural_similarity(result, truth, channel_axis=-1))


def blotches(chroma: np.ndarray, luminance: np.ndarray) -> float:
    """Measure how much colour varies where luminance does not: patches on a wall, a face, a sky.

    It is the root mean variance of a*, b* in windows of an eighth of the short side whose L* has a
    standard deviation under 2, and is to be held against that of the true picture. `nan` where no
    window is even.

    Args:
        chroma: (H, W, 2), a*, b*.
        luminance: (H, W), L* of the true picture.
    """
    window = max(min(luminance.shape) // 8, 3)

    def variance(channel: np.ndarray) -> np.ndarray:
        channel = channel.astype(np.float64)
        mean = uniform_filter(channel, window)
        return (uniform_filter(channel**2, window) - mean**2).clip(min=0)

    even = variance(luminance) < _EVEN_LUMINANCE**2
    if not even.any():
        return math.nan
    return math.sqrt(sum(variance(chroma[..., i])[even].mean() for i in (0, 1)))


def edge_focus(chroma: np.ndarray, luminance: np.ndarray) -> float:
    """Measure how well colour changes where luminance does: below the truth's value, colours bleed.

    Mean gradient of a*, b* over the tenth of the pixels with the steepest luminance, divided by its
    mean over the picture; so dull colours are not taken for bleeding ones. `nan` without any edges
    or colour.

    Args:
        chroma: (H, W, 2), a*, b*.
        luminance: (H, W), L* of the true picture.
    """
    steepness = np.hypot(*np.gradient(luminance))
    change = np.sqrt(sum(part**2 for part in np.gradient(chroma, axis=(0, 1))).sum(-1))
    edges = steepness >= max(np.quantile(steepness, _EDGES), _LEAST_EDGE)
    if change.mean() < 1e-2 or not edges.any():
        return math.nan
    return float(change[edges].mean() / change.mean())


def odd_and_pale(chroma: np.ndarray, true_chroma: np.ndarray) -> tuple[float, float]:
    """Count pixels whose colour is far off, as shares: with more chroma than the truth, with less.

    Odd pixels are what people see as a wrong tint, pale ones as colour that is missing. Far off is
    a distance in a*b* of more than 20.

    Args:
        chroma: (H, W, 2), a*, b*.
        true_chroma: likewise.

    Returns:
        The shares of odd and of pale pixels, in [0, 1].
    """
    far = np.linalg.norm(chroma - true_chroma, axis=-1) > _FAR
    stronger = np.linalg.norm(chroma, axis=-1) > np.linalg.norm(true_chroma, axis=-1)
    return float((far & stronger).mean()), float((far & ~stronger).mean())


def compare(result: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Compute all figures of one picture against the true one.

    Returns:
        Means over the picture of CIEDE2000 and of the squared error of a*, b*; PSNR; SSIM; both
        kinds of colourfulness; shares of odd and pale pixels; blotches; edge focus; and the largest
        |dL*| of any pixel.
    """
    lab, true_lab = to_lab(result), to_lab(truth)
    odd, pale = odd_and_pale(lab[..., 1:], true_lab[..., 1:])
    return {
        "odd": odd,
        "pale": pale,
        "ciede2000": float(deltaE_ciede2000(true_lab, lab).mean()),
        "psnr": psnr(result, truth),
        "ssim": ssim(result, truth),
        "ab_mse": float(np.square(lab[..., 1:] - true_lab[..., 1:]).mean()),
        "colorfulness": colorfulness(result),
        "colorfulness_absolute": colorfulness_absolute(result),
        "blotches": blotches(lab[..., 1:], true_lab[..., 0]),
        "edge_focus": edge_focus(lab[..., 1:], true_lab[..., 0]),
        "luminance_error": float(np.abs(lab[..., 0] - true_lab[..., 0]).max()),
    }


def chroma_histogram(picture: np.ndarray) -> np.ndarray:
    """Count the pixels of an 8-bit picture (H, W, 3) by a* and b*, as `count_chroma`."""
    return count_chroma(to_lab(picture)[..., 1:])


def diversity(chromas: list[np.ndarray]) -> float:
    """Average the distance in a*b* between two colourings over all pairs and pixels.

    `chromas` are (H, W, 2) each; 0 for a single one.
    """
    pairs = [
        np.sqrt(np.square(first - second).sum(-1)).mean()
        for first, second in itertools.combinations(chromas, 2)
    ]
    return float(np.mean(pairs)) if pairs else 0.0


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, over all elements; `nan` where either is constant."""
    first, second = np.ravel(first), np.ravel(second)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(spearmanr(first, second).statistic)


def measure_picture(
    truth: np.ndarray,
    grey: np.ndarray,
    alone: list[np.ndarray],
    samples: list[np.ndarray],
    mean: np.ndarray,
) -> dict:
    """Everything about one picture.

    Args:
        truth: the true colours.
        grey: the picture without colour.
        alone: colourings of it that were asked for one at a time.
        samples: colourings of it that were asked for together.
        mean: the picture with the mean chroma of the samples.

    Returns:
        For `grey`, `sample` (mean over those alone) and `mean` the figures of `compare`; for
        `best` the least CIEDE2000 and the highest PSNR of a sample; figures of the truth itself;
        the largest |dL*| of any of them; diversity; mean spread and mean error of the samples'
        chroma and their rank correlation over the pixels; and chroma histograms, of those alone
        that of the first.
    """
    figures = [compare(sample, truth) for sample in samples]
    singles = [compare(one, truth) for one in alone]
    results = {
        "grey": compare(grey, truth),
        "sample": {name: float(np.mean([one[name] for one in singles])) for name in singles[0]},
        "mean": compare(mean, truth),
        "truth": compare(truth, truth),
    }
    judged = [*singles, *figures, results["grey"], results["mean"]]
    errors = [one["luminance_error"] for one in judged]
    chromas = [to_lab(sample)[..., 1:] for sample in samples]
    spread = np.sqrt(np.var(chromas, axis=0).sum(-1))
    error = np.sqrt(np.square(to_lab(mean) - to_lab(truth))[..., 1:].sum(-1))
    return {
        **results,
        "best": {
            "ciede2000": min(one["ciede2000"] for one in figures),
            "psnr": max(one["psnr"] for one in figures),
        },
        "luminance_error": max(errors),
        "diversity": diversity(chromas),
        "spread": float(spread.mean()),
        "error": float(error.mean()),
        "calibration": rank_correlation(spread, error),
        "histograms": {
            "grey": chroma_histogram(grey),
            "sample": chroma_histogram(alone[0]),
            "mean": chroma_histogram(mean),
            "truth": chroma_histogram(truth),
        },
    }


def _mean_over(records: list[dict], kind: str, name: str) -> float:
    """Over the pictures where the figure exists, for `kind` and for the truth."""
    pairs = [(one[kind][name], one["truth"][name]) for one in records]
    values = [value for value, true in pairs if not math.isnan(value + true)]
    return float(np.mean(values)) if values else math.nan


def summarize_colorfulness(records: list[dict], name: str = "colorfulness") -> dict[str, float]:
    """Compare the colourfulness of a set with the truth's.

    `difference_of_means` is signed: below 0, results are duller. `mean_of_differences` is the mean
    |difference| of a picture, which a set of too dull and too gaudy pictures cannot hide.
    """
    true, sample, mean = (
        np.array([one[kind][name] for one in records]) for kind in ("truth", "sample", "mean")
    )
    return {
        "truth": float(true.mean()),
        "sample": float(sample.mean()),
        "mean": float(mean.mean()),
        "share": float(sample.mean() / true.mean()) if true.any() else math.nan,
        "difference_of_means": float(sample.mean() - true.mean()),
        "mean_of_differences": float(np.abs(sample - true).mean()),
    }


def summarize(records: list[dict], histograms: dict[str, np.ndarray]) -> dict:
    """Compute the figures of a set.

    Args:
        records: of `measure_picture`, without their histograms.
            `constant`, the figures of a picture in one colour, may join them.
        histograms: of all pictures, added up.

    Returns:
        Nested, JSON-ready. Ratios are to the picture left grey; `ab_rmse` is the root of the mean
        over the set; `calibration` is within pictures (mean) and between them.
    """
    result: dict = {"pictures": len(records)}
    kinds = [kind for kind in ("grey", "sample", "mean", "constant") if kind in records[0]]
    for kind in kinds:
        names = ("ciede2000", "psnr", "ssim", "ab_mse")
        result[kind] = {name: _mean_over(records, kind, name) for name in names}
        result[kind]["ab_rmse"] = math.sqrt(result[kind]["ab_mse"])
    result["best"] = {name: _mean_over_best(records, name) for name in ("ciede2000", "psnr")}
    for kind in (*kinds[1:], "best"):
        ratio = result[kind]["ciede2000"] / (result["grey"]["ciede2000"] or math.nan)
        result[kind]["ciede2000_ratio"] = ratio
    for name in ("colorfulness", "colorfulness_absolute"):
        result[name] = summarize_colorfulness(records, name)
    for name in ("odd", "pale"):
        result[name] = {
            kind: _mean_over(records, kind, name) for kind in ("grey", "sample", "mean")
        }
    for name in ("blotches", "edge_focus"):
        result[name] = {
            kind: _mean_over(records, kind, name) for kind in ("truth", "sample", "mean")
        }
    result["histogram_distance"] = {
        kind: histogram_distance(histograms[kind], histograms["truth"])
        for kind in ("grey", "sample", "mean")
    }
    result["diversity"] = float(np.mean([one["diversity"] for one in records]))
    within = [one["calibration"] for one in records if not math.isnan(one["calibration"])]
    result["calibration"] = {
        "within_pictures": float(np.mean(within)) if within else math.nan,
        "between_pictures": rank_correlation(
            np.array([one["spread"] for one in records]),
            np.array([one["error"] for one in records]),
        ),
    }
    result["luminance_error"] = max(one["luminance_error"] for one in records)
    return result


def _mean_over_best(records: list[dict], name: str) -> float:
    return float(np.mean([one["best"][name] for one in records]))


# --- colour hints --------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrueHint:
    """Holds the true colour of one cell of the chroma grid, which is given as a hint.

    Args:
        row: row of the cell in the grid, from 0.
        column: column of the cell in the grid, from 0.
        top: first row of the cell's pixels in the picture.
        bottom: the row after its last one.
        left: first column of the cell's pixels in the picture.
        right: the column after its last one.
        color: mean sRGB of these pixels, 0..255.
    """

    row: int
    column: int
    top: int
    bottom: int
    left: int
    right: int
    color: tuple[int, int, int]

    @property
    def middle(self) -> tuple[float, float]:
        """x and y, in pixels."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def of(self, picture: np.ndarray) -> np.ndarray:
        """Take the pixels of the cell from a picture."""
        return picture[self.top : self.bottom, self.left : self.right]


def draw_true_hints(
    truth: np.ndarray, grid: tuple[int, int], count: int, seed: int
) -> list[TrueHint]:
    """Draw true colours at random cells of a grid, none twice; fewer are the first of more.

    Args:
        truth: 8-bit sRGB (H, W, 3).
        grid: cells down and across; no more than there are pixels.
        count: colours; all cells where there are fewer.
    """
    if grid[0] > truth.shape[0] or grid[1] > truth.shape[1]:
        raise ValueError(f"A grid of {grid} needs at least as many pixels, not {truth.shape[:2]}.")
    edges = [
        np.round(np.linspace(0, side, cells + 1)).astype(int).tolist()
        for side, cells in zip(truth.shape, grid, strict=False)
    ]
    chosen = np.random.default_rng(seed).permutation(grid[0] * grid[1])[:count]
    result = []
    for row, column in (divmod(int(cell), grid[1]) for cell in chosen):
        (top, bottom), (left, right) = edges[0][row : row + 2], edges[1][column : column + 2]
        pixels = truth[top:bottom, left:right].reshape(-1, 3)
        red, green, blue = np.rint(pixels.mean(0)).astype(int).tolist()
        result.append(TrueHint(row, column, top, bottom, left, right, (red, green, blue)))
    return result


def hint_errors(
    hints: list[TrueHint], result: np.ndarray, chroma: np.ndarray
) -> tuple[list[float], list[float]]:
    """Measure how far a result is from the colours of its hints: CIEDE2000, a figure for each.

    The lightness of a hint plays no part: colours are compared at that of the picture.

    Args:
        hints: at least one.
        result: 8-bit sRGB (H, W, 3).
        chroma: (2, h, w), a*, b* on the grid that the result was made from.

    Returns:
        On the grid; and of the mean colour of the cell's pixels in the result.
    """
    given = to_lab(np.array([[one.color for one in hints]], np.uint8))[0]
    there = np.stack([to_lab(one.of(result)).reshape(-1, 3).mean(0) for one in hints])
    given[:, 0] = there[:, 0]
    on_grid = there.copy()
    on_grid[:, 1:] = [chroma[:, one.row, one.column] for one in hints]
    return deltaE_ciede2000(given, on_grid).tolist(), deltaE_ciede2000(given, there).tolist()


def measure_hints(
    hints: list[TrueHint], result: np.ndarray, chroma: np.ndarray, truth: np.ndarray
) -> dict:
    """Measure PSNR and CIEDE2000 of a result and, where it had hints, their `hint_errors`."""
    figures: dict[str, float | list[float]] = {
        "psnr": psnr(result, truth),
        "ciede2000": float(deltaE_ciede2000(to_lab(truth), to_lab(result)).mean()),
    }
    if hints:
        figures["grid"], figures["picture"] = hint_errors(hints, result, chroma)
    return figures


HINT_DISTANCES = (0.05, 0.1, 0.2, 0.4)
"""Upper ends of the distances of `hint_reach`, as shares of the short side; the last has none."""


def hint_reach(one: TrueHint, before: np.ndarray, after: np.ndarray) -> list[float]:
    """Measure what one hint changes, near it and far from it.

    `before` and `after` are 8-bit sRGB (H, W, 3). Returns the mean distance in a*b* between the two
    at pixels up to each of HINT_DISTANCES from the hint, and beyond; `nan` where there are none.
    """
    change = np.linalg.norm(to_lab(after)[..., 1:] - to_lab(before)[..., 1:], axis=-1)
    rows, columns = np.indices(change.shape) + 0.5
    x, y = one.middle
    distance = np.hypot(columns - x, rows - y) / min(change.shape)
    ring = np.searchsorted(HINT_DISTANCES, distance)
    return [
        float(change[ring == number].mean()) if (ring == number).any() else math.nan
        for number in range(len(HINT_DISTANCES) + 1)
    ]


def summarize_hints(records: list[dict]) -> dict:
    """Compute the figures of a set with colour hints.

    Args:
        records: one a picture: by number of hints, `measure_hints`; and the `reach` of one hint.

    Returns:
        `counts` of hints, from 0; for each of them PSNR, CIEDE2000 and of `hint_errors` on the grid
        and in the picture `mean` and share under 5, `met` (`nan` without hints); and the mean
        `reach` over the pictures.
    """
    counts = [key for key in records[0] if key != "reach"]
    result: dict = {"counts": counts}
    for name in ("psnr", "ciede2000"):
        result[name] = [float(np.mean([one[count][name] for one in records])) for count in counts]
    for place in ("grid", "picture"):
        errors = [np.concatenate([one[count][place] for one in records]) for count in counts[1:]]
        result[place] = {
            "mean": [math.nan, *(float(error.mean()) for error in errors)],
            "met": [math.nan, *(float((error < _MET).mean()) for error in errors)],
        }
    result["reach"] = np.nanmean([one["reach"] for one in records], axis=0).tolist()
    return result


# --- figures that take a network ----------------------------------------------------------------


def _network_file(name: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / _NETWORKS[name][1].rpartition("/")[2]


def missing_network(name: str) -> str | None:
    """Say in a line what "FID and KID" or "LPIPS" lacks here; `None` where nothing is missing.

    Nothing is downloaded: a network is taken where it lies in torch's hub folder.
    """
    packages, url = _NETWORKS[name]
    wanted = [
        f"pip install -c constraints.txt {package}"
        for package in packages
        if not find_spec(package)
    ]
    if not _network_file(name).exists():
        wanted.append(f"download {url} to {_network_file(name).parent}")
    return f"{name} left out; to have it: {'; '.join(wanted)}." if wanted else None


def load_inception():
    """Load the network of FID and KID, from uint8 (N, 3, H, W) to features (N, 2048)."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    weights = str(_network_file("FID and KID"))
    return NoTrainInceptionV3("inception-v3-compat", ["2048"], weights)


def load_lpips():
    """LPIPS with AlexNet (Zhang et al. 2018): two pictures in [0, 1], (N, 3, H, W), to a number."""
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


class _KeptFeatures(torch.nn.Module):
    """Stands in for Inception where its features are at hand."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def feature_distances(features: torch.Tensor, true_features: torch.Tensor) -> dict[str, float]:
    """FID (Heusel et al. 2017) and KID (Binkowski et al. 2018) of Inception features (N, D) each.

    FID falls with the number of pictures: compare figures of equal numbers only.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    kept = _KeptFeatures(features.shape[1])
    fid = FrechetInceptionDistance(feature=kept)
    kid = KernelInceptionDistance(feature=kept, subset_size=min(1000, len(features)))
    for metric in (fid, kid):
        metric.update(true_features, real=True)
        metric.update(features, real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # KID draws subsets
        return {"fid": fid.compute().item(), "kid": kid.compute()[0].item()}
