"""What every source is read into: one text, with where it was read, whose it is and what it may be used for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from trainer.story_format import genre_name, one_line


@dataclass(frozen=True, slots=True)
class SourceText:
    """One text as its source has it: a short story, a line, or a chapter of thousands of words."""

    text: str
    """Paragraphs parted by one blank line."""
    genre: str | None
    """The tag that its one label makes; None without a label, and for several."""
    prompt: str | None
    title: str | None
    book: str
    """What must stay on one side of the split: the book, or the text itself."""
    held_out: bool
    """Named as held-out by its file, its folder or its split."""
    labels: tuple[str, ...] = ()
    """Its labels as the source has them, before any mapping: "Sci-Fi & Fantasy", or a book's subjects."""
    origin: str = ""
    """Where it was read: "file:line", "file row 7", "file chapter 3"."""
    licence: str | None = None
    author: str | None = None
    attribution: str | None = None
    """Whom a licence such as CC BY asks to name."""


def batched(texts: Iterable[SourceText], characters: int) -> Iterator[list[SourceText]]:
    """Texts in batches that hold about so many characters, a long text alone more."""
    batch: list[SourceText] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text.text)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def genre_of(labels: Sequence[str]) -> str | None:
    """The tag that the labels make without any mapping: that of the only one, if it can be a tag."""
    return genre_name(labels[0]) if len(labels) == 1 else None


_OTHER_SPACES = tuple(letter for letter in map(chr, range(1, 0x3001)) if letter.isspace() and letter not in " \n")
_LONG_WORD = 1000
"""Letters. German has none of a hundred."""


def clean(text: str) -> str:
    """The text with stray white space gone: one blank line between paragraphs, one space between words."""
    if "\r" in text or "\x00" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    if _is_clean(text):
        return text
    paragraphs = re.split(r"\n[^\S\n]*\n", text)
    lines = (("\n".join(filter(None, map(one_line, part.split("\n"))))) for part in paragraphs)
    return "\n\n".join(part for part in lines if part)


def _is_clean(text: str) -> bool:
    """Whether `clean` would change nothing. Searches for what must not be there cost a fifth of taking the text to pieces."""
    if text[:1].isspace() or text[-1:].isspace() or "  " in text or "\n\n\n" in text:
        return False
    return not any(space in text for space in _OTHER_SPACES) and all(line == line.strip() for line in text.split("\n"))


def what_is_no_text(text: str) -> str | None:
    """Say why this is no text: a word without end, which a tokenizer takes minutes for, or half a character; None for text."""
    if _may_have_long_word(text) and (word := re.search(rf"\w{{{_LONG_WORD},}}|\S{{20000,}}", text)):
        return f"has a word of {len(word.group()):,} characters: take out what is no prose"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "has half of a character (a lone surrogate): write the text anew, as UTF-8"
    return None


def _may_have_long_word(text: str) -> bool:
    """Look for half a long word without a space, at each half of one: a word that long has such a half in it."""
    half = _LONG_WORD // 2
    for start in range(0, len(text) - half + 1, half):
        if text.find(" ", start, start + half) < 0 and len(text[start : start + half].split()) == 1:
            return True
    return False
