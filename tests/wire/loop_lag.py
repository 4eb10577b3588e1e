"""How starved this process was: the longest that its own event loop came late for a timer.

A bot's heartbeat is measured here, in another process. On a machine with too little time for both, a late heartbeat says
nothing of the bot's loop, and this loop is late too; on any other this is some hundredths of a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

STEP_S = 0.05


@dataclass
class LoopLag:
    """What was seen so far."""

    worst_s: float = 0.0


@asynccontextmanager
async def watch_loop_lag() -> AsyncGenerator[LoopLag]:
    """Watch until the block ends."""
    lag = LoopLag()
    watching = asyncio.create_task(_watch(lag))
    try:
        yield lag
    finally:
        watching.cancel()


async def _watch(lag: LoopLag) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + STEP_S
        await asyncio.sleep(STEP_S)
        lag.worst_s = max(lag.worst_s, loop.time() - due)
