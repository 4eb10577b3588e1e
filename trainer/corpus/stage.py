"""The passages of a corpus in the making, on disk: appended in parts, kept across a stop, read back memory-mapped.

DIR/part-00000.arrow …    finished parts
DIR/state.json            which parts count, and how far the sources were read; replaced whole, after its parts

What is not in state.json never happened: a run that was killed goes on from the last commit. The price is that every text
is written twice, here and into the corpus.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from trainer.corpus.staged import Staged

SCHEMA = pa.schema(
    [
        ("text", pa.large_string()),
        ("genre", pa.string()),
        ("prompt", pa.string()),
        ("title", pa.string()),
        ("book", pa.string()),
        ("source", pa.string()),
        ("origin", pa.string()),
        ("author", pa.string()),
        ("licence", pa.string()),
        ("attribution", pa.string()),
        ("lot", pa.float64()),
        ("held_out", pa.bool_()),
    ]
)
_BATCH = 1000


@dataclass
class State:
    """What a stage has behind it."""

    identity: str
    """Of settings and sources; another one starts anew."""
    unit: int = 0
    """Units that were read to their end."""
    records: int = 0
    """Records of the next unit that are in finished parts."""
    parts: list[int] = field(default_factory=list[int])
    """Rows of each part."""
    tallies: dict[str, Any] = field(default_factory=dict[str, Any])
    """Whatever the reader counts, as JSON."""

    @property
    def rows(self) -> int:
        """Passages in finished parts."""
        return sum(self.parts)


class Stage:
    """A folder of passages that grows."""

    def __init__(self, folder: Path, identity: str) -> None:
        """Goes on with what is there if it is of the same settings and sources, else begins anew. Raises OSError."""
        self.folder = folder
        self.state = _read_state(folder / "state.json", identity)
        if self.state.rows == 0:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("part-*.arrow"):
            if path not in self._paths():
                path.unlink()
        self._rows: list[dict[str, Any]] = []
        self._writer: pa.RecordBatchFileWriter | None = None
        self._written = 0

    def add(self, row: dict[str, Any]) -> None:
        """Append one passage, a value for each field of SCHEMA."""
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path(len(self.state.parts))), SCHEMA)
        self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=SCHEMA))
        self._written += len(self._rows)
        self._rows = []

    def commit(self, unit: int, records: int, tallies: dict[str, Any]) -> None:
        """Make all that was added count, with how far the sources were read. Raises OSError."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self.state.parts.append(self._written)
            self._written = 0
        self.state.unit, self.state.records, self.state.tallies = unit, records, tallies
        staged = self.folder / "state.json.new"
        staged.write_text(json.dumps(vars(self.state)), encoding="utf-8")
        staged.replace(self.folder / "state.json")

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.arrow"

    def _paths(self) -> list[Path]:
        return [self._path(number) for number in range(len(self.state.parts))]

    def staged(self) -> Staged:
        """All passages in finished parts, memory-mapped. Raises OSError."""
        return Staged(self._paths(), SCHEMA)


def _read_state(path: Path, identity: str) -> State:
    try:
        state = State(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return State(identity)
    whole = all((path.parent / f"part-{number:05d}.arrow").is_file() for number in range(len(state.parts)))
    return state if state.identity == identity and whole else State(identity)
