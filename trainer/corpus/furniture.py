"""What a book has besides its story: licences, credits, notes, page numbers, titles on each page, ornaments.

Each function takes a text whose paragraphs are parted by one blank line, and gives it back without; the same text where it
finds nothing. The price of rules without a model: they know the usual forms alone, and a page number in words stays.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

SCENE_BREAK = "* * *"

_START = re.compile(r"\*{3} ?START OF TH(?:E|IS) PROJECT GUTENBERG E(?:BOOK|TEXT)(?:[^*]{0,300}\*{3}|[^\n]*)", re.IGNORECASE)
_END = re.compile(
    r"\*{3} ?END OF TH(?:E|IS) PROJECT GUTENBERG|^End of (?:the |this )?Project Gutenberg|\*{3} ?START: FULL LICENSE"
    r"|^THE FULL PROJECT GUTENBERG LICENSE",
    re.IGNORECASE | re.MULTILINE,
)
_SMALL_PRINT = re.compile(r"\*END ?\*? ?THE SMALL PRINT![^\n]*", re.IGNORECASE)
_OF_GUTENBERG = re.compile(r"Project\s+Gutenberg|gutenberg\.(?:org|net)|pgdp\.net|Distributed\s+Proofread", re.IGNORECASE)
_HINTS = ("utenberg", "UTENBERG", "pgdp", "roofread")
_CREDIT = re.compile(
    r"(?i:(?:this )?(?:e-?text|e-?book|file)? ?(?:was )?(?:produced|prepared|transcribed|scanned|digitized) (?:from|by)) [A-Z]"
)
_CREDIT_LETTERS = 600
_FIRST_PARAGRAPHS = 8


def gutenberg(text: str) -> str:
    """Cut to what stands between the marks, then take out each short paragraph that still speaks of the project."""
    if not any(hint in text for hint in _HINTS):
        return text
    start = _START.search(text)
    body = text[start.end() :] if start else text
    end = _END.search(body)
    body = body[: end.start()] if end else body
    small_print = _SMALL_PRINT.search(body)
    body = body[small_print.end() :] if small_print else body
    framed = start is not None or small_print is not None
    return "\n\n".join(
        paragraph
        for number, paragraph in enumerate(body.strip("\n").split("\n\n"))
        if not _is_credit(paragraph, anonymous=framed and number < _FIRST_PARAGRAPHS)
    )


def _is_credit(paragraph: str, *, anonymous: bool) -> bool:
    """Tell a paragraph about the making of the file; one that names no project only where `anonymous` ones are expected."""
    if len(paragraph) > _CREDIT_LETTERS:
        return False
    return bool(_OF_GUTENBERG.search(paragraph) or (anonymous and _CREDIT.match(paragraph)))


_NOTE = re.compile(r"\[\s*Transcriber.{0,3} Notes?\b[^\[\]]{0,3000}\]", re.IGNORECASE)
_NOTE_PARAGRAPH = re.compile(r"Transcriber.{0,3} Notes?\b", re.IGNORECASE)
_NOTE_HEADING_LETTERS = 30
_LAST_PART = 0.9


def transcribers_notes(text: str) -> str:
    """A note is what its brackets hold, else its paragraph. A heading takes the next along, near the end all that follows."""
    if "ranscriber" not in text and "RANSCRIBER" not in text:
        return text
    paragraphs = _NOTE.sub("", text).split("\n\n")
    kept: list[str] = []
    after_heading = False
    for number, paragraph in enumerate(paragraphs):
        is_note = _NOTE_PARAGRAPH.match(paragraph) is not None
        is_heading = is_note and len(paragraph) < _NOTE_HEADING_LETTERS
        if is_heading and number > _LAST_PART * len(paragraphs):
            break
        if not is_note and not after_heading:
            kept.append(paragraph)
        after_heading = is_heading
    return "\n\n".join(kept)


_MARKS = re.compile(r"\[(?:\d{1,4}[a-z]?|[A-Z*†‡]|(?:Pg|Page|p)\.? ?[\dxvil]{1,5})\]|\{\d{1,4}\}")
_INSERTS = re.compile(
    r"\[(?:Illustrations?|Frontispiece|Footnotes?|Sidenotes?|Blank Page|Decoration|Headpiece|Tailpiece)\b[^\[\]]{0,3000}\]",
    re.IGNORECASE,
)


def brackets(text: str) -> str:
    """What editions put between brackets. A tag such as [FANTASY] or words that an author bracketed stay."""
    if "[" not in text and "{" not in text:
        return text
    return _INSERTS.sub("", _MARKS.sub("", text))


_PAGE_NUMBER = re.compile(r"[-\[({|~ ]*(?:(?:page|pg|p)\.? ?)?(?:\d{1,3}|[xvil]{1,6})[-\])}|~. ]*", re.IGNORECASE)
_SECTION_NUMBER = re.compile(r"[a-z]+\.?|\d{1,2}\.", re.IGNORECASE)
_LONGEST_PAGE_NUMBER = 15
_LETTERS_PER_PAGE = 200


def page_numbers(text: str) -> str:
    """Lines like - 12 - and Page xii go; 12 alone only where it parts a sentence, which is joined, or 13 is a page on.

    Numbers that head a section (12. and XII) and those in a sum stay.
    """
    lines = text.split("\n")
    numbers = [place for place, line in enumerate(lines) if _is_page_number(line)]
    if not numbers:
        return text
    parting = {place for place in numbers if _parts_a_sentence(lines, place)}
    marked = {place for place in numbers if not lines[place].isdigit()}
    going = parting | marked | _counting_on(lines, [place for place in numbers if place not in marked])
    kept: list[str] = []
    joining = False
    for place, line in enumerate(lines):
        if place in going:
            joining = joining or place in parting
        elif joining and line:
            while not kept[-1]:
                kept.pop()
            kept[-1] += f" {line}"
            joining = False
        elif not joining:
            kept.append(line)
    return "\n".join(kept)


def _is_page_number(line: str) -> bool:
    return (
        0 < len(line) <= _LONGEST_PAGE_NUMBER
        and _PAGE_NUMBER.fullmatch(line) is not None
        and _SECTION_NUMBER.fullmatch(line) is None
    )


def _parts_a_sentence(lines: Sequence[str], place: int) -> bool:
    before = next((line for line in reversed(lines[max(0, place - 2) : place]) if line), "")
    after = next((line for line in lines[place + 1 : place + 3] if line), "")
    return bool(re.search(r"[^\W\d][,;-]?$", before)) and after[:1].islower()


def _counting_on(lines: Sequence[str], places: Sequence[int]) -> set[int]:
    """Those numbers of which the one before or after is the next page's, with a page's text between."""
    found: set[int] = set()
    for one, other in pairwise(places):
        if int(lines[other]) == int(lines[one]) + 1 and sum(map(len, lines[one:other])) >= _LETTERS_PER_PAGE:
            found |= {one, other}
    return found


_PAGES = 5
_PAGED_LETTERS = 5_000
_LONGEST_HEAD = 70
_NUMBERED = re.compile(r"[\d\[\](){}|.~ -]*(.*?)[\d\[\](){}|~ -]*")
_DIVISION = re.compile(r"(?:chapter|part|book|section|act|scene|letter|canto|day|volume)\b", re.IGNORECASE)


def running_heads(text: str) -> str:
    """A head is a short line without a stop, each of its long words with a capital, that is there five times and more."""
    if len(text) < _PAGED_LETTERS:
        return text
    lines = text.split("\n")
    heads = Counter(filter(None, map(_head, lines)))
    repeated = {head for head, count in heads.items() if count >= _PAGES}
    return "\n".join(line for line in lines if _head(line) not in repeated) if repeated else text


def _head(line: str) -> str:
    """The title that a line may be, without its page number; empty for another line."""
    if not 3 < len(line) < _LONGEST_HEAD or line[-1] in ".,;:!?\"'”’":
        return ""
    match = _NUMBERED.fullmatch(line)
    head = match[1] if match else ""
    titled = all(word[0].isupper() or len(word) < 4 for word in head.split())
    return head if len(head) > 3 and titled and head[-1].isalnum() and not _DIVISION.match(head) else ""


_BREAK = re.compile(r"(?:[*#~•·⁂❦❧☙◦=+–—_-] ?)+")


def scene_breaks(text: str) -> str:
    """Each paragraph of ornaments is one SCENE_BREAK; several in a row are one, and none opens or ends the text."""
    if not any(line and not line[0].isalnum() and _BREAK.fullmatch(line) for line in text.split("\n")):
        return text
    kept: list[str] = []
    for paragraph in text.split("\n\n"):
        if not all(map(_BREAK.fullmatch, paragraph.split("\n"))):
            kept.append(paragraph)
        elif kept and kept[-1] != SCENE_BREAK:
            kept.append(SCENE_BREAK)
    return "\n\n".join(kept[:-1] if kept and kept[-1] == SCENE_BREAK else kept)
