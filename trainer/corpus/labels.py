"""The genre that a text's labels mean, as people, shops and libraries write them: "scary", "FICTION / Horror / General".

A label is read word by word against the table of phrases in trainer/data/labels.toml, the longest phrase first, so that
"scientific romance" is no romance. Plurals, case, hyphens and accents make no difference. The price of a table is that it
knows English only and nothing that nobody put there: what it does not know is counted, so that a person can say it once, as
`--label western=ADVENTURE`.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from trainer.errors import BadSetting
from trainer.story_format import genre_name, one_line

NEUTRAL = ""
"""What a phrase means that says nothing about a genre."""
OTHER_LABELS = "(other labels)"
MOST_LABELS = 1000
"""Different labels that are remembered: a column of texts, taken for labels by mistake, must not fill the memory."""

Phrase = tuple[str, ...]

_STEP = re.compile(r"\s+/\s+|\s*[>|]\s*")
_PART = re.compile(r"[/>|;:,()\[\]{}\"“”]|--|\s[-–—]\s")
_WORD = re.compile(r"[^\W_]+")
_PAIR = re.compile(r"(.+?=[^,=]*)(?:,|$)")
_TOPIC = re.compile(r"--.*\b(fiction|stories|tales|drama)\b", re.IGNORECASE)
"""A library's subject, "England -- Fiction": a topic of which some tell the genre and the others are no complaint."""


class Table(NamedTuple):
    """What labels.toml says."""

    order: tuple[str, ...]
    """The genres by rank: of several that a text's labels name, the first one is its genre."""
    phrases: Mapping[Phrase, str]


@cache
def table() -> Table:
    """Read labels.toml, once."""
    content = tomllib.loads(files("trainer").joinpath("data/labels.toml").read_text(encoding="utf-8"))
    phrases = {words(phrase): genre for genre, listed in content["genres"].items() for phrase in listed}
    return Table(tuple(content["genres"]), phrases | {words(phrase): NEUTRAL for phrase in content["neutral"]["words"]})


def words(label: str) -> Phrase:
    """The label as the table compares it: ("ghost", "story") for "Ghost Stories", ("action", "and", "adventure")."""
    plain = unicodedata.normalize("NFKD", label).lower().replace("&", " and ")
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter) and letter not in "'’`")
    return tuple(_singular(word) for word in _WORD.findall(plain))


def _singular(word: str) -> str:
    if len(word) > 4 and re.search(r"(?:ch|sh|ss|x)es$", word):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return f"{word[:-2]}y" if len(word) > 4 and word.endswith("ie") else word


class LabelMap:
    """Finds genres, and counts in `unmapped` the labels that texts without one had, and in `unmapped_at` where first."""

    def __init__(self, extra: Mapping[str, str] | None = None, genres: Sequence[str] = ()) -> None:
        """Adds to the table what each label of `extra` means, and the names of the `genres` asked for.

        Where two say otherwise, `extra` wins over names, and names over the table.
        """
        order, phrases = table()
        own = {words(name): name for name in genres}
        said = {words(label): genre for label, genre in (extra or {}).items()}
        self._phrases = {**phrases, **own, **said}
        self._longest = max(map(len, self._phrases))
        self._rank = {genre: place for place, genre in enumerate(order)}
        self._asked = frozenset(genres)
        self._known: dict[str, str | None] = {}
        self.unmapped: Counter[str] = Counter()
        """Labels that say something which nobody has mapped, with the number of texts that had no genre because of them."""
        self.unmapped_at: dict[str, str] = {}

    def genre(self, labels: Sequence[str], origin: str = "") -> str | None:
        """The genre of a text with these labels, read at `origin`; None where they name none.

        Of several, one of those asked for goes first, then the table's order. It need not be one asked for: a text that is
        known to be a mystery is a mystery, and nothing for the classifier to guess about.
        """
        labels = [labels] if isinstance(labels, str) else labels
        meanings = {label: self._meaning(one_line(label)) for label in labels}
        if found := [genre for genre in meanings.values() if genre]:
            return min(found, key=self._place)
        for label, meaning in meanings.items():
            if meaning is None:
                self._count(one_line(label)[:80], origin)
        return None

    def _place(self, genre: str) -> tuple[bool, int]:
        """A genre that the table lacks was named by the person, and is first."""
        return bool(self._asked) and genre not in self._asked, self._rank.get(genre, -1)

    def _count(self, label: str, origin: str) -> None:
        room = label in self.unmapped or len(self.unmapped) < MOST_LABELS
        self.unmapped[label if room else OTHER_LABELS] += 1
        self.unmapped_at.setdefault(label if room else OTHER_LABELS, origin)

    def _meaning(self, label: str) -> str | None:
        """The label's genre, NEUTRAL, or None for one that is not known."""
        if label not in self._known:
            if len(self._known) >= MOST_LABELS:
                self._known.clear()
            self._known[label] = self._read(label)
        return self._known[label]

    def _read(self, label: str) -> str | None:
        if (whole := self._phrases.get(words(label))) is not None:
            return whole
        steps = _STEP.split(label)
        if len(steps) > 1 and not any(self._genres(steps[0])):
            # A shelf mark goes from general to special: "FICTION / Romance / Vampires" stands among the romances.
            steps = [next((step for step in steps if any(self._genres(step))), label)]
        else:
            steps = [label]
        meanings = self._genres(steps[0])
        if found := [genre for genre in meanings if genre]:
            return min(found, key=self._place)
        return None if None in meanings and not _TOPIC.search(label) else NEUTRAL

    def _genres(self, text: str) -> list[str | None]:
        """What the phrases of a label mean, from left to right; None for a word of no phrase."""
        meanings: list[str | None] = []
        for part in _PART.split(text):
            rest = words(part)
            while rest:
                length = next((n for n in range(min(self._longest, len(rest)), 0, -1) if rest[:n] in self._phrases), 0)
                meanings.append(self._phrases[rest[:length]] if length else None)
                rest = rest[length or 1 :]
        return meanings


def parse_labels(values: Sequence[str], genres: Sequence[str] = ()) -> dict[str, str]:
    """What `--label western=ADVENTURE` says, for LabelMap. "western=" says that the label means nothing.

    The genre may be written as people write it ("science fiction"). Raises BadSetting.
    """
    said: dict[str, str] = {}
    meant: dict[Phrase, str] = {}
    for value in (pair for given in values for pair in _pairs(given)):
        label, equals, name = value.rpartition("=")
        if not equals or not words(label):
            raise BadSetting(f"--label {value} should be a label and its genre: write --label western=ADVENTURE.")
        genre = genre_meant(name, genres)
        if genre is None:
            raise BadSetting(f"--label {value}: {name!r} can't be a genre; use letters, digits and hyphens, as in SCI-FI.")
        if (other := meant.setdefault(words(label), genre)) != genre:
            raise BadSetting(f"--label gives {label.strip()!r} two genres, {other} and {genre}: keep one.")
        said[label.strip()] = genre
    return said


def _pairs(given: str) -> list[str]:
    """The parts of "western=ADVENTURE,noir=MYSTERY"; a label may have commas of its own, and a genre has none."""
    found = _PAIR.findall(given)
    return found if len(",".join(found)) == len(given.rstrip(",")) else [given]


def asked_genres(names: Sequence[str]) -> tuple[str, ...]:
    """The tags of the genres that a person asks for; the settings have refused what can't be one."""
    return tuple(dict.fromkeys(genre_meant(name) or name for name in names))


def genre_meant(name: str, genres: Sequence[str] = ()) -> str | None:
    """The genre that a person names, as a tag or in words ("scifi", "science fiction"); None for what can't be a tag."""
    if not name.strip():
        return NEUTRAL
    tag = genre_name(name)
    if tag in genres or tag in table().order:
        return tag
    return table().phrases.get(words(name)) or tag
