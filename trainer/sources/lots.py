"""The lot that decides on which side of a split something falls: a hash, so it is the same in every run and everywhere."""

from __future__ import annotations

import hashlib


def lot(book: str) -> float:
    """Where a book falls between 0 and 1, by a hash of its name (or of its text, where it has none)."""
    return int.from_bytes(hashlib.blake2b(book.encode(), digest_size=8).digest(), "big") / 2**64
