"""Which texts may be at the servers now: so many at once, and the others in the fair line of the local engine (line.py).

All of it is on the event loop. There is no estimate of a wait: a server's pace depends on who else asks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager

from bot.engine.before_writing import queue_full
from bot.engine.interface import GenerationRequest, Waiting
from bot.engine.line import Line
from bot.engine.server_wire import Waits


class Seat:
    """One text's seat, or its place in the line for one."""

    def __init__(self, waits: Waits) -> None:
        self._waits = waits
        self._moved = asyncio.Event()
        self.position: int | None = None
        """None has a seat; 1 is the next to get one."""

    def move_to(self, position: int | None) -> None:
        """Those before it left, or it is its turn."""
        self.position = position
        self._moved.set()

    async def places(self) -> AsyncGenerator[Waiting, None]:
        """Its place in the line each time it changes, until it has a seat. Raises Closing."""
        told: int | None = None
        while self.position is not None:
            if self.position != told:
                told = self.position
                yield Waiting(told, None)
            else:
                self._moved.clear()
                await self._waits.within(None, self._moved.wait)


class Seats:
    """All seats of an engine."""

    def __init__(self, seats: int, max_queued: int, waits: Waits) -> None:
        """Up to `seats` texts at once, and up to `max_queued` more in the line."""
        self._free = seats
        self._max_queued = max_queued
        self._waits = waits
        self._line: Line[Seat] = Line()

    @contextmanager
    def ask(self, request: GenerationRequest) -> Generator[Seat]:
        """A seat, or a place in the line, until the context is left. Raises QueueFull."""
        if not self._free and len(self._line) >= self._max_queued:
            raise queue_full(self._max_queued)
        seat = Seat(self._waits)
        self._line.add(seat, request.server, request.user)
        self._move_up()
        try:
            yield seat
        finally:
            if seat.position is None:
                self._free += 1
            else:
                self._line.remove({seat})
            self._move_up()

    def _move_up(self) -> None:
        while self._free and self._line:
            self._free -= 1
            self._line.pop().move_to(None)
        for position, seat in enumerate(self._line.in_turn(), 1):
            seat.move_to(position)
