"""One record, from whatever table or file of records, into a SourceText.

JSON Lines, CSV, Parquet and data sets differ in how a record is come by, and in nothing else: they all end here.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from trainer.errors import CorpusError
from trainer.sources.columns import ColumnMap, NoTextColumn
from trainer.sources.options import ReadOptions
from trainer.sources.source_text import SourceText, clean, genre_of, what_is_no_text
from trainer.sources.titles import own_title
from trainer.story_format import CORE_GENRES, genre_name, one_line, split_tag

_REDDIT_TAG = re.compile(r"\[\s*(?:WP|SP|EU|TT|IP|MP|CW|PM|PI|RF|CC|OT|FF)\s*\]\s*", re.IGNORECASE)
"""What r/WritingPrompts puts before each prompt: "[WP]" for a writing prompt, "[EU]" for one in a known universe."""


class Records:
    """The records of one file, read into texts. Remembers which columns it found as long as they stay the same.

    `in_folder`: the file was come upon and not named, so --map may be meant for another one, and a file without any text
    is a catalogue to pass over.
    """

    def __init__(self, name: str, held_out: bool, options: ReadOptions, *, in_folder: bool = False) -> None:
        """`name` is how the file or data set is called in sentences."""
        self.name = name
        self.held_out = held_out
        self.options = options
        self.in_folder = in_folder
        self.passed_over = False
        """Nothing in this file is a text: the reader may leave it."""
        self._shape: tuple[str, ...] | None = None
        self._wanted = options.columns
        self._found = ColumnMap()
        self._unseen = set(options.columns.chosen().values())
        self._read_one = False

    def columns(self, shape: tuple[str, ...]) -> ColumnMap | None:
        """Where things are in records of these columns. None: passed over, since the file was only come upon.

        Raises NoTextColumn.
        """
        if shape == self._shape:
            return self._found
        if self.in_folder and self._shape is None and not self._unseen & set(shape):
            # None of the mapped columns: --map was meant for another file, and this one has the usual names.
            self._unseen, self._wanted = set(), ColumnMap()
        try:
            self._found = self._wanted.find(shape)
        except NoTextColumn as error:
            if not self.in_folder or self._read_one:
                raise
            self.options.note(f"{self.name} is passed over: it {str(error).rstrip('.')}")
            self.passed_over = True
            return None
        self._shape = shape
        self._unseen -= set(shape)
        return self._found

    def check_table(self, names: list[str]) -> ColumnMap | None:
        """The columns of a table, which has them all from the start; None, and told, where there is nothing to read."""
        try:
            found = self.columns(tuple(names))
        except NoTextColumn as error:
            self.options.fault(f"{self.name} {error}")
            return None
        if found is not None and self._unseen:
            there = ", ".join(names)
            self.options.fault(f"{self.name} has no column {self._missing()}, which --map names; it has: {there}.")
            return None
        return found

    def finish(self) -> None:
        """After the last record: tell of what --map names and no record had."""
        if self._read_one and self._unseen:
            self.options.fault(f"{self.name}: no record has a field {self._missing()}, which --map names: check the spelling.")

    def _missing(self) -> str:
        return ", ".join(sorted(self._unseen))

    def read(self, record: Mapping[str, Any], origin: str) -> SourceText | None:
        """Its text; None where it is blank, and for a bad record, which is told of."""
        try:
            columns = self.columns(tuple(record))
            if columns is None:
                return None
            self._read_one = True
            return _read(record, columns, origin, self)
        except NoTextColumn as error:
            self.options.fault(f"{origin} {error}")
        except CorpusError as error:
            self.options.fault(str(error))
        return None


def _read(record: Mapping[str, Any], columns: ColumnMap, origin: str, records: Records) -> SourceText | None:
    labels = _labels(record, columns.genre, origin)
    tag, rest = _tag_of(_text(record, columns.text, origin), labels)
    text = clean(rest)
    if not text:
        return None
    labels = labels or ((tag,) if tag else ())
    genre = genre_of(labels)
    if len(labels) == 1 and genre is None and records.options.labels_are_genres and columns.genre == "genre":
        raise CorpusError(f"{origin}: {labels[0]!r} can't be a genre; use letters, digits and hyphens.")
    book = _name(record, columns.book, origin)
    source = _name(record, columns.source, origin) if book else None
    return SourceText(
        text,
        genre,
        _prompt(record, columns.prompt, origin),
        own_title(_string(record, columns.title, origin), book) or None,
        f"{source}/{book}" if source else book or text,
        records.held_out,
        labels,
        origin,
        _name(record, columns.licence, origin),
        _name(record, columns.author, origin),
        _name(record, columns.attribution, origin),
    )


def _tag_of(text: str, labels: tuple[str, ...]) -> tuple[str | None, str]:
    """The tag that the text opens with, and the rest. With labels of its own, a text that opens with "[LETTER]" has no tag."""
    tag, rest = split_tag(text)
    if labels and tag not in {*CORE_GENRES, *map(genre_name, labels)}:
        return None, text
    return tag, rest


def _text(record: Mapping[str, Any], column: str | None, origin: str) -> str:
    value = record.get(column) if column is not None else None
    if not isinstance(value, str):
        raise CorpusError(f"{origin}: the field {column} should be text and is {_shown(value)}.")
    if problem := what_is_no_text(value):
        raise CorpusError(f"{origin} {problem}.")
    return value


def _string(record: Mapping[str, Any], column: str | None, origin: str) -> str:
    """The field's text, empty where it has none. Raises CorpusError for a field of another type."""
    value = _field(record, column)
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{origin}: the field {column} should be text and is {_shown(value)}.")
    if value and (problem := what_is_no_text(value)):
        raise CorpusError(f"{origin}: the field {column} {problem}.")
    return value or ""


def _field(record: Mapping[str, Any], column: str | None) -> object:
    """What stands there, as tables with holes have it: NaN is nothing, and 1.0 is the number 1."""
    value = record.get(column) if column is not None else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None if math.isnan(value) else value
    return value


def _prompt(record: Mapping[str, Any], column: str | None, origin: str) -> str | None:
    """The prompt that belongs to the text, if it does: a corpus says of each whether it was only drawn for it."""
    if record.get("own_prompt") is False:
        return None
    prompt = _string(record, column, origin)
    return one_line(_REDDIT_TAG.sub("", prompt, count=1) if prompt.lstrip().startswith("[") else prompt) or None


def _name(record: Mapping[str, Any], column: str | None, origin: str) -> str | None:
    """A name or several, or a number that stands for one: authors come as lists, and books by their number."""
    value = _field(record, column)
    if isinstance(value, list):
        value = ", ".join(part for part in cast("list[Any]", value) if isinstance(part, str))
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return one_line(_string({column: value}, column, origin)) or None if column and value else None


def _labels(record: Mapping[str, Any], column: str | None, origin: str) -> tuple[str, ...]:
    """A text's labels: one, a list of them, or a list written out as text, as tables have it."""
    value = _field(record, column)
    if isinstance(value, str) and value.startswith(("['", '["')):
        value = _written_list(value)
    if isinstance(value, list):
        parts = [part for part in cast("list[Any]", value) if part is not None]
        if all(isinstance(part, str | int) for part in parts):
            return tuple(dict.fromkeys(label for part in parts if (label := one_line(str(part)))))
    if isinstance(value, int) and not isinstance(value, bool):
        return (str(value),)
    if value is not None and not isinstance(value, str):
        raise CorpusError(f"{origin}: the field {column} should be text, or a list of texts, and is {_shown(value)}.")
    label = one_line(_string(record, column, origin)) if value else ""
    return (label,) if label else ()


def _written_list(value: str) -> object:
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def _shown(value: object) -> str:
    return json.dumps(value, default=repr)[:40]
