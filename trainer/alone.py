"""One run at a time works in a folder."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from trainer.errors import OutputError

LOCK = "lock"


@contextmanager
def alone_in(folder: Path) -> Generator[None]:
    """Keep other runs out while this one works there: two would mix what they write. Raises OutputError."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise OutputError(f"Another run works in {folder} now: wait until it has ended, or choose another name.") from None
    except OSError as error:
        raise OutputError(f"{folder} can't be made ({error.strerror or error}): choose another name.") from error
    try:
        yield
    finally:
        lock.release()
