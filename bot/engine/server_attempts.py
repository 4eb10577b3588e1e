"""When a request is tried again, where, and what is said when it is not."""

from __future__ import annotations

import logging
import random

from bot.engine.server_answers import Busy, Down, Refused, Trouble
from bot.engine.server_pool import Pool, Server
from bot.errors import EngineFailed, StoryError

logger = logging.getLogger(__name__)

TRIES = 4
"""For one request before its first word, over all servers."""
FIRST_PAUSE_S = 0.5
"""Before a server is asked again; doubled each time, with jitter, so that a crowd does not come back at once."""


class Attempts:
    """The tries of one request: another server first, then the same ones after a pause."""

    def __init__(self, pool: Pool, *, scoring: bool = False) -> None:
        self._pool = pool
        self._scoring = scoring
        self._failed: set[Server] = set()
        self._count = 0
        self._pause_s = 0.0

    async def next(self) -> Server:
        """The server to ask now. Raises ModelUnavailable when none is up, and CannotScore when those that are can't."""
        server = self._pool.pick(self._failed, scoring=self._scoring)
        if server is not None and server not in self._failed:
            return server
        if self._failed:
            await self._pool.pause(self._pause_s)
            self._failed.clear()
        elif self._pool.some_up:
            raise self._pool.none_fit()
        await self._pool.check()  # what was down a moment ago may be back
        server = self._pool.pick(self._failed, scoring=self._scoring)
        if server is None:
            raise self._pool.none_fit()
        return server

    def failed(self, server: Server, trouble: Trouble, *, begun: bool = False) -> None:
        """Take note, or raise the sentence that ends it, as for one that has words already."""
        self._count += 1
        if isinstance(trouble, Down):
            self._pool.mark_down(server, trouble)
        if begun:
            logger.warning("A text broke off in the middle, as %s", trouble)
            raise broke_off() from trouble
        if isinstance(trouble, Refused) or self._count >= TRIES:
            logger.error("A request to %s failed: %s", server, trouble)
            raise _sentence(trouble) from trouble
        logger.info("A request is tried again, as %s", trouble)
        self._failed.add(server)
        asked_s = trouble.retry_after_s if isinstance(trouble, Busy) else None
        jittered_s = FIRST_PAUSE_S * 2 ** (self._count - 1) * random.uniform(0.5, 1.0)
        self._pause_s = max(jittered_s, asked_s or 0.0)


def broke_off() -> EngineFailed:
    """For whoever has words already."""
    return EngineFailed("The model server broke off in the middle of this story. Try again; the host's log says why.")


def _sentence(trouble: Trouble) -> StoryError:
    if isinstance(trouble, Busy):
        return EngineFailed("The model server has too much to do right now. Try again in a minute.")
    if isinstance(trouble, Refused):
        return EngineFailed(f"The model server refused this story ({trouble.status}). The host's log says why.")
    return EngineFailed("The model server does not answer as it should. Try again in a minute; the host's log says why.")
