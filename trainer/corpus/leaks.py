"""Count and find what training passages share with held-out text: runs of 13 words, as GPT-3 did (Brown et al. 2020, app. C).

De-duplication drops whole copies; half a page of a held-out book that a training passage quotes is found only here. A run that
at least three different training books have is common property (a proverb, a prayer, a set phrase) and no leak. GPT-3 passed
over what it met more than ten times; but one book in many copies is not common property, and three books are. Still, a passage
that is held-out text for more than a quarter is a copy of something, however common: a leak.

How much do books share that have nothing to do with each other? Training books tell: `stand_ins` draws whole ones, as many
passages as are held out, and the same count of these against the rest is what to expect of clean sides.

Memory grows with the held-out side, by 25 bytes for each of its runs, and by 12 for each training passage. What a passage
shares waits on disk until all are seen, since only then is it known what is common; so the training side is read once.
"""

from __future__ import annotations

import os
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

    Texts are read once: what each passage shares is kept, and `result` counts it among any of them. `without` names books that
    don't count: training books that stand in for held-out ones can't be held against themselves.
    """

    def __init__(
        self, held_out: HeldOutRuns, limits: LeakLimits | None = None, without: AbstractSet[str] = frozenset()
    ) -> None:
        self._held_out = held_out
        self._limits = limits or LeakLimits()
        self._without = without
        self._own: list[NDArray[np.int32]] = []
        self._books: list[NDArray[np.uint64]] = []
        self._passages = 0
        self._pairs = tempfile.TemporaryFile()  # noqa: SIM115 (gone with the count)

    def see(self, runs: Runs, books: Sequence[str]) -> None:
        """Take the next passages: their runs, and the book of each."""
        texts, places = self._held_out.shared(runs)
        if self._without and len(texts):
            counted = np.array([book not in self._without for book in books])[texts]
            texts, places = texts[counted], places[counted]
        self._pairs.write(np.column_stack((self._passages + texts, places)).astype("<i8").tobytes())
        self._own.append(np.diff(runs.ends, prepend=0).astype(np.int32))
        # 0 is nobody's number: it marks a place that no book has taken yet.
        self._books.append(np.array([digest(book.encode("utf-8", "replace")) | 1 for book in books], np.uint64))
        self._passages += len(books)

    def result(self, among: NDArray[np.bool_] | None = None) -> Leaks:
        """What was found so far among these passages, all by default. More passages may follow."""
        seen = np.ones(self._passages, np.bool_) if among is None else among
        found, common = self._books_of_runs(seen)
        own = np.concatenate([np.empty(0, np.int32), *self._own])
        fresh, all_shared = np.zeros(self._passages), np.zeros(self._passages)
        for pairs in self._read_pairs(seen):
            all_shared += np.bincount(pairs[:, 0], minlength=self._passages)
            fresh += np.bincount(pairs[:, 0], weights=~common[pairs[:, 1]], minlength=self._passages)
        limits = self._limits
        leaking = (fresh > limits.allowed) | (fresh > limits.share * own) | (all_shared > limits.copied * own)
        return Leaks(len(self._held_out), int(np.count_nonzero(found)), int(common.sum()), leaking)

    def _books_of_runs(self, seen: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which held-out runs some of these passages have, and which so many of their books have that they are common."""
        first = np.zeros((self._limits.common_books - 1, len(self._held_out)), np.uint64)
        common = np.zeros(len(self._held_out), np.bool_)
        books = np.concatenate([np.empty(0, np.uint64), *self._books])
        for pairs in self._read_pairs(seen):
            borders = np.flatnonzero(np.diff(pairs[:, 0])) + 1
            for mine in np.split(pairs, borders) if len(pairs) else []:
                common[_note(first, mine[:, 1], int(books[mine[0, 0]]))] = True
        return first[0] != 0, common

    def _read_pairs(self, seen: NDArray[np.bool_]) -> Iterator[Indices]:
        """Passage and held-out run of what these passages share, in parts, in order of the passages."""
        self._pairs.seek(0)
        while part := self._pairs.read(16 * _READ_PAIRS):
            pairs = np.frombuffer(part, dtype="<i8").reshape(-1, 2)
            yield pairs[seen[pairs[:, 0]]]
        self._pairs.seek(0, os.SEEK_END)


def _note(first: NDArray[np.uint64], places: Indices, book: int) -> Indices:
    """Remember the first books that have these runs, by number; the places for which there was no more room."""
    for known in first:
        here = known[places]
        known[places[here == 0]] = book
        places = places[(here != 0) & (here != book)]
    return places


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
