"""The Forward of a Decoder that knows no slots: each text goes forward alone, with its own cache.

For models that no batched forward covers. A text's numbers can't depend on its neighbours; the price is one pass over the
weights for each text and token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bot.engine.decoder import Decoder
from bot.engine.forward import Part


@dataclass
class _Slot:
    """What one text has read, and its keys and values."""

    ids: list[int] = field(default_factory=list[int])
    cache: Any = None


class SlotDecoder:
    """A Forward over a Decoder's `prefill` and `step`. It can't go back: a text that forgets is read from its start."""

    repeatable = True

    def __init__(self, decoder: Decoder, slots: int, n_positions: int) -> None:
        self._decoder = decoder
        self._n_positions = n_positions
        self._slots = [_Slot() for _ in range(slots)]

    @property
    def slots(self) -> int:
        """How many texts can be held."""
        return len(self._slots)

    @property
    def n_positions(self) -> int:
        """The context in tokens."""
        return self._n_positions

    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """See Forward. A prompt's parts are gathered, and read when its last one comes."""
        for part in parts:
            self._check(part)
        rows = [row for part in parts if (row := self._read(part)) is not None]
        return torch.stack(rows) if rows else torch.empty(0)

    def _read(self, part: Part) -> Tensor | None:
        slot = self._slots[part.slot]
        goes_on = part.start == len(slot.ids) and slot.cache is not None and len(part.ids) == 1
        del slot.ids[part.start :]
        slot.ids.extend(part.ids)
        if goes_on and part.wanted:
            return self._decoder.step(part.ids[0], slot.cache).float()
        slot.cache = None
        if not part.wanted:
            return None
        logits, slot.cache = self._decoder.prefill(slot.ids)
        return logits.float()

    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """See Forward."""
        return self._decoder.score(prefixes, continuation)

    def resize(self, slots: int) -> None:
        """See Forward."""
        self._slots = [_Slot() for _ in range(slots)]

    def _check(self, part: Part) -> None:
        if not 0 <= part.slot < self.slots:
            raise ValueError(f"there is no slot {part.slot} of {self.slots}")
        end = part.start + len(part.ids)
        if not part.ids or end > self._n_positions:
            raise ValueError(f"{end} tokens do not fit a model of {self._n_positions} positions")
        if part.start > len(self._slots[part.slot].ids):
            raise ValueError(f"slot {part.slot} holds fewer than {part.start} tokens")
