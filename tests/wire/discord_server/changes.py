"""Waiting for something to happen, without polling: one condition that each change notifies."""

import asyncio
from collections.abc import Callable


class Changes:
    """Wakes those who wait each time the bot did something that the server can see."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()

    async def notify(self) -> None:
        async with self._condition:
            self._condition.notify_all()

    async def wait_until(self, predicate: Callable[[], object], timeout_s: float, seen: Callable[[], str]) -> None:
        """Return as soon as `predicate` holds; after `timeout_s` fail with what `seen` tells."""
        try:
            async with asyncio.timeout(timeout_s), self._condition:
                await self._condition.wait_for(lambda: bool(predicate()))
        except TimeoutError:
            raise AssertionError(f"It did not happen within {timeout_s} s. Seen until now:\n{seen()}") from None
