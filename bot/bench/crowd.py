"""Many more stories than there are slots: whether all of them end, how long each waits against its fair share, and memory.

A fair share is the time until a story's turn, were turns a fluid: those servers that have somebody waiting get equal parts of
it, and those people of a server who have something waiting equal parts of that.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bot.bench.baseline import Told
from bot.bench.ours import tell
from bot.engine.interface import Engine, GenerationRequest

_LOOK_S = 0.05


@dataclass(frozen=True)
class CrowdFigures:
    """What a crowd met."""

    stories: int
    ended: int
    """Stories that were told to their last token."""
    longest_wait_of_fair_share: float
    """1 is exactly fair; the worst story's."""
    memory_before_mb: float
    """Resident, once a batch has filled each slot."""
    memory_most_mb: float


def askers(stories: int) -> list[tuple[int, int]]:
    """Who asks for each story, as (server, person): one asks for a third of all, a whole server for another, the rest for
    one or two in servers of five people.
    """
    third = stories // 3
    greedy = [(0, 0)] * third
    busy = [(1, n % max(1, third // 3)) for n in range(third)]
    return greedy + busy + [(2 + n // 10, n // 2) for n in range(stories - 2 * third)]


def fair_turns(askers: Sequence[tuple[int, int]]) -> list[float]:
    """For each story, how many turns have passed when its own comes, were turns a fluid."""
    queues: dict[int, dict[int, list[int]]] = {}
    for n, (server, user) in enumerate(askers):
        queues.setdefault(server, {}).setdefault(user, []).append(n)
    got = {(server, user): 0.0 for server, users in queues.items() for user in users}
    turns, passed = [0.0] * len(askers), 0.0
    while queues:
        rates = {(s, u): 1 / len(queues) / len(users) for s, users in queues.items() for u in users}
        step = min((1 - got[key]) / rate for key, rate in rates.items())
        passed += step
        for (server, user), rate in rates.items():
            got[server, user] += rate * step
            if got[server, user] > 1 - 1e-9:
                got[server, user] = 0.0
                turns[queues[server][user].pop(0)] = passed
                if not queues[server][user]:
                    del queues[server][user]
                if not queues[server]:
                    del queues[server]
    return turns


async def crowd(engine: Engine, request: GenerationRequest, slots: int, stories: int) -> CrowdFigures:
    """So many stories like `request`, asked for at the same moment, after a batch that fills the slots."""
    await asyncio.gather(*(tell(engine, replace(request, seed=n)) for n in range(slots)))
    who = askers(stories)
    requests = [replace(request, seed=n, server=server, user=f"{server} {person}") for n, (server, person) in enumerate(who)]
    before = most = _resident_mb()
    started_s = time.perf_counter()
    telling = asyncio.gather(*(tell(engine, one) for one in requests))
    while not telling.done():
        await asyncio.wait({telling}, timeout=_LOOK_S)
        most = max(most, _resident_mb())
    told: list[Told] = await telling
    seconds_a_turn = (time.perf_counter() - started_s) / stories
    # a story's turn comes when the ones before it have begun; of the first ones, `slots` begin at once
    waits = [one.ttft_s / (turn * seconds_a_turn) for one, turn in zip(told, fair_turns(who), strict=True)]
    ended = sum(one.tokens == request.max_new_tokens for one in told)
    return CrowdFigures(stories, ended, round(max(waits), 2), round(before, 1), round(most, 1))


def _resident_mb() -> float:
    import psutil

    return psutil.Process(os.getpid()).memory_info().rss / 1e6
