"""CSV and TSV with a header, plain or gzipped.

CSV is read strictly: a quote that is never closed, or a row with more fields than the header, is told of, and not mended into
something its writer did not mean. TSV has two customs, and dialogue tells them apart badly: a story that begins with a
quotation mark is a quoted field in one and plain text in the other. So a TSV file counts as quoted only if its header is, or if
its first rows don't have as many tabs as the header; otherwise a field is unquoted only where its quotes are doubled inside.
"""

from __future__ import annotations

import csv
import re
from collections import deque
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
    """Lines, with the number of the last one that was handed out: the csv module takes as many as a row has.

    Those of the row in hand are kept, so that what a broken row swallowed can be read again.
    """

    def __init__(self, lines: Iterable[tuple[int, str]], passed: int) -> None:
        """`passed` lines came before."""
        self.number = passed
        self._lines = iter(lines)
        self._row: list[tuple[int, str]] = []
        self._again: deque[tuple[int, str]] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        taken = self._again.popleft() if self._again else next(self._lines)
        self._row.append(taken)
        self.number = taken[0]
        return taken[1]

    def begin_row(self) -> int:
        """The next line is a row's first; its number."""
        self._row.clear()
        return self.number + 1

    @property
    def first(self) -> str:
        """The first line of the row in hand."""
        return self._row[0][1]

    def give_back_all_but_first(self) -> None:
        """Hand the row's later lines out again."""
        first, *later = self._row
        self._again.extendleft(reversed(later))
        self.number = first[0]
        self._row.clear()


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
    """Rows by the csv module. What a stray quote swallowed is read again from the line below it.

    After a broken row, reading goes on at the next line that is a row with all its fields. Where rows of this table run over
    several lines, that could be a paragraph of the broken text with as many commas, so there a field has to be quoted too.
    """
    csv.field_size_limit(LONGEST_FIELD)  # the process's, not the reader's: nothing else here reads CSV
    opens_field = re.compile(rf'(?:^|{re.escape(separator)})"(?!")')
    fields, has_long_rows = 0, False
    broken: tuple[int, str] | None = None
    while True:
        number = lines.begin_row()
        try:
            row = next(csv.reader(lines, delimiter=separator, strict=True), None)
        except csv.Error as error:
            broken = broken or (number, str(error))
            lines.give_back_all_but_first()
            continue
        if row == []:
            continue
        if broken is not None:
            if row is not None and (len(row) != fields or (has_long_rows and not opens_field.search(lines.first))):
                lines.give_back_all_but_first()
                continue
            start, why = broken
            options.fault(
                f"{path}:{start} is no CSV row ({why}): look for a stray quotation mark.{_lost(start + 1, number - 1)}"
            )
            broken = None
        if row is None:
            return
        fields = fields or len(row)
        has_long_rows = has_long_rows or lines.number > number
        yield number, row


def _lost(first: int, last: int) -> str:
    if last < first:
        return ""
    return f" Line {first} is lost with it." if last == first else f" Lines {first} to {last} are lost with it."
