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
    tagged = cast("Mask", table.column("genre").is_valid().to_numpy())
    duplicates = find_duplicates(folder, held_out, tagged, progress=lambda done: progress("Finding duplicates", done, COLUMNS))
    if not (duplicates.kept & held_out).any() or not (duplicates.kept & ~held_out).any():
        return Sides(held_out, duplicates, np.zeros(len(held_out), np.bool_), None)
    overlap, leaking = _compare(table, held_out, duplicates, progress)
    return Sides(held_out, duplicates, leaking, overlap)


def _compare(
    table: Table, held_out: Mask, duplicates: Duplicates, progress: Callable[[str, int, int], None]
) -> tuple[Overlap, Mask]:
    """What the sides share, and which training passages quote too much, in one reading of the training side."""
    candidates = np.flatnonzero(~held_out)
    asked, learnt = np.flatnonzero(duplicates.kept & held_out), np.flatnonzero(duplicates.kept & ~held_out)
    chosen = stand_ins(_passages_of_books(table, learnt), len(asked))
    books = cast("list[str | None]", table.column("book").to_pylist())
    stand_in = np.fromiter((book in chosen for book in books), np.bool_, len(books))
    count = LeakCount(HeldOutRuns(texts_of(table, asked)))
    unrelated = LeakCount(HeldOutRuns(texts_of(table, learnt[stand_in[learnt]])), without=chosen)
    count_leaks(
        _with_books(table, candidates, lambda done: progress("Comparing the sides", done, len(candidates))), count, unrelated
    )
    kept = duplicates.kept[candidates]
    quoting = kept & count.result(kept).leaking
    leaking = np.zeros(len(held_out), np.bool_)
    leaking[candidates[quoting]] = True
    left = kept & ~quoting
    return Overlap(count.result(), count.result(left), unrelated.result(left)), leaking


def _with_books(
    table: Table, indices: NDArray[np.int64], progress: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[str, str]]:
    """The text and the book of each of these passages."""
    columns = table.select(["text", "book"])
    for start in range(0, len(indices), _BATCH):
        progress(start)
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
