"""What is measured of coloured films: how near they are to the truth, and how steady.

Frames are 8-bit sRGB arrays (H, W, 3). A dull film is a steady one, so the figures of steadiness
stand beside colourfulness, and beside those of the true film.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio

from ..colorfulness import colorfulness
from ..video.colorizer import RGB_LEVELS, VideoColorizer, merge, to_luma
from ..video.light import working_light

# Frame distances at which colour histograms are compared.
_DISTANCES = (1, 2, 4)
# Of how many frames one is held against the truth, picture by picture.
_STEP = 5
# The short side at which flow and warping error are measured.
_FLOW_SIDE = 256
# Frames: the deviation of the filter that colours are held against.
_FILTER = 2.0
# Of a pan: the height of the photograph, and the most pixels from frame to frame.
_PAN_HEIGHT, _PAN_STEP = 600, 8
# Pixels by which the way there and back may miss, and L* by which its ends may differ.
_MISS, _LIGHT = 1.0, 5.0
_FORMATS = ["JPEG", "PNG", "TIFF", "WEBP"]
_PICTURES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}

Frames = Sequence[np.ndarray]


def color_consistency(frames: Frames) -> float:
    """Return how much the colours of a film change in time: CDC (Liu et al. 2021, TCVC).

    The Jensen-Shannon divergence (natural logarithm) between the histograms of frames that are 1, 2
    and 4 apart, averaged over red, green and blue, all pairs and the three distances. Less is
    steadier; a true film has some of it, too.

    Args:
        frames: at least 5 of one size.

    Raises:
        ValueError: if there are fewer.
    """
    if len(frames) <= max(_DISTANCES):
        raise ValueError(f"CDC needs at least {max(_DISTANCES) + 1} frames, not {len(frames)}.")
    shares = np.stack([_histograms(frame) for frame in frames])
    return float(
        np.mean([_divergence(shares[:-step], shares[step:]).mean() for step in _DISTANCES])
    )


def _histograms(frame: np.ndarray) -> np.ndarray:
    """Return the shares (3, 256) of the values of each channel."""
    counts = [np.bincount(frame[..., channel].ravel(), minlength=256) for channel in range(3)]
    return np.stack(counts) / (frame.shape[0] * frame.shape[1])


def _divergence(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of shares (..., 256)."""
    middle = (first + second) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(p > 0, p * np.log(p / middle), 0).sum(-1) for p in (first, second)]
    return (parts[0] + parts[1]) / 2


def warping_error(frames: Frames, truth: Frames) -> float:
    """Return how much the colour of a thing changes from one frame to the next, in a*b*.

    The mean distance in a*b* between each place of a frame and where it was in the frame before, by
    the flow of the true film's light. Places count where the flow agrees with that in the other
    direction, and where the true light at both ends is alike.

    Args:
        frames: of the film that is measured.
        truth: of the true film; given as `frames`, too, for its own error.
    """
    size = _flow_size(truth[0])
    lab = [rgb2lab(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)) for frame in frames]
    errors = []
    for (before, now), links in zip(pairwise(lab), _true_flows(truth, size), strict=True):
        flow, valid = links
        change = np.linalg.norm(now[..., 1:] - _moved(before, flow)[..., 1:], axis=-1)
        errors.append(change[valid].mean() if valid.any() else 0.0)
    return float(np.mean(errors))


def _flow_size(frame: np.ndarray) -> tuple[int, int]:
    height, width = frame.shape[:2]
    scale = min(_FLOW_SIDE / min(height, width), 1)
    return round(width * scale), round(height * scale)


def _true_flows(truth: Frames, size: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """From each frame but the first, the flow to the one before, and where it can be believed."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    lights = [
        cv2.cvtColor(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for frame in truth
    ]
    empty = np.zeros((*lights[0].shape, 2), np.float32)
    for before, now in pairwise(lights):
        flow, back = search.calc(now, before, empty.copy()), search.calc(before, now, empty.copy())
        miss = np.linalg.norm(flow + _moved(back, flow), axis=-1)
        unlike = np.abs(now.astype(np.float32) - _moved(before.astype(np.float32), flow)) / 2.55
        yield flow, (miss < _MISS) & (unlike < _LIGHT)


def _moved(plane: np.ndarray, flow: np.ndarray) -> np.ndarray:
    height, width = flow.shape[:2]
    down, across = np.mgrid[:height, :width].astype(np.float32)
    where = across + flow[..., 0], down + flow[..., 1]
    return cv2.remap(plane, *where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def compare_films(result: Frames, truth: Frames) -> dict[str, float]:
    """Return all figures of a film, and the truth's own, named `true_...`, beside them.

    Args:
        result: its frames.
        truth: the true frames, as many and of the same size.

    Raises:
        ValueError: if they differ in number or size.
    """
    if len(result) != len(truth) or result[0].shape != truth[0].shape:
        raise ValueError(
            f"{len(result)} frames {result[0].shape} are compared with {len(truth)} frames "
            f"{truth[0].shape}; both must be equal."
        )
    pairs = list(zip(result, truth, strict=True))[::_STEP]
    distances = [deltaE_ciede2000(*map(rgb2lab, pair)).mean() for pair in pairs]
    return {
        "ciede2000": float(np.mean(distances)),
        "psnr": float(np.mean([peak_signal_noise_ratio(b, a) for a, b in pairs])),
        "colorfulness": float(np.mean([colorfulness(one) for one, _ in pairs])),
        "true_colorfulness": float(np.mean([colorfulness(one) for _, one in pairs])),
        "cdc": color_consistency(result),
        "true_cdc": color_consistency(truth),
        "warping_error": warping_error(result, truth),
        "true_warping_error": warping_error(truth, truth),
    }


def _read_frame(file: Path) -> np.ndarray:
    with Image.open(file, formats=_FORMATS) as picture:
        return np.asarray(picture.convert("RGB"))


def read_clip(source: str | Path, limit: int | None = None) -> list[np.ndarray]:
    """Read the frames of a film, of a sorted folder of pictures, or of a pan over a photograph.

    Args:
        source: the folder or file.
        limit: the most frames; a pan has 60 unless it is given.

    Raises:
        ValueError: if it holds none.
    """
    source = Path(source)
    if source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in _PICTURES)
        frames = [_read_frame(file) for file in files[:limit]]
    elif source.suffix.lower() in _PICTURES:
        frames = pan_over(_read_frame(source), limit or 60)
    else:
        import av

        with av.open(str(source)) as container:
            decoded = islice(container.decode(video=0), limit)
            frames = [frame.to_ndarray(format="rgb24") for frame in decoded]
    if not frames:
        raise ValueError(f"{source} holds no frames.")
    return frames


def pan_over(picture: np.ndarray, count: int) -> list[np.ndarray]:
    """Move a camera across a photograph, so that the true colour of each place is the same always.

    Args:
        picture: RGB bytes (H, W, 3).
        count: frames. They are 640 x 480 pixels large and lie on whole pixels, at most 8 apart.
    """
    scale = max(640 / picture.shape[1], _PAN_HEIGHT / picture.shape[0])
    size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
    picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    way = picture.shape[0] - 480, picture.shape[1] - 640
    frames = []
    for place in np.linspace(0, 1, count):
        top, left = (round(place * min(most, _PAN_STEP * (count - 1))) for most in way)
        frames.append(picture[top : top + 480, left : left + 640])
    return frames


def evaluate_film(
    colorizer: VideoColorizer, truth: Frames, window: int | None = None
) -> dict[str, dict[str, float]]:
    """Colour a film in several ways, and compare each with the truth.

    Args:
        colorizer: that is measured; the other ways have the same options.
        truth: RGB frames of one shot.
        window: how many frames, from the middle of the film, the ways are compared on, since to
            colour each frame alone takes long; `None` for all.

    Returns:
        The figures of `compare_films` by way: "each frame alone" with noise of its own, "shared
        noise", "temporal filter" of the chroma of that, and "film"; with a window, the figures of
        the whole film, too.
    """
    luma = [to_luma(frame) for frame in truth]
    lights = [working_light(plane, RGB_LEVELS) for plane in luma]
    film = colorizer.color_part(lights)
    count = len(truth) if window is None else min(window, len(truth))
    first = (len(truth) - count) // 2
    part = slice(first, first + count)
    shared = [colorizer.color_keyframe(light) for light in lights[part]]
    ways = {
        "each frame alone": _colored_alone(colorizer, lights[part]),
        "shared noise": shared,
        "temporal filter": filter_in_time(shared),
        "film": film[part],
    }
    results = {
        name: compare_films(_merged(luma[part], chroma), truth[part])
        for name, chroma in ways.items()
    }
    if count < len(truth):
        results[f"film, all {len(truth)} frames"] = compare_films(_merged(luma, film), truth)
    return results


def _colored_alone(colorizer: VideoColorizer, lights: list[np.ndarray]) -> list[np.ndarray]:
    """Return the chroma of frames that know nothing of each other: not even the noise is shared."""
    return [colorizer.color_keyframe(light, place) for place, light in enumerate(lights)]


def filter_in_time(chroma: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Blur chroma over time, place by place: a Gaussian with a deviation of two frames.

    Args:
        chroma: (2, rows, columns) of each frame.
    """
    from scipy.ndimage import gaussian_filter1d

    return list(gaussian_filter1d(np.stack(chroma), _FILTER, axis=0, mode="nearest"))


def _merged(luma: list[np.ndarray], chroma: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [merge(*pair) for pair in zip(luma, chroma, strict=True)]


def to_table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return a Markdown table of the figures by clip and method."""
    lines = [
        "| clip | method | CIEDE2000 | PSNR | colourfulness (true) | CDC x 1e4 (true) | "
        "warping error (true) |",
        "|---|---|---|---|---|---|---|",
    ]
    for clip, methods in results.items():
        for method, row in methods.items():
            lines.append(
                f"| {clip} | {method} | {row['ciede2000']:.2f} | {row['psnr']:.2f} | "
                f"{row['colorfulness']:.1f} ({row['true_colorfulness']:.1f}) | "
                f"{1e4 * row['cdc']:.1f} ({1e4 * row['true_cdc']:.1f}) | "
                f"{row['warping_error']:.3f} ({row['true_warping_error']:.3f}) |"
            )
    return "\n".join(lines) + "\n"
