"""Damaged files: what is there is read, with a note, and what is whole is not called damaged."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from pipeline_colorize import photo
from pipeline_colorize.photo.mending import CUT_OFF, SOUND_PICTURE

CAPTION = "Aunt Zoe, 1912"


@pytest.fixture
def picture():
    """An even enough picture of 160 x 120, with some grain."""
    rows, columns = np.mgrid[0:120, 0:160]
    grain = np.random.default_rng(0).normal(0, 4, (120, 160))
    waves = 128 + 60 * np.sin(rows / 17) + 50 * np.cos(columns / 23)
    return Image.fromarray((waves + grain).clip(0, 255).astype(np.uint8))


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def read(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    return photo.read(tmp_path / "a")


def rows_that_are_right(found, picture, tolerance):
    image = found.image if found.image.ndim == 2 else found.image[..., 1]
    truth = np.asarray(picture, dtype=int)
    right = np.abs(image.astype(int) - truth).max(1) <= tolerance
    return int(np.argmin(right)) if not right.all() else len(right)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("lost", [2, 20, 400])
def test_a_jpeg_without_its_last_bytes(tmp_path, picture, options, lost):
    data = encoded(picture, "JPEG", quality=90, comment=CAPTION, **options)
    found = read(tmp_path, data[:-lost])
    assert found.image.shape == (120, 160) and found.texts == {"Comment": CAPTION}
    assert found.warnings == [CUT_OFF] or lost == 2
    close = np.abs(found.image.astype(int) - np.asarray(picture)) <= 24
    assert close.mean() > 0.85  # of a progressive one, the last scan lacks in a part


@pytest.mark.parametrize("tail", [b"\0" * 1000, b"\xaa" * 1000])
def test_a_jpeg_whose_end_was_overwritten(tmp_path, picture, tail):
    data = encoded(picture, "JPEG", quality=90)
    found = read(tmp_path, data[:-1000] + tail)
    assert rows_that_are_right(found, picture, 24) > 80


def test_a_jpeg_with_a_byte_that_looks_like_a_marker(tmp_path, picture):
    data = bytearray(encoded(picture, "JPEG", quality=90))
    data[len(data) // 2 : len(data) // 2 + 2] = b"\xff\x37"
    found = read(tmp_path, bytes(data))
    assert found.warnings == [CUT_OFF] and rows_that_are_right(found, picture, 24) > 40


def test_half_a_jpeg(tmp_path, picture):
    data = encoded(picture, "JPEG", quality=90)
    found = read(tmp_path, data[: len(data) // 2])
    assert found.warnings == [CUT_OFF] and rows_that_are_right(found, picture, 24) > 40


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_cut_off_png(tmp_path, picture, mode, kept):
    data = encoded(picture.convert(mode), "PNG")
    found = read(tmp_path, data[: int(kept * len(data))])
    assert found.warnings == [CUT_OFF]
    truth = picture.convert(mode).convert("L")
    assert rows_that_are_right(found, truth, 0) > 120 * (kept - 0.15)


def test_a_cut_off_png_of_16_bits(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65535, (64, 64, 3), dtype=np.uint16)
    data = imagecodecs.png_encode(deep)
    found = read(tmp_path, data[: len(data) // 2])
    assert found.depth == 16 and np.array_equal(found.image[:25], deep[:25])


def test_a_png_with_a_wrong_byte_among_its_pixels(tmp_path, picture):
    data = bytearray(encoded(picture, "PNG"))
    data[len(data) // 2] ^= 0x55
    found = read(tmp_path, bytes(data))
    assert found.warnings == [CUT_OFF] and rows_that_are_right(found, picture, 0) > 40


def chunk(name, content, checksum=None):
    checksum = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def test_a_png_with_a_wrong_checksum_of_a_text_is_whole(tmp_path, picture):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", CAPTION)
    data = encoded(picture, "PNG", pnginfo=texts)
    found = read(tmp_path, data[:33] + chunk(b"tEXt", b"Comment\0hi", 0) + data[33:])
    assert found.warnings == [SOUND_PICTURE]
    assert np.array_equal(found.image, np.asarray(picture)) and found.texts == {"Author": CAPTION}


def test_a_png_bomb_is_not_unpacked_to_mend_it(tmp_path):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tEXt", b"a\0b", 0)
    data += chunk(b"IDAT", zlib.compress(bytes(10**6)))
    with pytest.raises(photo.TooLargeError):
        read(tmp_path, data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_cut_off_tiff(tmp_path, picture, compression, dtype):
    pixels = np.asarray(picture).astype(dtype) * (np.iinfo(dtype).max // 255)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, rowsperstrip=8, compression=compression, metadata=None)
    data = buffer.getvalue()
    found = read(tmp_path, data[: int(0.8 * len(data))])
    assert CUT_OFF in found.warnings and found.image.shape == pixels.shape
    assert np.array_equal(found.image[:88], pixels[:88])


@pytest.mark.parametrize("compression", ["webp", "jpeg2000", "zstd", "lzma", "png"])
def test_a_whole_tiff_that_pillow_cannot_decode(tmp_path, picture, compression):
    pixels = np.asarray(picture.convert("RGB"))
    options = {"compressionargs": {"lossless": True}} if compression == "webp" else {}
    tifffile.imwrite(
        tmp_path / "a",
        pixels,
        photometric="rgb",
        compression=compression,
        metadata=None,
        extratags=[(315, 2, 0, CAPTION, True)],
        **options,
    )
    found = photo.read(tmp_path / "a")
    assert found.warnings == [] and CAPTION.encode() in found.exif
    assert np.array_equal(found.image, pixels)


@pytest.mark.parametrize("bits", [12, 16])
def test_jpegs_that_pillow_cannot_decode(tmp_path, picture, bits):
    pixels = np.asarray(picture).astype(np.uint16) << (bits - 8)
    if bits == 12:
        data = imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12)
    else:
        data = imagecodecs.ljpeg_encode(pixels)
    exif = Image.Exif()
    exif[ExifTags.Base.Artist], exif[ExifTags.Base.Orientation] = CAPTION, 6
    block = exif.tobytes()
    found = read(tmp_path, data[:2] + struct.pack(">HH", 0xFFE1, len(block) + 2) + block + data[2:])
    assert found.depth == 16 and found.warnings == [] and CAPTION.encode() in found.exif
    truth = np.rot90(np.asarray(picture), -1)
    assert np.abs(found.image / 257 - truth).mean() < (1.5 if bits == 12 else 1)


def test_a_tiff_in_ycbcr_without_compression(tmp_path, picture):
    """As Pillow writes it, and cannot read it."""
    found = read(tmp_path, encoded(picture.convert("RGB").convert("YCbCr"), "TIFF"))
    assert np.abs(found.image[..., 1].astype(int) - np.asarray(picture)).max() <= 2


def test_a_jpeg_2000_of_16_bits_in_colour(tmp_path, picture):
    pixels = np.asarray(picture.convert("RGB")).astype(np.uint16) * 257
    found = read(tmp_path, imagecodecs.jpeg2k_encode(pixels, level=0))
    assert found.depth == 16 and np.array_equal(found.image, pixels)


PLAIN = [("BMP", {}), ("PPM", {}), ("PCX", {}), ("TGA", {}), ("TGA", {"compression": "tga_rle"})]


@pytest.mark.parametrize(("kind", "options"), PLAIN)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_cut_off_file_with_little_or_no_compression(tmp_path, picture, kind, options, mode):
    data = encoded(picture.convert(mode), kind, **options)
    cut = data[: int(0.7 * len(data))]
    if (kind, mode) == ("PCX", "L"):
        with pytest.raises(photo.PhotoError, match="list of its colours, at its end, is missing"):
            read(tmp_path, cut)
        return
    found = read(tmp_path, cut)
    assert found.warnings == [CUT_OFF]
    right = (found.image == np.asarray(picture.convert(mode))).reshape(120, -1).all(1)
    assert right.mean() > 0.6
    with pytest.raises(photo.PhotoError, match="damaged|cut off: only"):
        read(tmp_path, data[: int(0.05 * len(data))])


@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
@pytest.mark.parametrize("options", [{}, {"interlace": 0}, {"comment": b"Aunt Zoe 1912"}])
def test_a_cut_off_gif(tmp_path, picture, options, share):
    data = encoded(picture, "GIF", **options)
    found = read(tmp_path, data[: int(share * len(data))])
    assert found.warnings == [CUT_OFF]
    whole = read(tmp_path, data).image
    right = (found.image.reshape(whole.shape) == whole).reshape(len(whole), -1).all(1)
    assert right.mean() > share - 0.2


@pytest.mark.parametrize("share", [0.6, 0.97])
def test_a_cut_off_tiff_of_webp(tmp_path, picture, share):
    pixels, buffer = np.asarray(picture.convert("RGB")), io.BytesIO()
    lossless = {"compression": "webp", "compressionargs": {"lossless": True}}
    tifffile.imwrite(buffer, pixels, photometric="rgb", rowsperstrip=8, metadata=None, **lossless)
    data = buffer.getvalue()
    found = read(tmp_path, data[: int(share * len(data))])
    assert CUT_OFF in found.warnings and found.image.shape == pixels.shape
    right = (found.image == pixels).all((1, 2))
    assert right[: int((share - 0.1) * len(right))].all() and not right[-8:].any()


def test_bytes_after_the_end_do_no_harm(tmp_path, picture):
    for kind in ("JPEG", "PNG", "TIFF"):
        found = read(tmp_path, encoded(picture, kind) + bytes(5000))
        assert found.warnings == [] and found.image.shape == (120, 160)


FILLED = {
    "webp": ("WEBP", {"quality": 90}),
    "lossless webp": ("WEBP", {"lossless": True}),
    "jp2": ("JPEG2000", {}),
    "lossy jp2": ("JPEG2000", {"irreversible": True, "quality_layers": [20]}),
    "codestream": ("JPEG2000", {"no_jp2": True}),
}


@pytest.mark.parametrize("kind", FILLED)
@pytest.mark.parametrize("lost", [20, 0.1])
def test_a_webp_or_jpeg_2000_without_its_last_bytes(tmp_path, picture, kind, lost):
    name, options = FILLED[kind]
    data = encoded(picture, name, **options)
    found = read(tmp_path, data[: -(lost if lost > 1 else int(lost * len(data)))])
    assert found.image.shape[:2] == (120, 160) and found.warnings == [CUT_OFF]
    image = found.image if found.image.ndim == 2 else found.image[..., 1]
    error = np.abs(image.astype(int) - np.asarray(picture))
    assert np.median(error) <= 8


@pytest.mark.parametrize("kind", FILLED)
def test_a_webp_or_jpeg_2000_of_which_little_is_left_is_refused(tmp_path, picture, kind):
    name, options = FILLED[kind]
    data = encoded(picture, name, **options)
    with pytest.raises(photo.PhotoError, match="the file is damaged"):
        read(tmp_path, data[: len(data) // 7])


def test_a_file_that_claims_gigabytes_is_not_filled_up(tmp_path, picture):
    data = encoded(picture, "WEBP")
    with pytest.raises(photo.PhotoError):
        read(tmp_path, data[:4] + struct.pack("<I", 2**32 - 20) + data[8:-40])
