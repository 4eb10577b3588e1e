"""From the decode thread to who reads a text: one call a round into each event loop, and none for a reader who is busy.

    decode thread                          event loop
    hand_over([(reader, item), ...])  ──>  await reader.next()
      merges into what lies there            takes all that lies there as one piece

What a slow reader has not taken is one piece that grows by its text, never a queue of pieces, and nobody is woken for text
twice within `REST_S`: a loop that was woken for each of 60,000 tokens a second would take Python from the decode thread. The
price: a piece is not a token.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock
from time import perf_counter

from bot.engine.interface import Piece
from bot.errors import StoryError

REST_S = 0.03
"""No eye sees a story grow more often than thirty times a second."""


@dataclass(eq=False)
class Reader:
    """Who reads a text on an event loop, what lies there for them, and whether they are still there."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    gone: bool = False
    """Set by the reader when it stops; the thread looks at it before each step."""
    _woken_s: float = -1.0  # the decode thread's own
    _lock: Lock = field(default_factory=Lock)  # guards all below
    _texts: list[str] = field(default_factory=list[str])
    _latest: Piece | None = None
    _error: StoryError | None = None
    _sleeper: asyncio.Future[None] | None = None

    def due(self, now_s: float) -> bool:
        """On the decode thread: whether text that is put now may wake somebody, so that it is worth having it."""
        return now_s - self._woken_s >= REST_S

    def put(self, item: Piece | StoryError, now_s: float, *, pause: bool = False) -> asyncio.Future[None] | None:
        """On the decode thread: add to what lies here. A future, if somebody has to be woken for it.

        Text may lie until the next item, which always comes: a text ends with one. To `pause` is too long for that.
        """
        with self._lock:
            if isinstance(item, Piece):
                if item.text:
                    self._texts.append(item.text)
                self._latest = item
                if item.finish_reason is None and item.waiting is None:
                    if not self._texts:  # half a character is no reason to wake anybody
                        return None
                    if not (pause or self.due(now_s)):
                        return None
                    self._woken_s = now_s
            else:
                self._error = item
            sleeper, self._sleeper = self._sleeper, None
            return sleeper

    async def next(self) -> Piece:
        """All that came since the last piece, as one. Raises the error that ended the text, after its last piece."""
        while True:
            with self._lock:
                latest, self._latest = self._latest, None
                if latest is not None:
                    text = "".join(self._texts)
                    self._texts.clear()
                    return Piece(text, latest.new_tokens, latest.finish_reason, latest.waiting)
                if self._error is not None:
                    raise self._error
                sleeper = self._sleeper = self.loop.create_future()
            await sleeper


def hand_over(news: Iterable[tuple[Reader, Piece | StoryError]], *, pause: bool = False) -> None:
    """Give each reader its item; one call for each event loop that has somebody to wake, however many texts.

    Where these texts `pause`, what was held back of them is shown.
    """
    sleepers: defaultdict[asyncio.AbstractEventLoop, list[tuple[Reader, asyncio.Future[None]]]] = defaultdict(list)
    now_s = perf_counter()
    for reader, item in news:
        sleeper = reader.put(item, now_s, pause=pause)
        if sleeper is not None:
            sleepers[reader.loop].append((reader, sleeper))
        elif reader.loop.is_closed():
            reader.gone = True
    for loop, asleep in sleepers.items():
        try:
            loop.call_soon_threadsafe(_wake, [sleeper for _, sleeper in asleep])
        except RuntimeError:  # that loop is closed, and its readers with it
            for reader, _ in asleep:
                reader.gone = True


def _wake(sleepers: list[asyncio.Future[None]]) -> None:
    for sleeper in sleepers:
        if not sleeper.done():  # its task was cancelled
            sleeper.set_result(None)
