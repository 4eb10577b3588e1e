"""Files mapped into memory, whose pages can be given back.

The pages of a map count as the process's own once they are read, however long ago. Given back they are only cached by the
system, so that reading them again costs little and memory does not grow with the file.
"""

from __future__ import annotations

import mmap
from pathlib import Path


def map_file(path: Path) -> mmap.mmap:
    """The file as bytes, to be read only. Raises OSError, and ValueError for an empty file."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def give_pages_back(mapped: mmap.mmap) -> None:
    """Let the system take the pages that were read; they stay readable."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)
