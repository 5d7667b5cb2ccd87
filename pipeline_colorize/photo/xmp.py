"""XMP packets (ISO 16684-1): read safely, added to, joined, split, and marked as coloured here."""

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.dom import minidom

from defusedxml import minidom as hardened

from .limits import LARGEST_TEXT
from .record import SYSTEM, Mark

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
TIFF = "http://ns.adobe.com/tiff/1.0/"
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": IPTC_EXTENSION,
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "xmpRights": "http://ns.adobe.com/xap/1.0/rights/",
}
"""Namespaces of the properties that are written here, by their usual prefixes."""

_XML = "http://www.w3.org/XML/1998/namespace"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_EXTENSION = "HasExtendedXMP"
_EMPTY = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>
<?xpacket end="w"?>"""
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DEEPEST_XML = 64  # elements inside one another
_MOST_TAGS = 50_000  # of XML, opening and closing


@dataclass(frozen=True)
class Property:
    """A property of a photograph: where it stands, and in what form."""

    prefix: str  # one of NAMESPACES
    name: str
    form: str = "text"  # or "Alt" (text by language), "Bag", "Seq"


def parse_xmp(xmp: bytes) -> minidom.Document | None:
    """Return the document of a packet; `None` where it is damaged, too large, or not plain XML.

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
    return document if document.getElementsByTagNameNS(RDF, "RDF") else None


def _depth(document: minidom.Document) -> int:
    """Count how many elements lie inside one another, for each of which a walk calls itself."""
    depth = 0
    nodes: list[Any] = list(document.childNodes)
    while nodes:
        depth += 1
        nodes = [child for node in nodes for child in node.childNodes]
    return depth


def xmp_bytes(document: minidom.Document) -> bytes:
    """Return a document as the packet that a file holds."""
    return "".join(node.toxml() for node in document.childNodes).encode()


def descriptions(document: minidom.Document) -> list[minidom.Element]:
    """Return the elements whose attributes and children are a photograph's properties."""
    return [
        child
        for rdf in document.getElementsByTagNameNS(RDF, "RDF")
        for child in rdf.childNodes
        if child.namespaceURI == RDF and child.localName == "Description"
    ]


def attributes(element: minidom.Element) -> list[minidom.Attr]:
    """Return the attributes of an element that are properties."""
    outside = (None, RDF, _XML, _XMLNS)
    return [node for node in element.attributes.values() if node.namespaceURI not in outside]


def properties(description: minidom.Element) -> Iterator[minidom.Attr | minidom.Element]:
    """Return the properties of a description, each an attribute or an element."""
    yield from attributes(description)
    yield from [node for node in description.childNodes if isinstance(node, minidom.Element)]


def remove_property(description: minidom.Element, namespace: str, name: str) -> None:
    """Take a property out of a description, in whichever form it stands there."""
    for node in list(properties(description)):
        if (node.namespaceURI, node.localName) == (namespace, name):
            remove_node(description, node)


def remove_node(description: minidom.Element, node: minidom.Attr | minidom.Element) -> None:
    """Take an attribute or an element out of a description."""
    if isinstance(node, minidom.Attr):
        description.removeAttributeNode(node)
    else:
        description.removeChild(node)


def text_of(node: minidom.Node) -> str:
    """Return all text inside an element, or an attribute's value."""
    if isinstance(node, minidom.Attr):
        return node.value
    return "".join(
        child.data if isinstance(child, minidom.Text) else text_of(child)
        for child in node.childNodes
    )


def with_properties(xmp: bytes, wanted: dict[Property, list[str]]) -> tuple[bytes, list[Property]]:
    """Add properties that a packet lacks.

    Returns:
        The packet, and those of the properties that say something else in it, and were not added.
    """
    document = parse_xmp(xmp) or minidom.parseString(_EMPTY.encode())
    there = {
        (node.namespaceURI, node.localName): text_of(node)
        for description in descriptions(document)
        for node in properties(description)
    }
    differ, missing = [], {}
    for item, values in wanted.items():
        found = there.get((NAMESPACES[item.prefix], item.name))
        if found is None:
            missing[item] = values
        elif not all(value in found for value in values):
            differ.append(item)
    if missing:
        _add(document, missing)
    return xmp_bytes(document), differ


def _add(document: minidom.Document, wanted: dict[Property, list[str]]) -> None:
    description = document.createElementNS(RDF, "rdf:Description")
    description.setAttribute("xmlns:rdf", RDF)
    description.setAttributeNS(RDF, "rdf:about", _about(document))
    for prefix in {item.prefix: None for item in wanted}:
        description.setAttribute(f"xmlns:{prefix}", NAMESPACES[prefix])
    for item, values in wanted.items():
        element = document.createElementNS(NAMESPACES[item.prefix], f"{item.prefix}:{item.name}")
        if item.form == "text":
            element.appendChild(document.createTextNode(_plain(" ".join(values))))
        else:
            element.appendChild(_array(document, item.form, values))
        description.appendChild(element)
    document.getElementsByTagNameNS(RDF, "RDF")[0].appendChild(description)


def _array(document: minidom.Document, form: str, values: list[str]) -> minidom.Element:
    array = document.createElementNS(RDF, f"rdf:{form}")
    for value in values:
        item = document.createElementNS(RDF, "rdf:li")
        if form == "Alt":
            item.setAttribute("xml:lang", "x-default")
        item.appendChild(document.createTextNode(_plain(value)))
        array.appendChild(item)
    return array


def _plain(text: str) -> str:
    """Text without the signs that XML does not allow."""
    return _FORBIDDEN.sub("", text)


def _about(document: minidom.Document) -> str:
    """Find the name that a packet gives to its photograph, the same in all descriptions."""
    found = descriptions(document)
    return found[0].getAttributeNS(RDF, "about") if found else ""


def joined_xmp(main: bytes, other: bytes) -> bytes:
    """Add to a packet what it lacks of another one's properties; a sound one stays as it is."""
    document, second = parse_xmp(main), parse_xmp(other)
    if document is None or second is None:
        return (main or other) if second is None else other
    there = {
        (node.namespaceURI, node.localName)
        for description in descriptions(document)
        for node in properties(description)
    }
    about = _about(document)
    rdf = document.getElementsByTagNameNS(RDF, "RDF")[0]
    for description in descriptions(second):
        added = document.importNode(_with_namespaces(description), True)
        for node in list(properties(added)):
            if (node.namespaceURI, node.localName) in there:
                remove_node(added, node)
        if list(properties(added)):
            added.setAttributeNS(RDF, "rdf:about", about)
            rdf.appendChild(added)
    return xmp_bytes(document)


def _with_namespaces(description: minidom.Element) -> minidom.Element:
    """Return a description that names all its prefixes itself, as those above it did."""
    node = description.parentNode
    while isinstance(node, minidom.Element):
        for attribute in node.attributes.values():
            if attribute.name.startswith("xmlns:") and not description.hasAttribute(attribute.name):
                description.setAttribute(attribute.name, attribute.value)
        node = node.parentNode
    return description


def split_xmp(xmp: bytes, most: int) -> tuple[bytes, bytes]:
    """Divide a packet in two for JPEG, whose segments are short (XMP Specification 3, 1.1.3.1).

    Returns:
        The main packet, of at most `most` bytes, and the extended one, which is empty where all of
        it fits into the main one. The largest properties go into the extended one.
    """
    document = parse_xmp(xmp)
    if len(xmp) <= most or document is None:
        return xmp, b""
    rest = minidom.parseString(_EMPTY.split("?>")[1].rpartition("<?")[0].strip())
    nodes = [
        (len(node.toxml()) if isinstance(node, minidom.Element) else len(node.value), number, node)
        for number, node in enumerate(
            node for description in descriptions(document) for node in properties(description)
        )
    ]
    room = most - 200  # for the name of the extension
    for _, _, node in sorted(nodes, key=lambda item: item[:2], reverse=True):
        if len(xmp_bytes(document)) <= room:
            break
        _move(node, rest)
    extended = xmp_bytes(rest)
    name = Property("xmpNote", _EXTENSION)
    _add(document, {name: [hashlib.md5(extended).hexdigest().upper()]})
    return xmp_bytes(document), extended


def _move(node: minidom.Attr | minidom.Element, target: minidom.Document) -> None:
    """Move a property to another packet, with the namespaces that it needs."""
    source = node.ownerElement if isinstance(node, minidom.Attr) else node.parentNode
    assert isinstance(source, minidom.Element)
    _with_namespaces(source)
    description = target.importNode(source, False)
    if isinstance(node, minidom.Attr):
        for other in attributes(description):
            if (other.namespaceURI, other.localName) != (node.namespaceURI, node.localName):
                description.removeAttributeNode(other)
    else:
        for other in attributes(description):
            description.removeAttributeNode(other)
        description.appendChild(target.importNode(node, True))
    remove_node(source, node)
    target.getElementsByTagNameNS(RDF, "RDF")[0].appendChild(description)


def marked_xmp(xmp: bytes, mark: Mark) -> bytes:
    """Return an XMP packet with the mark added; what else it says is kept, unless it is damaged."""
    if (document := parse_xmp(xmp)) is not None:
        # What is well-formed may be odd all the same, and is no reason to lose a picture.
        with contextlib.suppress(Exception):
            return _with_mark(document, mark)
    return _with_mark(minidom.parseString(_EMPTY.encode()), mark)


def _with_mark(document: minidom.Document, mark: Mark) -> bytes:
    lines = mark.lines()
    for description in document.getElementsByTagNameNS(RDF, "Description"):
        for name in lines:
            remove_property(description, IPTC_EXTENSION, name)
    set_upright(document)
    _add(document, {Property("Iptc4xmpExt", name): [text] for name, text in lines.items()})
    return xmp_bytes(document)


def set_upright(document: minidom.Document) -> None:
    """Let a packet say that its picture is stored upright, if it says anything about that."""
    for description in document.getElementsByTagNameNS(RDF, "Description"):
        node = description.getAttributeNodeNS(TIFF, "Orientation")
        if node is not None:
            node.value = "1"
    for element in document.getElementsByTagNameNS(TIFF, "Orientation"):
        for child in list(element.childNodes):
            element.removeChild(child)
        element.appendChild(document.createTextNode("1"))


def read_mark(xmp: bytes) -> dict[str, str]:
    """Read the marked properties of an XMP packet by IPTC name; none if it is not marked."""
    document = parse_xmp(xmp)
    if document is None:
        return {}
    found = {}
    for name in Mark("", {}).lines():
        for element in document.getElementsByTagNameNS(IPTC_EXTENSION, name):
            found[name] = text_of(element)
    return found if found.get("AISystemUsed") == SYSTEM else {}
