"""How long those who wait will wait: from the measured time of a round and what is still to be written before them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

_MEMORY = 0.95
"""How much of a mean is kept when a new value comes: it looks back over some twenty of them."""


class Pace:
    """Seconds a token of a story, and how much of the length that is asked for gets written."""

    def __init__(self) -> None:
        self._round_s: float | None = None
        self._written_share = 1.0

    def took(self, seconds: float) -> None:
        """A round in which each text that was writing wrote one token."""
        self._round_s = seconds if self._round_s is None else _MEMORY * self._round_s + (1 - _MEMORY) * seconds

    def ended(self, written: int, asked: int) -> None:
        """A text ended by itself after so many of the tokens that were asked for."""
        self._written_share = _MEMORY * self._written_share + (1 - _MEMORY) * written / asked

    def waits_s(self, remaining: Sequence[int], waiting: Iterable[int], seats: int) -> list[float | None]:
        """For each text that waits, in their order, the seconds until it begins; None before anything was measured.

        `remaining` tokens are to be written at most by those that have a seat, `waiting` by those in the line.
        """
        free_at = [tokens * self._written_share for tokens in remaining]
        free_at.extend([0.0] * (seats - len(free_at)))
        heapq.heapify(free_at)
        waits: list[float | None] = []
        for tokens in waiting:
            begins = heapq.heappop(free_at)
            waits.append(None if self._round_s is None else begins * self._round_s)
            heapq.heappush(free_at, begins + tokens * self._written_share)
        return waits
