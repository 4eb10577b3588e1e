"""Cut long texts into passages that fit the context, at paragraph ends and, where a paragraph is too long, at sentence ends.

The passages of a text are of about one length rather than full ones and a scrap: a chapter of 1,100 tokens and a room of
1,000 makes two of 550. No word is lost; a sentence longer than the room is cut between words, which real prose hardly has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import ceil

CountTokens = Callable[[Sequence[str]], list[int]]
"""The length of each text in tokens."""

_CHARACTERS_IN_A_TOKEN = 16
"""Text with more of them for each token of the room is cut, uncounted: counting a book takes as long as counting its parts."""
_SENTENCE_END = re.compile(r"""[.!?…]+["'”’)\]]*\s+(?=["'“‘(\[]*[A-Z0-9])""")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Col|Gen|Lt|Rev|Hon|No|vs|etc|[A-Z])\.\s*$")
_SCENE_BREAK = re.compile(r"[*\s#~_-]+")


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph; joined by a space they are the paragraph."""
    found: list[str] = []
    start = 0
    for match in _SENTENCE_END.finditer(paragraph):
        if not _ABBREVIATION.search(paragraph[start : match.end()]):
            found.append(paragraph[start : match.end()].strip())
            start = match.end()
    return [*found, paragraph[start:].strip()] if paragraph[start:].strip() else found


def cut(text: str, room: int, count: CountTokens) -> list[str]:
    """The text as passages of at most `room` tokens each, all of its words in order; scene breaks at the edges go."""
    (passages,) = cut_together([text], room, count)
    return passages


def cut_together(texts: Sequence[str], room: int, count: CountTokens) -> list[list[str]]:
    """The passages of each text, as `cut` has them. Those that may fit are counted in one call, which can use all cores."""
    short = [len(text) <= _CHARACTERS_IN_A_TOKEN * room for text in texts]
    lengths = iter(count([text for text, is_short in zip(texts, short, strict=True) if is_short]))
    fits = [is_short and next(lengths) <= room for is_short in short]
    return [[text] if whole else _parts(text, room, count) for text, whole in zip(texts, fits, strict=True)]


def _parts(text: str, room: int, count: CountTokens) -> list[str]:
    """The passages of a text that does not fit as a whole."""
    pieces = _pieces(text.split("\n\n"), room, count)
    # One token of each piece is the blank line or space that joins it to the next; encoded apart it may count twice.
    lengths = [length + 2 for length in count([piece for piece, _ in pieces])]
    target = ceil(sum(lengths) / ceil(sum(lengths) / room))
    passages: list[str] = []
    current, used = "", 0
    for (piece, joint), length in zip(pieces, lengths, strict=True):
        if current and (used + length > room or used + length / 2 > target):
            passages.append(current)
            current, used = "", 0
        current = f"{current}{joint}{piece}" if current else piece
        used += length
    return [p for p in (_trim_scene_breaks(passage) for passage in [*passages, current]) if p]


def _pieces(paragraphs: Sequence[str], room: int, count: CountTokens) -> list[tuple[str, str]]:
    """The parts that must stay whole, each with what joins it to the one before."""
    pieces: list[tuple[str, str]] = []
    for paragraph, length in zip(paragraphs, count(paragraphs), strict=True):
        if length + 2 <= room:
            pieces.append((paragraph, "\n\n"))
            continue
        parts = [part for sentence in sentences(paragraph) for part in _words(sentence, room, count)]
        pieces += [(part, " " if index else "\n\n") for index, part in enumerate(parts)]
    return pieces


def _words(sentence: str, room: int, count: CountTokens) -> list[str]:
    """The sentence in halves of its words, or of its characters where it is one word, until each fits."""
    if count([sentence])[0] + 2 <= room or len(sentence) < 2:
        return [sentence]
    words = sentence.split(" ")
    half = len(words) // 2
    first, second = (
        (" ".join(words[:half]), " ".join(words[half:]))
        if half
        else (sentence[: len(sentence) // 2], sentence[len(sentence) // 2 :])
    )
    return [*_words(first, room, count), *_words(second, room, count)]


def _trim_scene_breaks(passage: str) -> str:
    paragraphs = passage.split("\n\n")
    while paragraphs and _SCENE_BREAK.fullmatch(paragraphs[0]):
        paragraphs.pop(0)
    while paragraphs and _SCENE_BREAK.fullmatch(paragraphs[-1]):
        paragraphs.pop()
    return "\n\n".join(paragraphs)
