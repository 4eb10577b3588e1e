"""Count and find what training passages share with held-out text: runs of 13 words, as GPT-3 did (Brown et al. 2020, app. C).

De-duplication drops whole copies; half a page of a held-out book that a training passage quotes is found only here. A run that
at least three different training books have is common property (a proverb, a prayer, a set phrase) and no leak. GPT-3 passed
over what it met more than ten times; but one book in many copies is not common property, and three books are. Still, a passage
that is held-out text for more than a quarter is a copy of something, however common: a leak.

How much do books share that have nothing to do with each other? Training books tell: `stand_ins` draws whole ones, as many
passages as are held out, and the same count of these against the rest is what to expect of clean sides.

Memory grows with the held-out side alone, by 25 bytes for each of its runs, and by 4 for each training passage. What a passage
shares waits on disk until all are seen, since only then is it known what is common.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.shingles import RunHasher, Runs, digest, words_of

RUN = 13
"""Words in a row."""
_BATCH = 64
"""Texts hashed at a time."""
_READ_PAIRS = 1 << 18

Indices = NDArray[np.int64]
_T = TypeVar("_T")


@dataclass(frozen=True)
class LeakLimits:
    """From where on a training passage shares too much."""

    allowed: int = 2
    """Different held-out runs that are not common property."""
    share: float = 0.02
    """The same, as a part of the passage's own runs: in a short passage two are many."""
    copied: float = 0.25
    """All held-out runs, common or not, as a part of the passage's own."""
    common_books: int = 3
    """Training books that make a run common property, 2 at least."""


class HeldOutRuns:
    """The different runs of the held-out passages: 8 bytes for each."""

    def __init__(self, texts: Iterable[str]) -> None:
        hasher = RunHasher(RUN)
        parts = [np.unique(hasher.runs(batch).hashes) for batch in _batches(map(words_of, texts))]
        self.hashes = np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)

    def __len__(self) -> int:
        return len(self.hashes)

    def shared(self, runs: Runs) -> tuple[Indices, Indices]:
        """Which text shares which held-out run, each pair once, in order of the texts."""
        if not len(self):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        places = np.searchsorted(self.hashes, runs.hashes)
        places[places == len(self)] = 0
        found = self.hashes[places] == runs.hashes
        pairs = np.unique(runs.texts[found] * len(self) + places[found])
        return pairs // len(self), pairs % len(self)


@dataclass(frozen=True)
class Leaks:
    """What the training side shares with a held-out side."""

    runs: int
    """Different runs that the held-out side has."""
    shared: int
    """Of these, how many occur on the training side."""
    common: int
    """Of the shared, how many are common property."""
    leaking: NDArray[np.bool_]
    """For each training passage, in order, whether it shares too much."""

    @property
    def share(self) -> float:
        return self.shared / self.runs if self.runs else 0.0


class LeakCount:
    """Counts what training passages share with one held-out side; see `count_leaks`.

    `without` names books that don't count: training books that stand in for held-out ones can't be held against themselves.
    """

    def __init__(
        self, held_out: HeldOutRuns, limits: LeakLimits | None = None, without: AbstractSet[str] = frozenset()
    ) -> None:
        self._held_out = held_out
        self._limits = limits or LeakLimits()
        self._without = without
        self._books = np.zeros((self._limits.common_books - 1, len(held_out)), dtype=np.uint64)
        self._common = np.zeros(len(held_out), dtype=np.bool_)
        self._own: list[NDArray[np.int32]] = []
        self._passages = 0
        self._pairs = tempfile.TemporaryFile()  # noqa: SIM115 (gone with the count)

    def see(self, runs: Runs, books: Sequence[str]) -> None:
        """Take the next passages: their runs, and the book of each."""
        texts, places = self._held_out.shared(runs)
        for text in map(int, np.unique(texts)):
            if books[text] not in self._without:
                mine = places[texts == text]
                self._note(mine, digest(books[text].encode("utf-8", "replace")) | 1)
                pairs = np.column_stack((np.full(len(mine), self._passages + text), mine))
                self._pairs.write(pairs.astype("<i8").tobytes())
        self._own.append(np.diff(runs.ends, prepend=0).astype(np.int32))
        self._passages += len(books)

    def _note(self, places: Indices, book: int) -> None:
        """Remember the first books that have a run, by number; one more than there is room for makes it common."""
        for known in self._books:
            here = known[places]
            known[places[here == 0]] = book
            places = places[(here != 0) & (here != book)]
        self._common[places] = True

    def result(self) -> Leaks:
        """What was found so far. More passages may follow."""
        own = np.concatenate([np.empty(0, np.int32), *self._own])
        fresh, all_shared = np.zeros(self._passages), np.zeros(self._passages)
        for pairs in self._read_pairs():
            all_shared += np.bincount(pairs[:, 0], minlength=self._passages)
            fresh += np.bincount(pairs[:, 0], weights=~self._common[pairs[:, 1]], minlength=self._passages)
        limits = self._limits
        leaking = (fresh > limits.allowed) | (fresh > limits.share * own) | (all_shared > limits.copied * own)
        return Leaks(len(self._held_out), int(np.count_nonzero(self._books[0])), int(self._common.sum()), leaking)

    def _read_pairs(self) -> Iterator[Indices]:
        """Passage and held-out run of what is shared, in parts."""
        self._pairs.seek(0)
        while part := self._pairs.read(16 * _READ_PAIRS):
            yield np.frombuffer(part, dtype="<i8").reshape(-1, 2)


def count_leaks(passages: Iterable[tuple[str, str]], *counts: LeakCount) -> None:
    """Show each count the training passages (text, book), in order. May be called again with the passages that follow."""
    hasher = RunHasher(RUN)
    for batch in _batches(passages):
        runs = hasher.runs([words_of(text) for text, _ in batch])
        for count in counts:
            count.see(runs, [book for _, book in batch])


def stand_ins(passages_of: Mapping[str, int], wanted: int, draw: int = 0) -> frozenset[str]:
    """Training books with at least `wanted` passages together, by lot; another `draw` gives others.

    `passages_of` tells how many each book has. At most half of all passages are taken, so that there is a rest to compare with.
    """
    most = sum(passages_of.values()) / 2
    chosen: set[str] = set()
    taken = 0
    for book in sorted(passages_of, key=lambda book: (digest(f"{draw} {book}".encode("utf-8", "replace")), book)):
        if taken >= wanted:
            break
        if taken + passages_of[book] <= most:
            chosen.add(book)
            taken += passages_of[book]
    return frozenset(chosen)


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, _BATCH)):
        yield batch
