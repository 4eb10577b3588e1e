"""Data sets of the Hugging Face hub, streamed: nothing is kept on the disk, and a first story comes in seconds.

All splits are read; those named validation, test and the like are held out. What can't be fetched always raises, also where bad
records are only counted: a network that is down is no fault of the data, and a corpus without a whole data set is not the one
that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from trainer.errors import CorpusError
from trainer.sources.columnar import names_of_classes, with_class_names
from trainer.sources.columns import ColumnMap
from trainer.sources.held_out import is_held_out
from trainer.sources.options import ReadOptions
from trainer.sources.records import Records
from trainer.sources.source_text import SourceText
from trainer.story_format import one_line
from trainer.talking import quieten_hub

PREFIX = "hf:"
KNOWN = {
    "roneneldan/tinystories": ColumnMap(text="text"),
    "euclaise/writingprompts": ColumnMap(text="story", prompt="prompt"),
}
"""Data sets whose columns are known, by their ids in small letters; --map is then for the other sources."""


def names_data_set(source: str, suffixes: tuple[str, ...]) -> bool:
    """Tell "hf:owner/name", or an "owner/name" that can't be meant as a path: a mistyped path must not go out to the hub."""
    if source.startswith(PREFIX):
        return True
    path = Path(source)
    return bool(re.fullmatch(r"[\w.-]+/[\w.-]+", source)) and not source.endswith(suffixes) and not path.parent.exists()


def read_data_set(source: str, options: ReadOptions) -> Iterator[SourceText]:
    """The texts of "owner/name" or "owner/name:config", split by split. Raises CorpusError where it can't be fetched."""
    name, _, config = source.partition(":")
    options = replace(options, columns=KNOWN.get(name.lower(), options.columns))
    for split, rows in _splits(name, config or None):
        called = source if split == "train" else f"{source} {split}"
        records = Records(called, is_held_out(split), options)
        names = names_of_classes(cast("Mapping[str, Any] | None", getattr(rows, "features", None)))
        for number, row in enumerate(_fetched(rows, source), 1):
            if text := records.read(with_class_names(row, names), f"{called} row {number}"):
                yield text
        records.finish()


def _splits(name: str, config: str | None) -> list[tuple[str, Iterable[dict[str, Any]]]]:
    from datasets import load_dataset

    quieten_hub()
    try:
        loaded = cast("object", load_dataset(name, config, streaming=True))
    except Exception as error:  # the hub's client raises dozens of types; each means the same to a person
        raise _not_read(name, error) from error
    if isinstance(loaded, Mapping):
        return list(cast("Mapping[str, Iterable[dict[str, Any]]]", loaded).items())
    return [("train", cast("Iterable[dict[str, Any]]", loaded))]


def _fetched(rows: Iterable[dict[str, Any]], name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except Exception as error:  # as above
        raise _not_read(name, error) from error


def _not_read(name: str, error: Exception) -> CorpusError:
    reason = f"{type(error).__name__}: {one_line(str(error))[:160]}"
    return CorpusError(
        f"The data set {name} can't be read from the Hugging Face hub ({reason}). Check the id and the network, or give a file."
    )
