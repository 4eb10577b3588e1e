"""Checkpoints that are whole or not there: written aside, marked complete last, then renamed into place.

transformers writes checkpoints in place and takes the one with the highest number, torn or not. Here a checkpoint has a file
COMPLETE with the size and SHA-256 of each of its files (llm.c's DONE file, with proof), and one that does not match it is
named and passed over. The price is reading each checkpoint once when a training goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

MARK = "COMPLETE"
_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint, if any, and a sentence for each newer one that is not whole."""

    path: Path | None
    torn: tuple[str, ...]


def step_of(path: Path) -> int:
    """The step that a checkpoint was written after; -1 for what is no checkpoint."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1


def publish(staged: Path, final: Path) -> None:
    """Mark a fully written directory as complete and move it into place; nothing half-made ever has the final name."""
    files = {
        str(path.relative_to(staged)): {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(staged.rglob("*"))
        if path.is_file()
    }
    for name in files:
        _sync(staged / name)
    mark = staged / MARK
    mark.write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")
    _sync(mark)
    if final.exists():
        shutil.rmtree(final)
    staged.rename(final)
    _sync(final.parent)


def fault(path: Path) -> str | None:
    """What is wrong with a checkpoint; None when it is whole."""
    try:
        files = json.loads((path / MARK).read_text(encoding="utf-8"))
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{path} has an unreadable {MARK} file"
    for name, (size, digest) in expected.items():
        file = path / name
        if not file.is_file():
            return f"{path} lacks {name}"
        if file.stat().st_size != size or _digest(file) != digest:
            return f"{path} has a damaged {name}"
    return None


def newest_whole(directory: Path) -> Found:
    """The checkpoint to go on from."""
    torn: list[str] = []
    candidates = [path for path in directory.glob("checkpoint-*") if step_of(path) >= 0]
    for path in sorted(candidates, key=step_of, reverse=True):
        problem = fault(path)
        if problem is None:
            return Found(path, tuple(torn))
        torn.append(problem)
    return Found(None, tuple(torn))


def keep_newest(directory: Path, keep: int, written: Path) -> None:
    """Remove all but the checkpoint just written and the `keep` - 1 before it.

    Those with a higher number go first: the training passed them over as torn, so what was just written is the newest.
    """
    found = sorted((p for p in directory.glob("checkpoint-*") if step_of(p) >= 0), key=step_of, reverse=True)
    past = [path for path in found if step_of(path) <= step_of(written)]
    for path in {*found} - {*past[:keep]}:
        shutil.rmtree(path, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
