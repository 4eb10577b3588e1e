"""Find passages that say the same, exactly or nearly, among millions, with a few bytes of memory for each.

Each passage becomes a fingerprint of 264 bytes in a file: one number for all its words, and 128 slots of a MinHash over its
runs of five words (Broder 1997), of which two passages share as large a part as of their runs (Jaccard). Four slots are read
as one number of 64 bits, a band; passages that share a band are compared by all slots. Bands are sorted one at a time, so
finding takes some 50 bytes a passage, and nothing grows with the length of the texts.

The price is an estimate, with an error of 0.03 (one sigma). So the threshold is 0.6 and not the usual 0.7: a copy with 3 of 100
words changed is at 0.73, and would be found by luck; texts that have half of their runs in common are at 0.33, far below.
rensa makes the slots: 10 µs a passage of 250 words, where datasketch takes 300 and brings scipy along. Its slots are the same
in each run, but not in each version, so a run that goes on asks for the same recipe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.mapped import give_pages_back, map_file
from trainer.corpus.shingles import RunHasher, digest, words_of
from trainer.errors import CorpusError

THRESHOLD = 0.6
RUN = 5
"""Words in a row."""
SLOTS = 128
BANDS = 32
COLUMNS = 1 + BANDS
"""Numbers of 64 bits in a fingerprint: the exact one, then the bands, each of four slots of 16 bits."""
_ROW = COLUMNS * 8
_BATCH_WORDS = 15_000
_READ_ROWS = 16_384
_PIVOTS = 4
_SEED = 1

Indices = NDArray[np.int64]
Row = NDArray[np.uint64]


class Fingerprints:
    """Takes passages in order and keeps their fingerprints in a folder; nothing of the text.

    `keep` is how many passages an interrupted run had told of (what its last `flush` returned); what came after is taken back.
    """

    def __init__(self, folder: Path, keep: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._hasher = RunHasher(RUN, pad=True)
        self._words: list[list[bytes]] = []
        self._waiting = 0
        self._count = keep
        self._file = _reopen(folder, keep)

    def add(self, text: str) -> None:
        """Take the next passage."""
        words = words_of(text)
        self._words.append(words)
        self._waiting += len(words)
        if self._waiting >= _BATCH_WORDS or len(self._words) >= _READ_ROWS:
            self._write()

    def flush(self) -> int:
        """How many passages are safely on disk: all that were added."""
        self._write()
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._count

    def close(self) -> None:
        self.flush()
        self._file.close()

    def _write(self) -> None:
        if self._words:
            rows = np.empty((len(self._words), COLUMNS), dtype="<u8")
            rows[:, 0] = [digest(b" ".join(words)) for words in self._words]
            runs = self._hasher.runs(self._words)
            rows[:, 1:] = _slots(runs.hashes, np.concatenate((np.zeros(1, np.int64), runs.ends))).view("<u8")
            self._file.write(rows.tobytes())
            self._count += len(self._words)
            self._words, self._waiting = [], 0


def _slots(hashes: NDArray[np.uint64], bounds: Indices) -> NDArray[np.uint16]:
    """The MinHash of each text: (texts, SLOTS). Of the library's 32 bits 16 are kept: slots agree by chance once in 65,536."""
    matrix = _minhash().digest_matrix_from_flat_token_hashes(hashes, bounds.astype(np.uint64), SLOTS, _SEED)
    return np.array(matrix.to_rows(), dtype=np.uint32).astype("<u2")


def _minhash() -> Any:
    """The library's class; it is compiled and tells a type checker nothing."""
    import rensa

    return vars(rensa)["RMinHash"]


def _recipe() -> dict[str, object]:
    return {"minhash": f"rensa RMinHash {_minhash().ALGORITHM_VERSION}", "seed": _SEED, "slots": SLOTS, "run": RUN}


def _reopen(folder: Path, keep: int) -> BinaryIO:
    """The file of fingerprints with the first `keep` in it and no more. Raises CorpusError where they are not there."""
    recipe = folder / "fingerprints.json"
    if keep:
        known = json.loads(recipe.read_text(encoding="utf-8")) if recipe.is_file() else None
        if known != _recipe():
            raise CorpusError(f"{folder} holds fingerprints of another version ({known}): begin the corpus anew.")
        if _path(folder).stat().st_size < keep * _ROW:
            raise CorpusError(f"{_path(folder)} holds fewer than {keep:,} fingerprints: begin the corpus anew.")
    else:
        _path(folder).write_bytes(b"")
        recipe.write_text(json.dumps(_recipe()), encoding="utf-8")
    file = _path(folder).open("r+b")
    file.truncate(keep * _ROW)
    file.seek(0, os.SEEK_END)
    return file


def _path(folder: Path) -> Path:
    return folder / "fingerprints.u64"


@dataclass(frozen=True)
class Duplicates:
    """What to do with each passage, by its number."""

    instead: Indices
    """The passage that is kept in its place; its own number where it is kept itself."""
    exact: NDArray[np.bool_]
    """Dropped, and word for word the passage kept instead."""
    held_out: NDArray[np.bool_]

    @property
    def kept(self) -> NDArray[np.bool_]:
        return self.instead == np.arange(len(self.instead))

    @property
    def near(self) -> NDArray[np.bool_]:
        """Dropped, and nearly the passage kept instead, or nearly one that is nearly so."""
        return ~self.kept & ~self.exact

    @property
    def copies_of_held_out(self) -> NDArray[np.bool_]:
        """Dropped from the training side, since a held-out passage says the same."""
        return ~self.kept & ~self.held_out & self.held_out[self.instead]


def find_duplicates(
    folder: Path,
    held_out: NDArray[np.bool_],
    tagged: NDArray[np.bool_] | None = None,
    threshold: float = THRESHOLD,
    progress: Callable[[int], None] = lambda _: None,
) -> Duplicates:
    """Groups of passages that say the same; of each, one is kept: a held-out one before others, then one of a known genre
    (`tagged`) before others, then the first.

    `held_out` and `tagged` have one entry for each fingerprint in the folder; `progress` is told how many of COLUMNS are done.
    A group holds whatever is linked by pairs over the threshold, so its ends may be less alike than that. Raises CorpusError.
    """
    if not 0.5 <= threshold <= 1:
        raise CorpusError(f"The threshold {threshold} is not between 0.5 and 1: below, too many pairs would be missed.")
    count = _path(folder).stat().st_size // _ROW
    if count != len(held_out):
        raise CorpusError(f"{folder} has {count:,} fingerprints, but there are {len(held_out):,} passages: begin anew.")
    groups = np.arange(count)
    exact = _column(folder, 0, count)
    for column in range(COLUMNS):
        values = exact if column == 0 else _column(folder, column, count)
        groups = _unite_sharing(groups, values, folder, threshold if column else None)
        progress(column + 1)
    instead = _survivors(groups, held_out, np.ones(count, np.bool_) if tagged is None else tagged)
    dropped = instead != np.arange(count)
    return Duplicates(instead, dropped & (exact == exact[instead]), held_out)


def _column(folder: Path, column: int, count: int) -> Row:
    """One number of each fingerprint, read in blocks so that the file is never in memory as a whole."""
    values = np.empty(count, dtype=np.uint64)
    with _path(folder).open("rb") as file:
        for start in range(0, count, _READ_ROWS):
            block = np.fromfile(file, dtype="<u8", count=min(_READ_ROWS, count - start) * COLUMNS)
            values[start : start + _READ_ROWS] = block.reshape(-1, COLUMNS)[:, column]
    return values


def _unite_sharing(groups: Indices, values: Row, folder: Path, threshold: float | None) -> Indices:
    """Unite passages that share a value and, given a threshold, are as alike as that.

    Those that share a value are held against the first of them; those that fail, against the first that failed, and so on a few
    times: as many comparisons as passages, and not as pairs, when a stock phrase puts thousands into one bucket.
    """
    order = np.argsort(values, kind="stable")
    fresh = np.concatenate((np.ones(1, np.bool_), values[order[1:]] != values[order[:-1]]))[: len(order)]
    bucket = np.cumsum(fresh)
    for _ in range(_PIVOTS if threshold is not None else 1):
        first = np.concatenate((np.ones(1, np.bool_), bucket[1:] != bucket[:-1]))[: len(order)]
        pivots = order[first][np.cumsum(first) - 1]
        order, pivots, bucket = order[~first], pivots[~first], bucket[~first]
        if not len(order):
            break
        alike = groups[order] == groups[pivots]
        if threshold is not None:
            alike[~alike] = _agreement(folder, order[~alike], pivots[~alike]) >= threshold
        else:
            alike[:] = True
        groups = _unite(groups, order[alike], pivots[alike])
        order, bucket = order[~alike], bucket[~alike]
    return groups


def _agreement(folder: Path, first: Indices, second: Indices) -> NDArray[np.float64]:
    """The share of equal slots of each pair, which estimates their Jaccard similarity."""
    found = np.empty(len(first))
    if len(first):
        mapped = map_file(_path(folder))
        slots = np.frombuffer(mapped, dtype="<u2").reshape(-1, COLUMNS * 4)
        for start in range(0, len(first), _READ_ROWS):
            part = slice(start, start + _READ_ROWS)
            found[part] = (slots[first[part], 4:] == slots[second[part], 4:]).mean(axis=1)
            give_pages_back(mapped)
    return found


def _unite(groups: Indices, first: Indices, second: Indices) -> Indices:
    """Union-find without a loop over pairs: `groups` names each passage's group by its lowest number, before and after."""
    while True:
        one, other = groups[first], groups[second]
        apart = one != other
        if not apart.any():
            return groups
        np.minimum.at(groups, np.maximum(one, other)[apart], np.minimum(one, other)[apart])
        while not np.array_equal(groups, groups[groups]):
            groups = groups[groups]


def _survivors(groups: Indices, held_out: NDArray[np.bool_], tagged: NDArray[np.bool_]) -> Indices:
    """The number of the passage that is kept of each passage's group."""
    count = len(groups)
    rank = np.where(held_out, 0, 2) + np.where(tagged, 0, 1)
    best = np.full(count, 4 * count)
    np.minimum.at(best, groups, rank * count + np.arange(count))
    return best[groups] % max(1, count)
