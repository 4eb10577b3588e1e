"""A document of an e-book into the chapters that are in it: their own titles and their paragraphs.

Left out is what `not_story` knows, and headings: the title is kept apart. Scene breaks, and the headings of a chapter's parts,
become a paragraph `* * *`; a line's end that the book sets (verse, a letter) stays one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trainer.sources import not_story
from trainer.sources.markup import name_of
from trainer.sources.titles import own_title
from trainer.story_format import one_line

SCENE_BREAK = "* * *"
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = re.compile(
    "address|article|aside|blockquote|body|center|dd|div|dl|dt|fieldset|footer|header|html|li|main|ol|p|pre|section|ul"
)
_EPUB_TYPE = "{http://www.idpf.org/2007/ops}type"
_TYPESETTING = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))
"""Soft hyphens, joiners and spaces without width: marks for a typesetter."""
_ORNAMENT = re.compile(r"[*·•⁂~#\s—–-]+")


@dataclass
class Chapter:
    """A chapter, or what there is of one in this document."""

    title: str = ""
    heading: str = ""
    """The whole of what the title is from, "Chapter IX" included."""
    level: int = 0
    """Of the heading that it began with; 0 for none."""
    paragraphs: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        """Its paragraphs, without scene breaks at the edges."""
        first, last = 0, len(self.paragraphs)
        while first < last and self.paragraphs[first] == SCENE_BREAK:
            first += 1
        while last > first and self.paragraphs[last - 1] == SCENE_BREAK:
            last -= 1
        return "\n\n".join(self.paragraphs[first:last])


def is_left_out(root: Any) -> bool:
    """Tell a document that is no part of the story by its own words, or that is mostly links: a table of contents."""
    body = next((element for element in root.iter() if name_of(element) == "body"), root)
    if not_story.by_kinds(_kinds(body)) and not any(not_story.is_told(_kinds(section)) for section in body):
        return True
    letters = len(_plain(body))
    linked = sum(len(_plain(link)) for link in body.iter() if name_of(link) == "a" and link.get("href"))
    return 0 < letters < 2 * linked


def chapters(root: Any, book_title: str) -> Iterator[Chapter]:
    """The chapters of a document in order. A heading no deeper than the first one begins the next."""
    chapter = Chapter()
    for kind, content, level in _blocks(root):
        if kind == "text":
            chapter.paragraphs.append(content)
        elif kind == "break":
            chapter.paragraphs.append(SCENE_BREAK)
        elif content.casefold() == book_title.casefold():
            continue
        elif chapter.text and (not chapter.level or level <= chapter.level):
            yield chapter
            chapter = Chapter(own_title(content, book_title), content, level)
        elif chapter.text:
            chapter.paragraphs.append(SCENE_BREAK)
        else:
            # Headings that follow each other, as CHAPTER I and its title do, are one; the first of them has the rank.
            chapter.title = chapter.title or own_title(content, book_title)
            chapter.heading = chapter.heading or content
            chapter.level = chapter.level or level
    yield chapter


Piece = tuple[str, str, int]
"""What it is ("text", "heading", "break"; inside, "inline" and "edge"), its text, and a heading's level."""


def _blocks(root: Any) -> Iterator[Piece]:
    """Paragraphs, headings and scene breaks: inline text gathered up to the next edge of a block."""
    gathered: list[str] = []
    for kind, content, level in _pieces(root):
        if kind == "inline":
            gathered.append(content)
            continue
        if paragraph := _paragraph(gathered):
            yield "text", paragraph, 0
        gathered = []
        if kind != "edge":
            yield kind, content, level
    if paragraph := _paragraph(gathered):
        yield "text", paragraph, 0


def _paragraph(gathered: list[str]) -> str:
    lines = "".join(gathered).translate(_TYPESETTING).split("\n")
    text = "\n".join(filter(None, map(one_line, lines)))
    return SCENE_BREAK if text and _ORNAMENT.fullmatch(text) else text


def _pieces(element: Any) -> Iterator[Piece]:
    """An element's text and edges in order. lxml keeps the text after an element with it, so that is left to the caller."""
    name = name_of(element)
    if _is_skipped(element, name):
        return
    if name in _HEADINGS or name == "hgroup":
        yield "heading", _heading_text(element), _level(element)
    elif name == "br":
        yield "inline", "\n", 0
    elif name == "hr":
        yield "break", "", 0
    elif name == "img":
        # A drop cap that is drawn: the letter is in its description.
        yield "inline", letter if len(letter := element.get("alt") or "") == 1 else "", 0
    else:
        edges = [("edge", "", 0)] if _BLOCKS.fullmatch(name) else []
        yield from edges
        yield from _inside(element)
        yield from edges


def _inside(element: Any) -> Iterator[Piece]:
    yield "inline", _spaced(element.text), 0
    for child in element:
        yield from _pieces(child)
        yield "inline", _spaced(child.tail), 0


def _is_skipped(element: Any, name: str) -> bool:
    if not name or not_story.by_tag(name) or not_story.by_kinds(_kinds(element)) or not_story.by_classes(element.get("class")):
        return True
    return name == "sup" and any(name_of(child) == "a" for child in element)  # a note's number, where no epub:type says so


def _heading_text(heading: Any) -> str:
    """What a heading says; of one that marks its title, as Standard Ebooks' do, the title alone."""
    marked = next((element for element in heading.iter() if "title" in _kinds(element)), heading)
    # The lines of a heading may be elements of their own, which must not run together.
    lines = [content if kind == "inline" else f" {content} " for kind, content, _ in _inside(marked)]
    return one_line("".join(lines).translate(_TYPESETTING))


def _level(heading: Any) -> int:
    return min((_HEADINGS[name] for element in heading.iter() if (name := name_of(element)) in _HEADINGS), default=2)


def _kinds(element: Any) -> list[str]:
    """The words of its epub:type; an HTML parser keeps the name as it was written."""
    return str(element.get(_EPUB_TYPE) or element.get("epub:type") or "").split()


def _spaced(text: str | None) -> str:
    """Text as it shows: a line's end in the source is a space."""
    return re.sub(r"\s+", " ", text) if text else ""


def _plain(element: Any) -> str:
    return one_line("".join(element.itertext()))
