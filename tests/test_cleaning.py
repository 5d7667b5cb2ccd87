"""What counts as a fault of a picture, what is cut off, and when two pictures are the same."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline_colorize.training import cleaning


def photograph(seed: int, size=(320, 240)) -> Image.Image:
    """Smooth random colours with the noise of a camera."""
    random = np.random.default_rng(seed)
    small = random.integers(20, 235, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    noise = random.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def as_file(image: Image.Image, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **{"format": "JPEG", "quality": 92, **options})
    return stream.getvalue()


def framed(image: Image.Image, width: int, colour) -> Image.Image:
    result = Image.new("RGB", [side + 2 * width for side in image.size], colour)
    result.paste(image, (width, width))
    return result


@pytest.mark.parametrize("colour", ["black", "white"])
def test_frames_are_cut_off_and_nothing_else(colour):
    image = photograph(1)
    found = cleaning.trim(np.asarray(Image.open(io.BytesIO(as_file(framed(image, 20, colour))))))
    assert 230 <= found.shape[0] <= 240 and 310 <= found.shape[1] <= 320
    assert np.array_equal(cleaning.trim(np.asarray(image)), np.asarray(image))


@pytest.mark.parametrize("sides", [((0, 30), (0, 0)), ((0, 0), (25, 0)), ((20, 20), (15, 0))])
def test_padding_by_the_edge_is_cut_off(sides):
    pixels = np.asarray(photograph(2))
    padded = Image.fromarray(np.pad(pixels, (*sides, (0, 0)), "edge"))
    found = cleaning.trim(np.asarray(Image.open(io.BytesIO(as_file(padded)))))
    assert all(0 <= side - new <= 8 for side, new in zip(pixels.shape, found.shape, strict=True))


def test_a_picture_of_one_colour_is_not_cut_to_nothing():
    assert cleaning.trim(np.zeros((150, 200, 3), np.uint8)).size


def test_a_plain_sky_is_left():
    pixels = np.asarray(photograph(3)).copy()
    sky = np.linspace((200, 215, 240), (180, 200, 235), 80)[:, None]
    noise = np.random.default_rng(0).normal(0, 1, (80, 320, 3))
    pixels[:80] = (sky + noise).astype(np.uint8)
    assert cleaning.trim(pixels).shape == pixels.shape


def test_faults_are_told_apart():
    good = photograph(4)
    assert cleaning.fault(good) is None
    assert cleaning.fault(good.resize((150, 120))) == "small"
    assert cleaning.fault(good.convert("L").convert("RGB")) == "grey"
    sepia = (np.asarray(good.convert("L"), float)[..., None] / 255) ** [0.9, 1.1, 1.6] * 255
    assert cleaning.fault(Image.fromarray(sepia.astype(np.uint8))) == "toned"
    thing = Image.new("RGB", (300, 300), "white")
    thing.paste(good.resize((180, 180)), (60, 60))
    assert cleaning.fault(thing) == "cut out"
    drawing = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    drawing = Image.fromarray(drawing).resize((320, 240), Image.Resampling.NEAREST)
    assert cleaning.fault(drawing) == "drawn"


def test_clean_scales_turns_and_crops():
    image = photograph(5, (1200, 400))
    assert cleaning.clean(as_file(image), 256).size == (512, 256)
    assert cleaning.clean(as_file(photograph(5, (220, 180))), 256).size == (220, 180)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert cleaning.clean(as_file(photograph(5, (600, 512)), exif=exif), 256).size == (256, 300)
    assert cleaning.clean(as_file(framed(photograph(6), 10, (90, 20, 20))), 256, 0.05).size == (
        306,
        234,
    )
    with pytest.raises(cleaning.BROKEN):
        cleaning.clean(as_file(image)[:300], 256)


def test_a_crop_or_a_copy_is_found_and_another_picture_is_not():
    image = photograph(7)
    copies = [
        image.resize((200, 150)),
        image.crop((40, 0, 280, 240)),
        cleaning.crop_sides(image, 0.05),
        Image.open(io.BytesIO(as_file(image, quality=30))),
    ]
    known = np.array(cleaning.hash_views(image), np.uint64)
    views = np.array([cleaning.hash_views(copy) for copy in copies], np.uint64)
    assert cleaning.is_near(views, known, 2).all()
    others = np.array([cleaning.hash_views(photograph(seed)) for seed in (8, 9)], np.uint64)
    assert not cleaning.is_near(others, known, 8).any()


def test_is_near_counts_bits():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, (700, 3), dtype=np.uint64)
    others = hashes[::7, 1] ^ np.uint64(0b1011)
    expected = np.arange(700) % 7 == 0
    assert np.array_equal(cleaning.is_near(hashes, others, 3), expected)
    assert not cleaning.is_near(hashes, others, 2).any()
    assert not cleaning.is_near(hashes, others[:0], 64).any()
