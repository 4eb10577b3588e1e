"""Read story texts from whatever they come in, each source told by what it is.

    file.txt .jsonl .csv .tsv (.gz) .parquet .epub      one file
    folder                                              all of these in it, a Standard Ebooks checkout, a saved data set
    hf:owner/name, hf:owner/name:config                 a data set of the Hugging Face hub
    stories:                                            the project's own stories
    grammar:, grammar:FILE                              stories that a grammar writes

A source is read unit by unit (a file, mostly), so that a long reading can go on where it was left. Each text keeps where it was
read and which book it belongs to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

from trainer.errors import CorpusError
from trainer.sources.columnar import read_parquet, read_saved_data_set
from trainer.sources.columns import ColumnMap
from trainer.sources.csv_tables import read_table
from trainer.sources.ebooks import is_checkout, read_checkout, read_epub
from trainer.sources.folders import SUFFIXES, is_source_file, is_source_folder, passed_over, sources_in
from trainer.sources.held_out import is_held_out
from trainer.sources.hub import PREFIX, names_data_set, read_data_set
from trainer.sources.json_lines import read_json_lines
from trainer.sources.options import ReadOptions
from trainer.sources.own_stories import read_own_stories
from trainer.sources.plain_text import read_text
from trainer.sources.source_text import SourceText, clean

__all__ = ["ColumnMap", "SourceText", "Unit", "clean", "read_sources", "units"]

STORIES = "stories:"
GRAMMAR = "grammar:"


@dataclass(frozen=True)
class Unit:
    """A part of a source that is read in one go."""

    name: str
    """The same at each call for the same source."""
    texts: Callable[[ReadOptions], Iterator[SourceText]]

    def read(
        self,
        columns: ColumnMap | None = None,
        bad: Callable[[str], None] | None = None,
        note: Callable[[str], None] = lambda _: None,
    ) -> Iterator[SourceText]:
        """Its texts in order. Labels stay as they are; `genre` is set where the only one can be a tag.

        `bad` is told of each record that can't be read, and of a file that can't; without it the first raises CorpusError.
        `note` is told of what was passed over.
        """
        return self.texts(ReadOptions(columns or ColumnMap(), bad, note))


def read_sources(
    sources: Sequence[str],
    note: Callable[[str], None] = lambda _: None,
    columns: ColumnMap | None = None,
    bad: Callable[[str], None] | None = None,
) -> Iterator[SourceText]:
    """All texts of all sources, in order, for a training: a label in a field `genre` that can't be a tag is a bad record.

    `note` and `bad` as in Unit.read. Raises CorpusError.
    """
    options = ReadOptions(columns or ColumnMap(), bad, note, labels_are_genres=True)
    for source in sources:
        for unit in units(source):
            yield from unit.texts(options)


def units(source: str) -> list[Unit]:
    """The parts of a source in a fixed order; nothing is read yet. Raises CorpusError for what is no source."""
    if source == STORIES:
        return [Unit(source, read_own_stories)]
    if source.startswith(GRAMMAR):
        return [Unit(source, partial(_read_grammar, source.removeprefix(GRAMMAR)))]
    path = Path(source)
    if path.is_dir():
        return [_whole(path, path.name)] if is_source_folder(path) else _units_in(path)
    if path.is_file():
        return [_file(path)]
    if names_data_set(source, SUFFIXES):
        return [Unit(source, partial(read_data_set, source.removeprefix(PREFIX)))]
    raise CorpusError(f"There is no file or folder {source}. Give a path, or a data set's id as hf:owner/name.")


def _units_in(folder: Path) -> list[Unit]:
    paths = list(sources_in(folder))
    if not paths:
        raise CorpusError(f"{folder} has no file that ends in {', '.join(SUFFIXES)}: put stories there in one of these.")
    found: list[Unit] = []
    for path in paths:
        names = path.relative_to(folder).parts
        held_out = any(map(is_held_out, names))
        found.append(_whole(path, *names, in_folder=True) if path.is_dir() else Unit(str(path), _in_folder(path, held_out)))
    return found


def _whole(folder: Path, *names: str, in_folder: bool = False) -> Unit:
    """A folder that is one source; its own name and those above it may say that it is held out."""
    held_out = any(map(is_held_out, names))

    def texts(options: ReadOptions) -> Iterator[SourceText]:
        if is_checkout(folder):
            return read_checkout(folder, held_out, options)
        return read_saved_data_set(folder, held_out, options, in_folder=in_folder)

    return Unit(str(folder), texts)


def _file(path: Path) -> Unit:
    if not is_source_file(path):
        raise CorpusError(f"{path} ends in none of {', '.join(SUFFIXES)}: convert it, or rename it if it is one of these.")
    return Unit(str(path), partial(_read_file, path, is_held_out(path.name), in_folder=False))


def _in_folder(path: Path, held_out: bool) -> Callable[[ReadOptions], Iterator[SourceText]]:
    def texts(options: ReadOptions) -> Iterator[SourceText]:
        if not passed_over(path, options.note):
            yield from _read_file(path, held_out, options, in_folder=True)

    return texts


def _read_file(path: Path, held_out: bool, options: ReadOptions, *, in_folder: bool) -> Iterator[SourceText]:
    match path.name.lower().removesuffix(".gz").rpartition(".")[2]:
        case "jsonl":
            return read_json_lines(path, held_out, options, in_folder=in_folder)
        case "csv" | "tsv":
            return read_table(path, held_out, options, in_folder=in_folder)
        case "parquet":
            return read_parquet(path, held_out, options, in_folder=in_folder)
        case "epub":
            return read_epub(path, held_out, options)
        case _:
            return read_text(path, held_out, options)


def _read_grammar(argument: str, _: ReadOptions) -> Iterator[SourceText]:
    """What a grammar writes; found when it is asked for, since it brings its plots with it."""
    read = import_module("trainer.grammar.source").read
    yield from cast("Iterator[SourceText]", read(argument))
