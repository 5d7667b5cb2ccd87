"""What tells photographs in colour from toned ones, on drawn prints and on the examples."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from skimage.color import lab2rgb, rgb2lab

from pipeline_colorize import photo
from pipeline_colorize.photo.content import is_in_color

EXAMPLES = Path(__file__).parents[1] / "space" / "examples"
PHOTOGRAPHS = sorted(EXAMPLES.glob("*.jpg"))
# Without a lake whose sky lies above trees: such colours change across a picture as a stain's do.
IN_COLOR = sorted((EXAMPLES / "color").glob("[!l]*.jpg"))


def small(path, side=400):
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((side, side))
    return np.asarray(picture)


def toned(gray, a, b):
    """A picture with the lightness of `gray`, and a*b* as functions of it in [0, 1]."""
    lightness = rgb2lab(gray)[..., 0]
    tone = lightness / 100
    lab = np.stack([lightness, np.broadcast_to(a, tone.shape), np.broadcast_to(b, tone.shape)], -1)
    return np.rint(255 * lab2rgb(lab)).astype(np.uint8)


def stain(shape):
    """A yellow patch that grows towards a corner, from 0 to 1."""
    y, x = np.mgrid[0 : 1 : shape[0] * 1j, 0 : 1 : shape[1] * 1j]
    return np.clip(1.5 - 2 * np.hypot(y - 0.1, x - 0.2), 0, 1)


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_photographs_of_the_time_are_not_in_colour(path):
    assert not is_in_color(small(path))
    gray = np.asarray(Image.fromarray(small(path)).convert("L").convert("RGB"))
    tone = rgb2lab(gray)[..., 0] / 100
    assert not is_in_color(gray)
    assert not is_in_color(toned(gray, 12 * tone * (1 - tone) + 2, 60 * tone * (1 - tone) + 4))
    assert not is_in_color(toned(gray, -8 * tone * (1 - tone), -90 * tone * (1 - tone)))
    assert not is_in_color(toned(gray, 4 - 8 * tone, 22 * tone - 8))  # a split toning
    assert not is_in_color(toned(gray, 3 * stain(tone.shape), 20 * stain(tone.shape) + 5 * tone))


@pytest.mark.parametrize("path", IN_COLOR, ids=lambda path: path.stem)
def test_photographs_in_colour(path):
    assert is_in_color(small(path))


def test_types_of_pixels_agree():
    pixels = small(IN_COLOR[0])
    assert is_in_color(pixels) and is_in_color(pixels.astype(np.uint16) * 257)
    assert is_in_color((pixels / 255).astype(np.float32))


def test_few_and_grey_pixels_are_not_judged():
    noise = np.random.default_rng(0).integers(0, 256, (15, 300, 3), dtype=np.uint8)
    assert not is_in_color(noise)
    assert not is_in_color(noise.repeat(10, 0)[..., :1])
    assert is_in_color(noise.repeat(10, 0))


@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_files_with_other_profiles_are_judged_by_their_colours(tmp_path, ending):
    wide = imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.3127, 0.329, 1.0],
        primaries=[0.64, 0.33, 1.0, 0.21, 0.71, 1.0, 0.15, 0.06, 1.0],
        gamma=2.2,
    )
    for path, expected in ((IN_COLOR[0], True), (PHOTOGRAPHS[0], False)):
        file = tmp_path / f"picture{ending}"
        Image.fromarray(small(path)).save(file, icc_profile=wide)
        read = photo.read(file)
        assert read.image.ndim == 2  # the profile's luminance is all that the pipeline takes
        assert read.in_color == expected


def test_inks_are_colours(tmp_path):
    for path, expected in ((IN_COLOR[0], True), (PHOTOGRAPHS[-1], False)):
        Image.fromarray(small(path)).convert("CMYK").save(tmp_path / "inks.tif")
        assert photo.read(tmp_path / "inks.tif").in_color == expected
