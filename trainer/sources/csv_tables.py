"""CSV and TSV with a header, plain or gzipped.

CSV is read strictly: a quote that is never closed, or a row with more fields than the header, is told of, and not mended into
something its writer did not mean. TSV has two customs, and dialogue tells them apart badly: a story that begins with a
quotation mark is a quoted field in one and plain text in the other. So a TSV file counts as quoted only if its header is, or if
its first rows don't have as many tabs as the header; otherwise a field is unquoted only where its quotes are doubled inside.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from itertools import chain, dropwhile, islice
from pathlib import Path

from trainer.sources.lines import Lines
from trainer.sources.options import ReadOptions
from trainer.sources.records import Records
from trainer.sources.source_text import SourceText

LONGEST_FIELD = 32 * 2**20
"""Characters; the csv module's own limit of 131,072 is less than a long story. A quote that is never closed ends here."""
_ROWS_TO_JUDGE_BY = 200
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
"""What Excel writes above the header: it says by what fields are parted."""
_QUOTED_FIELD = re.compile(r'"(?=.*"")((?:[^"]|"")*)"', re.DOTALL)


def read_table(path: Path, held_out: bool, options: ReadOptions, *, in_folder: bool = False) -> Iterator[SourceText]:
    """The texts of a table. A row that can't be read is told of and left out."""
    records = Records(str(path), held_out, options, in_folder=in_folder)
    lines = Lines(path, options)
    rows = _rows(lines, options, tabs=".tsv" in (suffix.lower() for suffix in path.suffixes))
    _, header = next(rows, (0, []))
    names = [name.strip() for name in header]
    if not names or (names and records.check_table(names) is None):
        return
    for number, row in rows:
        origin = f"{path}:{number}"
        if len(row) != len(names):
            counts = f"{len(row)} fields and the header {len(names)}"
            options.fault(f"{origin} has {counts}: put a text with the separator in it between quotes.")
        elif text := records.read(dict(zip(names, row, strict=True)), origin):
            yield text


def _rows(lines: Lines, options: ReadOptions, *, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not blank, with the line it begins at."""
    source = ((lines.number, line) for line in lines)
    head = list(islice(dropwhile(lambda line: not line[1].strip(), source), _ROWS_TO_JUDGE_BY))
    said = _SEPARATOR_LINE.fullmatch(head[0][1].strip()) if head else None
    if said is not None:
        head = head[1:]
    if not head:
        return
    rest = _Handed(chain(head, source), head[0][0] - 1)
    texts = [line for _, line in head]
    if tabs and not _is_quoted(texts):
        yield from _plain_rows(rest)
    else:
        separator = said.group(1) if said else "\t" if tabs else _separator(texts[0])
        yield from _quoted_rows(rest, separator, lines.path, options)


class _Handed:
    """Lines, with the number of the last one that was handed out: the csv module takes as many as a row has."""

    def __init__(self, lines: Iterable[tuple[int, str]], passed: int) -> None:
        """`passed` lines came before."""
        self.number = passed
        self._lines = iter(lines)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line = next(self._lines)
        return line


def _separator(header: str) -> str:
    """Comma, or what spreadsheets of other countries write for it, by the header."""
    return max(",;\t|", key=header.count)


def _is_quoted(head: list[str]) -> bool:
    tabs = head[0].count("\t")
    return head[0].startswith('"') or any(line.count("\t") != tabs for line in head if line.strip())


def _plain_rows(lines: _Handed) -> Iterator[tuple[int, list[str]]]:
    for line in lines:
        if line.strip():
            yield lines.number, [_unquoted(field) for field in line.rstrip("\r\n").split("\t")]


def _unquoted(field: str) -> str:
    match = _QUOTED_FIELD.fullmatch(field)
    return match.group(1).replace('""', '"') if match else field


def _quoted_rows(lines: _Handed, separator: str, path: Path, options: ReadOptions) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(LONGEST_FIELD)  # the process's, not the reader's: nothing else here reads CSV
    rows = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        before = lines.number
        try:
            row = next(rows, None)
        except csv.Error as error:
            lost = f" Lines {before + 1} to {lines.number} are lost with it." if lines.number > before + 1 else ""
            options.fault(f"{path}:{before + 1} is no CSV row ({error}): look for a stray quotation mark.{lost}")
            continue
        if row is None:
            return
        if row:
            yield before + 1, row
