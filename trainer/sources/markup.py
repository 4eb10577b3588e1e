"""XML and HTML parsed safely: no entity is expanded, nothing is fetched. The one place that knows lxml.

A document of an e-book is parsed as XML where it is XML, since an HTML parser may take `<title/>` for the start of a title that
never ends; by the HTML parser where it is not, which is what reading systems do.
"""

from __future__ import annotations

import re
from html.entities import html5
from typing import Any, cast

# lxml is compiled and comes without types; elements are Any to the rest of the program.
from lxml import etree, html  # pyright: ignore[reportAttributeAccessIssue]

_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]*);")
_XML_ENTITIES = {b"amp", b"lt", b"gt", b"quot", b"apos"}
_DECLARED_ENCODING = re.compile(rb"(?i)(?:charset|encoding)\s*=\s*[\"']?([\w-]+)")


class NotMarkup(ValueError):
    """What was to be parsed is neither XML nor HTML; says why."""


def parse_xml(content: bytes) -> Any:
    """The root element. Raises NotMarkup."""
    try:
        return etree.fromstring(content, etree.XMLParser(resolve_entities=False, no_network=True, **_WITHOUT_REMARKS))
    except etree.XMLSyntaxError as error:
        raise NotMarkup(f"it is no XML: {error}") from None


def parse_document(content: bytes) -> Any:
    """The root element of an XHTML or HTML document. Raises NotMarkup."""
    try:
        return parse_xml(_ENTITY.sub(_numeric, content))
    except NotMarkup:
        pass
    declared = _DECLARED_ENCODING.search(content[:1000])
    encoding = declared[1].decode() if declared else "utf-8"  # left to itself, this parser takes Latin-1
    try:
        return html.document_fromstring(content, parser=html.HTMLParser(encoding=encoding, **_WITHOUT_REMARKS))
    except (etree.ParserError, etree.XMLSyntaxError, LookupError) as error:
        raise NotMarkup(f"it is no HTML: {error}") from None


_WITHOUT_REMARKS = {"remove_comments": True, "remove_pis": True}


def _numeric(match: re.Match[bytes]) -> bytes:
    """&nbsp; by its number: XML knows five names, and books use all of HTML's."""
    letters = None if match[1] in _XML_ENTITIES else html5.get(f"{match[1].decode()};")
    return "".join(f"&#{ord(letter)};" for letter in letters).encode() if letters else match[0]


def name_of(element: Any) -> str:
    """The element's name without its namespace; empty for what is no element, such as an entity."""
    tag = cast("object", element.tag)
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""
