"""The engines that the contract is tested on: each is made over a model directory, and closed by the test that opened it.

To put another engine under the same tests, add how it is opened to ENGINES.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from bot.engine.interface import Engine
from bot.engine.local import LocalEngine

Open = Callable[[Path], AbstractAsyncContextManager[Engine]]


@asynccontextmanager
async def local(model_dir: Path) -> AsyncGenerator[Engine, None]:
    engine = LocalEngine(model_dir, threads=1, device="cpu")
    try:
        yield engine
    finally:
        await engine.close()


ENGINES: dict[str, Open] = {"local": local}
