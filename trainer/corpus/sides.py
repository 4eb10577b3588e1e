"""Which passages are learnt from and which are held out, and which are dropped since another one says the same.

Order decides: sides first (a book lies on one side), then duplicates (a training copy of held-out text goes), then leaks (a
passage that quotes held-out text at length goes). What the two sides share is counted before and after, and beside it what
books share that have nothing to do with each other: nobody can judge the count without that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.duplicates import COLUMNS, Duplicates, find_duplicates
from trainer.corpus.leaks import HeldOutRuns, LeakCount, Leaks, count_leaks, stand_ins
from trainer.corpus.staged import Staged
from trainer.material import held_out_under

Mask = NDArray[np.bool_]


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


def held_out_mask(staged: Staged, share: float) -> Mask:
    """What is held out: passages that their file says so of, and books of a low lot."""
    named = cast("Mask", staged.column("held_out").to_numpy())
    lots = cast("NDArray[np.float64]", staged.column("lot").to_numpy())
    limit = held_out_under(cast("list[float]", np.unique(lots[~named]).tolist()), share, bool(named.any()))
    return named | (lots < limit)


def find_sides(staged: Staged, folder: Path, share: float, progress: Callable[[str, int, int], None]) -> Sides:
    """Sides, duplicates and leaks of staged passages, whose fingerprints are in `folder`; `progress` is told what is done.

    Raises CorpusError.
    """
    held_out = held_out_mask(staged, share)
    tagged = cast("Mask", staged.column("genre").is_valid().to_numpy())
    duplicates = find_duplicates(folder, held_out, tagged, progress=lambda done: progress("Finding duplicates", done, COLUMNS))
    if not (duplicates.kept & held_out).any() or not (duplicates.kept & ~held_out).any():
        return Sides(held_out, duplicates, np.zeros(len(held_out), np.bool_), None)
    overlap, leaking = _compare(staged, held_out, duplicates, progress)
    return Sides(held_out, duplicates, leaking, overlap)


def _compare(
    staged: Staged, held_out: Mask, duplicates: Duplicates, progress: Callable[[str, int, int], None]
) -> tuple[Overlap, Mask]:
    """What the sides share, and which training passages quote too much, in one reading of the training side."""
    candidates = np.flatnonzero(~held_out)
    asked, learnt = np.flatnonzero(duplicates.kept & held_out), np.flatnonzero(duplicates.kept & ~held_out)
    books = staged.names("book")
    chosen = stand_ins(_passages_of_books(books, learnt), len(asked))
    stand_in = np.fromiter((book in chosen for book in books), np.bool_, len(books))
    count = LeakCount(HeldOutRuns(staged.texts(asked)))
    unrelated = LeakCount(HeldOutRuns(staged.texts(learnt[stand_in[learnt]])), without=chosen)
    count_leaks(
        _with_books(staged, candidates, lambda done: progress("Comparing the sides", done, len(candidates))), count, unrelated
    )
    kept = duplicates.kept[candidates]
    quoting = kept & count.result(kept).leaking
    leaking = np.zeros(len(held_out), np.bool_)
    leaking[candidates[quoting]] = True
    left = kept & ~quoting
    return Overlap(count.result(), count.result(left), unrelated.result(left)), leaking


def _with_books(
    staged: Staged, indices: NDArray[np.int64], progress: Callable[[int], None] = lambda _: None
) -> Iterator[tuple[str, str]]:
    """The text and the book of each of these passages."""
    done = 0
    for rows in staged.batches(indices, ["text", "book"]):
        progress(done)
        yield from ((row["text"], row["book"] or row["text"]) for row in rows)
        done += len(rows)


def _passages_of_books(books: NDArray[np.object_], indices: NDArray[np.int64]) -> dict[str, int]:
    """How many of the passages each book has; a text that is its own book has none."""
    return dict(Counter(book for book in books[indices].tolist() if book is not None))
