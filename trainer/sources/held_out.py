"""Which names of files, folders and splits say: never train on this."""

from __future__ import annotations

import re

_NAME = re.compile(r"(valid|validation|test|dev|held[-_]?out)([-_.].*)?", re.IGNORECASE)


def is_held_out(name: str) -> bool:
    """Tell valid-000.jsonl, test, held_out.txt from anything else."""
    return _NAME.fullmatch(name) is not None
