"""Colours from other pictures of the same thing: another print, another frame, another crop.

Light is matched with light, so colour does not decide; where nothing matches, nothing is given.
It needs the extra `tell` (OpenCV).
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..core.colorimetry import rgb_pixels_to_lab
from ..core.hints import Hint
from ..core.luminance import see
from ..core.mending import read_mend
from .albums import Album
from .choosing import MOST_HINTS, Match
from .matching import find_features, match_features

# Colours are the mean over this share of the short side around a place.
_PATCH = 0.015


def match_reference(image: Any, reference: Any) -> list[Match]:
    """Find the places of a picture that a reference in colour shows as well.

    Features of light (SIFT, Lowe 2004) are matched by mutual nearest neighbours with a ratio test.
    Only matches on which one perspective map agrees are kept, and only if they are many: a
    reference of something else gives none.

    Args:
        image: a picture (PIL or array); only its luminance is used.
        reference: a picture in colour (PIL or array), of any size.

    Returns:
        The matches, the surest first; an empty list if the two show different things.
    """
    seen = [find_features(see(one).luminance) for one in (image, reference)]
    found = match_features(*seen)
    if len(found) == 0:
        return []
    chroma = _chroma_at(reference, found.theirs)
    kept = zip(found.ours, chroma, found.confidence, strict=True)
    matches = [Match(float(x), float(y), ab, float(sure)) for (x, y), ab, sure in kept]
    return sorted(matches, key=lambda match: -match.confidence)


def reference_hints(image: Any, references: Sequence[Any], most: int = MOST_HINTS) -> list[Hint]:
    """Give a picture the colours of references, as hints where they show the same.

    It is what `Album.hints_of` gives, and so what `colorize --reference` does.

    Args:
        image: a picture (PIL or array); only its luminance is used.
        references: pictures in colour.
        most: the largest number of hints; the surest matches are taken, apart from one another.

    Returns:
        Hints for a call of the pipeline; an empty list where nothing matches.
    """
    return reference_album(references).hints_of(image, most)


def reference_album(references: Iterable[Any]) -> Album:
    """Look at pictures in colour once, for several photographs that get their colours."""
    album = Album()
    for one in references:
        album.add(one, colors=one)
    return album


def hints_by_picture(images: Sequence[Any], references: Any) -> list[list[Hint]]:
    """Give each of several pictures the colours of its references.

    Args:
        images: pictures: PIL, array, or tensor ([C, ]H, W).
        references: pictures in colour for all of them, or a list of pictures for each.

    Raises:
        ValueError: if there is not one list a picture, or something is no picture.
    """
    listed = references if isinstance(references, list | tuple) else [references]
    if any(isinstance(one, list | tuple) for one in listed):
        each = [one if isinstance(one, list | tuple) else [one] for one in listed]
    else:
        each = [listed] * len(images)
    if len(each) != len(images):
        raise ValueError(
            f"`reference_images` needs one list a picture, so {len(images)}, but it has "
            f"{len(each)}."
        )
    wrong = [one for some in each for one in some if not hasattr(one, "size")]
    if wrong:
        raise ValueError(
            f"`reference_images` is PIL pictures, arrays or tensors, not {wrong[0]!r}."
        )
    albums = {id(some): reference_album(map(_as_pixels, some)) for some in each}
    return [
        albums[id(some)].hints_of(_as_pixels(image))
        for image, some in zip(images, each, strict=True)
    ]


def _as_pixels(image: Any) -> Any:
    """Return a tensor ([C, ]H, W) as an array whose channels come last; anything else as it is."""
    if not hasattr(image, "detach"):
        return image
    image = image.float() if image.is_floating_point() else image
    array = image.detach().cpu().numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array


def _chroma_at(reference: Any, places: np.ndarray) -> np.ndarray:
    """Return the mean a*b* of a picture around places (N, 2), (N, 2)."""
    mend = read_mend(reference, None, see(reference).luminance.shape)
    assert mend is not None  # since there is a picture
    height, width = mend.mask.shape
    reach = max(round(_PATCH * min(height, width)), 1)
    result = []
    for x, y in places.round().astype(int):
        rows = slice(max(y - reach, 0), max(y + reach + 1, 1))
        columns = slice(max(x - reach, 0), max(x + reach + 1, 1))
        patch = mend.colors[rows, columns]
        patch = patch / 255 if patch.dtype == np.uint8 else patch
        result.append(rgb_pixels_to_lab(patch)[..., 1:].mean((0, 1)))
    return np.array(result)
