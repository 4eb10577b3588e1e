"""Tell a plot: choose a way for each beat and fill its slots, each with one thing throughout the story.

    {hero} {he} {him} {his} {himself}     the hero, and pronouns for {hero}
    {friend} {friend:he} {friend:his} ... another person: friend, rival, elder or stranger
    {thing} {a thing} {the thing}         what the story is about, or what it has besides; {the thing.short} for "the octopus"
    {job} {a job} {job.tool} {job2}       an entry of a word list, a part of it, another entry of the same list
    [at last|in the end|]                 one of these

A slot that begins with a capital ({Hero}, {The thing}) gives one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from trainer.grammar.errors import GrammarError
from trainer.grammar.nouns import FORMS, PRONOUNS, Noun, with_article
from trainer.grammar.plots import KINDS, Beat, Plot, Way
from trainer.grammar.words import Entry, WordList

CAST = ("hero", "friend", "rival", "elder", "stranger")
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
_SLOT = re.compile(r"\{(?:([Aa]n?|[Tt]he) )?([A-Za-z][a-z-]*)(\d?)(?:\.([a-z]+))?(?::(he|him|his|himself))?\}")
_SENTENCE_START = re.compile(r"(^[\"']?|(?<!\.\.)[.!?] [\"']?)([a-z])", re.MULTILINE)
_ADJECTIVE_SHARE = 0.7


@dataclass(frozen=True)
class Person:
    """Somebody in a story."""

    name: str
    pronoun: str


@dataclass
class Cast:
    """Who and what a story has, each thing bound once."""

    lists: Mapping[str, WordList]
    random: Random
    bound: dict[str, Person | Noun | Entry] = field(default_factory=dict[str, Person | Noun | Entry])

    def fill(self, text: str, where: str) -> str:
        """The text with its choices made and its slots filled. Raises GrammarError for a slot that nothing can fill."""
        while match := _CHOICE.search(text):
            text = text[: match.start()] + self.random.choice(match.group(1).split("|")) + text[match.end() :]
        filled = _SLOT.sub(lambda slot: self._slot(slot, where), text)
        if "{" in filled or "}" in filled or "[" in filled:
            raise GrammarError(f"{where}: {filled!r} still has a brace or bracket: a slot is {{name}} or {{the name.part:he}}.")
        return filled

    def _slot(self, match: re.Match[str], where: str) -> str:
        article, key, digit, part, form = match.groups()
        capital = (article or key)[0].isupper()
        key = key[0].lower() + key[1:]
        article = article.lower() if article else ""
        word = self._pronoun("hero", key, where) if key in FORMS else self._word(article, key, digit, part, form, where)
        return word[0].upper() + word[1:] if capital and word else word

    def _word(self, article: str, key: str, digit: str, part: str | None, form: str | None, where: str) -> str:
        if form is not None:
            return self._pronoun(f"{key}{digit}", form, where)
        found = self._find(key, digit, where)
        if isinstance(found, Person):
            return found.name
        if isinstance(found, Noun):
            return found.form(article, short=part == "short")
        word = self.fill(found.parts[self._part(key, part, where)], where)
        return f"the {word}" if article == "the" else with_article(word) if article else word

    def _part(self, key: str, part: str | None, where: str) -> int:
        parts = self.lists[key].parts
        if part is None:
            return 0
        if part not in parts:
            raise GrammarError(f"{where}: the list {key} has no part {part!r}; it has {', '.join(parts)}.")
        return parts.index(part)

    def _pronoun(self, key: str, form: str, where: str) -> str:
        found = self._find(key.rstrip("0123456789"), key[len(key.rstrip("0123456789")) :], where)
        if isinstance(found, Entry):
            raise GrammarError(f"{where}: {key} is a word of a list and has no pronoun.")
        return PRONOUNS[found.pronoun][FORMS.index(form)]

    def _find(self, key: str, digit: str, where: str) -> Person | Noun | Entry:
        name = f"{key}{digit}"
        if name not in self.bound:
            if key in CAST:
                self.bound[name] = self._person(key)
            elif key in KINDS:
                self.bound[name] = self.draw_noun(key)
            elif key in self.lists:
                self.bound[name] = self._entry(key)
            else:
                raise GrammarError(f"{where}: nothing is called {key!r}: there is no such list of words.")
        return self.bound[name]

    def _entry(self, key: str) -> Entry:
        """A word of the list that this story has not used yet."""
        used = {entry.parts[0] for entry in self.bound.values() if isinstance(entry, Entry)}
        used |= {person.name for person in self.bound.values() if isinstance(person, Person)}
        for _ in range(20):
            entry = self.lists[key].draw(self.random)
            if entry.parts[0] not in used:
                return entry
        return self.lists[key].draw(self.random)

    def _person(self, role: str) -> Person:
        other = self.bound.get({"hero": "friend", "friend": "hero"}.get(role, ""))
        if isinstance(other, Person):  # two pronouns, so that a reader never asks who is meant
            pronoun = "he" if other.pronoun == "she" else "she"
        else:
            pronoun = self.random.choice(("she", "he"))
        initials = {person.name[0] for person in self.bound.values() if isinstance(person, Person)}
        initials |= {bound.parts[0][0] for name, bound in self.bound.items() if isinstance(bound, Entry) and "-name" in name}
        name = ""
        for _ in range(20):
            entry = self.lists[f"elder-{pronoun}" if role == "elder" else f"{pronoun}-name"].draw(self.random)
            name = Cast(self.lists, self.random).fill(entry.parts[0], role)
            if name[0] not in initials:
                break
        return Person(name, pronoun)

    def draw_noun(self, kind: str) -> Noun:
        """A noun of the lists, with an adjective mostly."""
        taken = {noun.short for noun in self.bound.values() if isinstance(noun, Noun)}
        entry = self.lists[kind].draw(self.random)
        for _ in range(20):
            if entry.parts[0].split()[-1] not in taken:
                break
            entry = self.lists[kind].draw(self.random)
        short = entry.parts[0]
        adjective = f"{kind}-kind"
        bare = short
        if adjective in self.lists and self.random.random() < _ADJECTIVE_SHARE:
            drawn = self.lists[adjective].draw(self.random).parts[0]
            bare = short if drawn in short.split() else f"{drawn} {short}"
        return Noun(bare, short, entry.parts[1] if len(entry.parts) > 1 else "it")


def tell(plot: Plot, cast: Cast) -> str:
    """One telling of the plot, paragraphs parted by a blank line. Raises GrammarError."""
    random = cast.random
    turn = random.choice(plot.paths) if plot.paths else None
    told = ""
    for beat in plot.beats:
        way = _choose(beat, turn, random)
        if way is None:
            continue
        text = cast.fill(way.text, way.where).replace(" / ", "\n\n")
        told += text if not told else (" " if beat.joined else "\n\n") + text
    return polish(told)


def _choose(beat: Beat, turn: str | None, random: Random) -> Way | None:
    fitting = [way for way in beat.ways if way.path in (None, turn)]
    if not fitting or (beat.optional and random.random() < 0.5):
        return None
    return random.choice(fitting)


def polish(text: str) -> str:
    """Spaces in order, where a choice was empty, and a capital at the start of each sentence."""
    text = re.sub(r" +([,.!?;:])", r"\1", re.sub(r" {2,}", " ", text))
    text = "\n\n".join(part.strip() for part in text.split("\n\n"))
    return _SENTENCE_START.sub(lambda match: match.group(1) + match.group(2).upper(), text)
