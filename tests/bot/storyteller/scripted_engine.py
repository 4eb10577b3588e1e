"""An engine that says what a test tells it to: text after text, and scores that are counted from the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from bot.engine.interface import FinishReason, GenerationRequest, Piece, Waiting
from bot.errors import CannotScore


class ScriptedEngine:
    """Each generation takes the next script: its pieces, places in the line, or an exception to raise in their place."""

    def __init__(self, *scripts: Sequence[str | Waiting | Exception], finish: FinishReason = FinishReason.STOP) -> None:
        self.scripts = list(scripts)
        self.finish = finish
        self.requests: list[GenerationRequest] = []
        self.scored: list[tuple[list[list[int]], list[int]]] = []
        self.scores: list[float] = []
        self.cannot_score = False
        self.repeatable = True
        self.closed = 0
        self.n_positions = 256
        self._loaded = asyncio.Event()

    @property
    def ready(self) -> bool:
        return self._loaded.is_set()

    async def load(self) -> None:
        self._loaded.set()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        self.requests.append(request)
        number = 0
        try:
            for number, piece in enumerate(self.scripts.pop(0), 1):
                await asyncio.sleep(0)
                if isinstance(piece, Exception):
                    raise piece
                yield Piece("", 0, waiting=piece) if isinstance(piece, Waiting) else Piece(piece, number)
            yield Piece("", number, self.finish)
        finally:
            self.closed += 1

    async def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        if self.cannot_score:
            raise CannotScore("no probabilities here")
        self.scored.append(([list(prefix) for prefix in prefixes], list(continuation)))
        return self.scores or [0.0] * len(prefixes)

    async def close(self) -> None:
        self.closed += 1
