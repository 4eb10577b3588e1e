"""Which passages are learnt from and which are held out, and which are dropped since another one says the same.

Order decides: sides first (a book lies on one side), then duplicates (a training copy of held-out text goes), then leaks (a
passage that quotes held-out text at length goes). What the two sides share is counted before and after, and beside it what
books share that have nothing to do with each other: nobody can judge the count without that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.corpus.duplicates import COLUMNS, Duplicates, find_duplicates
from trainer.corpus.leaks import HeldOutRuns, LeakCount, Leaks, count_leaks, stand_ins
from trainer.corpus.stage import Table, texts_of
from trainer.material import held_out_under

Mask = NDArray[np.bool_]
_BATCH = 1000


@dataclass(frozen=True)
class Overlap:
    """13-word runs of held-out passages that occur on the training side."""

    before: Leaks
    """With all passages that were read."""
    after: Leaks
    """With those that are kept."""
    expected: Leaks
    """Training books that stand in for the held-out ones, against the rest: what books share by common phrases."""


@dataclass(frozen=True)
class Sides:
    """The passages, by number."""

    held_out: Mask
    duplicates: Duplicates
    leaking: Mask
    overlap: Overlap | None
    """None where one side is empty."""

    @property
    def train(self) -> Mask:
        """Kept to learn from."""
        return self.duplicates.kept & ~self.held_out & ~self.leaking

    @property
    def asked(self) -> Mask:
        """Kept to be asked about."""
        return self.duplicates.kept & self.held_out


def held_out_mask(table: Table, share: float) -> Mask:
    """What is held out: passages that their file says so of, and books of a low lot."""
    named = cast("Mask", table.column("held_out").to_numpy())
    lots = cast("NDArray[np.float64]", table.column("lot").to_numpy())
    limit = held_out_under(cast("list[float]", np.unique(lots[~named]).tolist()), share, bool(named.any()))
    return named | (lots < limit)


def find_sides(table: Table, folder: Path, share: float, progress: Callable[[str, int, int], None]) -> Sides:
    """Sides, duplicates and leaks of staged passages, whose fingerprints are in `folder`; `progress` is told what is done.

    Raises CorpusError.
    """
    held_out = held_out_mask(table, share)
    duplicates = find_duplicates(folder, held_out, progress=lambda done: progress("Finding duplicates", done, COLUMNS))
    leaking = np.zeros(len(held_out), np.bool_)
    asked = np.flatnonzero(duplicates.kept & held_out)
    learnt = np.flatnonzero(duplicates.kept & ~held_out)
    if not len(asked) or not len(learnt):
        return Sides(held_out, duplicates, leaking, None)
    held_out_runs = HeldOutRuns(texts_of(table, asked))
    passes = _Passes(table, held_out_runs, progress)
    before = passes.count(np.flatnonzero(~held_out))[0]
    leaking[learnt[passes.count(learnt)[0].leaking]] = True
    kept = learnt[~leaking[learnt]]
    after, expected = passes.count_with_stand_ins(kept, len(asked))
    return Sides(held_out, duplicates, leaking, Overlap(before, after, expected))


class _Passes:
    """Runs over the passages of one side, each counting what is shared."""

    def __init__(self, table: Table, held_out: HeldOutRuns, progress: Callable[[str, int, int], None]) -> None:
        self._table = table
        self._held_out = held_out
        self._progress = progress

    def count(self, indices: NDArray[np.int64], *more: LeakCount) -> list[Leaks]:
        """What these passages share with the held-out side, then what each further count found."""
        counts = [LeakCount(self._held_out), *more]
        count_leaks(self._passages(indices), *counts)
        return [count.result() for count in counts]

    def count_with_stand_ins(self, indices: NDArray[np.int64], wanted: int) -> list[Leaks]:
        """What they share with the held-out side, and what they share with as many passages of books among themselves."""
        chosen = stand_ins(_passages_of_books(self._table, indices), wanted)
        texts = (text for text, book in self._passages(indices) if book in chosen)
        return self.count(indices, LeakCount(HeldOutRuns(texts), without=chosen))

    def _passages(self, indices: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
        columns = self._table.select(["text", "book"])
        for start in range(0, len(indices), _BATCH):
            self._progress("Comparing the sides", start, len(indices))
            rows = cast("list[dict[str, Any]]", columns.take(pa.array(indices[start : start + _BATCH])).to_pylist())
            yield from ((row["text"], row["book"] or row["text"]) for row in rows)


def _passages_of_books(table: Table, indices: NDArray[np.int64]) -> dict[str, int]:
    """How many of the passages each book has. A text that is a book of its own stands under its number alone."""
    counts: dict[str, int] = {}
    column = table.column("book")
    for start in range(0, len(indices), _BATCH):
        for book in cast("list[str | None]", column.take(pa.array(indices[start : start + _BATCH])).to_pylist()):
            if book is not None:
                counts[book] = counts.get(book, 0) + 1
    return counts
