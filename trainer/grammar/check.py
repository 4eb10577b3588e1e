"""What is wrong with the plots of a grammar, and how alike its stories are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from random import Random

from trainer.grammar.errors import GrammarError
from trainer.grammar.grammar import MAX_WORDS, MIN_WORDS, Genre, Grammar
from trainer.grammar.plots import Plot
from trainer.grammar.telling import Cast, tell
from trainer.variety import variety

TELLINGS = 40
_BAD_ARTICLE = re.compile(r"\b(?:the|an?) (?:an?|the)\b|\ba [aeio]\w*", re.IGNORECASE)
_MAY_HAVE_A = ("a eu", "a ew", "a one", "a once")
_MAY_BE_DOUBLED = {"had", "that", "very", "knock", "no", "ha", "far", "long"}


def problems(genre: Genre) -> Iterator[str]:
    """One sentence for each thing to mend, found by telling every plot many times."""
    for plot in genre.plots:
        found: dict[str, str] = {}
        try:
            lengths = [_problems_of_telling(genre, plot, seed, found) for seed in range(TELLINGS)]
        except GrammarError as error:
            yield str(error)
            continue
        fitting = sum(MIN_WORDS <= length <= MAX_WORDS for length in lengths)
        if fitting < 0.7 * TELLINGS:
            yield f"{plot.where}: {plot.name!r} runs from {min(lengths)} to {max(lengths)} words; aim at 70 to 140."
        for beat in plot.beats:
            if len(beat.ways) < 3:
                yield f"{beat.ways[0].where}: this beat is said in {len(beat.ways)} ways; three or more are needed."
        for problem, text in found.items():
            yield f"{plot.where}: {plot.name!r} {problem}: {text}"


def _problems_of_telling(genre: Genre, plot: Plot, seed: int, found: dict[str, str]) -> int:
    """The words of one telling; what is wrong with it goes to `found` with its text."""
    cast = Cast(genre.lists, Random(f"{plot.name} {seed}"))
    subject = cast.draw_noun(plot.about)
    cast.bound[plot.about] = subject
    text = tell(plot, cast)
    said = text.lower().count(subject.short.lower())
    if said < 2:
        found.setdefault(f"names its {plot.about} {said} times", text)
    for paragraph in text.split("\n\n"):
        if paragraph.count('"') % 2:
            found.setdefault("has an odd quotation mark", paragraph)
        if not re.search(r"""[.!?:…]["')]*$""", paragraph):
            found.setdefault("has a paragraph without an end", paragraph)
    for doubled in set(re.findall(r"\b(\w+) \1\b", text.lower())) - _MAY_BE_DOUBLED:
        found.setdefault(f"says {doubled!r} twice", text)
    for match in _BAD_ARTICLE.finditer(text):
        if not match.group().lower().startswith(_MAY_HAVE_A):
            found.setdefault(f"says {match.group()!r}; write {{a slot}} for an article that fits", text)
    if "\n\n" not in text:
        found.setdefault("is one paragraph", text)
    if not text.isascii():
        found.setdefault("has letters or signs outside of ASCII", text)
    return len(text.split())


def say_check(grammar: Grammar, names: Sequence[str], stories: int = 400) -> int:
    """Print what is wrong and the figures; the number of problems."""
    count = 0
    for name in names:
        genre = grammar.genres[name]
        for problem in problems(genre):
            count += 1
            print(f"{problem}\n")
        random = Random(1)
        texts = [grammar.tell(name, random).text for _ in range(stories)]
        alike = variety([texts], 3000, stories)
        lengths = sorted(len(text.split()) for text in texts)
        ways = sum(len(beat.ways) for plot in genre.plots for beat in plot.beats)
        print(
            f"{name}: {len(genre.plots)} plots, {ways} ways; {len(set(texts))} different of {stories} stories, "
            f"{lengths[0]} to {lengths[-1]} words, median {lengths[len(lengths) // 2]}; 5-grams shared: {alike.shared:.1%}, "
            f"over half in {alike.over_half:.2%} of pairs; distinct-4 {alike.distinct_4:.3f}"
        )
    return count
