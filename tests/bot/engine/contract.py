"""The engines that the contract is tested on: each is made over a model directory, and closed by the test that opened it.

To put another engine under the same tests, add how it is opened to ENGINES.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol

from completions_server import CompletionsServer

from bot.engine.http import HttpEngine
from bot.engine.interface import Engine
from bot.engine.local import LocalEngine


class Open(Protocol):
    def __call__(
        self, model_dir: Path, *, max_stories: int = 8, max_queued: int = 200
    ) -> AbstractAsyncContextManager[Engine]: ...


@asynccontextmanager
async def local(model_dir: Path, *, max_stories: int = 8, max_queued: int = 200) -> AsyncGenerator[Engine, None]:
    engine = LocalEngine(model_dir, threads=1, device="cpu", max_stories=max_stories, max_queued=max_queued)
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def http(model_dir: Path, *, max_stories: int = 8, max_queued: int = 200) -> AsyncGenerator[Engine, None]:
    """A server whose texts and probabilities are functions of what it is asked, as a model's are."""
    async with CompletionsServer() as server:
        server.words = _drawn
        server.logprob = lambda ids: -1 - Random(str(ids)).random()
        engine = HttpEngine(server.url, model_dir, max_stories=max_stories, max_queued=max_queued)
        try:
            yield engine
        finally:
            await engine.close()


def _drawn(body: dict[str, Any]) -> Iterator[str]:
    random = Random(str((body["prompt"], body["seed"] if body["temperature"] else None)))
    while True:
        yield random.choice((" castle", " dragon", " sea", " the", ","))


ENGINES: dict[str, Open] = {"local": local, "http": http}
