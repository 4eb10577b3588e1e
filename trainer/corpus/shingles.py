"""Texts as runs of n words, each run one 64-bit number: what duplicates (5 words) and leaks (13 words) are found by.

A word is its letters and digits without case, so that punctuation, quotes and layout make no difference. Numbers, and not
Python's salted `hash`, are the same in every process and on every machine. Whole batches are hashed by numpy: 0.1 ms for 250
words on one core, most of it for looking words up. The price: two of a million runs share a number once in 40 million corpora.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'’")
_ASCII_WORDS = bytes(ord(chr(code).lower()) if chr(code).isalnum() else ord(" ") for code in range(128)).ljust(256)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def digest(data: bytes) -> int:
    """A number of 64 bits for some bytes, the same everywhere."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def words_of(text: str) -> list[bytes]:
    """The words of a text, normalised: "Don't!" is dont. In ASCII text, which most is, without a regular expression."""
    if text.isascii():
        return text.encode().translate(_ASCII_WORDS, b"'").split()
    return [word.encode("utf-8", "replace") for word in _WORD.findall(text.casefold().translate(_APOSTROPHES))]


@dataclass(frozen=True)
class Runs:
    """The runs of several texts, one after the other."""

    hashes: NDArray[np.uint64]
    """Of each run, in order; a run that occurs twice is there twice."""
    ends: NDArray[np.int64]
    """Where the runs of each text end."""

    @property
    def starts(self) -> NDArray[np.int64]:
        return np.concatenate((np.zeros(1, np.int64), self.ends[:-1]))

    @property
    def texts(self) -> NDArray[np.int64]:
        """For each run the number of its text."""
        return np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))


class WordHashes(dict[bytes, int]):
    """Remembers the number of each word, up to so many words."""

    def __init__(self, limit: int = 300_000) -> None:
        super().__init__()
        self._limit = limit

    def __missing__(self, word: bytes) -> int:
        if len(self) >= self._limit:
            self.clear()
        self[word] = number = digest(word)
        return number


class RunHasher:
    """Makes the runs of `length` words out of texts. With `pad`, a text of fewer words is one run rather than none."""

    def __init__(self, length: int, *, pad: bool = False) -> None:
        self.length = length
        self._pad = pad
        self._hashes = WordHashes()

    def runs(self, texts: Sequence[Sequence[bytes]]) -> Runs:
        """All runs of texts that were made into words by `words_of`."""
        least = self.length if self._pad else 0
        lengths = np.array([max(len(words), least) for words in texts], dtype=np.int64)
        words = np.zeros(int(lengths.sum()) + self.length, dtype=np.uint64)
        number = self._hashes.__getitem__
        start = 0
        for text, length in zip(texts, lengths.tolist(), strict=True):
            words[start : start + len(text)] = np.fromiter(map(number, text), np.uint64, len(text))
            start += length
        counts = np.maximum(lengths - self.length + 1, 0)
        return Runs(self._mix(words)[_within(lengths, counts)], np.cumsum(counts))

    def _mix(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """The number of the run that begins at each word, whichever text it ends in: a polynomial of its words' numbers."""
        count = len(words) - self.length
        hashes = words[:count].copy()
        for offset in range(1, self.length):
            hashes *= _MULTIPLIER
            hashes += words[offset : offset + count]
        return hashes


def _within(lengths: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places at which a run begins that does not reach into the next text."""
    before = np.cumsum(lengths) - lengths
    runs_before = np.cumsum(counts) - counts
    return np.repeat(before - runs_before, counts) + np.arange(int(counts.sum()))
