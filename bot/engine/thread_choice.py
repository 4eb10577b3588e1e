"""How many threads a forward pass takes, by measuring it: more of them wait for each other more often.

What is best depends on the model (a small one is bound by the calls, not by arithmetic), on the host's cores and on what
else runs there. A guess from the number of cores is worst in a container, which sees cores that it may not use.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import torch

from bot.engine.forward import Part

if TYPE_CHECKING:
    from bot.engine.forward import Forward

BUDGET_S = 0.25
TEXTS = 8
WORTH = 0.92
"""More threads are taken when they need less than this share of the time."""


def choose_threads(forward: Forward) -> tuple[int, str]:
    """Set torch's threads to what is fastest here for one text and for eight; the number, with the reason for the log.

    What the slots held is lost.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    numbers = sorted({*(2**n for n in range(cores.bit_length())), cores})
    times = dict.fromkeys(numbers, float("inf"))
    deadline = time.perf_counter() + BUDGET_S
    while len(numbers) > 1 and time.perf_counter() < deadline:
        for number in numbers:
            torch.set_num_threads(number)
            times[number] = min(times[number], _step_time_s(forward))
    best = numbers[0]
    for number in numbers[1:]:
        if times[number] < WORTH * times[best]:
            best = number
    torch.set_num_threads(best)
    compared = ", ".join(f"{number}: {1000 * spent:.1f} ms" for number, spent in times.items() if spent < float("inf"))
    return best, f"{best} of {cores} threads" + (f" (a step of one text and one of eight with {compared})" if compared else "")


def _step_time_s(forward: Forward) -> float:
    """One token for one text, and one for each of several."""
    many = [Part(slot, 0, (0,)) for slot in range(min(TEXTS, forward.slots))]
    started = time.perf_counter()
    forward(many[:1])
    forward(many)
    return time.perf_counter() - started
