"""Stories by our engine, timed where the storyteller would read them, and how late the event loop was meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bot.bench.baseline import Told
from bot.engine.interface import Engine, GenerationRequest

_LAG_STEP_S = 0.005


async def tell(engine: Engine, request: GenerationRequest) -> Told:
    """One story."""
    started_s = time.perf_counter()
    first_s: float | None = None
    tokens = 0
    async for piece in engine.generate(request):
        if piece.waiting is None:
            tokens = piece.new_tokens
            first_s = first_s or time.perf_counter()
    ended_s = time.perf_counter()
    return Told(tokens, ended_s - started_s, (first_s or ended_s) - started_s)


async def tell_at_once(engine: Engine, requests: Sequence[GenerationRequest]) -> tuple[list[Told], float]:
    """All of them, asked for at the same moment; and the seconds until the last one ended."""
    started_s = time.perf_counter()
    told = await asyncio.gather(*(tell(engine, request) for request in requests))
    return told, time.perf_counter() - started_s


@dataclass
class LoopLag:
    """What was seen so far."""

    worst_s: float = 0.0


@asynccontextmanager
async def loop_lag(lag: LoopLag) -> AsyncGenerator[None]:
    """Watch until the block ends how late this loop comes for a timer: what a heartbeat of Discord would wait."""
    watching = asyncio.create_task(_watch(lag))
    try:
        yield
    finally:
        watching.cancel()


async def _watch(lag: LoopLag) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + _LAG_STEP_S
        await asyncio.sleep(_LAG_STEP_S)
        lag.worst_s = max(lag.worst_s, loop.time() - due_s)
