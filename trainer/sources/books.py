"""A book in plain text: wrapped lines joined into paragraphs, cut into its chapters where it has headings.

A heading is a paragraph of its own that begins with CHAPTER, PART, BOOK and the like and a number, or is a Roman numeral that
counts on from the one before, or a numeral with a title in capitals. What precedes the first heading (title page, preface) is a
text of its own, but lists of chapters are left out. Project Gutenberg's header and licence stay, since the cleaner knows them:
from the header come title and author.

One chapter is in memory at a time. A chapter of more than 4 million letters, longer than War and Peace, is handed on in pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from trainer.sources.lines import Lines
from trainer.sources.options import ReadOptions
from trainer.sources.source_text import SourceText, clean, what_is_no_text
from trainer.sources.titles import DIVISION, NUMBER, ROMAN, own_title
from trainer.story_format import one_line

LONGEST_CHAPTER = 4_000_000
_HEADING = re.compile(rf"{DIVISION}\s+{NUMBER}(?=\W|$)(?P<rest>.*)", re.IGNORECASE)
_NAMED = re.compile(r"(?:prologue|epilogue)\W*", re.IGNORECASE)
_ROMAN_ALONE = re.compile(rf"({ROMAN})\.?")
_ROMAN_TITLE = re.compile(rf"{ROMAN}\.\s+[^a-z]{{3,}}")
_HEADER_FIELD = re.compile(r"(Title|Author):\s+(\S.*)")
_HEADER_LINES = 200
_CONTENTS = re.compile(r"(?:table of )?contents:?", re.IGNORECASE)


@dataclass
class _Chapter:
    """What is gathered of a chapter until the next begins."""

    title: str = ""
    paragraphs: list[str] = field(default_factory=list[str])
    size: int = 0
    just_begun: bool = False
    """Nothing but the heading has been read, so that the title may still come."""

    def add(self, paragraph: str) -> None:
        self.paragraphs.append(paragraph)
        self.size += len(paragraph)
        self.just_begun = False


def read_book(lines: Lines, content: Iterable[str], held_out: bool, options: ReadOptions) -> Iterator[SourceText]:
    """The chapters of a book in order; the whole book where it has no headings."""
    content = iter(content)
    head = list(islice(content, _HEADER_LINES))
    title, author = _header(head)
    book = "/".join(filter(None, (author, title))) or lines.path.name
    chapters = _chapters(_blocks(chain(head, content)), has_verse=_is_flush_left(head))
    for number, chapter in enumerate(chapters, 1):
        if lines.torn:
            return
        text = clean("\n\n".join(chapter.paragraphs))
        origin = f"{lines.path} chapter {number}"
        if problem := what_is_no_text(text):
            options.fault(f"{origin} {problem}.")
        elif text:
            yield SourceText(text, None, None, chapter.title or None, book, held_out, (), origin, author=author)


def _header(head: Iterable[str]) -> tuple[str | None, str | None]:
    """Title and author as Project Gutenberg's header names them."""
    found = {match[1]: one_line(match[2]) for line in head if (match := _HEADER_FIELD.match(line))}
    return found.get("Title"), found.get("Author")


def _is_flush_left(head: Iterable[str]) -> bool:
    """Tell a book whose paragraphs begin at the margin; only there an indent means verse."""
    filled = [line for line in head if line.strip()]
    return 2 * sum(line[0].isspace() for line in filled) <= len(filled)


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """The lines between empty lines, indents kept."""
    block: list[str] = []
    for line in lines:
        if line.strip():
            block.append(line.rstrip())
        elif block:
            yield block
            block = []
    if block:
        yield block


def _chapters(blocks: Iterable[list[str]], *, has_verse: bool) -> Iterator[_Chapter]:
    chapter, counted = _Chapter(), 0
    for block in blocks:
        if _is_contents(block):
            continue
        value = _roman_value(block)
        heading = _heading(block)
        if heading is None and value in (1, counted + 1):
            # "I." right under "I. A SCANDAL IN BOHEMIA" is the first part of it, and not another one.
            heading, counted = "" if chapter.paragraphs else chapter.title, value
        if heading is not None:
            if chapter.paragraphs:
                yield chapter
            chapter = _Chapter(heading, just_begun=True)
        elif chapter.just_begun and not chapter.title and _may_be_title(block):
            chapter.title, chapter.just_begun = own_title(block[0]), False
        else:
            chapter.add(join_wrapped(block, has_verse=has_verse))
            if chapter.size > LONGEST_CHAPTER:
                yield chapter
                chapter = _Chapter()
    if chapter.paragraphs:
        yield chapter


def _heading(block: Sequence[str]) -> str | None:
    """The title that a heading gives, empty where it only counts; None for a block that is no heading."""
    first = one_line(block[0])
    if len(block) > 3 or len(" ".join(block)) > 200:
        return None
    if _NAMED.fullmatch(first) and len(block) == 1:
        return first.strip(" .").capitalize()
    if len(block) == 1 and _ROMAN_TITLE.fullmatch(first):
        return own_title(first)
    match = _HEADING.fullmatch(first) if first[0].isupper() else None
    # "Part two of the plan went wrong." is a sentence: a heading's number is followed by a stop, a capital, or nothing.
    if match is None or (match["rest"].strip() and not re.match(r"\s*[.:—–-]|\s+[^a-z\s]", match["rest"])):
        return None
    return own_title(" ".join(block))


def _roman_value(block: Sequence[str]) -> int:
    """The number that the block is, if it is nothing but a Roman numeral; else 0."""
    match = _ROMAN_ALONE.fullmatch(block[0].strip()) if len(block) == 1 else None
    digits = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}[letter] for letter in (match[1] if match else "")]
    return sum(-digit if digit < after else digit for digit, after in zip(digits, [*digits[1:], 0], strict=False))


def _may_be_title(block: Sequence[str]) -> bool:
    """Tell a title under its heading from the first line of speech: short, alone, without a sentence's end."""
    line = block[0].strip()
    return len(block) == 1 and len(line) <= 70 and not re.search(r"[.,;:!?\"'”’]$", line) and bool(own_title(line))


def _is_contents(block: Sequence[str]) -> bool:
    """Tell a list of chapters: its word, or several headings in one block."""
    headings = sum(_HEADING.fullmatch(one_line(line)) is not None for line in block)
    return headings > 1 or (len(block) == 1 and _CONTENTS.fullmatch(block[0].strip()) is not None)


def join_wrapped(block: Sequence[str], *, has_verse: bool = True) -> str:
    """The paragraph that wrapped lines make; lines that are all indented are verse and stay lines."""
    if has_verse and len(block) > 1 and all(line[0].isspace() for line in block):
        return "\n".join(block)
    joined = block[0].strip()
    for line in block[1:]:
        # "to-" and "day" are to-day, and a dash at a line's end stands without spaces.
        joined += line.strip() if re.search(r"\w-$|--$|—$", joined) else f" {line.strip()}"
    return joined
