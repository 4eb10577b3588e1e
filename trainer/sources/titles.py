"""The title of a text alone: "The Storm" of "Moby Dick, Chapter 9: The Storm", nothing of "Chapter 9"."""

from __future__ import annotations

import re

from trainer.story_format import one_line

ROMAN = r"(?=[IVXLC])(?:C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})"
_UNITS = "one|two|three|four|five|six|seven|eight|nine"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_ORDINALS = "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last"
NUMBER = rf"(?:\d{{1,3}}|{ROMAN}|(?:{_TENS})(?:[ -](?:{_UNITS}))?|{_TEENS}|{_UNITS}|(?:the )?(?:{_ORDINALS}))"
"""A chapter's number as books write it: 9, IX, Nine, Twenty-nine, the First."""
DIVISION = r"(?:chapter|chap\.|part|book|section|volume|vol\.|letter|stave|canto|act|scene|episode)"
_NUMBERED = re.compile(rf"(?:{DIVISION}\s+{NUMBER}(?!\w)\s*[:.,—–-]*\s*)+", re.IGNORECASE)
_BARE_NUMBER = re.compile(rf"(?:\d{{1,3}}|{ROMAN})(?:[.:)]\s*|$)")


def own_title(title: str, book: str | None = None) -> str:
    """What of a title is this text's own; empty where it only counts."""
    title = one_line(title)
    if book:
        title = title.removeprefix(f"{book}, ") if title != book else title
    title = _NUMBERED.sub("", title, count=1) if _NUMBERED.match(title) else title
    title = _BARE_NUMBER.sub("", title, count=1) if _BARE_NUMBER.match(title) else title
    return title if re.search(r"[^\W\d_]{3}", title) else ""
