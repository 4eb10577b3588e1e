"""A Forward that costs nothing: the logits are a function of all that a slot holds. It holds its callers to the protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bot.engine.drawn import Drawn
from bot.engine.forward import PROMPT_TOKENS, Part

_TABLE = 997


class HashForward:
    """A text that gets a token of another's, or reads one twice or never, goes on differently at once."""

    repeatable = True
    prompt_tokens = PROMPT_TOKENS

    def __init__(self, slots: int, vocabulary: int, *, n_positions: int = 64) -> None:
        self.n_positions = n_positions
        self.passes: list[list[Part]] = []
        self.before: Callable[[Sequence[Part]], None] = lambda _parts: None
        """Called with the parts of each pass; what it raises, the pass raises."""
        generator = torch.Generator().manual_seed(5)
        self.logits = torch.randn(_TABLE, vocabulary, generator=generator) * 3
        self.resize(slots)

    @property
    def slots(self) -> int:
        return len(self._held)

    def resize(self, slots: int) -> None:
        self._held: list[list[int]] = [[] for _ in range(slots)]

    def __call__(self, parts: Sequence[Part]) -> Tensor:
        assert parts
        assert len({part.slot for part in parts}) == len(parts)
        self.before(parts)
        self.passes.append(list(parts))
        rows: list[int] = []
        for part in parts:
            held = self._held[part.slot]
            assert part.ids
            assert part.start <= len(held)
            assert part.start + len(part.ids) <= self.n_positions
            held[part.start :] = part.ids
            if part.wanted:
                rows.append(hash(tuple(held)) % _TABLE)
        return self.logits[rows].clone()

    def foresee(self, drawn: Drawn) -> None:
        assert len(drawn.read()) == sum(part.wanted for part in self.passes[-1])

    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        return [-float(len(prefix) + len(continuation)) for prefix in prefixes]
