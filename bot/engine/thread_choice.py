"""How many threads a forward pass takes, by measuring it once: more of them wait for each other more often.

What is best depends on the model (a small one is bound by the calls, not by arithmetic), on the host's cores and on what
else runs there. A guess from the number of cores is worst in a container, which sees cores that it may not use.

The choice is kept, since it decides on the last bits of a story: attention over many tokens is split among the threads. Were
it measured at each start, a busy minute would give a seed another story.
"""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from bot.engine.forward import Part

if TYPE_CHECKING:
    from bot.engine.forward import Forward

logger = logging.getLogger(__name__)

BUDGET_S = 1.0
TEXTS = 8
WORTH = 0.65
"""More threads are taken when they need less than this share of the time: in each of a step's products they wait for the
slowest of them, and a busy neighbour costs them more than a single one. On two cores a second thread leaves 0.73 of a step of
the bundled model and 0.57 of GPT-2 124M's. Eight stories of the bundled model came at 6,800 to 7,800 tokens a second by two
threads and 4,100 to 5,800 by one; with one core busy otherwise at 1,500 to 2,300 by two and 5,200 to 5,700 by one.
"""


def choose_threads(forward: Forward, what: str, record: Path | None) -> str:
    """Set torch's threads to what is fastest here for one text and for eight; the reason, for the log.

    `record` keeps it for `what` (the weights' fingerprint, what computes them) on this machine. What the slots held is lost.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    key = f"{cores} cores, torch {torch.__version__}, {what}, more for {WORTH:.0%} of the time"
    known = _read(record)
    if key in known:
        torch.set_num_threads(known[key])
        return f"{known[key]} of {cores} threads, as before"
    numbers = sorted({*(2**n for n in range(cores.bit_length())), cores})
    times = dict.fromkeys(numbers, float("inf"))
    _step_time_s(forward)  # the first one takes longer, whatever its threads
    deadline = time.perf_counter() + BUDGET_S
    while len(numbers) > 1 and time.perf_counter() < deadline:
        for number in numbers:
            torch.set_num_threads(number)
            times[number] = min(times[number], _step_time_s(forward))  # whatever else the host does only adds to it
    best = numbers[0]
    for number in numbers[1:]:
        if times[number] < WORTH * times[best]:
            best = number
    torch.set_num_threads(best)
    _write(record, known | {key: best})
    compared = ", ".join(f"{number} takes {1000 * spent:.2f} ms" for number, spent in times.items() if spent < float("inf"))
    return f"{best} of {cores} threads" + (f": a step of one text and one of eight with {compared}" if compared else "")


def _step_time_s(forward: Forward) -> float:
    """One token for one text, and one for each of several."""
    many = [Part(slot, 0, (0,)) for slot in range(min(TEXTS, forward.slots))]
    started = time.perf_counter()
    forward(many[:1])
    forward(many)
    return time.perf_counter() - started


def _read(record: Path | None) -> dict[str, int]:
    try:
        content: object = json.loads(record.read_bytes()) if record else {}
    except (OSError, ValueError):
        return {}
    known = cast("dict[str, object]", content) if isinstance(content, dict) else {}
    return {key: number for key, number in known.items() if isinstance(number, int) and 1 <= number <= 512}


def _write(record: Path | None, known: dict[str, int]) -> None:
    if record is None:
        return
    part = record.with_suffix(".part")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
        part.replace(record)
    except OSError as error:
        logger.warning("%s can't be written (%s): the threads are chosen anew at each start", record, error)
