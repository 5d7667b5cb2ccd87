"""Photographs as files: what goes in must come out again, with colours and a mark."""

import io
import os
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, ImageCms, ImageOps, IptcImagePlugin, PngImagePlugin
from skimage.color import rgb2lab, xyz2lab

from pipeline_colorize import photo
from pipeline_colorize.core.colorimetry import RGB_TO_XYZ
from pipeline_colorize.training.decoding import decode

MARK = photo.Mark("1.2.3", {"model": "default", "seed": 7})
ADOBE_RGB = imagecodecs.cms_profile("adobergb")
# Display P3: DCI-P3 primaries, D65 white, the sRGB curve.
P3_TO_XYZ = np.array(
    [[0.48657, 0.26567, 0.19822], [0.22897, 0.69174, 0.07929], [0.0, 0.04511, 1.04394]]
)
ADOBE_TO_XYZ = np.array(
    [[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]]
)


@pytest.fixture
def gray():
    """An uneven picture of 12 x 8 without symmetry, so that a wrong turn shows."""
    rows, columns = np.mgrid[0:8, 0:12]
    return ((rows * 25 + columns * 6) % 256).astype(np.uint8)


def colored(read):
    """A stand-in for the pipeline: a reddish RGB picture of the photograph's size."""
    height, width = read.image.shape[:2]
    rgb = np.empty((height, width, 3), dtype=np.float32)
    rgb[:] = (0.8, 0.4, 0.2)
    rgb[..., 0] = np.linspace(0, 1, width)
    return rgb


def round_trip(source, target):
    read = photo.read(source)
    photo.write(target, colored(read), read, MARK)
    return Image.open(target)


def lightness(image):
    """L* of what `photo.read` gives, by scikit-image."""
    image = np.asarray(image)
    if image.dtype != np.float32:
        image = image / np.iinfo(image.dtype).max
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    return rgb2lab(rgb)[..., 0]


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", sorted(photo.WRITABLE))
def test_every_format_keeps_size_and_gets_profile_and_mark(tmp_path, gray, suffix):
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    Image.fromarray(gray).save(source, format=photo.WRITABLE[suffix])
    result = round_trip(source, target)
    assert (result.size, result.mode) == ((12, 8), "RGB")
    assert result.format == photo.WRITABLE[suffix]
    assert "sRGB" in ImageCms.getProfileDescription(
        ImageCms.ImageCmsProfile(io.BytesIO(result.info["icc_profile"]))
    )
    result.load()
    mark = photo.read_mark(photo.read(target).xmp)
    assert mark["DigitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert mark["AISystemVersionUsed"] == "1.2.3"
    assert mark["AIPromptInformation"] == "model=default; seed=7"


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_lossless_files_stay_lossless(tmp_path, gray, suffix):
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(gray).convert("RGB").save(source, **options)
    read = photo.read(source)
    photo.write(target, colored(read), read, MARK)
    expected = np.rint(colored(read) * 255)
    assert np.array_equal(np.asarray(Image.open(target)), expected)


def test_lossy_webp_stays_lossy(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "in.webp", quality=80)
    assert not photo.read(tmp_path / "in.webp").lossless


def test_the_same_result_gives_the_same_bytes(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "in.png")
    round_trip(tmp_path / "in.png", tmp_path / "a.png")
    photo.srgb_profile.cache_clear()
    round_trip(tmp_path / "in.png", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_resolution_is_kept(tmp_path, gray, suffix):
    Image.fromarray(gray).save(tmp_path / f"in{suffix}", dpi=(300, 300))
    result = round_trip(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)


# --- orientation and metadata --------------------------------------------------------------------


def with_exif(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Artist] = "Ada"
    exif[ExifTags.Base.ImageDescription] = "The bridge"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = "1911:05:01 10:00:00"
    details[ExifTags.Base.ExifImageWidth] = 12
    exif._ifds[ExifTags.IFD.Exif] = details
    exif._ifds[ExifTags.IFD.GPSInfo] = {1: "N", 2: (48.0, 12.0, 3.0)}
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_orientation_is_applied(tmp_path, gray, orientation, suffix):
    source = tmp_path / f"in{suffix}"
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100}}.get(suffix, {})
    Image.fromarray(gray).save(source, exif=with_exif(orientation), **options)
    with Image.open(source) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("L"))
    read = photo.read(source)
    seen = read.image if read.image.ndim == 2 else read.image[..., 0]
    assert seen.shape == upright.shape
    assert np.abs(seen.astype(int) - upright).max() <= 3
    photo.write(tmp_path / f"out{suffix}", colored(read), read, MARK)
    with Image.open(tmp_path / f"out{suffix}") as result:
        assert result.size == upright.shape[::-1]
        assert result.getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_tiff_is_applied(tmp_path, gray, orientation, compression, dtype):
    stored = gray.astype(dtype) * (np.iinfo(dtype).max // 255)
    tag = (274, 3, 1, orientation, True)
    tifffile.imwrite(tmp_path / "in.tif", stored, compression=compression, extratags=[tag])
    tagged = Image.fromarray(gray)
    tagged.getexif()[ExifTags.Base.Orientation] = orientation
    upright = np.asarray(ImageOps.exif_transpose(tagged))
    found = photo.read(tmp_path / "in.tif").image // (np.iinfo(dtype).max // 255)
    assert np.array_equal(found, upright)


def test_turned_palette_and_bilevel_tiff(tmp_path, gray):
    tag = (274, 3, 1, 6, True)
    colormap = np.zeros((3, 256), np.uint16)
    colormap[:] = np.arange(256) * 257
    tifffile.imwrite(
        tmp_path / "p.tif", gray, photometric="palette", colormap=colormap, extratags=[tag]
    )
    expected = np.rot90(gray, -1).astype(np.uint16) * 257
    assert np.array_equal(photo.read(tmp_path / "p.tif").image[..., 1], expected)
    tifffile.imwrite(tmp_path / "b.tif", gray > 99, photometric="minisblack", extratags=[tag])
    expected = np.rot90(gray > 99, -1) * 255
    assert np.array_equal(photo.read(tmp_path / "b.tif").image, expected)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_exif_is_kept(tmp_path, gray, suffix):
    Image.fromarray(gray).save(tmp_path / f"in{suffix}", exif=with_exif(6).tobytes())
    exif = round_trip(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}").getexif()
    assert exif[ExifTags.Base.Artist] == "Ada"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert details[ExifTags.Base.DateTimeOriginal] == "1911:05:01 10:00:00"
    assert details[ExifTags.Base.ExifImageWidth] == 8  # turned, so the old height
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[2] == (48.0, 12.0, 3.0)


@pytest.mark.parametrize("text", ["Ad\u00e1 \u0416".encode(), b"Ad\xe1"])
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg", ".tif", ".avif"])
def test_texts_of_exif_keep_their_bytes(tmp_path, gray, suffix, text):
    exif = with_exif(1)
    exif[ExifTags.Base.Artist] = "?" * len(text)
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensMake] = "?" * len(text)
    block = exif.tobytes().replace(b"?" * len(text), text)
    read = photo.Photo(image=gray, depth=8, exif=block)
    photo.write(tmp_path / f"in{suffix}", colored(read), read, MARK)
    found = round_trip(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}").getexif()
    lens = found.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.LensMake]
    assert found[ExifTags.Base.Artist].encode("latin-1") == lens.encode("latin-1") == text


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_titles_and_ratings_of_windows_are_kept(tmp_path, gray, suffix):
    exif = with_exif(1)
    exif[ExifTags.Base.Rating] = 4
    exif[ExifTags.Base.XPTitle] = "Gro\u00dfmutter\0".encode("utf-16le")
    Image.fromarray(gray).save(tmp_path / f"in{suffix}", exif=exif)
    found = round_trip(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}").getexif()
    assert found[ExifTags.Base.Rating] == 4
    assert found[ExifTags.Base.XPTitle].decode("utf-16le") == "Gro\u00dfmutter\0"


def test_exif_of_a_tiff_does_not_bring_its_layout_along(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "in.tif", exif=with_exif(1))
    exif = round_trip(tmp_path / "in.tif", tmp_path / "out.jpg").getexif()
    assert exif[ExifTags.Base.Artist] == "Ada"
    assert not {256, 257, 258, 259, 273, 279} & set(exif)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bigtiff(tmp_path, gray, dtype, suffix):
    tag = (ExifTags.Base.Artist, 2, 0, b"Ada\0", True)
    tifffile.imwrite(tmp_path / "in.tif", gray.astype(dtype), bigtiff=True, extratags=[tag])
    result = round_trip(tmp_path / "in.tif", tmp_path / f"out{suffix}")
    assert result.getexif()[ExifTags.Base.Artist] == "Ada"


@pytest.mark.filterwarnings("ignore:Truncated File Read")
def test_damaged_exif_is_no_obstacle(tmp_path, gray):
    block = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\x7f" * 3
    Image.fromarray(gray).save(tmp_path / "in.jpg", exif=block)
    read = photo.read(tmp_path / "in.jpg")
    photo.write(tmp_path / "out.jpg", colored(read), read, MARK)
    assert Image.open(tmp_path / "out.jpg").size == (12, 8)


XMP = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="uuid:1" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"
 xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" e:DigitalSourceType="x:negativeFilm"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:creator><rdf:Seq><rdf:li>Ad\xc3\xa1</rdf:li></rdf:Seq>
</dc:creator></rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def test_existing_xmp_is_kept_and_its_source_type_replaced():
    xmp = photo.marked_xmp(photo.marked_xmp(XMP, MARK), MARK)
    text = xmp.decode()
    assert "Ad\u00e1" in text and 'tiff:Orientation="1"' in text
    assert "negativeFilm" not in text
    assert text.count('rdf:about="uuid:1"') == text.count("<rdf:Description") > 1
    assert text.count("DigitalSourceType>") == 2  # one element, opened and closed
    assert text.count("AISystemUsed>") == 2
    assert photo.read_mark(xmp)["DigitalSourceType"] == photo.DIGITAL_SOURCE_TYPE


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_existing_xmp_travels_through_the_file(tmp_path, gray, suffix):
    read = photo.Photo(image=gray, depth=8, xmp=XMP)
    photo.write(tmp_path / f"in{suffix}", colored(read), read, MARK)
    round_trip(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    assert "Ad\u00e1".encode() in photo.read(tmp_path / f"out{suffix}").xmp


@pytest.mark.parametrize(
    "damaged", [b"<x:xmp", b"\xff\xfe\0", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"<a/>"]
)
def test_damaged_xmp_is_replaced(damaged):
    assert photo.read_mark(damaged) == {}
    assert photo.read_mark(photo.marked_xmp(damaged, MARK))


IPTC = b"\x1c\x02\x78\x00\x09Landscape"


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_iptc_captions_are_kept(tmp_path, gray, suffix):
    read = photo.Photo(image=gray, depth=8, iptc=IPTC)
    photo.write(tmp_path / f"in{suffix}", colored(read), read, MARK)
    for target in (".jpg", ".tif"):
        result = round_trip(tmp_path / f"in{suffix}", tmp_path / f"out{target}")
        assert IptcImagePlugin.getiptcinfo(result)[2, 0x78] == b"Landscape"


@pytest.mark.parametrize("kind", [1, 4, 7])  # bytes, whole numbers, undefined
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_iptc_captions_of_any_tiff_are_kept(tmp_path, gray, dtype, order, kind):
    block = IPTC + bytes(-len(IPTC) % 4)
    count = len(block) // (4 if kind == 4 else 1)
    tifffile.imwrite(
        tmp_path / "in.tif",
        gray.astype(dtype),
        byteorder=order,
        metadata=None,
        extratags=[(33723, kind, count, block, True)],
    )
    assert photo.read(tmp_path / "in.tif").iptc == block


def test_texts_and_comments_are_kept(tmp_path, gray):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", "Ad\u00e1 \u0416")
    texts.add_text("Comment", "the bridge")
    Image.fromarray(gray).save(tmp_path / "in.png", pnginfo=texts)
    result = round_trip(tmp_path / "in.png", tmp_path / "out.png")
    result.load()
    assert result.text["Author"] == "Ad\u00e1 \u0416"
    result = round_trip(tmp_path / "out.png", tmp_path / "out.jpg")
    assert result.info["comment"] == b"the bridge"
    assert photo.read(tmp_path / "out.jpg").texts == {"Comment": "the bridge"}


def test_texts_of_16_bit_png_are_kept(tmp_path):
    read = photo.Photo(image=np.zeros((8, 12), np.uint16), depth=16, texts={"Author": "Ada"})
    photo.write(tmp_path / "out.png", colored(read), read, MARK)
    assert photo.read(tmp_path / "out.png").texts == {"Author": "Ada"}


def test_a_mark_of_another_tool_is_not_ours():
    assert photo.read_mark(XMP) == {}


# --- colour management ---------------------------------------------------------------------------


def color_patches():
    levels = np.array([0, 60, 128, 200, 255], dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), -1).reshape(-1, 25, 3)


def lightness_of_wide_gamut(rgb, matrix, decode):
    return xyz2lab(decode(rgb / 255) @ matrix.T)[..., 0]


def srgb_curve(value):
    return np.where(value > 0.04045, ((value + 0.055) / 1.055) ** 2.4, value / 12.92)


def display_p3_profile():
    return imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.3127, 0.3290, 1.0],
        primaries=[0.680, 0.320, 1.0, 0.265, 0.690, 1.0, 0.150, 0.060, 1.0],
        transferfunction=srgb_curve(np.linspace(0, 1, 4096)).astype(np.float32),
    )


WIDE_GAMUT = {
    "adobe": (lambda: ADOBE_RGB, ADOBE_TO_XYZ, lambda v: v ** (563 / 256)),
    "p3": (display_p3_profile, P3_TO_XYZ, srgb_curve),
}


@pytest.mark.parametrize("name", WIDE_GAMUT)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_wide_gamut_luminance_is_right(tmp_path, name, suffix):
    profile, matrix, decode = WIDE_GAMUT[name]
    rgb = color_patches()
    Image.fromarray(rgb).save(tmp_path / f"in{suffix}", icc_profile=profile())
    found = lightness(photo.read(tmp_path / f"in{suffix}").image)
    truth = lightness_of_wide_gamut(rgb, matrix, decode)
    assert np.abs(found - truth).max() < 0.1
    # Reading the numbers as sRGB, the usual fault, is far off; so the test can fail.
    assert np.abs(lightness(rgb) - truth).max() > 1.5


@pytest.mark.parametrize("name", WIDE_GAMUT)
def test_pictures_to_learn_from_come_in_srgb(tmp_path, name):
    profile, matrix, curve = WIDE_GAMUT[name]
    rgb = 90 + color_patches() // 5  # muted, so that sRGB has them
    Image.fromarray(rgb).save(tmp_path / "in.png", icc_profile=profile())
    record = {"bytes": None, "path": str(tmp_path / "in.png")}
    found = decode(record, min(rgb.shape[:2])).permute(1, 2, 0).numpy()
    truth = curve(rgb / 255) @ matrix.T
    assert np.abs(srgb_curve(found / 255) @ np.array(RGB_TO_XYZ).T - truth).max() < 0.006
    assert np.abs(srgb_curve(rgb / 255) @ np.array(RGB_TO_XYZ).T - truth).max() > 0.015
    Image.fromarray(rgb).save(tmp_path / "in.png", icc_profile=profile()[:300])
    assert np.array_equal(decode(record, min(rgb.shape[:2])).permute(1, 2, 0), rgb)


def test_wide_gamut_in_16_bits(tmp_path):
    rgb = color_patches().astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "in.tif", rgb, photometric="rgb", iccprofile=ADOBE_RGB)
    found = lightness(photo.read(tmp_path / "in.tif").image)
    truth = lightness_of_wide_gamut(rgb / 257, ADOBE_TO_XYZ, lambda v: v ** (563 / 256))
    assert np.abs(found - truth).max() < 0.1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_gamma_profile_is_applied(tmp_path, dtype):
    ramp = np.tile(np.arange(256, dtype=dtype), (4, 1))
    ramp = ramp if dtype == np.uint8 else ramp * 257
    profile = imagecodecs.cms_profile("gray", gamma=1.8)
    tifffile.imwrite(tmp_path / "in.tif", ramp, iccprofile=profile)
    found = lightness(photo.read(tmp_path / "in.tif").image)
    linear = (ramp / np.iinfo(dtype).max) ** 1.8
    white = np.array([0.95047, 1, 1.08883])
    assert np.abs(found - xyz2lab(linear[..., None] * white)[..., 0]).max() < 0.1


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8])
def test_gamma_of_a_png_without_profile_is_applied(tmp_path, mode, gamma):
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1))).convert(mode)
    data = encoded(ramp, "PNG")
    chunk = png_chunk(b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    (tmp_path / "in.png").write_bytes(data[:33] + chunk + data[33:])
    found = lightness(photo.read(tmp_path / "in.png").image)[0]
    linear = (np.arange(256) / 255) ** (1 / gamma)
    white = np.array([0.95047, 1, 1.08883])
    assert np.abs(found - xyz2lab(linear[:, None, None] * white)[:, 0, 0]).max() < 0.1


def test_linear_16_bit_rgb(tmp_path):
    primaries = [0.64, 0.33, 1.0, 0.3, 0.6, 1.0, 0.15, 0.06, 1.0]
    profile = imagecodecs.cms_profile(
        "rgb", whitepoint=[0.3127, 0.3290, 1.0], primaries=primaries, gamma=1.0
    )
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16)[:, None], (4, 1, 3))
    tifffile.imwrite(tmp_path / "in.tif", ramp, photometric="rgb", iccprofile=profile)
    found = lightness(photo.read(tmp_path / "in.tif").image)
    white = np.array([0.95047, 1, 1.08883])
    assert np.abs(found - xyz2lab(ramp / 65535 * white)[..., 0]).max() < 0.1


def test_the_usual_gamma_of_a_png_means_srgb(tmp_path, gray):
    data = encoded(Image.fromarray(gray), "PNG")
    chunk = png_chunk(b"gAMA", struct.pack(">I", 45455))
    (tmp_path / "in.png").write_bytes(data[:33] + chunk + data[33:])
    assert np.array_equal(photo.read(tmp_path / "in.png").image, gray)


def nearly_srgb_profile():
    """As some programs write it: primaries with fewer digits, a curve of 1024 points."""
    return imagecodecs.cms_profile(
        "rgb",
        whitepoint=[0.3127, 0.3290, 1.0],
        primaries=[0.64, 0.33, 1.0, 0.3, 0.6, 1.0, 0.15, 0.06, 1.0],
        transferfunction=srgb_curve(np.linspace(0, 1, 1024)).astype(np.float32),
    )


@pytest.mark.parametrize("profile", [photo.srgb_profile, nearly_srgb_profile])
def test_an_srgb_profile_changes_nothing(tmp_path, gray, profile):
    rgb = np.repeat(gray[..., None], 3, axis=2)
    Image.fromarray(rgb).save(tmp_path / "in.png", icc_profile=profile())
    image = photo.read(tmp_path / "in.png").image
    assert image.dtype == np.uint8 and np.array_equal(image, rgb)


def test_gray_pixels_with_an_rgb_profile(tmp_path, gray):
    Image.fromarray(gray).save(tmp_path / "in.jpg", quality=100, icc_profile=ADOBE_RGB)
    found = lightness(photo.read(tmp_path / "in.jpg").image)
    truth = lightness_of_wide_gamut(
        np.repeat(np.asarray(Image.open(tmp_path / "in.jpg"))[..., None], 3, axis=2),
        ADOBE_TO_XYZ,
        lambda v: v ** (563 / 256),
    )
    assert np.abs(found - truth).max() < 0.1


@pytest.mark.parametrize("profile", [b"not a profile" * 20, ADOBE_RGB[:300]])
def test_a_damaged_profile_is_left_out_and_said(tmp_path, gray, profile):
    Image.fromarray(gray).convert("RGB").save(tmp_path / "in.png", icc_profile=profile)
    read = photo.read(tmp_path / "in.png")
    assert np.array_equal(read.image[..., 0], gray)
    assert "profile" in read.warnings[0] and "left out" in read.warnings[0]


def cmyk_profile():
    """The smallest CMYK profile there is: L* falls with black, and every other ink is ignored."""
    corners = [(0 if k else 255, 128, 128) for _ in range(8) for k in (0, 1)]
    table = struct.pack(">4sIBBBB", b"mft1", 0, 4, 3, 2, 0)
    table += struct.pack(">9i", *[65536 if i % 4 == 0 else 0 for i in range(9)])
    table += bytes(range(256)) * 4 + bytes(sum(corners, ())) + bytes(range(256)) * 3
    header = struct.pack(
        ">I4sI4s4s4s", 128 + 16 + len(table), b"lcms", 0x02100000, b"prtr", b"CMYK", b"Lab "
    )
    header += bytes(12) + b"acsp" + bytes(24) + struct.pack(">IIII", 0, 0xF6D6, 0x10000, 0xD32D)
    return header.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cmyk_goes_through_its_profile(tmp_path, dtype):
    top = np.iinfo(dtype).max
    inks = np.zeros((2, 11, 4), dtype=dtype)
    inks[..., 3] = np.rint(np.linspace(0, top, 11))
    tifffile.imwrite(tmp_path / "in.tif", inks, photometric="separated", iccprofile=cmyk_profile())
    read = photo.read(tmp_path / "in.tif")
    assert read.warnings == []
    assert np.abs(lightness(read.image)[0] - np.linspace(100, 0, 11)).max() < 1


def test_cmyk_jpeg_without_profile(tmp_path, gray):
    Image.fromarray(gray).convert("RGB").convert("CMYK").save(tmp_path / "in.jpg", quality=100)
    result = round_trip(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert result.mode == "RGB"
    seen = photo.read(tmp_path / "in.jpg").image
    assert np.abs(seen.astype(int) - gray[..., None]).max() <= 4


# --- depth and transparency ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray_in_16_bit_rgb_out(tmp_path, suffix):
    deep = np.arange(12 * 8, dtype=np.uint16).reshape(8, 12) * 601
    Image.fromarray(deep).save(tmp_path / f"in{suffix}")
    read = photo.read(tmp_path / f"in{suffix}")
    assert read.depth == 16 and np.array_equal(read.image, deep)
    rgb = colored(read)
    photo.write(tmp_path / f"out{suffix}", rgb, read, MARK)
    again = photo.read(tmp_path / f"out{suffix}").image
    assert again.dtype == np.uint16 and np.abs(again - rgb * 65535).max() <= 0.51
    Image.open(tmp_path / f"out{suffix}").load()  # Pillow finds the file sound, too


def test_16_bit_written_to_jpeg_has_8_bits(tmp_path):
    Image.fromarray(np.full((8, 12), 40000, np.uint16)).save(tmp_path / "in.png")
    assert round_trip(tmp_path / "in.png", tmp_path / "out.jpg").mode == "RGB"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_metadata_of_16_bit_files(tmp_path, suffix):
    block = with_exif(1).tobytes()
    read = photo.Photo(
        image=np.zeros((8, 12), np.uint16), depth=16, exif=block, xmp=XMP, dpi=(300.0, 300.0)
    )
    photo.write(tmp_path / f"out{suffix}", colored(read), read, MARK)
    again = photo.read(tmp_path / f"out{suffix}")
    assert again.dpi == pytest.approx((300, 300), abs=0.1)
    assert photo.read_mark(again.xmp) and "Ad\u00e1".encode() in again.xmp
    with Image.open(tmp_path / f"out{suffix}") as opened:
        assert opened.info["icc_profile"] == photo.srgb_profile()
        exif = opened.getexif()
        assert exif[ExifTags.Base.Artist] == "Ada"
        assert exif[ExifTags.Base.ImageDescription] == "The bridge"
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert details[ExifTags.Base.DateTimeOriginal] == "1911:05:01 10:00:00"
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[2] == (48.0, 12.0, 3.0)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_of_every_kind(tmp_path, channels):
    deep = np.arange(8 * 12 * channels, dtype=np.uint16).reshape(8, 12, channels) * 170
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(deep.squeeze()))
    read = photo.read(tmp_path / "in.png")
    color = 3 if channels > 2 else 1
    assert np.array_equal(read.image.reshape(8, 12, color), deep[..., :color])
    if channels in (2, 4):
        assert np.array_equal(read.alpha, deep[..., -1])


def test_tiff_with_white_as_zero(tmp_path):
    deep = np.linspace(0, 65535, 96).astype(np.uint16).reshape(8, 12)
    tifffile.imwrite(tmp_path / "in.tif", deep, photometric="miniswhite")
    assert np.array_equal(photo.read(tmp_path / "in.tif").image, 65535 - deep)


def test_planar_and_compressed_16_bit_tiff(tmp_path):
    deep = np.arange(8 * 12 * 3, dtype=np.uint16).reshape(3, 8, 12)
    tifffile.imwrite(
        tmp_path / "in.tif", deep, photometric="rgb", planarconfig="separate", compression="lzw"
    )
    assert np.array_equal(photo.read(tmp_path / "in.tif").image, deep.transpose(1, 2, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_float_tiff(tmp_path, channels):
    values = np.linspace(0, 1, 8 * 12 * channels, dtype=np.float32).reshape(8, 12, channels)
    kind = "rgb" if channels == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "in.tif", values.squeeze(), photometric=kind)
    read = photo.read(tmp_path / "in.tif")
    assert np.allclose(read.image, values.squeeze()) and read.depth == 16


def test_float_tiff_with_other_values(tmp_path):
    values = np.array([[0, 2, np.nan, np.inf, -1, 4]], dtype=np.float32)
    tifffile.imwrite(tmp_path / "in.tif", values)
    read = photo.read(tmp_path / "in.tif")
    assert np.array_equal(read.image, np.float32([[0, 0.5, 0, 0, 0, 1]]))
    assert "divided" in read.warnings[0]


ALPHA = {
    "LA": lambda gray, alpha: Image.merge("LA", [gray, alpha]),
    "RGBA": lambda gray, alpha: Image.merge("RGBA", [gray, gray, gray, alpha]),
}


@pytest.mark.parametrize("mode", ALPHA)
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".avif"])
def test_alpha_is_kept(tmp_path, gray, mode, suffix):
    alpha = Image.fromarray(255 - gray)
    picture = ALPHA[mode](Image.fromarray(gray), alpha)
    picture.save(tmp_path / f"in{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    result = round_trip(tmp_path / f"in{suffix}", tmp_path / f"out{suffix}")
    assert result.mode == "RGBA"
    tolerance = 12 if suffix == ".avif" else 0
    assert np.abs(np.asarray(result)[..., 3].astype(int) - (255 - gray)).max() <= tolerance


def test_alpha_of_16_bit_files_is_kept(tmp_path):
    deep = np.arange(8 * 12 * 4, dtype=np.uint16).reshape(8, 12, 4) * 170
    (tmp_path / "in.png").write_bytes(imagecodecs.png_encode(deep))
    for name in ("out.png", "out.tif"):
        round_trip(tmp_path / "in.png", tmp_path / name)
        assert np.array_equal(photo.read(tmp_path / name).alpha, deep[..., 3])


def test_what_else_a_16_bit_tiff_has_beside_colour(tmp_path):
    rgb = np.full((8, 12, 3), 40_000, np.uint16)
    extra = np.full((8, 12, 1), 32_768, np.uint16)
    pixels = {"unspecified": rgb, "unassalpha": rgb, "assocalpha": rgb // 2}
    for kind, color in pixels.items():
        tifffile.imwrite(
            tmp_path / "in.tif",
            np.concatenate([color, extra], 2),
            photometric="rgb",
            extrasamples=[kind],
        )
        read = photo.read(tmp_path / "in.tif")
        assert np.abs(read.image.astype(int) - 40_000).max() <= 1
        assert (read.alpha is None) == (kind == "unspecified")


def test_lab_in_16_bits_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", np.zeros((8, 12, 3), np.uint16), photometric="cielab")
    with pytest.raises(photo.PhotoError, match="save it as RGB"):
        photo.read(tmp_path / "in.tif")


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (12, 8), 1)
    picture.putpalette([255, 0, 0, 90, 90, 90])
    picture.putpixel((3, 2), 0)
    picture.save(tmp_path / "in.png", transparency=0)
    result = round_trip(tmp_path / "in.png", tmp_path / "out.png")
    assert result.mode == "RGBA"
    assert result.getpixel((3, 2))[3] == 0 and result.getpixel((4, 2))[3] == 255


def test_transparency_becomes_white_in_jpeg(tmp_path):
    Image.new("RGBA", (12, 8), (90, 90, 90, 0)).save(tmp_path / "in.png")
    result = round_trip(tmp_path / "in.png", tmp_path / "out.jpg")
    assert np.asarray(result).min() > 250


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "LAB", "I;16"])
def test_pillow_modes_in_tiff(tmp_path, mode):
    Image.new(mode, (12, 8), 0).save(tmp_path / "in.tif")
    assert photo.read(tmp_path / "in.tif").image.shape[:2] == (8, 12)


# --- bad files -----------------------------------------------------------------------------------


def damaged(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(photo.PhotoError) as caught:
        photo.read(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 200
    return message


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF", "GIF", "BMP"])
def test_files_of_which_next_to_nothing_is_left(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    assert damaged(tmp_path, "cut", data[: len(data) // 12])


@pytest.mark.parametrize("share", [0.4, 0.97])
@pytest.mark.parametrize("kind", ["AVIF", "HEIF", "JXL"])
def test_cut_off_files_whose_decoders_need_all_of_them(tmp_path, kind, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    if kind == "JXL":
        data = imagecodecs.jpegxl_encode(noise)
    else:
        data = encoded(Image.fromarray(noise).convert("RGB"), kind)
    message = damaged(tmp_path, "cut", data[: int(share * len(data))])
    assert "damaged or cut off; of HEIC, AVIF and JPEG XL nothing can be decoded" in message


def test_text_empty_file_folder_and_missing_file(tmp_path):
    assert "not a picture" in damaged(tmp_path, "a.jpg", b"Dear diary, today\n")
    assert "empty" in damaged(tmp_path, "b.jpg", b"")
    (tmp_path / "c.jpg").mkdir()
    with pytest.raises(photo.PhotoError, match="directory"):
        photo.read(tmp_path / "c.jpg")
    with pytest.raises(photo.PhotoError, match="no such file"):
        photo.read(tmp_path / "d.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes there")
def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(photo.PhotoError, match="pipe"):
        photo.read(tmp_path / "a.jpg")


def test_a_file_without_permission(tmp_path, gray, monkeypatch):
    Image.fromarray(gray).save(tmp_path / "a.png")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(photo.PhotoError, match="permission"):
        photo.read(tmp_path / "a.png")


def png_chunk(name, data):
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows)


def test_decompression_bombs_are_refused_by_their_header(tmp_path):
    assert "limit" in damaged(tmp_path, "bomb.png", png_header(20_000, 20_000))
    with photo.pixel_limit(1000):
        assert "40 x 30" in damaged(tmp_path, "small.png", png_header(40, 30))
    with photo.pixel_limit(10**9):  # allowed, so that decoding begins and finds it cut off
        assert "limit" not in damaged(tmp_path, "cut.png", png_header(400, 300))


def test_a_long_history_in_a_png(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("History", "cropped; " * 200_000, zip=True)
    Image.new("L", (12, 8), 100).save(tmp_path / "in.png", pnginfo=texts)
    assert "damaged" in damaged(tmp_path, "in.png", (tmp_path / "in.png").read_bytes())
    with photo.pixel_limit(10**6):
        assert photo.read(tmp_path / "in.png").image.shape[:2] == (8, 12)


def test_the_limit_is_put_back():
    before = Image.MAX_IMAGE_PIXELS
    with photo.pixel_limit(5):
        assert Image.MAX_IMAGE_PIXELS == 5
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1)])
def test_thin_pictures(tmp_path, size):
    Image.new("L", size, 100).save(tmp_path / "in.png")
    assert round_trip(tmp_path / "in.png", tmp_path / "out.png").size == size


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_taken_and_said(tmp_path, kind):
    frames = [Image.new("L", (12, 8), value) for value in (10, 200)]
    frames[0].save(
        tmp_path / "in", format=kind, save_all=True, append_images=frames[1:], duration=100
    )
    read = photo.read(tmp_path / "in")
    assert ("2 pages" if kind == "TIFF" else "more than one frame") in read.warnings[0]
    assert np.abs(read.image.astype(int) - 10).max() <= 2


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_nothing_and_keeps_the_old_file(tmp_path, monkeypatch, failure):
    (tmp_path / "out.png").write_text("old")

    def fail(self, data):
        with open(self, "wb") as file:
            file.write(data[: len(data) // 2])
        raise failure

    monkeypatch.setattr(Path, "write_bytes", fail)
    read = photo.Photo(image=np.zeros((8, 12), np.uint8), depth=8)
    with pytest.raises(type(failure)):
        photo.write(tmp_path / "out.png", colored(read), read, MARK)
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]
    assert (tmp_path / "out.png").read_text() == "old"


def test_metadata_too_long_for_jpeg_does_not_cost_the_photograph(tmp_path, gray):
    exif = with_exif(1)
    exif[ExifTags.Base.ImageDescription] = "a" * 70_000
    long = XMP.replace(b"Ad", b"Ad" * 40_000)
    read = photo.Photo(image=gray, depth=8, exif=exif.tobytes(), xmp=long, iptc=IPTC * 9000)
    photo.write(tmp_path / "out.jpg", colored(read), read, MARK)
    assert photo.read_mark(photo.read(tmp_path / "out.jpg").xmp)
    photo.write(tmp_path / "out.png", colored(read), read, MARK)
    assert b"AdAdAd" in photo.read(tmp_path / "out.png").xmp


def test_what_a_format_cannot_hold_is_said(tmp_path):
    read = photo.Photo(image=np.zeros((1, 20_000), np.uint8), depth=8)
    with pytest.raises(photo.PhotoError, match="WEBP"):
        photo.write(tmp_path / "out.webp", colored(read), read, MARK)
    assert list(tmp_path.iterdir()) == []


def test_animation_rests_on_its_last_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 90, 200)]
    photo.write_animation(tmp_path / "out.gif", frames, 80)
    with Image.open(tmp_path / "out.gif") as gif:
        assert gif.n_frames == 3
        durations = []
        for frame in range(3):
            gif.seek(frame)
            durations.append(gif.info["duration"])
    assert durations[2] > 5 * durations[0]
