"""Metadata survives every change of format, and describes the result and not the old file."""

import hashlib
import io
import os
import re
import struct
from xml.dom import minidom

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, IptcImagePlugin, PngImagePlugin

from pipeline_colorize import photo
from pipeline_colorize.photo.upright import Turn, upright_xmp
from pipeline_colorize.photo.xmp import parse_xmp, split_xmp

MARK = photo.Mark("1.2.3", {"model": "default", "seed": 7})
ENDINGS = [".jpg", ".png", ".webp", ".tif", ".avif"]
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
PREFIXES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "xmpGImg": "http://ns.adobe.com/xap/1.0/g/img/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "GPano": "http://ns.google.com/photos/1.0/panorama/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "HDRGainMap": "http://ns.apple.com/HDRGainMap/1.0/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "MPRI": "http://ns.microsoft.com/photo/1.2/t/RegionInfo#",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
CAPTION = "Aunt Zo\u00eb, 1912"
DESCRIBED = (
    f"<dc:description><rdf:Alt><rdf:li xml:lang='x-default'>{CAPTION}</rdf:li></rdf:Alt>"
    "</dc:description><dc:creator><rdf:Seq><rdf:li>Ada</rdf:li></rdf:Seq></dc:creator>"
    "<xmp:Rating>5</xmp:Rating>"
)


def packet(inside: str = "", attributes: str = "") -> bytes:
    names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in PREFIXES.items())
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"><rdf:Description '
        f'rdf:about="" {names} {attributes}>{inside}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


@pytest.fixture
def picture():
    rows, columns = np.mgrid[0:48, 0:64]
    return Image.fromarray((rows + columns).astype(np.uint8))


def colored(source, target):
    """Read a photograph, write it again in one colour; returns it as read anew, and the notes."""
    read = photo.read(source)
    height, width = read.image.shape[:2]
    notes = photo.write(target, np.full((height, width, 3), 0.5, np.float32), read, MARK)
    return photo.read(target), notes


def values(xmp: bytes, prefix: str, name: str) -> list[str]:
    """The values of a property, however it is written."""
    document = minidom.parseString(xmp.strip(b"\0"))
    found = []
    for element in document.getElementsByTagNameNS(PREFIXES[prefix], name):
        items = element.getElementsByTagNameNS(RDF, "li") or [element]
        found += [item.firstChild.data for item in items]
    for element in document.getElementsByTagNameNS(RDF, "Description"):
        if element.hasAttributeNS(PREFIXES[prefix], name):
            found.append(element.getAttributeNS(PREFIXES[prefix], name))
    return found


# --- captions ------------------------------------------------------------------------------------


def iptc(**options) -> bytes:
    fields = {
        (1, 90): b"\x1b%G",
        (2, 5): b"The bridge",
        (2, 25): b"family",
        (2, 55): b"19120500",
        (2, 80): b"Ada",
        (2, 90): "Z\u00fcrich".encode(),
        (2, 92): b"By the lake",
        (2, 105): b"Headline",
        (2, 116): b"City Archive",
        (2, 120): CAPTION.encode(),
        (2, 184): b"job",
    }
    pairs = [*fields.items(), ((2, 25), b"sea")]
    return b"".join(
        struct.pack(">BBBH", 0x1C, *field, len(value)) + value for field, value in pairs
    )


def with_iptc(path, picture):
    block = iptc()
    resource = (
        struct.pack(">4sHHI", b"8BIM", 0x0404, 0, len(block)) + block + b"\0" * (len(block) % 2)
    )
    body = b"Photoshop 3.0\0" + resource
    picture.save(path, "JPEG", extra=struct.pack(">HH", 0xFFED, len(body) + 2) + body)


@pytest.mark.parametrize("ending", [".png", ".webp", ".avif"])
def test_iptc_captions_become_xmp_where_there_is_no_place_for_them(tmp_path, picture, ending):
    with_iptc(tmp_path / "in.jpg", picture)
    found, notes = colored(tmp_path / "in.jpg", tmp_path / f"out{ending}")
    assert values(found.xmp, "dc", "description") == [CAPTION]
    assert values(found.xmp, "dc", "title") == ["The bridge"]
    assert values(found.xmp, "dc", "subject") == ["family", "sea"]
    assert values(found.xmp, "dc", "creator") == ["Ada"]
    assert values(found.xmp, "dc", "rights") == ["City Archive"]
    assert values(found.xmp, "photoshop", "City") == ["Z\u00fcrich"]
    assert values(found.xmp, "photoshop", "Headline") == ["Headline"]
    assert values(found.xmp, "photoshop", "DateCreated") == ["1912-05"]
    assert values(found.xmp, "Iptc4xmpCore", "Location") == ["By the lake"]
    assert photo.read_mark(found.xmp)
    assert len(notes) == 1 and "IPTC field 2:184" in notes[0]


@pytest.mark.parametrize("ending", [".jpg", ".tif"])
def test_iptc_captions_stay_where_there_is_a_place_for_them(tmp_path, picture, ending):
    with_iptc(tmp_path / "in.jpg", picture)
    found, notes = colored(tmp_path / "in.jpg", tmp_path / f"out{ending}")
    assert found.iptc == iptc() and notes == []
    with Image.open(tmp_path / f"out{ending}") as opened:
        assert IptcImagePlugin.getiptcinfo(opened)[2, 120] == CAPTION.encode()


def test_an_xmp_caption_counts_for_more_and_the_other_is_named(tmp_path, picture):
    read = photo.Photo(
        np.asarray(picture), 8, iptc=iptc(), xmp=packet(DESCRIBED.replace("Zo", "Bo"))
    )
    notes = photo.write(tmp_path / "a.png", np.zeros((48, 64, 3), np.float32), read, MARK)
    assert values(photo.read(tmp_path / "a.png").xmp, "dc", "description") == [
        "Aunt Bo\u00eb, 1912"
    ]
    assert "dc:description" in notes[0]


@pytest.mark.parametrize("text", ["Zo\u00eb".encode(), "Zo\u00eb".encode("latin-1")])
def test_iptc_without_a_stated_encoding(tmp_path, picture, text):
    block = struct.pack(">BBBH", 0x1C, 2, 120, len(text)) + text
    read = photo.Photo(np.asarray(picture), 8, iptc=block)
    photo.write(tmp_path / "a.png", np.zeros((48, 64, 3), np.float32), read, MARK)
    assert values(photo.read(tmp_path / "a.png").xmp, "dc", "description") == ["Zo\u00eb"]


TEXTS = {
    "Title": "The bridge",
    "Author": "Ada",
    "Description": CAPTION,
    "Copyright": "City Archive",
    "Comment": "Box 7",
    "Software": "scanner 2",
}


@pytest.mark.parametrize("ending", [".jpg", ".webp", ".tif", ".avif"])
def test_texts_of_a_png_become_xmp_elsewhere(tmp_path, picture, ending):
    texts = PngImagePlugin.PngInfo()
    for key, text in (TEXTS | {"Shelf": "12"}).items():
        texts.add_text(key, text)
    picture.save(tmp_path / "in.png", pnginfo=texts)
    found, notes = colored(tmp_path / "in.png", tmp_path / f"out{ending}")
    assert values(found.xmp, "dc", "title") == ["The bridge"]
    assert values(found.xmp, "dc", "creator") == ["Ada"]
    assert values(found.xmp, "dc", "description") == [CAPTION]
    assert values(found.xmp, "dc", "rights") == ["City Archive"]
    if ending == ".jpg":
        assert found.texts == {"Comment": "Box 7"}
    else:
        assert values(found.xmp, "exif", "UserComment") == ["Box 7"]
    assert len(notes) == 1 and "'Shelf'" in notes[0]


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif", ".avif"])
def test_a_comment_of_a_jpeg_is_kept_elsewhere(tmp_path, picture, ending):
    picture.save(tmp_path / "in.jpg", comment=CAPTION)
    found, notes = colored(tmp_path / "in.jpg", tmp_path / f"out{ending}")
    if ending == ".png":
        assert found.texts["Comment"] == CAPTION
    else:
        assert values(found.xmp, "exif", "UserComment") == [CAPTION]
    assert notes == []


@pytest.mark.parametrize("name", ["iptc", "8bim"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_iptc_and_xmp_as_imagemagick_keeps_them_in_a_png(tmp_path, picture, name, wrapped):
    block = iptc()
    if wrapped:
        other = struct.pack(">4sHHI", b"8BIM", 0x0425, 0, 5) + b"abcde\0"
        block = other + struct.pack(">4sHHI", b"8BIM", 0x0404, 0, len(block)) + block
    texts = PngImagePlugin.PngInfo()
    for kind, content in ((name, block), ("xmp", packet(DESCRIBED))):
        digits = "\n".join(re.findall(".{1,72}", content.hex()))
        texts.add_text(
            f"Raw profile type {kind}", f"\n{kind}\n{len(content):8}\n{digits}\n", zip=True
        )
    picture.save(tmp_path / "a.png", pnginfo=texts)
    read = photo.read(tmp_path / "a.png")
    assert read.iptc == iptc() and read.texts == {}
    assert values(read.xmp, "dc", "description") == [CAPTION]


def test_iptc_among_photoshops_resources_in_a_tiff(tmp_path, picture):
    resource = struct.pack(">4sHHI", b"8BIM", 0x0404, 0, len(iptc())) + iptc()
    tag = (34377, 7, len(resource), resource, True)
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(picture), metadata=None, extratags=[tag])
    assert photo.read(tmp_path / "a.tif").iptc == iptc()


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_thumbnail_of_the_grey_photograph_is_left(tmp_path, picture, ending):
    thumbnail = io.BytesIO()
    picture.save(thumbnail, "JPEG")
    thumbnail = thumbnail.getvalue()
    first = struct.pack("<H", 1) + struct.pack("<HHIHH", 274, 3, 1, 1, 0)
    start = 8 + len(first) + 4
    second = struct.pack("<H", 3) + struct.pack("<HHIHH", 259, 3, 1, 6, 0)
    second += struct.pack("<HHII", 513, 4, 1, start + 2 + 36 + 4)
    second += struct.pack("<HHII", 514, 4, 1, len(thumbnail)) + bytes(4)
    block = b"Exif\0\0II*\0\x08\0\0\0" + first + struct.pack("<I", start) + second + thumbnail
    picture.save(tmp_path / "in.jpg", exif=block)
    colored(tmp_path / "in.jpg", tmp_path / f"out{ending}")
    assert thumbnail in (tmp_path / "in.jpg").read_bytes()
    assert thumbnail[:200] not in (tmp_path / f"out{ending}").read_bytes()


def test_control_signs_in_a_comment_do_no_harm(tmp_path, picture):
    picture.save(tmp_path / "in.jpg", comment=b"a\x01b\xffc")
    found, _ = colored(tmp_path / "in.jpg", tmp_path / "out.webp")
    assert values(found.xmp, "exif", "UserComment") == ["ab\ufffdc"]


# --- long packets --------------------------------------------------------------------------------

HISTORY = "<photoshop:History>" + "retouched &amp; " * 9000 + "</photoshop:History>"


def test_a_long_packet_in_a_jpeg_keeps_everything(tmp_path, picture):
    texts = PngImagePlugin.PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", packet(DESCRIBED + HISTORY).decode())
    picture.save(tmp_path / "in.png", pnginfo=texts)
    found, notes = colored(tmp_path / "in.png", tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as opened:
        main = opened.info["xmp"]
    assert len(main) <= 65_502 and photo.read_mark(main)
    assert values(main, "dc", "description") == [CAPTION]  # where a simple reader looks
    assert values(main, "xmp", "Rating") == ["5"]
    assert values(found.xmp, "photoshop", "History")[0].count("retouched &") == 9000
    assert values(found.xmp, "xmpNote", "HasExtendedXMP") == []
    assert notes == []


def test_an_extended_packet_names_its_digest():
    main, extended = split_xmp(packet(DESCRIBED + HISTORY, 'xmp:Label="red"'), 65_000)
    digest = hashlib.md5(extended).hexdigest().upper()
    assert values(main, "xmpNote", "HasExtendedXMP") == [digest]
    assert values(main, "xmp", "Label") == ["red"]
    assert values(extended, "photoshop", "History")[0].startswith("retouched &")
    assert extended.startswith(b"<x:xmpmeta")


def extended_jpeg(path, picture, missing: bool = False):
    extended = packet(HISTORY)
    name = hashlib.md5(extended).hexdigest().upper()
    segments = b""
    for place in range(0, len(extended), 60_000):
        body = b"http://ns.adobe.com/xmp/extension/\0" + name.encode()
        body += struct.pack(">II", len(extended), place) + extended[place : place + 60_000]
        segments += struct.pack(">HH", 0xFFE1, len(body) + 2) + body
    main = packet(DESCRIBED, f'xmpNote:HasExtendedXMP="{name}"')
    picture.save(path, "JPEG", xmp=main, extra=b"" if missing else segments)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_extended_packet_is_read_whole(tmp_path, picture, ending):
    extended_jpeg(tmp_path / "in.jpg", picture)
    found, notes = colored(tmp_path / "in.jpg", tmp_path / f"out{ending}")
    assert values(found.xmp, "dc", "description") == [CAPTION]
    assert len(values(found.xmp, "photoshop", "History")[0]) == 9000 * len("retouched & ")
    assert notes == []


def test_nothing_promises_an_extension_that_is_not_there(tmp_path, picture):
    extended_jpeg(tmp_path / "in.jpg", picture, missing=True)
    found, _ = colored(tmp_path / "in.jpg", tmp_path / "out.jpg")
    assert b"HasExtendedXMP" not in (tmp_path / "out.jpg").read_bytes()
    assert values(found.xmp, "dc", "description") == [CAPTION]


def test_exif_too_long_for_a_jpeg_loses_its_longest_fields_alone(tmp_path, picture):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "Aunt Zoe, 1912"
    exif.get_ifd(ExifTags.IFD.Exif)[0x927C] = b"M" * 70_000
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "1912:05:01 10:00:00"
    read = photo.Photo(np.asarray(picture), 8, exif=exif.tobytes())
    notes = photo.write(tmp_path / "a.jpg", np.zeros((48, 64, 3), np.float32), read, MARK)
    found = photo.read(tmp_path / "a.jpg")
    assert b"Aunt Zoe, 1912" in found.exif and b"1912:05:01" in found.exif
    assert len(notes) == 1 and "MakerNote" in notes[0]


def test_damaged_xmp_is_named(tmp_path, picture):
    picture.save(tmp_path / "a.jpg", xmp=b"<x:xmpmeta")
    assert photo.read(tmp_path / "a.jpg").warnings == ["its XMP data is damaged and was left out"]


# --- what describes the old file -----------------------------------------------------------------

PHONE = """<Container:Directory><rdf:Seq>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="Primary"/>
</rdf:li><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4"
Item:Semantic="MotionPhoto" Item:Length="4000"/></rdf:li></rdf:Seq></Container:Directory>
<HDRGainMap:HDRGainMapVersion>65536</HDRGainMap:HDRGainMapVersion>
<tiff:BitsPerSample><rdf:Seq><rdf:li>8</rdf:li></rdf:Seq></tiff:BitsPerSample>
<xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:image>AAAA</xmpGImg:image>
</rdf:li></rdf:Alt></xmp:Thumbnails>"""
ATTRIBUTES = (
    'hdrgm:Version="1.0" GCamera:MotionPhoto="1" GCamera:MotionPhotoPresentationTimestampUs="5" '
    'photoshop:ColorMode="1" photoshop:ICCProfile="Dot Gain 20%" tiff:ImageWidth="900" '
    'tiff:Make="Kodak" exif:PixelXDimension="900" exif:FNumber="56/10" dc:format="image/jpeg" '
    'GPano:ProjectionType="cylindrical"'
)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_describes_the_old_bytes_goes(tmp_path, picture, ending):
    picture.save(tmp_path / "in.jpg", xmp=packet(DESCRIBED + PHONE, ATTRIBUTES))
    found, notes = colored(tmp_path / "in.jpg", tmp_path / f"out{ending}")
    text = re.sub(r'xmlns:\S+="[^"]*"', "", found.xmp.decode())
    for stale in (
        "hdrgm",
        "GCamera",
        "Container",
        "Item",
        "HDRGainMap",
        "ColorMode",
        "ICCProfile",
        "ImageWidth",
        "BitsPerSample",
        "PixelXDimension",
        "Thumbnails",
        "image/jpeg",
    ):
        assert stale not in text
    for lasting in (CAPTION, "Kodak", "56/10", "cylindrical", "Ada"):
        assert lasting in text
    assert notes == []


def regions(as_elements: bool, unit: str = "normalized") -> str:
    """A face at columns 40 to 55 and rows 4 to 16 of 64 x 48 pixels, as programs write it."""
    area = {"x": 47.5 / 64, "y": 10 / 48, "w": 15 / 64, "h": 12 / 48}
    if unit == "pixel":
        area = {"x": 47.5, "y": 10, "w": 15, "h": 12}
    size = {"w": 64, "h": 48}
    if as_elements:
        inner = "".join(f"<stArea:{k}>{v}</stArea:{k}>" for k, v in area.items())
        inner += f"<stArea:unit>{unit}</stArea:unit>"
        area_ = f'<mwg-rs:Area rdf:parseType="Resource">{inner}</mwg-rs:Area>'
        inner = "".join(f"<stDim:{k}>{v}</stDim:{k}>" for k, v in size.items())
        name = "mwg-rs:AppliedToDimensions"
        dimensions = f'<{name} rdf:parseType="Resource">{inner}</{name}>'
    else:
        inner = " ".join(f'stArea:{k}="{v}"' for k, v in area.items())
        area_ = f'<mwg-rs:Area {inner} stArea:unit="{unit}"/>'
        inner = " ".join(f'stDim:{k}="{v}"' for k, v in size.items())
        dimensions = f'<mwg-rs:AppliedToDimensions {inner} stDim:unit="pixel"/>'
    return (
        f'<mwg-rs:Regions rdf:parseType="Resource">{dimensions}<mwg-rs:RegionList><rdf:Bag><rdf:li>'
        f'<rdf:Description mwg-rs:Name="Grandma" mwg-rs:Type="Face">{area_}</rdf:Description>'
        "</rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
        "<MP:RegionInfo rdf:parseType='Resource'><MPRI:Regions><rdf:Bag><rdf:li "
        f'MPReg:Rectangle="{40 / 64}, {4 / 48}, {15 / 64}, {12 / 48}" MPReg:PersonDisplayName="G"/>'
        "</rdf:Bag></MPRI:Regions></MP:RegionInfo>"
        "<Iptc4xmpExt:ImageRegion><rdf:Bag><rdf:li rdf:parseType='Resource'>"
        "<Iptc4xmpExt:RegionBoundary rdf:parseType='Resource'>"
        f"<Iptc4xmpExt:rbUnit>pixel</Iptc4xmpExt:rbUnit><Iptc4xmpExt:rbX>40</Iptc4xmpExt:rbX>"
        "<Iptc4xmpExt:rbY>4</Iptc4xmpExt:rbY><Iptc4xmpExt:rbW>15</Iptc4xmpExt:rbW>"
        "<Iptc4xmpExt:rbH>12</Iptc4xmpExt:rbH></Iptc4xmpExt:RegionBoundary></rdf:li></rdf:Bag>"
        "</Iptc4xmpExt:ImageRegion>"
    )


def field(xmp: bytes, prefix: str, name: str) -> str:
    document = minidom.parseString(xmp)
    for element in document.getElementsByTagName("*"):
        if element.hasAttributeNS(PREFIXES[prefix], name):
            return element.getAttributeNS(PREFIXES[prefix], name)
        if (element.namespaceURI, element.localName) == (PREFIXES[prefix], name):
            return element.firstChild.data
    raise KeyError(name)


def numbers(xmp: bytes, prefix: str, names: str) -> list[float]:
    return [float(field(xmp, prefix, name)) for name in names.split()]


@pytest.mark.parametrize("ending", [".jpg", ".tif", ".png"])
@pytest.mark.parametrize("as_elements", [False, True])
@pytest.mark.parametrize("unit", ["normalized", "pixel"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_of_faces_turn_with_the_picture(tmp_path, ending, as_elements, unit, orientation):
    stored = np.full((48, 64), 90, np.uint8)
    stored[4:16, 40:55] = 220
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    xmp = packet(regions(as_elements, unit), f'tiff:Orientation="{orientation}"')
    options = {"quality": 100} if ending == ".jpg" else {}
    source = tmp_path / f"a{ending}"
    if ending == ".png":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options["pnginfo"] = texts
    elif ending == ".tif":
        exif[700] = xmp
    else:
        options["xmp"] = xmp
    Image.fromarray(stored).save(source, exif=exif, **options)
    read = photo.read(source)
    rows, columns = np.nonzero(read.image > 150)
    height, width = read.image.shape[:2]
    truth = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert numbers(read.xmp, "stDim", "w h") == [width, height]
    x, y, w, h = numbers(read.xmp, "stArea", "x y w h")
    scale = (width, height) if unit == "normalized" else (1, 1)
    area = [(x - w / 2) * scale[0], (y - h / 2) * scale[1], w * scale[0], h * scale[1]]
    assert area == pytest.approx(truth, abs=0.01)
    rectangle = [float(part) for part in field(read.xmp, "MPReg", "Rectangle").split(",")]
    assert np.multiply(rectangle, [width, height] * 2) == pytest.approx(truth, abs=0.01)
    assert numbers(read.xmp, "Iptc4xmpExt", "rbX rbY rbW rbH") == pytest.approx(truth, abs=0.01)
    if ending != ".tif":  # of which Pillow drops it
        assert field(read.xmp, "tiff", "Orientation") == "1"


def test_regions_that_were_measured_upright_stay():
    """Some programs measure in the picture as it is shown, and say so by its dimensions."""
    xmp = packet(regions(False).replace('stDim:w="64" stDim:h="48"', 'stDim:w="48" stDim:h="64"'))
    found = upright_xmp(xmp, Turn(6, 64, 48), [])
    assert numbers(found, "stArea", "x y") == [47.5 / 64, 10 / 48]


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_the_subject_of_exif_turns_with_the_picture(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif.get_ifd(ExifTags.IFD.Exif)[0x9214] = (16, 12, 8, 4)
    picture.save(tmp_path / "a.jpg", exif=exif)
    found = Image.Exif()
    found.load(photo.read(tmp_path / "a.jpg").exif)
    expected = {1: (16, 12, 8, 4), 6: (36, 16, 4, 8), 8: (12, 48, 4, 8)}[orientation]
    assert found.get_ifd(ExifTags.IFD.Exif)[0x9214] == expected


@pytest.mark.parametrize("inside", ["<stArea:x/>", '<mwg-rs:Area stArea:x="left"/>'])
def test_odd_regions_are_no_obstacle(inside):
    notes: list[str] = []
    assert upright_xmp(packet(inside), Turn(6, 64, 48), notes) == b"" and len(notes) == 1


# --- JPEG 2000 -----------------------------------------------------------------------------------


def jp2(picture, boxes: bytes = b"", profile: bytes = b"", method: int = 2) -> bytes:
    """A JPEG 2000 file with more boxes, and with a colour profile in place of the usual colours."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG2000")
    data = buffer.getvalue()
    if profile:
        at, head = data.index(b"colr") - 4, data.index(b"jp2h") - 4
        (length,) = struct.unpack_from(">I", data, at)
        color = struct.pack(">I4sBBB", 11 + len(profile), b"colr", method, 0, 0) + profile
        (whole,) = struct.unpack_from(">I", data, head)
        data = data[:at] + color + data[at + length :]
        data = data[:head] + struct.pack(">I", whole + len(color) - length) + data[head + 4 :]
    at = data.index(b"jp2c") - 4
    return data[:at] + boxes + data[at:]


def uuid_box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 24 + len(content), b"uuid") + name + content


@pytest.mark.parametrize("method", [2, 3])
def test_the_colour_profile_of_a_jpeg_2000(tmp_path, picture, method):
    profile = imagecodecs.cms_profile("gray", whitepoint=[0.3127, 0.3290, 1.0], gamma=1.0)
    picture.save(tmp_path / "a.png", icc_profile=profile)
    (tmp_path / "a.jp2").write_bytes(jp2(picture, profile=profile, method=method))
    found, truth = photo.read(tmp_path / "a.jp2").image, photo.read(tmp_path / "a.png").image
    assert found.dtype == truth.dtype == np.float32
    assert np.abs(found - truth).max() < 1e-6
    assert np.abs(found * 255 - np.asarray(picture)).mean() > 20  # so that the test can fail


@pytest.mark.parametrize("ending", ENDINGS)
def test_metadata_of_a_jpeg_2000(tmp_path, picture, ending):
    exif = Image.Exif()
    exif[ExifTags.Base.Copyright] = "City Archive"
    exif[ExifTags.Base.Orientation] = 6
    boxes = uuid_box(bytes.fromhex("BE7ACFCB97A942E89C71999491E3AFAC"), packet(DESCRIBED))
    boxes += uuid_box(b"JpgTiffExif->JP2", exif.tobytes().removeprefix(b"Exif\0\0"))
    boxes += uuid_box(bytes.fromhex("33C7A4D2B81D4723A0BAF1A3E097AD38"), iptc())
    (tmp_path / "a.jp2").write_bytes(jp2(picture, boxes))
    read = photo.read(tmp_path / "a.jp2")
    assert read.image.shape == (64, 48) and read.iptc == iptc()  # stood upright
    found, _ = colored(tmp_path / "a.jp2", tmp_path / f"out{ending}")
    assert values(found.xmp, "dc", "description") == [CAPTION]
    assert b"City Archive" in found.exif


def test_a_jpeg_2000_with_unsound_boxes(tmp_path, picture):
    for boxes in (b"\0\0\0\x04uuid", b"\0\0\0\x01uuid" + b"\xff" * 8, uuid_box(b"short", b"")[:20]):
        data = jp2(picture, boxes)
        (tmp_path / "a.jp2").write_bytes(data)
        try:
            assert photo.read(tmp_path / "a.jp2").image.shape == (48, 64)
        except photo.PhotoError as error:
            assert "damaged" in str(error)


# --- rarer TIFFs ---------------------------------------------------------------------------------


def test_captions_of_a_tiff_in_floating_point(tmp_path):
    pixels = np.linspace(0, 1, 48 * 64 * 3, dtype=np.float32).reshape(48, 64, 3)
    xmp = packet(DESCRIBED)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="rgb",
        metadata=None,
        byteorder=">",
        extratags=[
            (315, 2, 0, "Ada", True),
            (700, 1, len(xmp), xmp, True),
            (33723, 7, len(iptc()), iptc(), True),
        ],
    )
    read = photo.read(tmp_path / "a.tif")
    assert b"Ada" in read.exif and read.iptc == iptc() and read.warnings == []
    assert values(read.xmp, "dc", "description") == [CAPTION]
    assert parse_xmp(read.xmp) is not None


# --- sidecars and dates --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.xmp", "a.jpg.xmp", "a.XMP"])
def test_a_sidecar_is_read_and_carried_along(tmp_path, picture, name):
    picture.save(tmp_path / "a.jpg", xmp=packet(DESCRIBED.replace("Zo", "Bo")))
    (tmp_path / name).write_bytes(packet("<dc:title>Bridge</dc:title>" + DESCRIBED))
    found, notes = colored(tmp_path / "a.jpg", tmp_path / "out.png")
    sidecar = tmp_path / ("out.png.xmp" if name == "a.jpg.xmp" else "out.xmp")
    for xmp in (found.xmp, sidecar.read_bytes()):
        assert values(xmp, "dc", "description") == [CAPTION]  # it counts for more
        assert values(xmp, "dc", "title") == ["Bridge"]
        assert photo.read_mark(xmp)
    assert notes == [] and found.warnings == []


def test_a_sidecar_fills_in_what_the_file_lacks_and_keeps_what_it_lacks(tmp_path, picture):
    picture.save(tmp_path / "a.jpg", xmp=packet("", 'xmp:Label="red"'))
    (tmp_path / "a.xmp").write_bytes(packet(DESCRIBED))
    read = photo.read(tmp_path / "a.jpg")
    assert values(read.xmp, "xmp", "Label") == ["red"]
    assert values(read.xmp, "dc", "creator") == ["Ada"]


def test_the_sidecar_of_another_file_is_not_taken(tmp_path, picture):
    picture.save(tmp_path / "a.jpg")
    (tmp_path / "a.xmp").write_bytes(packet(DESCRIBED, 'photoshop:SidecarForExtension="CR2"'))
    read = photo.read(tmp_path / "a.jpg")
    assert read.xmp == b"" and read.sidecar is None
    (tmp_path / "a.xmp").write_bytes(packet(DESCRIBED, 'photoshop:SidecarForExtension="JPG"'))
    assert values(photo.read(tmp_path / "a.jpg").xmp, "dc", "creator") == ["Ada"]


def test_a_damaged_sidecar_is_named(tmp_path, picture):
    picture.save(tmp_path / "a.jpg", xmp=packet(DESCRIBED))
    (tmp_path / "a.xmp").write_bytes(b"<x:xmpmeta")
    read = photo.read(tmp_path / "a.jpg")
    assert read.warnings == ["its sidecar a.xmp is damaged and was left out"]
    assert values(read.xmp, "dc", "description") == [CAPTION]


def test_a_sidecar_of_another_program_is_never_overwritten(tmp_path, picture):
    picture.save(tmp_path / "a.jpg")
    (tmp_path / "a.xmp").write_bytes(packet(DESCRIBED))
    other = packet("", 'xmp:Label="red"')
    (tmp_path / "out.xmp").write_bytes(other)
    _, notes = colored(tmp_path / "a.jpg", tmp_path / "out.jpg")
    assert (tmp_path / "out.xmp").read_bytes() == other and "left alone" in notes[0]
    (tmp_path / "out.xmp").unlink()
    for _ in range(2):  # its own is written again
        assert colored(tmp_path / "a.jpg", tmp_path / "out.jpg")[1] == []


def test_regions_in_a_sidecar_turn_too(tmp_path, picture):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.xmp").write_bytes(packet(regions(False)))
    read = photo.read(tmp_path / "a.jpg")
    assert numbers(read.xmp, "stArea", "x y") == pytest.approx([1 - 10 / 48, 47.5 / 64], abs=1e-4)


def test_dates_are_copied(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    os.utime(tmp_path / "a", ns=(1_000_000_123, 2_000_000_456))
    photo.copy_dates(tmp_path / "a", tmp_path / "b")
    found = os.stat(tmp_path / "b")
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_123, 2_000_000_456)
