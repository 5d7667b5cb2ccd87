"""What is wrong with a picture of a collection, and which pictures are nearly the same.

Frames and padding are cut off; small, grey, toned and drawn pictures and things cut out on white
are named, so that they can be left out. Pictures are compared by their difference hash (dHash,
Krawetz 2013: 64 bits, whether each of 8x8 cells is darker than its right neighbour).
"""

import io
import itertools

import numpy as np
import torch
from PIL import Image, ImageOps

from ..photo import open_picture, to_srgb
from .decoding import grey_version, is_grey, is_toned

BROKEN = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What opening and decoding a broken picture may raise."""

SMALLEST = 128  # pixels of the short side; less is too small to learn from
LONGEST = 2  # times the short side; more is cut off at both ends
FLATTEST = 0.65  # share of flat blocks above which a picture counts as drawn
_BANDS = (0, 22, 43, 64)


# Hashes


def hash_grey(grey: Image.Image) -> int:
    """Compute the 64-bit dHash of a grey picture."""
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), int)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def hash_views(image: Image.Image) -> list[int]:
    """Take six dHashes of an sRGB picture, so that it is found again when it was cropped.

    They are of the whole and of its middle square, each with 100, 90 and 80 % of its sides.
    """
    grey = Image.fromarray(grey_version(_to_tensor(reduce_to(image, SMALLEST))).numpy())
    square = ImageOps.fit(grey, (min(grey.size),) * 2, Image.Resampling.BOX)
    views = [
        crop_sides(view, (1 - share) / 2) for view in (grey, square) for share in (1, 0.9, 0.8)
    ]
    return [hash_grey(view) for view in views]


def near_pairs(hashes: np.ndarray, distance: int = 2) -> list[tuple[int, int]]:
    """Find all pairs of 64-bit hashes at most `distance` (0 to 2) bits apart.

    Two such hashes agree in at least one of three parts, so only those that do are compared.
    """
    pairs: set[tuple[int, int]] = set()
    for low, high in itertools.pairwise(_BANDS):
        part = (hashes >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(part, kind="stable")
        bounds = np.flatnonzero(np.diff(part[order])) + 1
        for group in np.split(order, bounds):
            for place, first in enumerate(group[:-1]):
                others = group[place + 1 :]
                bits = np.unpackbits(
                    (hashes[others] ^ hashes[first])[:, None].view(np.uint8), axis=1
                )
                close = others[bits.sum(1) <= distance]
                pairs.update((min(first, other), max(first, other)) for other in close.tolist())
    return sorted((int(first), int(second)) for first, second in pairs)


def is_near(hashes: np.ndarray, others: np.ndarray, distance: int) -> np.ndarray:
    """Say of each picture whether it is nearly the same as any of others: (N,) of bool.

    Args:
        hashes: (N, K), of K views of each picture.
        others: (M,).
        distance: bits between two hashes that count as the same; from 0 to 64.
    """
    near = np.zeros(len(hashes), bool)
    if not len(others):
        return near
    columns = _signs(others).T
    for start in range(0, len(hashes), 500):
        part = hashes[start : start + 500]
        likeness = _signs(part.reshape(-1)) @ columns  # 64 less twice the distance
        best = likeness.max(1).reshape(part.shape).max(1)
        near[start : start + 500] = best >= 64 - 2 * distance
    return near


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Write 64-bit hashes (N,) as -1 or 1 for each bit, (N, 64)."""
    return np.unpackbits(hashes[:, None].view(np.uint8), axis=1).astype(np.float32) * 2 - 1


# Cutting


def crop_sides(image: Image.Image, share: float) -> Image.Image:
    """Cut `share` of the width off left and right, and of the height off top and bottom."""
    left, top = (round(share * side) for side in image.size)
    return image.crop((left, top, image.width - left, image.height - top))


def limit_length(image: Image.Image) -> Image.Image:
    """Cut out the middle of a picture, at most `LONGEST` times as long as it is wide."""
    most = LONGEST * min(image.size)
    width, height = (min(side, most) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def reduce_to(image: Image.Image, short_side: int) -> Image.Image:
    """Scale a picture down to a short side in pixels; a smaller one stays as it is."""
    factor = short_side / min(image.size)
    if factor >= 1:
        return image
    size = [max(round(factor * side), short_side) for side in image.size]
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def trim(pixels: np.ndarray) -> np.ndarray:
    """Cut black and white frames, and padding that repeats the edge, off (H, W, 3) in 0..255."""
    for _ in range(2):
        top, bottom = (_frame_width(side) for side in (pixels, pixels[::-1]))
        if min(top, bottom) == 0 and max(top, bottom) < 0.04 * len(pixels):
            top = bottom = 0  # rather a thin bright sky than a frame, which has two sides
        top = max(top, _padding_width(pixels))
        bottom = max(bottom, _padding_width(pixels[::-1]))
        mixed = 4  # rows into which compression smeared the frame
        top, bottom = (width + mixed if width else 0 for width in (top, bottom))
        if top + bottom >= len(pixels):
            top = bottom = 0
        pixels = pixels[top : len(pixels) - bottom].swapaxes(0, 1)
    return pixels


def _frame_width(pixels: np.ndarray, tolerance: float = 4.0) -> int:
    """Count the rows of a black or white frame at the top of (H, W, 3)."""
    count = 0
    for row in pixels[: len(pixels) // 3].astype(np.float32):
        if row.std() > tolerance or 24 < row.mean() < 246:
            break
        count += 1
    return count


def _padding_width(pixels: np.ndarray) -> int:
    """Count the rows at the top of (H, W, 3) that are all like the last of them."""
    part = pixels[: len(pixels) // 2, :, 1].astype(np.int16)
    between = np.abs(np.diff(part, axis=0)).mean(1)
    along = np.abs(np.diff(part[1:], axis=1)).mean(1)
    repeated = between < 0.15 * along
    count = len(repeated) if repeated.all() else int(np.argmin(repeated))
    return count + 1 if count >= max(3, len(pixels) // 50) else 0


# Judging


def fault(image: Image.Image, flattest: float = FLATTEST) -> str | None:
    """Why an sRGB picture is not to be trained on, in a word or two; `None` if it is good."""
    if min(image.size) < SMALLEST:
        return "small"
    small = _to_tensor(reduce_to(image, SMALLEST))
    if is_grey(small):
        return "grey"
    if is_toned(small):
        return "toned"
    pixels = np.asarray(image)
    if is_cut_out(pixels):
        return "cut out"
    return "drawn" if flat_share(pixels) > flattest else None


def is_cut_out(pixels: np.ndarray) -> bool:
    """Say whether (H, W, 3) in 0..255 shows a thing in front of plain white."""
    red, green, blue = pixels.transpose(2, 0, 1)
    white = np.minimum(np.minimum(red, green), blue) >= 244
    edges = (white[:3], white[-3:], white[:, :3].T, white[:, -3:].T)
    return bool(np.concatenate(edges, 1).mean() > 0.5 and white.mean() > 0.2)


def flat_share(pixels: np.ndarray) -> float:
    """Share of the 4x4 blocks of (H, W, 3) in 0..255 in which no channel varies by more than 2."""
    height, width = (side // 4 * 4 for side in pixels.shape[:2])
    places = [pixels[i:height:4, j:width:4] for i in range(4) for j in range(4)]
    spread = np.maximum.reduce(places) - np.minimum.reduce(places)
    return float((spread.max(2) <= 2).mean())


def clean(content: bytes, short_side: int, crop: float = 0.0) -> Image.Image:
    """Decode a file: upright, sRGB, without frame and padding, scaled down to a short side.

    Args:
        content: the file.
        short_side: in pixels; smaller pictures stay as they are.
        crop: share of every side to be cut off first.

    Raises:
        OSError: if it is no readable picture; or another of `BROKEN`.
    """
    with open_picture(io.BytesIO(content)) as image:
        image.draft("RGB", (2 * short_side, 2 * short_side))  # JPEG: no more detail than needed
        image = to_srgb(ImageOps.exif_transpose(image))
    image = reduce_to(crop_sides(image, crop), 2 * short_side)
    if min(image.size) < SMALLEST:
        return image
    image = Image.fromarray(np.ascontiguousarray(trim(np.asarray(image))))
    return reduce_to(limit_length(image), short_side)


def _to_tensor(image: Image.Image) -> torch.Tensor:
    """Convert a picture to 8-bit (3, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
