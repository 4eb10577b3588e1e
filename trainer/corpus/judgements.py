"""Which texts are left out as a whole, since no mending makes stories of them.

Each judgement says why in a few words, with the figure it went by: whoever finds his texts gone sees what to change.
The limits are lenient: of 1,568 chapters of Standard Ebooks, 2,742 stories of the project and 964 picture books and tales none
is left out. The price is that a table of contents with long titles passes.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from trainer.corpus.language import check_language, other_language
from trainer.sources.source_text import what_is_no_text

LEAST_LETTERS = 0.6
"""Of all that is no white space."""
MOST_CAPITALS = 0.5
"""Of all letters."""
MOST_OF_ONE_LINE = 0.3
"""Of all letters; it must be there four times at least."""
MOST_SAID_AGAIN = 0.7
"""Of all runs of four words. Prose is at 0.03 at most, a tale with a growing refrain at 0.68, four times the same at 0.75."""
_REPEATS = 4
_RUN = 4
_WINDOW = 8_000
"""Letters looked at for runs, from the middle of a long text."""

_WHITE = string.whitespace.encode()
_CAPITALS = string.ascii_uppercase.encode()
_LETTERS = string.ascii_letters.encode()


@dataclass(frozen=True)
class Judgement:
    """A rule that leaves texts out."""

    name: str
    says: str
    """What it left out, for the report."""
    objection: Callable[[str], str | None]
    """Why this text is left out; None for a good one."""


def judgements(min_words: int, language: str | None) -> tuple[Judgement, ...]:
    """All judgements in the order in which they are made. Raises CorpusError for an unknown language."""
    found = [
        Judgement("too short", f"left out texts of less than {min_words} words", lambda text: _too_short(text, min_words)),
        Judgement("no text", "left out texts with a word without end or half a character", what_is_no_text),
        Judgement("few letters", f"left out texts with less than {LEAST_LETTERS:.0%} letters", _few_letters),
        Judgement("capitals", f"left out texts with more than {MOST_CAPITALS:.0%} of letters in capitals", _capitals),
        Judgement("repetitive", "left out texts that say the same again and again", _repetitive),
    ]
    if language is not None:
        check_language(language)
        says = f"left out texts in another language than {language}"
        found.append(Judgement("other language", says, lambda text: _in_other_language(text, language)))
    return tuple(found)


def _too_short(text: str, least: int) -> str | None:
    # A word takes two characters with its space: long texts need no counting.
    words = len(text.split()) if len(text) < 100 * least else least
    return f"{words} words" if words < least else None


def _few_letters(text: str) -> str | None:
    raw = text.encode("ascii", "replace")
    letters, shown = len(raw) - len(raw.translate(None, _LETTERS)), len(raw.translate(None, _WHITE))
    if letters < LEAST_LETTERS * shown and not text.isascii():  # other letters are asked for only where it may matter
        letters = sum(map(str.isalpha, text))
    return f"{letters / shown:.0%} letters" if letters < LEAST_LETTERS * shown else None


def _capitals(text: str) -> str | None:
    raw = text.encode("ascii", "replace")
    capitals, letters = (len(raw) - len(raw.translate(None, kind)) for kind in (_CAPITALS, _LETTERS))
    return f"{capitals / letters:.0%} capitals" if capitals > MOST_CAPITALS * letters else None


def _repetitive(text: str) -> str | None:
    line, times = Counter(text.split("\n")).most_common(1)[0] if "\n" in text else ("", 0)
    if times >= _REPEATS and times * len(line) > MOST_OF_ONE_LINE * len(text):
        return f"{times} times {line[:40]!r}"
    start = max(0, (len(text) - _WINDOW) // 2)
    words = text[start : start + _WINDOW].split()
    runs = max(1, len(words) - _RUN + 1)
    again = 1 - len(set(zip(*(words[offset:] for offset in range(_RUN)), strict=False))) / runs
    return f"{again:.0%} of its runs of {_RUN} words said again" if len(words) > _RUN and again > MOST_SAID_AGAIN else None


def _in_other_language(text: str, wanted: str) -> str | None:
    found = other_language(text, wanted)
    return f"language {found}" if found else None
