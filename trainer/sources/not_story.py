"""What of an e-book is not told: cover, title page, contents, notes, colophon and the like, by every mark that books give.

Good books say it by epub:type; others by the guide of EPUB 2, by what they call a file, by a class, or by a heading. The price
of going by names is a story that is called "Notes" or lies in a file `introduction.xhtml`, which is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_KINDS = re.compile(
    "acknowledgments|appendix|backmatter|bibliography|bridgehead|colophon|contributors|copyright-page|cover|dedication|"
    "endnotes?|epigraph|errata|footnotes?|foreword|frontmatter|glossary|halftitlepage|imprint|index|introduction|keywords|"
    "landmarks|learning-resources|loi|lot|noteref|other-credits|pagebreak|page-list|preface|rearnotes?|titlepage|toc"
)
"""Words of epub:type (EPUB 3 Structural Semantics Vocabulary 1.1)."""
_TOLD = {"prologue", "epilogue", "chapter", "bodymatter"}
"""Words that overrule those: a prologue in the front matter is told."""
_CLASSES = re.compile("page-?(?:num|no|number)|footnotes?|noteref|pg-boilerplate|pg-header|pg-footer|toc", re.IGNORECASE)
_TAGS = re.compile("head|script|style|figure|figcaption|table|svg|math|nav|audio|video|iframe|form|template")
_FILES = re.compile(
    r"(?:cover|(?:half-?)?title-?page|title|imprint|colophon|(?:un)?copyright|legal|(?:end|foot)?notes|dedication|epigraph|"
    r"acknowledge?ments?|about(?:-the)?-author|also-by|toc|nav|contents|index|bibliography|glossary|errata|loi|lot|"
    r"foreword|preface|introduction|appendix)(?:[-_.]?\d{1,3})?",
    re.IGNORECASE,
)
_GUIDE = re.compile(
    "cover|title-page|toc|index|glossary|acknowledgements|bibliography|colophon|copyright-page|dedication|epigraph|foreword|"
    "loi|lot|notes|preface",
    re.IGNORECASE,
)
"""Types of a reference in EPUB 2's guide."""
_HEADINGS = re.compile(
    r"(?:table of )?contents|(?:list of )?illustrations|(?:foot|end)?notes?|copyright|index|bibliography|glossary|dedication|"
    r"acknowledge?ments?|transcriber.s notes?|about the author|also by .*|the full project gutenberg licen[cs]e",
    re.IGNORECASE,
)


def by_kinds(kinds: Collection[str]) -> bool:
    """By the words of its epub:type."""
    return any(map(_KINDS.fullmatch, kinds)) and not _TOLD.intersection(kinds)


def is_told(kinds: Iterable[str]) -> bool:
    """By the words of its epub:type, it is story for certain."""
    return not _TOLD.isdisjoint(kinds)


def by_classes(classes: str | None) -> bool:
    """By its class attribute."""
    return bool(classes) and any(map(_CLASSES.fullmatch, (classes or "").split()))


def by_tag(name: str) -> bool:
    """By what element it is."""
    return _TAGS.fullmatch(name) is not None


def by_file(stem: str) -> bool:
    """By its file's name without the ending."""
    return _FILES.fullmatch(stem) is not None


def by_guide(kind: str) -> bool:
    """By what the guide calls it."""
    return _GUIDE.fullmatch(kind) is not None


def by_heading(heading: str) -> bool:
    """By what stands over it."""
    return _HEADINGS.fullmatch(heading.strip(" .:")) is not None
