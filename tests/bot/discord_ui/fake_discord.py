"""Surfaces in memory and a clock that only goes when it is told to."""

from __future__ import annotations

import asyncio

from bot.discord_ui.card import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, waiter))
        await waiter

    async def advance(self, seconds: float) -> None:
        """Let so much time pass; what it woke has run when this returns."""
        self.now += seconds
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self.now + 1e-9]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper not in due]
        for _, waiter in due:
            if not waiter.done():
                waiter.set_result(None)
        await idle()

    def pace(self, interval_s: float = 1.2) -> Pace:
        return Pace(interval_s, retry_after_s=(1.0, 2.0), clock=lambda: self.now, sleep=self.sleep)


class FakePage:
    def __init__(self, surface: FakeSurface, number: int) -> None:
        self.surface, self.number = surface, number

    async def edit(self, content: str) -> None:
        await self.surface.take("edit", content)
        self.surface.messages[self.number] = content

    async def delete(self) -> None:
        await self.surface.take("delete", "")
        self.surface.messages[self.number] = None


class FakeSurface:
    """Keeps its messages, the calls it got, and the failures it is to give, in order (None: succeed)."""

    def __init__(self, *failures: Exception | None) -> None:
        self.messages: list[str | None] = []
        self.calls: list[tuple[str, str]] = []
        self.failures = list(failures)
        self.always: Exception | None = None
        self.open = True
        self.waits = 0
        self.slow: asyncio.Event | None = None

    async def send(self, content: str) -> FakePage:
        await self.take("send", content)
        self.messages.append(content)
        return FakePage(self, len(self.messages) - 1)

    async def wait(self) -> None:
        self.waits += 1

    async def take(self, kind: str, content: str) -> None:
        if self.slow is not None:
            await self.slow.wait()
        self.calls.append((kind, content))
        failure = self.failures.pop(0) if self.failures else self.always
        if failure is not None:
            raise failure


async def idle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(30):
        await asyncio.sleep(0)
