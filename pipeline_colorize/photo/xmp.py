"""XMP packets: kept, and marked with how the colours came to be."""

import contextlib
from xml.dom import minidom

from defusedxml import minidom as hardened

from .limits import LARGEST_TEXT
from .record import SYSTEM, Mark

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

_TIFF = "http://ns.adobe.com/tiff/1.0/"

_EMPTY_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}"/></x:xmpmeta>
<?xpacket end="w"?>"""

_DEEPEST_XML = 64  # elements inside one another

_MOST_TAGS = 50_000  # of XML, opening and closing


def marked_xmp(xmp: bytes, mark: Mark) -> bytes:
    """An XMP packet with the mark added; what else it says is kept, unless it is damaged."""
    if (document := _parsed_xmp(xmp)) is not None:
        # What is well-formed may be odd all the same, and is no reason to lose a picture.
        with contextlib.suppress(Exception):
            return _with_mark(document, mark)
    return _with_mark(minidom.parseString(_EMPTY_XMP.encode()), mark)


def _with_mark(document: minidom.Document, mark: Mark) -> bytes:
    rdf = document.getElementsByTagNameNS(_RDF, "RDF")[0]
    properties = mark.lines()
    for description in list(rdf.getElementsByTagNameNS(_RDF, "Description")):
        for name in properties:
            _remove_property(description, _IPTC, name)
    _set_upright(rdf)
    rdf.appendChild(_description(document, properties, _about(rdf)))
    return "".join(node.toxml() for node in document.childNodes).encode()


def _parsed_xmp(xmp: bytes) -> minidom.Document | None:
    """The document of a packet; `None` where it is damaged, too large, or not plain XML.

    A packet has no document type; one that has is refused, since entities can grow without end.
    """
    if not 0 < len(xmp) <= LARGEST_TEXT or xmp.count(b"<") > _MOST_TAGS:
        return None
    try:
        document = hardened.parseString(xmp.strip(b"\0 \r\n\t"), forbid_dtd=True)
    except Exception:  # expat's errors, and bad encodings
        return None
    if _depth(document) > _DEEPEST_XML:
        return None
    return document if document.getElementsByTagNameNS(_RDF, "RDF") else None


def _depth(document: minidom.Document) -> int:
    """How many elements lie inside one another; what works on a document calls itself for each."""
    depth, nodes = 0, [document]
    while nodes := [child for node in nodes for child in node.childNodes]:
        depth += 1
    return depth


def _remove_property(description: minidom.Element, namespace: str, name: str) -> None:
    if description.hasAttributeNS(namespace, name):
        description.removeAttributeNS(namespace, name)
    for child in list(description.childNodes):
        if child.namespaceURI == namespace and child.localName == name:
            description.removeChild(child)


def _set_upright(rdf: minidom.Element) -> None:
    for description in rdf.getElementsByTagNameNS(_RDF, "Description"):
        if description.hasAttributeNS(_TIFF, "Orientation"):
            description.getAttributeNodeNS(_TIFF, "Orientation").value = "1"
    for element in rdf.getElementsByTagNameNS(_TIFF, "Orientation"):
        for child in list(element.childNodes):
            element.removeChild(child)
        element.appendChild(element.ownerDocument.createTextNode("1"))


def _about(rdf: minidom.Element) -> str:
    """The name that a packet gives to its photograph; all its descriptions must give the same."""
    descriptions = rdf.getElementsByTagNameNS(_RDF, "Description")
    return descriptions[0].getAttributeNS(_RDF, "about") if descriptions else ""


def _description(
    document: minidom.Document, properties: dict[str, str], about: str
) -> minidom.Element:
    description = document.createElementNS(_RDF, "rdf:Description")
    description.setAttribute("xmlns:rdf", _RDF)
    description.setAttribute("xmlns:Iptc4xmpExt", _IPTC)
    description.setAttributeNS(_RDF, "rdf:about", about)
    for name, value in properties.items():
        element = document.createElementNS(_IPTC, f"Iptc4xmpExt:{name}")
        element.appendChild(document.createTextNode(value))
        description.appendChild(element)
    return description


def read_mark(xmp: bytes) -> dict[str, str]:
    """The marked properties of an XMP packet, by IPTC name; empty where colours are not ours."""
    document = _parsed_xmp(xmp)
    if document is None:
        return {}
    found = {}
    for name in Mark("", {}).lines():
        for element in document.getElementsByTagNameNS(_IPTC, name):
            texts = [node.data for node in element.childNodes if hasattr(node, "data")]
            found[name] = "".join(texts)
    return found if found.get("AISystemUsed") == SYSTEM else {}
