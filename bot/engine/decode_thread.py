"""One thread owns the model and lets all texts in flight take a step in turn.

    event loop                            decode thread
    put(ticket)  ── inbox, a lock ──>     take in · answer errands · one step for each seated text
    reader.queue <── one call a round ──  hand over

The thread runs while there is work and else waits for its queue, so idling costs nothing. It is a daemon, not one of
an executor, which Python would join at its exit: neither a forgotten close nor a load, which nothing can interrupt,
holds a process up. A slow reader only lets its own queue grow, by `max_new_tokens` pieces at most. An error in a step
ends that text alone. The price of turns: a new text's prompt is read in one go and holds the others up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bot.engine.interface import GenerationRequest, Piece
from bot.errors import EngineFailed, ShuttingDown, StoryError

if TYPE_CHECKING:  # both import torch, which only the thread may do
    from bot.engine.loading import LoadedModel
    from bot.engine.writing import Writing

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(eq=False)
class Reader:
    """Who reads a text: a queue on an event loop, and whether they are still there."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    queue: asyncio.Queue[Piece | StoryError] = field(default_factory=asyncio.Queue)
    gone: bool = False
    """Set by the reader when it stops; the thread looks at it before each step."""


@dataclass(eq=False)
class Ticket:
    """A text that waits for a seat or has one."""

    model: LoadedModel
    request: GenerationRequest
    reader: Reader
    writing: Writing | None = None

    def advance(self) -> Piece:
        """One step; the first one also makes the text's own state, on the thread that owns it."""
        if self.writing is None:
            from bot.engine.writing import Writing

            self.writing = Writing(self.model, self.request)
        return self.writing.advance()


@dataclass(eq=False)
class Errand:
    """Something short to do between two rounds."""

    work: Callable[[], list[float]]
    result: Future[list[float]]


class DecodeThread:
    """Takes tickets and errands from the event loop and gives them their turns. Construct it once a model."""

    def __init__(self, max_stories: int) -> None:
        self._max_stories = max_stories
        self._thread = Thread(target=self._work, name="decode", daemon=True)  # started by its first job
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # None ends the thread
        self._lock = Lock()  # guards the fields down to `_closing`, which both sides touch
        self._inbox: deque[Ticket | Errand] = deque()
        self._promised: set[Future[Any]] = set()  # of work that was submitted and has not ended
        self._at_work = False  # on submitted work, which can't be interrupted
        self._running = False
        self._closing = False
        self._waiting: deque[Ticket] = deque()  # from here on: the thread's own
        self._seated: list[Ticket] = []

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

    def put(self, job: Ticket | Errand) -> None:
        """Queue a text or an errand; the thread sees it between two steps. Raises ShuttingDown."""
        with self._lock:
            self._check_open()
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
                    result.set_exception(_no_more_stories())
            self._promised.clear()
            self._jobs.put(None)
            ends_soon = self._thread.is_alive() and not self._at_work
        if ends_soon:
            await asyncio.to_thread(self._thread.join)

    def _check_open(self) -> None:
        if self._closing:
            raise _no_more_stories()

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
            try:
                self._round()
            except Exception:  # a fault of this file: nobody may wait for ever because of it
                logger.exception("the decode thread failed between two steps")
                self._end_all(EngineFailed("The storyteller failed through a fault of its own. Its log says why."))

    def _take_in(self) -> bool:
        """Whether there is anything to do, having moved what arrived to its place."""
        with self._lock:
            arrived, closing = list(self._inbox), self._closing
            self._inbox.clear()
            self._running = busy = bool(arrived or self._waiting or self._seated)
        self._waiting.extend(job for job in arrived if isinstance(job, Ticket))
        for job in arrived:
            if isinstance(job, Errand):
                _run_errand(job, closing)
        if closing:
            _hand_over([(ticket.reader, _no_more_stories()) for ticket in self._waiting])
            self._waiting.clear()
            self._end_all(ShuttingDown("The storyteller closed in the middle of this story."))
        return busy  # not the field: a new text may set it again by now, and has then begun a run of its own

    def _round(self) -> None:
        """A step for each seated text, and one hand-over for all of them."""
        self._seat()
        news = [(ticket, _advance(ticket)) for ticket in self._seated]
        self._seated = [ticket for ticket, item in news if isinstance(item, Piece) and item.finish_reason is None]
        _hand_over([(ticket.reader, item) for ticket, item in news])

    def _seat(self) -> None:
        """Free the seats of readers who left, and fill them in the order of arrival."""
        self._seated = [ticket for ticket in self._seated if not ticket.reader.gone]
        while self._waiting and len(self._seated) < self._max_stories:
            ticket = self._waiting.popleft()
            if not ticket.reader.gone:
                self._seated.append(ticket)

    def _end_all(self, error: StoryError) -> None:
        _hand_over([(ticket.reader, error) for ticket in self._seated])
        self._seated = []


def _no_more_stories() -> ShuttingDown:
    """For whoever has not a word yet."""
    return ShuttingDown("The storyteller is closing and takes no more stories. Try again in a few minutes.")


def _advance(ticket: Ticket) -> Piece | StoryError:
    try:
        return ticket.advance()
    except Exception:
        logger.exception("a step of the model failed; its text ends here, the others go on")
        return EngineFailed("The model stopped in the middle of this story. Try again; the host's log says why.")


def _run_errand(errand: Errand, closing: bool) -> None:
    if not errand.result.set_running_or_notify_cancel():
        return
    try:
        if closing:
            raise _no_more_stories()  # noqa: TRY301 - set on the result like any other error
        errand.result.set_result(errand.work())
    except StoryError as error:
        errand.result.set_exception(error)
    except Exception:
        logger.exception("an errand of the decode thread failed")
        errand.result.set_exception(EngineFailed("The model failed on this prompt. The host's log says why."))


def _hand_over(news: list[tuple[Reader, Piece | StoryError]]) -> None:
    """One call for each event loop, however many texts: waking a loop costs more than putting a piece in a queue."""
    by_loop: defaultdict[asyncio.AbstractEventLoop, list[tuple[Reader, Piece | StoryError]]] = defaultdict(list)
    for reader, item in news:
        by_loop[reader.loop].append((reader, item))
    for loop, items in by_loop.items():
        try:
            loop.call_soon_threadsafe(_put_all, items)
        except RuntimeError:  # that loop is closed, and its readers with it
            for reader, _ in items:
                reader.gone = True


def _put_all(items: list[tuple[Reader, Piece | StoryError]]) -> None:
    for reader, item in items:
        reader.queue.put_nowait(item)
