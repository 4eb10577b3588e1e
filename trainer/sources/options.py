"""How a reading goes: which columns to take, and whom to tell of what was bad and of what was passed over.

A reader calls `fault` and then goes on with the next record. Whether that ends everything (`train`: a corpus that is silently
shorter than its owner believes is worse than one that must be mended first) or is counted (`corpus`, over sources that nobody
will mend) is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trainer.errors import CorpusError
from trainer.sources.columns import ColumnMap


def _say_nothing(_: str) -> None:
    """Nobody asked for notes."""


@dataclass(frozen=True)
class ReadOptions:
    """What one reading of sources goes by."""

    columns: ColumnMap = field(default_factory=ColumnMap)
    bad: Callable[[str], None] | None = None
    """Told of each bad record; None: the first one raises."""
    note: Callable[[str], None] = _say_nothing
    """Told of what was passed over on purpose."""
    labels_are_genres: bool = False
    """A label in a column `genre` that can't be a tag is a fault. Off where labels are mapped to genres later."""

    def fault(self, sentence: str) -> None:
        """Tell of a record or a file that can't be read. Raises CorpusError where nobody collects them."""
        if self.bad is None:
            raise CorpusError(sentence)
        self.bad(sentence)
