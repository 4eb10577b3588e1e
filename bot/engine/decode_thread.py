"""One thread owns the model. It takes in what arrives and runs the scheduler's rounds while there is work.

    event loop                            decode thread
    put(ticket)  ── inbox, a lock ──>     take in · one errand · a round for all texts (scheduler.py)
    reader.next() <── one call a round ─  hand over (reader.py)

The thread waits for its queue when there is no work, so idling costs nothing. It is a daemon, not one of an executor, which
Python would join at its exit: neither a forgotten close nor a load, which nothing can interrupt, holds a process up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar, cast

from bot.engine.before_writing import closed_before, closed_within, queue_full
from bot.engine.scheduler import Scheduler
from bot.engine.ticket import Ticket
from bot.errors import EngineFailed, StoryError

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(eq=False)
class Errand:
    """Something short to do between two rounds."""

    work: Callable[[], list[float]]
    result: Future[list[float]]


class DecodeThread:
    """Takes tickets and errands from the event loop and gives them to a scheduler. Construct it once a model."""

    def __init__(self, max_queued: int) -> None:
        """Up to `max_queued` texts may wait beside those that have a slot."""
        self._max_queued = max_queued
        self._thread = Thread(target=self._work, name="decode", daemon=True)  # started by its first job
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None ends the thread
        self._lock = Lock()  # guards the fields down to `_closing`, which both sides touch
        self._inbox: deque[Ticket | Errand] = deque()
        self._promised: set[Future[Any]] = set()  # of work that was submitted and has not ended
        self._at_work = False  # on submitted work, which can't be interrupted
        self._running = False
        self._taken = 0  # texts since the start
        self._ended = 0  # of them
        self._closing = False
        self._scheduler: Scheduler | None = None  # from here on: the thread's own
        self._errands: deque[Errand] = deque()

    @property
    def closing(self) -> bool:
        """Whether `close` was called."""
        return self._closing

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Run something long, such as loading, before or after all texts; its future gets ShuttingDown at a close.

        Raises ShuttingDown.
        """
        result: Future[T] = Future()
        with self._lock:
            self._check_open()
            self._promised.add(result)
            self._enqueue(lambda: self._keep_promise(work, result))
        return result

    def employ(self, scheduler: Scheduler) -> None:
        """On the thread: the scheduler that all texts and errands from now on are for."""
        self._scheduler = scheduler

    def put(self, job: Ticket | Errand) -> None:
        """Queue a text or an errand; the thread sees it between two rounds. Raises ShuttingDown, and QueueFull for a text."""
        with self._lock:
            self._check_open()
            if isinstance(job, Ticket):
                self._check_room()
                self._taken += 1
            self._inbox.append(job)
            if not self._running:
                self._running = True
                self._enqueue(self._run)

    async def close(self) -> None:
        """Let the thread end every text with ShuttingDown, and wait for it off the event loop.

        Submitted work is given up: those who wait for it get ShuttingDown now, and it ends whenever it does.
        """
        with self._lock:
            self._closing = True
            for result in self._promised:
                if not result.done():
                    result.set_exception(closed_before())
            self._promised.clear()
            self._jobs.put(None)
            ends_soon = self._thread.is_alive() and not self._at_work
        if ends_soon:
            await asyncio.to_thread(self._thread.join)

    def _check_open(self) -> None:
        if self._closing:
            raise closed_before()

    def _check_room(self) -> None:
        slots = self._scheduler.slots if self._scheduler is not None else 0
        if self._taken - self._ended >= slots + self._max_queued:
            raise queue_full(self._max_queued)

    def _enqueue(self, job: Callable[[], None]) -> None:
        """Under the lock, as it starts the thread once."""
        self._jobs.put(job)
        if self._thread.ident is None:
            self._thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _keep_promise(self, work: Callable[[], T], result: Future[T]) -> None:
        """Do submitted work, and drop what comes of it if it was given up meanwhile."""
        with self._lock:
            if result.done():
                return
            self._at_work = True
        outcome: T | None = None
        error: BaseException | None = None
        try:
            outcome = work()
        except BaseException as fault:  # noqa: BLE001 - raised where the result is awaited
            error = fault
        with self._lock:
            self._at_work = False
            self._promised.discard(result)
            if result.done():
                return
            if error is not None:
                result.set_exception(error)
            else:
                result.set_result(cast("T", outcome))

    def _run(self) -> None:
        while self._take_in():
            if self._errands:
                self._run_errand(self._errands.popleft())
            try:
                self._one_round()
            except Exception:  # a fault of the scheduler: nobody may wait for ever because of it
                logger.exception("the decode thread failed between two rounds")
                self._end_all(EngineFailed("The storyteller failed through a fault of its own. Its log says why."))

    def _take_in(self) -> bool:
        """Whether there is anything to do, having moved what arrived to its place."""
        scheduler = self._scheduler
        with self._lock:
            arrived, closing = list(self._inbox), self._closing
            self._inbox.clear()
            if scheduler is not None:
                self._ended = scheduler.ended
            self._running = busy = bool(arrived or self._errands or (scheduler is not None and scheduler.busy))
        if scheduler is not None:
            scheduler.add([job for job in arrived if isinstance(job, Ticket)])
        self._errands.extend(job for job in arrived if isinstance(job, Errand))
        if closing:
            self._end_all(closed_within(), closed_before())
            while self._errands:
                self._run_errand(self._errands.popleft())
        return busy  # not the field: a new text may set it again by now, and has then begun a run of its own

    def _one_round(self) -> None:
        if self._scheduler is not None:
            self._scheduler.round()

    def _end_all(self, begun: StoryError, not_begun: StoryError | None = None) -> None:
        if self._scheduler is not None:
            self._scheduler.end_all(begun, not_begun or begun)

    def _run_errand(self, errand: Errand) -> None:
        if not errand.result.set_running_or_notify_cancel():
            return
        try:
            if self._closing or self._scheduler is None:
                raise closed_before()
            errand.result.set_result(self._scheduler.errand(errand.work))
        except StoryError as error:
            errand.result.set_exception(error)
