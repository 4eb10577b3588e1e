"""The lines of a text file, plain or gzipped, decoded one by one: memory stays that of the longest line.

A line that is not UTF-8 is a fault of its own and the reading goes on: one torn byte must not cost the other stories. A second
one within a hundred lines means that the file is in another encoding; then the rest of it is left alone, since half of its
stories, those without an accent or a curly quote, would be worse than none. Nothing is ever guessed.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from trainer.sources.options import ReadOptions

LONGEST_LINE = 64 * 2**20
"""Bytes. A file without line ends must not be read into memory whole."""
_LINES_FOR_ONE_FAULT = 100


class Lines:
    """The lines of a file with their ends; `number` is that of the last one, from 1.

    Faults are told as they are met. `torn` says that the file ended before its end.
    """

    def __init__(self, path: Path, options: ReadOptions) -> None:
        """Opens nothing yet."""
        self.path = path
        self.number = 0
        self.torn = False
        self._options = options
        self._undecodable = 0

    def __iter__(self) -> Iterator[str]:
        """Each line, once."""
        try:
            with _open(self.path) as file:
                while not self.torn and (raw := file.readline(LONGEST_LINE + 1)):
                    self.number += 1
                    if (line := self._decode(raw)) is not None:
                        yield line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            self._tear(f"{self.path} is no whole gzip file after line {self.number} ({error}): copy it again.")
        except OSError as error:
            self._tear(f"{self.path} can't be read: {error.strerror or error}.")

    def _tear(self, sentence: str) -> None:
        self.torn = True
        self._options.fault(sentence)

    def _decode(self, raw: bytes) -> str | None:
        if len(raw) > LONGEST_LINE:
            limit = f"longer than {LONGEST_LINE // 2**20} MB"
            self._tear(f"{self.path}:{self.number} is a line {limit}: put one story or record on a line.")
            return None
        try:
            return (raw.removeprefix(b"\xef\xbb\xbf") if self.number == 1 else raw).decode("utf-8")
        except UnicodeDecodeError as error:
            self._tell_of_encoding(error)
            return None

    def _tell_of_encoding(self, error: UnicodeDecodeError) -> None:
        byte = f"0x{error.object[error.start]:02x}"
        utf_16 = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        advice = f"save the file as UTF-8{_iconv(self.path, 'UTF-16' if utf_16 else 'WINDOWS-1252')}"
        self._undecodable += 1
        another_encoding = utf_16 or self._undecodable > 1 + self.number // _LINES_FOR_ONE_FAULT
        self.torn = another_encoding
        rest = " All that follows in it is left out." if another_encoding else ""
        self._options.fault(f"{self.path}:{self.number} is not UTF-8 (byte {byte}): {advice}.{rest}")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _iconv(path: Path, encoding: str) -> str:
    """How the file becomes UTF-8, as far as its first bytes tell."""
    if path.suffix.lower() == ".gz":
        return f" (gunzip it, then: iconv -f {encoding} -t UTF-8)"
    return f", for instance by: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}"
