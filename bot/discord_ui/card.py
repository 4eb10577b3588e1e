"""A story as people see it grow: one or more messages, redrawn at most each `interval_s`.

Updates are not queued. A story's newest text is kept, and one task draws it when its turn comes, so a slow edit or a
rate limit only means fewer edits; an edit that would change nothing is not sent. The last text always lands: it is
tried again while Discord is unreachable, and on the next surface when this one is closed. The price is one task for
each story, and a reader who is up to `interval_s` behind the model.

A story that outlasts its token moves on while the old message can still be edited, so that this one says where it went.
A token that dies early (401 or 404 before its 14.5 minutes) gives no such chance: the old message keeps its cursor.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bot.discord_ui import limits, wording
from bot.discord_ui.harmless import harmless
from bot.discord_ui.paging import clip, page_starts, pages
from bot.discord_ui.surfaces import Page, ReaderLeft, Surface, Unreachable, WayClosed
from bot.storyteller.story import StoryUpdate

_log = logging.getLogger(__name__)

_CUT_MARK = " …"  # ends the last page that a story may have, if there is more


class NoWayLeft(Exception):
    """Neither the interaction, nor the channel, nor a direct message takes the story."""


@dataclass(frozen=True)
class Pace:
    """How often a card draws, and how it waits; tests bring their own clock."""

    interval_s: float
    """Between two drawings. Discord allows about five edits in five seconds and then makes us wait."""
    retry_after_s: tuple[float, ...] = (1.0, 2.0, 4.0)
    """The waits between tries of the last drawing. discord.py has tried five times itself on a 5xx before the first."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass
class _Shown:
    """A page as it stands in Discord."""

    page: Page
    surface: Surface
    content: str


class StoryCard:
    """Shows one story on the first of `surfaces` that takes it. Used as a context: it draws while that is open."""

    def __init__(self, surfaces: Sequence[Surface], pace: Pace) -> None:
        self._surface, *self._other_surfaces = surfaces
        self._pace = pace
        self._text = ""
        self._note = ""
        self._waiting = ""
        self._starts: tuple[int, ...] = ()
        self._shown: list[_Shown] = []
        self._changed = asyncio.Event()
        self._drawing = asyncio.Lock()
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._pump = asyncio.create_task(self._draw_as_it_grows(), name="story-card")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop_pump()

    def show(self, update: StoryUpdate) -> None:
        """Take over how the story stands; it is drawn when its turn comes. Raises what the drawing met meanwhile."""
        if self._pump is not None and self._pump.done():
            self._pump.result()
        self._waiting = wording.waiting(update)
        self._text = update.text
        self._note = wording.footer(update.story) if update.story else ""
        self._changed.set()

    async def finish(self, note: str = "") -> None:
        """Draw the last state, with `note` below it if something went wrong, and return when it has landed.

        Raises ReaderLeft, NoWayLeft, or Unreachable when no try succeeded.
        """
        await self._stop_pump()
        self._note = note or self._note
        for delay_s in self._pace.retry_after_s:
            try:
                return await self._draw(self._last_contents())
            except Unreachable as hiccup:
                _log.warning("The end of a story did not land, next try in %.0f s: %s", delay_s, hiccup)
                await self._pace.sleep(delay_s)
        return await self._draw(self._last_contents())

    async def _draw_as_it_grows(self) -> None:
        busy = asyncio.create_task(self._look_busy(), name="story-card-typing")
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                started = self._pace.clock()
                async with self._drawing:
                    await self._try_to_draw()
                if self._shown:
                    busy.cancel()
                await self._pace.sleep(max(0.0, started + self._pace.interval_s - self._pace.clock()))
        finally:
            busy.cancel()

    async def _try_to_draw(self) -> None:
        try:
            await self._draw(self._growing_contents())
        except Unreachable as hiccup:
            _log.info("An edit did not land, the next one will show more: %s", hiccup)
            self._changed.set()

    async def _look_busy(self) -> None:
        """Show that something is coming until there is something; apart, so that it delays no text."""
        while True:
            await self._surface.wait()
            await self._pace.sleep(limits.TYPING_AGAIN_S)

    async def _stop_pump(self) -> None:
        """Let a drawing in progress end, and no other begin; a second call does nothing."""
        async with self._drawing:
            if self._pump is not None:
                self._pump.cancel()
        if self._pump is not None:
            await asyncio.wait({self._pump})
            if not self._pump.cancelled() and (error := self._pump.exception()):
                _log.debug("The drawing had stopped before", exc_info=error)
        self._pump = None

    def _growing_contents(self) -> list[str]:
        contents = self._pages()
        if not contents:
            return [self._waiting] if self._waiting else []
        contents[-1] += wording.CURSOR
        return contents

    def _last_contents(self) -> list[str]:
        contents, note = self._pages(), harmless(self._note)
        if not note.strip():
            return contents
        if not contents:
            return [clip(note, limits.MESSAGE_CHARS)]
        room = limits.TAIL_CHARS - len("\n") - len(_CUT_MARK)
        contents[-1] += f"\n{clip(wording.subtext(note), room)}"
        return contents

    def _pages(self) -> list[str]:
        text = harmless(self._text)
        self._starts = page_starts(text, limits.PAGE_CHARS, self._starts)
        contents = pages(text, self._starts)
        if len(contents) > limits.MAX_PAGES:
            contents = [*contents[: limits.MAX_PAGES - 1], contents[limits.MAX_PAGES - 1] + _CUT_MARK]
        return contents

    async def _draw(self, contents: list[str]) -> None:
        for index, content in enumerate(contents):
            await self._put(index, content)
        while len(self._shown) > len(contents) > 0:
            try:
                await self._shown[-1].page.delete()
            except (ReaderLeft, WayClosed) as gone:
                _log.debug("A page that is no longer needed could not be deleted: %s", gone)
            self._shown.pop()

    async def _put(self, index: int, content: str) -> None:
        """Make page `index` read `content`, wherever that still works."""
        shown = self._shown[index] if index < len(self._shown) else None
        if shown is not None and shown.content == content:
            return
        if shown is not None and await self._edited(shown, content):
            return
        page = _Shown(await self._send(content), self._surface, content)
        self._shown[index : index + 1] = [page]

    async def _edited(self, shown: _Shown, content: str) -> bool:
        """False if the page can't be edited any more, so that its text has to be sent anew."""
        try:
            if shown.surface.open:
                await shown.page.edit(content)
                shown.content = content
                return True
            await shown.page.edit(f"{shown.content.removesuffix(wording.CURSOR)}\n{wording.subtext(wording.MOVED)}")
        except WayClosed as closed:
            _log.info("A message can't be edited any more: %s", closed)
        if shown.surface is self._surface:
            self._take_next_surface()
        return False

    async def _send(self, content: str) -> Page:
        while True:
            if not self._surface.open:
                self._take_next_surface()
            try:
                return await self._surface.send(content)
            except WayClosed as closed:
                _log.info("A message can't be sent here: %s", closed)
                self._take_next_surface()

    def _take_next_surface(self) -> None:
        if not self._other_surfaces:
            raise NoWayLeft
        self._surface = self._other_surfaces.pop(0)
