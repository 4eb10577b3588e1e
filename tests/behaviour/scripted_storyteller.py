"""A storyteller that tells what the test wrote down, through the protocol that the bot knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from bot.errors import ShuttingDown
from bot.storyteller.story import Ending, Stage, Story, StoryRequest, StoryUpdate

GENRES = ("FANTASY", "SCI-FI", "HORROR", "ADVENTURE")
CASTLE = "[FANTASY] Once there was a castle made of glass. Nobody dared to knock."


class ScriptedStoryteller:
    """Yields `texts` one after the other, raises `failure` after them if there is one, else ends with the last."""

    def __init__(
        self,
        texts: Sequence[str] = (CASTLE[:20], CASTLE[:40], CASTLE),
        *,
        loading: bool = False,
        failure: Exception | None = None,
        ending: Ending = Ending.STOP,
        genres: tuple[str, ...] = GENRES,
    ) -> None:
        self.texts = texts
        self.loading = loading
        self.failure = failure
        self.ending = ending
        self.genres = genres
        self.min_length, self.max_length, self.max_seed = 16, 400, 2**53 - 1
        self.requests: list[StoryRequest] = []
        self.open_stories = 0
        self.closed = False

    async def tell(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
        self.requests.append(request)
        if self.closed:
            raise ShuttingDown("The storyteller is closing.")
        self.open_stories += 1
        try:
            await let_others_work()
            async with aclosing(self._updates(request)) as updates:
                async for update in updates:
                    yield update
                    await let_others_work()
        finally:
            self.open_stories -= 1

    async def _updates(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
        if self.loading:
            yield StoryUpdate(Stage.LOADING)
        for text in self.texts:
            yield StoryUpdate(Stage.WRITING, text)
        if self.failure is not None:
            raise self.failure
        yield StoryUpdate(Stage.DONE, self.texts[-1], self.story(request))

    def story(self, request: StoryRequest) -> Story:
        seed = 4711 if request.seed is None else request.seed
        return Story(request.prompt, "FANTASY", self.texts[-1], seed, 5, 50, 30.0, 100.0, self.ending, "scripted")

    async def genre_odds(self, prompt: str) -> dict[str, float]:
        return {genre: 1 / len(self.genres) for genre in self.genres if prompt}

    async def load(self) -> None:
        self.loading = False

    async def close(self) -> None:
        self.closed = True


async def let_others_work() -> None:
    """Give the loop some turns, so that each update is drawn; no time passes."""
    for _ in range(20):
        await asyncio.sleep(0)
