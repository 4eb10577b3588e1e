"""What a story is about: a noun with its articles, its short form and its pronoun.

Any words will do, also such as no list has: "clockwork octopus" is a being if its last word is known as one, else a thing. The
price of an open vocabulary is that a noun nobody knows is taken for a thing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import inflect

PRONOUNS = {
    "he": ("he", "him", "his", "himself"),
    "she": ("she", "her", "her", "herself"),
    "it": ("it", "it", "its", "itself"),
}
FORMS = ("he", "him", "his", "himself")
"""The forms as plots write them, whoever is meant."""
_ARTICLE = re.compile(r"(?:an?|the|my|some|one)\s+", re.IGNORECASE)
_AFTER_THE_NOUN = re.compile(
    r"\s+(?:who|whom|whose|that|which|where|when|is|was|are|were|has|had|can|cannot|could|will|would|of|in|on|at|by|for|from|"
    r"with|without|under|over|behind|beneath|inside|between|near|to|and|but)\s.*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Noun:
    """One thing, place or being of a story."""

    bare: str
    """As after an adjective: "clockwork octopus"."""
    short: str
    """As it is called later on: "octopus"."""
    pronoun: str = "it"
    proper: bool = False
    """A name of its own, that takes no article."""

    def form(self, article: str, short: bool = False) -> str:
        """The noun with "a", "the" or no article ("")."""
        word = self.short if short else self.bare
        if self.proper or not article:
            return word
        return f"the {word}" if article == "the" else with_article(word)


@cache
def _inflect() -> inflect.engine:
    import inflect

    return inflect.engine()


@cache
def with_article(word: str) -> str:
    """The word with "a" or "an", as it is spoken."""
    return _inflect().a(word)  # pyright: ignore[reportArgumentType] (its Word is a str with a length)


def head_of(phrase: str) -> str:
    """The word that the phrase is about: "octopus" of "clockwork octopus", "castle" of "castle in the clouds"."""
    return _AFTER_THE_NOUN.sub("", phrase).split()[-1]


def noun_from(prompt: str, kinds: Mapping[str, str]) -> tuple[str, Noun]:
    """The kind (thing, place, being) and noun of a prompt as people type it. `kinds` knows the kind of some words.

    What follows the noun in a sentence ("who can't swim") is left away: the plot has its own.
    """
    words = " ".join(prompt.split()).strip(" .,!?:;\"'")
    proper = bool(re.match(r"(?!(?:A|An|The|My|Some|One)\b)[A-Z][a-z]+(?:\s[A-Z]|$)", words))
    words = _ARTICLE.sub("", words)
    of = re.match(r"\S+(?: \S+)? of [^ ]+(?: [^ ]+)?", words)
    phrase = of.group() if of else _AFTER_THE_NOUN.sub("", words)
    phrase = " ".join(phrase.split()[:5]) or "thing"
    if not proper:
        phrase = phrase[0].lower() + phrase[1:]
    head = head_of(phrase)
    one = head if proper else _singular(head)
    if one != head:  # plots speak of one: of many, a story is told of a last one
        phrase = f"{phrase.removesuffix(head)}{one}".strip()
    kind = kinds.get(one.lower(), "thing")
    return kind, Noun(phrase, phrase if proper else one, _pronoun_of(one) if kind == "being" else "it", proper)


_WOMEN = """girl woman queen princess witch mother daughter sister aunt grandmother widow bride nun lady goddess maid mermaid
actress duchess waitress heroine niece wife hen"""
_MEN = """boy man king prince wizard father son brother uncle grandfather widower groom monk lord god knight sailor emperor duke
waiter hero nephew husband"""
_SHE, _HE = frozenset(_WOMEN.split()), frozenset(_MEN.split())


def _pronoun_of(word: str) -> str:
    return "she" if word.lower() in _SHE else "he" if word.lower() in _HE else "it"


@cache
def _singular(word: str) -> str:
    if not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    return str(_inflect().singular_noun(word) or word)  # pyright: ignore[reportArgumentType]
