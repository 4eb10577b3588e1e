"""Break a story into pages that fit a message, at the best place, and never move a break that people have seen.

A break is decided only when there is a character that no longer fits, and only by the characters before it. So it is
the same however much is written later. When the storyteller trims the end of a story, the breaks shown before are kept
(`starts`), and a page that lost all its text goes. The price: a page is at times half empty, and a word or a paragraph
that overflows moves to the next page while it is being written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

# The best place first: where to cut, and how full the page must be for it to be worth it.
_PLACES = (
    (re.compile(r"\n\s*\n"), 0.5),  # between paragraphs
    (re.compile(r"\n"), 0.5),  # between lines
    (re.compile(r"(?<=[.!?…])[\"'”’»)*_]*\s"), 0.5),  # after a sentence
    (re.compile(r"\s"), 0.25),  # between words
)
_JOINERS = "\u200d\ufe0e\ufe0f"  # zero-width joiner and the variation selectors
_LONGEST_CLUSTER = 32  # characters; a family of emoji has 11, and what is longer was made to do harm


def units(text: str) -> int:
    """The length in UTF-16 units, which is how the Discord client counts: most emoji are two."""
    return len(text) + sum(char > "\uffff" for char in text)


def page_starts(text: str, limit: int, starts: Sequence[int] = ()) -> tuple[int, ...]:
    """Where the second and later pages of `text` start, no page over `limit` UTF-16 units (2 at least).

    `starts` are those that were found before, for the text as far as it had grown; they are kept while there is still
    text behind them.
    """
    end = len(text.rstrip())
    found = [start for start in starts if start < end]
    while (start := _next_start(text, found[-1] if found else 0, limit)) is not None:
        found.append(start)
    return tuple(found)


def pages(text: str, starts: Sequence[int]) -> list[str]:
    """The pages themselves, without white space around them; none for a blank text, and none of them is empty."""
    edges = (0, *starts, len(text))
    return [page for a, b in pairwise(edges) if (page := text[a:b].strip())]


def clip(text: str, limit: int) -> str:
    """The text if it fits `limit`, else what fits of it and an ellipsis."""
    text = text.strip()
    starts = page_starts(text, limit)
    if not starts:
        return text
    start = page_starts(text, limit - 2)[0]
    return f"{text[:start].rstrip()} …"


def _next_start(text: str, start: int, limit: int) -> int | None:
    """Where the page after the one at `start` begins; None if all the rest fits."""
    start += len(text[start:]) - len(text[start:].lstrip())
    end = _end_of_what_fits(text, start, limit)
    if not text[end:].strip():
        return None
    cut = _best_cut(text[start : end + 1]) or _hard_cut(text, start, end) - start
    rest = text[start + cut :]
    return start + cut + len(rest) - len(rest.lstrip())


def _end_of_what_fits(text: str, start: int, limit: int) -> int:
    end = min(len(text), start + limit)
    while (excess := units(text[start:end]) - limit) > 0:
        end -= (excess + 1) // 2
    return end


def _best_cut(head: str) -> int | None:
    """Where to cut in `head`, which is what fits and one character more; None if it is all one word."""
    for place, fill in _PLACES:
        # A match ends with white space, and that may be the one character more: it is stripped.
        cuts = [match.end() for match in place.finditer(head) if match.end() >= fill * len(head)]
        if cuts:
            return cuts[-1]
    return None


def _hard_cut(text: str, start: int, end: int) -> int:
    """`end`, or a little before it if that would tear an emoji or an accent from its letter."""
    for cut in range(end, max(start, end - _LONGEST_CLUSTER), -1):
        if not _joined(text, cut):
            return cut
    return end


def _joined(text: str, cut: int) -> bool:
    """Do the characters on both sides of `cut` make one sign? An approximation of Unicode's UAX 29."""
    before, after = text[cut - 1], text[cut]
    if before == "\u200d" or after in _JOINERS or unicodedata.category(after) in {"Mn", "Me", "Mc"}:
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff":  # skin tones
        return True
    return _is_flag_half(after) and _flag_halves_before(text, cut) % 2 == 1


def _is_flag_half(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _flag_halves_before(text: str, cut: int) -> int:
    count = 0
    while count < cut and _is_flag_half(text[cut - 1 - count]):
        count += 1
    return count
