"""A text on its way through the engine: who asked for what, who reads it, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.engine.interface import GenerationRequest, Waiting
from bot.engine.reader import Reader

if TYPE_CHECKING:  # imports torch, which only the decode thread may do
    from bot.engine.writing import Writing


@dataclass(eq=False)
class Ticket:
    """A text from the request to its last piece."""

    request: GenerationRequest
    reader: Reader
    writing: Writing | None = None
    """Made when it gets its first slot."""
    told: Waiting | None = None
    """What its reader knows of its place in the line."""

    @property
    def remaining(self) -> int:
        """The most tokens that are still to be written."""
        return self.request.max_new_tokens if self.writing is None else self.writing.remaining
