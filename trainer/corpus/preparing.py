"""One text of a source into the passages that are staged: cleaned, labelled, cut.

Runs in worker processes, a batch of texts at a time: what comes back depends on the batch alone, so that any number of workers
makes the same corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from trainer.corpus.cleaning import Cleaner
from trainer.corpus.labels import LabelMap
from trainer.passages import cut
from trainer.sources.lots import lot
from trainer.sources.source_text import SourceText


@dataclass(frozen=True)
class Recipe:
    """What is done to each text."""

    genres: tuple[str, ...]
    """Keep only these; empty keeps all."""
    labels: tuple[tuple[str, str], ...]
    """The genres of labels with odd names."""
    passage_words: int
    min_words: int
    language: str | None
    ascii_punctuation: bool


@dataclass
class Prepared:
    """What became of a batch of texts."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    cleaning: dict[str, Any] = field(default_factory=dict[str, Any])
    """A CleaningReport as JSON."""
    unmapped: Counter[str] = field(default_factory=Counter[str])
    """Labels that say a genre which nobody knows."""
    unmapped_at: dict[str, str] = field(default_factory=dict[str, str])
    """Where each of them was read first."""
    other_genre: int = 0
    """Texts of a genre that is not wanted."""
    words: int = 0


def count_words(texts: Sequence[str]) -> list[int]:
    """The words of each text, as passages are measured before a tokenizer is known."""
    return [len(text.split()) for text in texts]


class Preparer:
    """Does what a recipe says."""

    def __init__(self, recipe: Recipe) -> None:
        """Loads what the rules need."""
        self._recipe = recipe
        self._labels = LabelMap(dict(recipe.labels), recipe.genres)

    def prepare(self, texts: Sequence[SourceText], source: str) -> Prepared:
        """The passages of these texts, in order."""
        recipe = self._recipe
        cleaner = Cleaner(
            min_words=recipe.min_words,
            language=recipe.language,
            punctuation="ascii" if recipe.ascii_punctuation else "keep",
        )
        done = Prepared()
        for text in texts:
            genre = self._labels.genre(text.labels or ((text.genre,) if text.genre else ()), text.origin)
            if genre is not None and recipe.genres and genre not in recipe.genres:
                done.other_genre += 1
                continue
            whole = cleaner.clean(text.text, text.origin)
            if whole is None:
                continue
            for number, passage in enumerate(self._passages(whole)):
                words = len(passage.split())
                if words >= recipe.min_words:
                    done.words += words
                    done.rows.append(self._row(text, whole, genre, passage, source, first=number == 0))
        done.cleaning = cleaner.report.to_json()
        done.unmapped, done.unmapped_at = Counter(self._labels.unmapped), dict(self._labels.unmapped_at)
        self._labels.unmapped.clear()
        self._labels.unmapped_at.clear()
        return done

    def _passages(self, whole: str) -> list[str]:
        """The text's passages; one too short to stand alone is joined to its neighbour, so that no story loses a part."""
        least = self._recipe.min_words
        passages: list[str] = []
        for passage in cut(whole, self._recipe.passage_words, count_words):
            if passages and len(passages[-1].split()) < least:
                passages[-1] = _joined(passages[-1], passage, whole)
            else:
                passages.append(passage)
        if len(passages) > 1 and len(passages[-1].split()) < least:
            rest = passages.pop()
            passages[-1] = _joined(passages[-1], rest, whole)
        return passages

    def _row(
        self, text: SourceText, whole: str, genre: str | None, passage: str, source: str, *, first: bool
    ) -> dict[str, Any]:
        """What introduces a whole text introduces its first passage only. A text that is its own book names none."""
        book = _writable(text.book) if text.book != text.text else None
        return {
            "text": passage,
            "genre": genre,
            "prompt": text.prompt if first else None,
            "title": text.title if first else None,
            "book": book,
            "source": source,
            "origin": _writable(text.origin),
            "author": text.author,
            "licence": text.licence,
            "attribution": text.attribution,
            "lot": lot(book or whole),
            "held_out": text.held_out,
        }


def _joined(first: str, second: str, whole: str) -> str:
    """Two passages as one, as they stand in the whole text."""
    return f"{first} {second}" if f"{first} {second}" in whole else f"{first}\n\n{second}"


def _writable(name: str) -> str:
    """A name that may come of a file's: bytes of it that are no UTF-8 can't be written as text."""
    return name.encode("utf-8", "replace").decode("utf-8")


@cache
def _preparer(recipe: Recipe) -> Preparer:
    return Preparer(recipe)


def prepare_batch(job: tuple[Recipe, str, list[SourceText]]) -> Prepared:
    """What a worker process does: the recipe, the name of the source, and its texts."""
    recipe, source, texts = job
    return _preparer(recipe).prepare(texts, source)
