"""Formats that Pillow does not read by itself, and files of several pages."""

import io
import struct

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import ExifTags, Image, ImageOps

from pipeline_colorize import photo
from pipeline_colorize.core.colorimetry import decode_srgb
from pipeline_colorize.photo import jxl

XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"/></rdf:RDF></x:xmpmeta>"""
CAPTION = "Aunt Zoe, 1912"


@pytest.fixture
def gray():
    """A picture of 64 x 96 without symmetry, so that a wrong turn shows."""
    rows, columns = np.mgrid[0:64, 0:96]
    return (rows * 2 + columns).astype(np.uint8)


def exif(orientation: int = 1) -> bytes:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    block[ExifTags.Base.ImageDescription] = CAPTION
    return block.tobytes()


def grays(read: photo.Photo) -> np.ndarray:
    return read.image if read.image.ndim == 2 else read.image[..., 1]


# --- HEIF ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.heic", "a.heif", "a.hif", "a.jpg"])
def test_heif_is_read_upright_with_its_metadata(tmp_path, gray, name, orientation):
    picture = Image.fromarray(gray).convert("RGB")
    picture.save(tmp_path / name, "HEIF", quality=-1, exif=exif(orientation), xmp=XMP)
    read = photo.read(tmp_path / name)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    upright = np.asarray(ImageOps.exif_transpose(picture))[..., 1]
    assert np.abs(grays(read).astype(int) - upright).max() <= 3
    assert b"Rating" in read.xmp and not read.lossless and read.warnings == []
    block = Image.Exif()
    block.load(read.exif)
    assert block[ExifTags.Base.Orientation] == 1
    assert block[ExifTags.Base.ImageDescription] == CAPTION


def test_heif_of_ten_bits_keeps_them(tmp_path):
    deep = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)
    heif = pillow_heif.from_bytes("I;16", (96, 64), deep.tobytes())
    heif.save(tmp_path / "a.heic", quality=-1)
    read = photo.read(tmp_path / "a.heic")
    assert read.depth == 16 and read.image.dtype == np.uint16
    assert np.abs(read.image.astype(int) - deep).max() <= 2**6  # half of a step of ten bits


def test_heif_with_colours_by_number(tmp_path):
    """Display P3 without a profile gives the luminance that it gives with one."""
    levels = np.array([0, 60, 128, 200, 255], dtype=np.uint8)
    rgb = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 25, 3)
    rgb = rgb.repeat(16, 0).repeat(16, 1)
    p3 = imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.3127, 0.3290, 1.0],
        primaries=[0.680, 0.320, 1.0, 0.265, 0.690, 1.0, 0.150, 0.060, 1.0],
        transferfunction=decode_srgb(np.linspace(0, 1, 4096)).astype(np.float32),
    )
    options = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    picture = Image.fromarray(rgb)
    picture.save(tmp_path / "a.heic", "HEIF", color_primaries=12, **options)
    picture.save(tmp_path / "b.heic", "HEIF", icc_profile=p3, **options)
    picture.save(tmp_path / "c.heic", "HEIF", **options)
    a, b, c = (photo.read(tmp_path / f"{name}.heic").image for name in "abc")
    assert a.ndim == b.ndim == 2 and np.abs(a - b).max() < 0.004
    assert np.array_equal(c, rgb)  # sRGB stays as it is


@pytest.mark.parametrize("curve", [16, 18])
def test_a_heif_in_hdr_is_noted(tmp_path, gray, curve):
    picture = Image.fromarray(gray)
    picture.save(tmp_path / "a.heic", "HEIF", color_primaries=9, transfer_characteristics=curve)
    assert any("HDR" in note for note in photo.read(tmp_path / "a.heic").warnings)


def test_a_heif_too_large_is_refused_before_it_is_decoded(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "a.heic", "HEIF")
    with photo.pixel_limit(5000), pytest.raises(photo.TooLargeError):
        photo.read(tmp_path / "a.heic")


# --- JPEG XL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_xl(tmp_path, gray, channels, lossless):
    pixels = np.repeat(gray[..., None], channels, axis=2).squeeze()
    if channels in (2, 4):
        pixels[..., -1] = 255  # what alpha hides is not kept
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=lossless))
    read = photo.read(tmp_path / "a.jxl")
    assert read.lossless == lossless and read.depth == 8 and read.warnings == []
    assert read.image.ndim == (2 if channels < 3 else 3)
    assert np.abs(grays(read).astype(int) - gray).max() <= (0 if lossless else 8)
    assert (read.alpha is not None) == (channels in (2, 4))
    with photo.open_picture(tmp_path / "a.jxl") as opened:
        assert opened.size == (96, 64)
        assert np.asarray(opened.convert("L")).shape == gray.shape


def test_jpeg_xl_in_linear_light_of_16_bits(tmp_path, gray):
    """Sixteen bits are written with the colour encoding *linear sRGB*, which must count."""
    linear = decode_srgb(gray / 255)
    stored = np.rint(linear * 65535).astype(np.uint16)
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(stored))
    read = photo.read(tmp_path / "a.jxl")
    assert read.depth == 16
    assert np.abs(np.asarray(read.image, np.float64) * 255 - gray).max() < 0.5


@pytest.mark.parametrize("size", [(8, 8), (8, 256), (40, 24), (33, 77), (300, 400), (1, 3000)])
def test_the_size_of_a_jpeg_xl_is_known_from_its_header(size):
    data = imagecodecs.jpegxl_encode(np.zeros(size, np.uint8))
    header = jxl.read_header(data)
    assert (header.height, header.width) == size


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


@pytest.mark.parametrize("is_packed", [False, True])
def test_metadata_of_a_jpeg_xl(tmp_path, gray, is_packed):
    data = imagecodecs.jpegxl_encode(gray, usecontainer=True)
    parts = {b"Exif": bytes(4) + exif(6).removeprefix(b"Exif\0\0"), b"xml ": XMP}
    for name, content in parts.items():
        if is_packed:
            data += box(b"brob", name + imagecodecs.brotli_encode(content))
        else:
            data += box(name, content)
    (tmp_path / "a.jxl").write_bytes(data)
    read = photo.read(tmp_path / "a.jxl")
    assert np.array_equal(grays(read), gray)  # EXIF's orientation is not the one that counts here
    assert CAPTION.encode() in read.exif and b"Rating" in read.xmp


def test_bombs_in_jpeg_xl(tmp_path, gray):
    packed = imagecodecs.brotli_encode(bytes(300_000_000))
    data = imagecodecs.jpegxl_encode(gray, usecontainer=True) + box(b"brob", b"xml " + packed)
    (tmp_path / "a.jxl").write_bytes(data)
    assert photo.read(tmp_path / "a.jxl").xmp == b""
    (tmp_path / "b.jxl").write_bytes(imagecodecs.jpegxl_encode(np.zeros((3000, 3000), np.uint8)))
    with photo.pixel_limit(10**6), pytest.raises(photo.TooLargeError, match="1,000,000 pixels"):
        photo.read(tmp_path / "b.jxl")
    for end in range(1, 12):
        (tmp_path / "c.jxl").write_bytes(imagecodecs.jpegxl_encode(gray)[:end])
        with pytest.raises(photo.PhotoError):
            photo.read(tmp_path / "c.jxl")


def test_an_animated_jpeg_xl_gives_its_first_frame(tmp_path, gray):
    frames = np.stack([np.dstack([gray] * 3), np.zeros((64, 96, 3), np.uint8)])
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(frames))
    read = photo.read(tmp_path / "a.jxl")
    assert np.array_equal(grays(read), gray)
    assert "more than one frame" in read.warnings[0]


# --- formats under other names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "kind"),
    [(".dib", "DIB"), (".pcx", "PCX"), (".mpo", "MPO"), (".jpx", "JPEG2000"), (".j2c", "JPEG2000")],
)
def test_rarer_endings_count_as_photographs(tmp_path, gray, ending, kind):
    path = tmp_path / f"a{ending}"
    Image.fromarray(gray).save(path, kind)
    assert ending in photo.READABLE
    assert np.abs(grays(photo.read(path)).astype(int) - gray).max() <= 6


# --- pages ---------------------------------------------------------------------------------------


def test_a_file_of_one_page(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "a.png")
    assert photo.count_pages(tmp_path / "a.png") == 1
    assert np.array_equal(photo.read(tmp_path / "a.png", page=0).image, gray)
    with pytest.raises(photo.PhotoError, match="no page 2"):
        photo.read(tmp_path / "a.png", page=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("big", [False, True])
def test_every_page_of_a_tiff_is_read(tmp_path, gray, dtype, big):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    pages = [np.rot90(gray.astype(dtype), turn) * dtype(scale) for turn in (0, 1, 2)]
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=big) as tiff:
        for page in pages:
            tiff.write(page.astype(dtype), metadata=None, description=CAPTION)
    assert photo.count_pages(tmp_path / "a.tif") == 3
    for index, page in enumerate(pages):
        read = photo.read(tmp_path / "a.tif", page=index)
        assert np.allclose(read.image, page, atol=1e-6)
        assert not any("page" in note for note in read.warnings)
        assert CAPTION.encode() in read.exif
    assert any("3 pages" in note for note in photo.read(tmp_path / "a.tif").warnings)
    with pytest.raises(photo.PhotoError, match="3 pages"):
        photo.read(tmp_path / "a.tif", page=3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_thumbnails_and_masks_are_no_pages(tmp_path, gray, dtype):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(gray[::4, ::4].astype(dtype), subfiletype=1, metadata=None)
        tiff.write(gray.astype(dtype), metadata=None)
        tiff.write(gray > 99, subfiletype=4, photometric="minisblack", metadata=None)
    assert photo.count_pages(tmp_path / "a.tif") == 1
    read = photo.read(tmp_path / "a.tif")
    assert read.image.shape == gray.shape and read.warnings == []


def test_pages_that_go_round_in_a_circle_end(tmp_path, gray):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, gray, metadata=None)
    data = bytearray(buffer.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    struct.pack_into("<I", data, start + 2 + 12 * count, start)
    (tmp_path / "a.tif").write_bytes(data)
    assert photo.count_pages(tmp_path / "a.tif") == 1
    assert np.array_equal(photo.read(tmp_path / "a.tif").image, gray)
