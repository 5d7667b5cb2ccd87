"""Makes an XMP packet describe the upright result and no longer the file that it came from."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.dom import minidom

from .xmp import (
    IPTC_EXTENSION,
    NAMESPACES,
    TIFF,
    attributes,
    descriptions,
    parse_xmp,
    properties,
    remove_node,
    set_upright,
    text_of,
    xmp_bytes,
)

_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_PEOPLE = "http://ns.microsoft.com/photo/1.2/t/Region#"

# Namespaces of what phones put beside the picture into its file: gain maps, motion, depth, sound.
_STALE_NAMESPACES = (
    "http://ns.adobe.com/hdr-gain-map/",
    "http://ns.apple.com/HDRGainMap/",
    "http://ns.apple.com/HDRToneMap/",
    "http://ns.apple.com/pixeldatainfo/",
    "http://ns.google.com/photos/",
    "http://ns.xiaomi.com/photos/",
    "http://ns.adobe.com/xap/1.0/g/img/",
)
# Those of them that describe the picture itself.
_LASTING_NAMESPACES = (
    "http://ns.google.com/photos/1.0/panorama/",
    "http://ns.google.com/photos/1.0/creations/",
)
# Single properties of the old file's bytes, by namespace.
_STALE = {
    TIFF: "ImageWidth ImageLength BitsPerSample Compression PhotometricInterpretation NativeDigest "
    "SamplesPerPixel PlanarConfiguration YCbCrSubSampling YCbCrPositioning YCbCrCoefficients "
    "TransferFunction WhitePoint PrimaryChromaticities ReferenceBlackWhite",
    NAMESPACES["exif"]: "PixelXDimension PixelYDimension ColorSpace CompressedBitsPerPixel "
    "ComponentsConfiguration NativeDigest SubjectArea SubjectLocation",
    NAMESPACES["photoshop"]: "ColorMode ICCProfile LegacyIPTCDigest EmbeddedXMPDigest "
    "SidecarForExtension TextLayers",
    NAMESPACES["xmp"]: "Thumbnails",
    NAMESPACES["dc"]: "format",
    NAMESPACES["xmpNote"]: "HasExtendedXMP",
}
_STALE_PROPERTIES = frozenset(
    (namespace, name) for namespace, names in _STALE.items() for name in names.split()
)


@dataclass(frozen=True)
class Turn:
    """How a stored picture is turned to stand upright."""

    orientation: int  # as EXIF counts, 1 to 8
    width: int  # of the stored picture, in pixels
    height: int

    @property
    def swaps(self) -> bool:
        """Whether width and height change places."""
        return self.orientation > 4

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Return a point of the stored picture, both coordinates in [0, 1], in the upright one."""
        return {
            2: (1 - x, y),
            3: (1 - x, 1 - y),
            4: (x, 1 - y),
            5: (y, x),
            6: (1 - y, x),
            7: (1 - y, 1 - x),
            8: (y, 1 - x),
        }.get(self.orientation, (x, y))

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Return a point in pixels."""
        across, down = self.point(x / self.width, y / self.height)
        sides = (self.height, self.width) if self.swaps else (self.width, self.height)
        return across * sides[0], down * sides[1]

    def box(self, x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        """Return a rectangle by its left, top, width and height, in [0, 1]."""
        (left, top), (right, bottom) = self.point(x, y), self.point(x + w, y + h)
        return min(left, right), min(top, bottom), abs(right - left), abs(bottom - top)


def upright_xmp(xmp: bytes, turn: Turn, notes: list[str]) -> bytes:
    """Drop what describes the old file's bytes, and turn the regions of faces with the picture.

    Args:
        xmp: a packet, or nothing.
        turn: from the stored picture, which the packet describes.
        notes: gets a line where the packet is damaged.

    Returns:
        The packet of the upright picture; nothing where the packet is damaged.
    """
    if not xmp.strip(b"\0 \r\n\t"):
        return b""
    document = parse_xmp(xmp)
    try:
        if document is None:
            raise ValueError("not a packet")
        _drop_stale(document)
        if turn.orientation != 1:
            _turn_regions(document, turn)
        set_upright(document)
        return xmp_bytes(document)
    except Exception:  # what is well-formed may be odd all the same
        notes.append("its XMP data is damaged and was left out")
        return b""


def _drop_stale(document: minidom.Document) -> None:
    for description in descriptions(document):
        for node in list(properties(description)):
            name = node.namespaceURI, node.localName
            if name in _STALE_PROPERTIES or _is_stale(node.namespaceURI or ""):
                remove_node(description, node)


def _is_stale(namespace: str) -> bool:
    return namespace.startswith(_STALE_NAMESPACES) and not namespace.startswith(_LASTING_NAMESPACES)


def _turn_regions(document: minidom.Document, turn: Turn) -> None:
    """Turn the regions of the Metadata Working Group, of ACDSee, Microsoft and IPTC."""
    dimensions = [_Fields(node, _DIMENSIONS) for node in _holders(document, _DIMENSIONS, "w")]
    for size in dimensions:
        if turn.swaps and size.number("w") == turn.height != turn.width:
            return  # they were measured in the upright picture
    for node in _holders(document, _AREA, "x"):
        _turn_area(_Fields(node, _AREA), turn)
    for size in dimensions:
        if turn.swaps:
            size.put(w=size.text("h"), h=size.text("w"))
    for node in _holders(document, _PEOPLE, "Rectangle"):
        fields = _Fields(node, _PEOPLE)
        box = turn.box(*(float(part) for part in fields.text("Rectangle").split(",")))
        fields.put(Rectangle=", ".join(map(_short, box)))
    for node in _holders(document, IPTC_EXTENSION, "rbX"):
        _turn_boundary(_Fields(node, IPTC_EXTENSION), turn)


def _turn_area(area: "_Fields", turn: Turn) -> None:
    """Turn an area, which is given by its centre, and by sides or a diameter."""
    x, y = area.number("x"), area.number("y")
    is_relative = area.text("unit") != "pixel"
    x, y = turn.point(x, y) if is_relative else turn.pixel(x, y)
    area.put(x=_short(x), y=_short(y))
    if turn.swaps and area.text("w"):
        area.put(w=area.text("h"), h=area.text("w"))


def _turn_boundary(boundary: "_Fields", turn: Turn) -> None:
    """Turn a boundary: a rectangle by its top left corner, a circle or a corner by a point."""
    scale = (1.0, 1.0)
    if boundary.text("rbUnit") == "pixel":
        scale = float(turn.width), float(turn.height)
    x, y = boundary.number("rbX") / scale[0], boundary.number("rbY") / scale[1]
    w = h = 0.0
    if boundary.text("rbW"):
        w, h = boundary.number("rbW") / scale[0], boundary.number("rbH") / scale[1]
    x, y, w, h = turn.box(x, y, w, h)
    across, down = scale[::-1] if turn.swaps else scale
    boundary.put(rbX=_short(x * across), rbY=_short(y * down))
    if boundary.text("rbW"):
        boundary.put(rbW=_short(w * across), rbH=_short(h * down))


def _holders(document: minidom.Document, namespace: str, name: str) -> list[minidom.Element]:
    """Return the elements that have a field, as an attribute or as a child."""
    return [
        element
        for element in _elements(document)
        if element.hasAttributeNS(namespace, name)
        or any((c.namespaceURI, c.localName) == (namespace, name) for c in element.childNodes)
    ]


def _elements(node: minidom.Node) -> Iterator[minidom.Element]:
    for child in node.childNodes:
        if isinstance(child, minidom.Element):
            yield child
            yield from _elements(child)


class _Fields:
    """The fields of a structure, which RDF lets stand as attributes or as elements."""

    def __init__(self, element: minidom.Element, namespace: str):
        self._nodes: dict[str, minidom.Attr | minidom.Element] = {
            node.localName or "": node
            for node in (*attributes(element), *element.childNodes)
            if node.namespaceURI == namespace and isinstance(node, minidom.Attr | minidom.Element)
        }

    def text(self, name: str) -> str:
        return text_of(self._nodes[name]).strip() if name in self._nodes else ""

    def number(self, name: str) -> float:
        return float(self.text(name))

    def put(self, **values: str) -> None:
        for name, value in values.items():
            node = self._nodes[name]
            if isinstance(node, minidom.Attr):
                node.value = value
                continue
            for child in list(node.childNodes):
                node.removeChild(child)
            assert node.ownerDocument is not None
            node.appendChild(node.ownerDocument.createTextNode(value))


def _short(value: float) -> str:
    return f"{value:.6g}"
