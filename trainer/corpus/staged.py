"""Staged passages as they are read back: a batch at a time, so that memory does not grow with the corpus.

pyarrow's `take` copies a whole column to fetch a thousand rows of it (30 ms for 160 MB of text); here each batch is taken from
the parts of the file that its rows lie in, and its pages are given back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from trainer.corpus.mapped import give_pages_back, map_file

Indices = NDArray[np.int64]
Row = dict[str, Any]
_BATCH = 1000


class Staged:
    """The passages of some Arrow files, one after the other, by number."""

    def __init__(self, paths: Sequence[Path], schema: Any) -> None:
        """Maps the files, and reads nothing yet. Raises OSError."""
        self._maps = [map_file(path) for path in paths]
        files = [pa.ipc.open_file(pa.py_buffer(file)) for file in self._maps]
        self._table = pa.concat_tables([schema.empty_table(), *(file.read_all() for file in files)])

    def __len__(self) -> int:
        """How many there are."""
        return self._table.num_rows

    def column(self, name: str) -> Any:
        """One field of all passages, as pyarrow.ChunkedArray: for fields of a few bytes."""
        return self._table.column(name)

    def names(self, name: str) -> NDArray[np.object_]:
        """One field of all passages, in which few different texts occur: each is in memory once."""
        found: dict[str | None, str | None] = {}
        values = (found.setdefault(value, value) for chunk in self.column(name).iterchunks() for value in chunk.to_pylist())
        return np.fromiter(values, np.dtype(object), len(self))

    def batches(self, indices: Indices, fields: Sequence[str] | None = None) -> Iterator[list[Row]]:
        """These passages in this order, some hundreds at a time: of each its fields, all by default."""
        parts = (self._table.select(list(fields)) if fields else self._table).to_batches()
        ends = np.cumsum([part.num_rows for part in parts])
        for start in range(0, len(indices), _BATCH):
            yield self._taken(parts, ends, indices[start : start + _BATCH])

    def _taken(self, parts: Sequence[Any], ends: Indices, chosen: Indices) -> list[Row]:
        """The rows of these numbers out of parts that end there: each part is asked once, and its pages are given back."""
        part_of = np.searchsorted(ends, chosen, side="right")
        rows: list[Row] = [{}] * len(chosen)
        for number in np.unique(part_of):
            places = np.flatnonzero(part_of == number)
            part = parts[int(number)]
            offsets = chosen[places] - (ends[number] - part.num_rows)
            for place, row in zip(places, cast("list[Row]", part.take(pa.array(offsets)).to_pylist()), strict=True):
                rows[place] = row
            for file in self._maps:
                give_pages_back(file)
        return rows

    def texts(self, indices: Indices) -> Iterator[str]:
        """The texts of these passages, in this order."""
        return (cast("str", row["text"]) for rows in self.batches(indices, ["text"]) for row in rows)
