"""All texts of some sources as one sequence: those of a corpus directory stay on disk, memory-mapped, the rest is in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from trainer.sources.columnar import BATCH_ROWS, is_saved_data_set, names_of_classes, saved_splits, with_class_names
from trainer.sources.held_out import is_held_out
from trainer.sources.options import ReadOptions
from trainer.sources.reading import read_sources
from trainer.sources.records import Records
from trainer.sources.source_text import SourceText

if TYPE_CHECKING:
    from datasets import Dataset


class Chained(Sequence[SourceText]):
    """Sequences of texts, one after the other."""

    def __init__(self, parts: Sequence[Sequence[SourceText]]) -> None:
        """Copies nothing."""
        self._parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(map(len, self._parts)))

    def __len__(self) -> int:
        """How many texts there are."""
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[SourceText]:
        """All of them, in the order and the speed of each part."""
        for part in self._parts:
            yield from part

    @overload
    def __getitem__(self, index: int) -> SourceText: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SourceText]: ...
    def __getitem__(self, index: int | slice) -> SourceText | Sequence[SourceText]:
        """One text, or some."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        part = bisect_right(self._ends, number)
        return self._parts[part][number - (self._ends[part - 1] if part else 0)]


class MappedRows(Sequence[SourceText]):
    """The texts of one split of a saved data set, read from the memory map each time they are asked for."""

    def __init__(self, rows: Dataset, records: Records) -> None:
        """Reads all once, so that a bad row is told of now and a blank one never counts."""
        self._rows = rows
        self._records = records
        self._names = names_of_classes(cast("Mapping[str, Any]", rows.features))
        self._good = [number for number, text in self._read_all() if text is not None]

    def _read_all(self) -> Iterator[tuple[int, SourceText | None]]:
        number = 0
        for table in self._rows.with_format("arrow").iter(BATCH_ROWS):
            for row in cast("list[dict[str, Any]]", cast("Any", table).to_pylist()):
                yield number, self._read(row, number)
                number += 1

    def _read(self, row: dict[str, Any], number: int) -> SourceText | None:
        return self._records.read(with_class_names(row, self._names), f"{self._records.name} row {number + 1}")

    def __len__(self) -> int:
        """The rows that hold a text."""
        return len(self._good)

    def __iter__(self) -> Iterator[SourceText]:
        """All texts, a batch of rows at a time."""
        return (text for _, text in self._read_all() if text is not None)

    @overload
    def __getitem__(self, index: int) -> SourceText: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SourceText]: ...
    def __getitem__(self, index: int | slice) -> SourceText | Sequence[SourceText]:
        """One text, or some."""
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = self._good[index]
        text = self._read(cast("dict[str, Any]", self._rows[number]), number)
        assert text is not None  # noqa: S101 (rows do not change under a memory map)
        return text


def read_texts(sources: Sequence[str], note: Callable[[str], None] = lambda _: None) -> Sequence[SourceText]:
    """All texts of all sources, in order. Raises CorpusError at the first that is bad, as a training wants it."""
    parts: list[Sequence[SourceText]] = []
    for source in sources:
        if is_saved_data_set(Path(source)):
            options = ReadOptions(note=note, labels_are_genres=True)
            splits = saved_splits(Path(source), options, is_held_out(Path(source).name))
            parts += [MappedRows(rows, records) for rows, records in splits]
        else:
            parts.append(list(read_sources([source], note)))
    return Chained(parts)
