"""The package document of an e-book (content.opf): what the book is called, whose it is, and its parts in reading order.

EPUB 2 and 3, and Standard Ebooks' additions. Forgiving where books are careless: a reference to nothing is one part
less, and not no book.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from trainer.sources import not_story
from trainer.sources.markup import parse_xml
from trainer.story_format import one_line

_DC = "{http://purl.org/dc/elements/1.1/}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DOCUMENTS = ("application/xhtml+xml", "text/html", "text/x-oeb1-document")


@dataclass(frozen=True)
class Package:
    """A book's description."""

    title: str
    author: str | None
    labels: tuple[str, ...]
    """Its subjects, Standard Ebooks' own first."""
    licence: str | None
    home: str | None
    """The repository or publisher's page that identifies it among books of one title."""
    parts: tuple[str, ...]
    """The documents that may hold story, in reading order, by their paths from the package's root."""

    @property
    def book(self) -> str | None:
        """What keeps the book on one side of a split, the same for every edition that says the same of itself."""
        return "/".join(filter(None, (self.home or self.author, self.title))) or None


def parse_package(content: bytes, path: str) -> Package:
    """Read the package document at this path. Raises ValueError, which says why it is none."""
    root = parse_xml(content)
    if root.find(f".//{_OPF}spine") is None:
        raise ValueError("it has no reading order (spine)")
    rights = _first(root, "rights")
    return Package(
        _first(root, "title") or "",
        ", ".join(_authors(root)) or None,
        tuple(dict.fromkeys([*_own_subjects(root), *_texts(root, "subject")])),
        "CC0-1.0" if rights and re.search(r"\bCC0\b", rights) else rights,
        _standard_ebooks_home(root),
        tuple(_parts(root, posixpath.dirname(path))),
    )


def _texts(root: Any, name: str) -> Iterator[str]:
    for element in root.iter(f"{_DC}{name}"):
        if text := one_line("".join(element.itertext())):
            yield text


def _first(root: Any, name: str) -> str | None:
    return next(_texts(root, name), None)


def _own_subjects(root: Any) -> Iterator[str]:
    for meta in root.iter(f"{_OPF}meta"):
        if meta.get("property") == "se:subject" and meta.text:
            yield one_line(meta.text)


def _authors(root: Any) -> Iterator[str]:
    """Creators, but for those said to be something else: EPUB 2 says it on the spot, EPUB 3 in a refinement."""
    roles = {
        (meta.get("refines") or "").removeprefix("#"): (meta.text or "").strip()
        for meta in root.iter(f"{_OPF}meta")
        if meta.get("property") == "role"
    }
    for creator in root.iter(f"{_DC}creator"):
        role = creator.get(f"{_OPF}role") or roles.get(creator.get("id") or "", "aut")
        if role == "aut" and (name := one_line("".join(creator.itertext()))):
            yield name


def _standard_ebooks_home(root: Any) -> str | None:
    """standardebooks/<repository>, as their repositories are named."""
    for identifier in _texts(root, "identifier"):
        if match := re.search(r"standardebooks\.org/ebooks/([\w/-]+)", identifier):
            return f"standardebooks/{match[1].strip('/').replace('/', '_')}"
    return None


def _parts(root: Any, folder: str) -> Iterator[str]:
    items = {item.get("id"): item for item in root.iter(f"{_OPF}item")}
    left_out = set(_guide(root))
    for reference in root.iter(f"{_OPF}itemref"):
        item = items.get(reference.get("idref"))
        if item is None or reference.get("linear") == "no" or item.get("media-type") not in _DOCUMENTS:
            continue
        href = unquote(item.get("href") or "").partition("#")[0]
        stem = posixpath.basename(href).partition(".")[0]
        is_nav = "nav" in (item.get("properties") or "").split()
        if href and not is_nav and href not in left_out and not not_story.by_file(stem):
            yield posixpath.normpath(posixpath.join(folder, href))


def _guide(root: Any) -> Iterator[str]:
    """The documents that EPUB 2's guide calls cover, title page and so on."""
    for reference in root.iter(f"{_OPF}reference"):
        if not_story.by_guide(reference.get("type") or ""):
            yield unquote(reference.get("href") or "").partition("#")[0]
