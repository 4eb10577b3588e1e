"""Tell one story on a card, from the request to the last edit: the way that every front door of the bot shares.

This is the one place where a fault of the program is caught: the log gets the traceback with an id, the person gets
the id, and what was written so far stays.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Generator
from contextlib import aclosing, contextmanager

from bot.discord_ui import wording
from bot.discord_ui.card import NoWayLeft, StoryCard
from bot.discord_ui.surfaces import ReaderLeft, Unreachable
from bot.errors import ModelUnavailable, StoryError
from bot.storyteller.interface import Storyteller
from bot.storyteller.story import Stage, StoryRequest

_log = logging.getLogger(__name__)


class Desk:
    """Who is being told how many stories: a limit for each person, and a way to wait until all have landed.

    These are two counts: a place is taken while a story is written, but what a shutdown waits for begins before it, when
    the request is heard, and ends after it, as the last edit may sit out a rate limit.
    """

    def __init__(self, per_person: int) -> None:
        self._per_person = per_person
        self._stories: Counter[int] = Counter()
        self._unfinished = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def seat(self, person: int) -> Generator[None]:
        """Hold a place for one story of this person's while it is written. Raises TooManyStories."""
        if self._stories[person] >= self._per_person:
            raise wording.TooManyStories(self._per_person)
        self._stories[person] += 1
        try:
            yield
        finally:
            self._stories -= Counter({person: 1})  # this also forgets people at zero

    @contextmanager
    def in_flight(self) -> Generator[None]:
        """Something that a shutdown waits for."""
        self._unfinished += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._unfinished -= 1
            if not self._unfinished:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Return when the last edit of each answer has landed."""
        await self._idle.wait()


async def tell(storyteller: Storyteller, request: StoryRequest, card: StoryCard, desk: Desk, person: int) -> None:
    """Tell the story, or the sentence that says why not. Never raises: what could be shown was shown."""
    with _logging_what_is_lost():
        async with card:
            try:
                with desk.seat(person):
                    note = await _write(storyteller, request, card)
            except wording.TooManyStories as full:
                note = str(full)
            await card.finish(note)


async def say(sentence: str, card: StoryCard) -> None:
    """Show one sentence and no story. Never raises."""
    with _logging_what_is_lost():
        await card.finish(sentence)


@contextmanager
def _logging_what_is_lost() -> Generator[None]:
    try:
        yield
    except ReaderLeft:
        _log.info("A story ended early: its message was deleted")
    except (NoWayLeft, Unreachable) as lost:
        _log.error("A story found no way to the person who asked for it: %r", lost)
    except Exception:  # noqa: BLE001 - the top of a story's task
        _log.exception("A story could not be shown")


async def _write(storyteller: Storyteller, request: StoryRequest, card: StoryCard) -> str:
    """Let the story grow on the card; return the note that belongs below it, if it did not end well."""
    stage = None
    try:
        async with aclosing(storyteller.tell(request)) as updates:
            async for update in updates:
                card.show(update)
                stage = update.stage
    except ModelUnavailable as error:  # its sentence is for the host: it names paths of the host's machine
        _log.error("A story could not be told: %s", error)
        return wording.NO_MODEL
    except StoryError as error:
        return str(error)
    except (ReaderLeft, NoWayLeft):
        raise
    except Exception:  # noqa: BLE001 - told with an id
        return wording.broke(log_fault("A story broke"))
    if stage is not Stage.DONE:
        return wording.broke(log_fault("A story broke", RuntimeError(f"it stopped at {stage}, without an end")))
    return ""


def log_fault(what: str, error: BaseException | None = None) -> str:
    """Log an exception (the one being handled) with its traceback; return the id that finds it in the log."""
    error_id = secrets.token_hex(3)
    _log.error("%s (error %s)", what, error_id, exc_info=error or True)
    return error_id
