"""A function over batches in worker processes, with results in order and only a few batches in memory."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def _begin() -> None:
    """Leave Ctrl-C, which goes to the whole process group, to the parent; but end with it, also when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Worker processes, as many as there are cores; with one core the work is done here."""

    def __init__(self, count: int | None = None) -> None:
        """Starts none yet."""
        self.count = count or _cores()
        self._pool: ProcessPoolExecutor | None = None

    def map(self, function: Callable[[Given], Made], batches: Iterable[Given]) -> Iterator[Made]:
        """The results in the order of the batches; at most twice as many batches under way as there are workers."""
        if self.count < 2:
            yield from map(function, batches)
            return
        if self._pool is None:
            # Spawned and not forked: threads of pyarrow may hold locks that a fork would copy for ever.
            self._pool = ProcessPoolExecutor(self.count, get_context("spawn"), _begin)
        under_way: deque[Future[Made]] = deque()
        for batch in batches:
            under_way.append(self._pool.submit(function, batch))
            if len(under_way) >= 2 * self.count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def close(self) -> None:
        """End the processes, without waiting for what they are at."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
