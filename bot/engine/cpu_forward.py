"""GPT-2's forward pass on a CPU: all texts in flight share each matrix product, and none can tell.

    keys and values   layer -> (slots, 2, 1, n_head, n_positions, head width): a head's tokens lie one after another
    one pass          [text a: 20 tokens of its prompt | text d: 64]  rows of one tensor through all layers; only
                      attention goes text by text, over the text's own tokens (cpu_layers.py)
                      [text b: 1 | text c: 1]  in int8: all layers in one compiled call (cpu_step.py)

A text's logits are the same bit for bit whatever else is in the pass: the linear layers see to it row by row (see
cpu_linear.py), attention's shapes are of one text, and all else works on a row alone. They do depend on where the text's
own prompt is cut into parts.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from bot.engine.cpu_layers import Layers, gelu_grain
from bot.engine.cpu_linear import Int8Linear
from bot.engine.cpu_step import token_step
from bot.engine.faults import Fault, kind_of
from bot.engine.forward import PROMPT_TOKENS, Part
from bot.engine.part_checks import check_parts, check_prefixes

if TYPE_CHECKING:
    from bot.engine.cpu_linear import MakeLinear
    from bot.engine.drawn import Drawn
    from bot.engine.gpt2_weights import Gpt2Weights

logger = logging.getLogger(__name__)

LOGITS_AT_ONCE = 2**24
"""Logits held at a time while scoring (64 MiB): 14 prefixes x 200 tokens x 50k would else take 560 MB."""
ROWS_AT_ONCE = 4096
"""Tokens read at a time while scoring: their widest activation takes 50 MB in GPT-2 124M."""


class CpuForward:
    """A Forward over weights in fp32 or int8, by the `linear` it is made with."""

    repeatable = True
    prompt_tokens = PROMPT_TOKENS

    def __init__(self, weights: Gpt2Weights, linear: MakeLinear, slots: int) -> None:
        """`linear` makes each matrix product from (in, out) weights and a bias; see cpu_linear.py."""
        self._shape = weights.shape
        self.linear = linear
        """What it was made with."""
        layers = Layers(weights, linear).eval()
        self._step = token_step(weights, layers) if linear is Int8Linear else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is to leave torch some day; torch is pinned
            self._layers = cast("Layers", torch.jit.script(layers))
        self._resize_within_memory(slots)

    @property
    def slots(self) -> int:
        """How many texts can be held at once."""
        return self._slots

    @property
    def n_positions(self) -> int:
        """The context in tokens."""
        return self._shape.n_positions

    @property
    def steps_by(self) -> str:
        """What computes a single token of each text: its last bits depend on it."""
        return "torch" if self._step is None else f"numba {version('numba')}"

    @property
    def weight_bytes(self) -> int:
        """Of the weights in the matrix products, which are nearly all of them."""
        return self._shape.product_weights * self.linear.bytes_a_weight

    def resize(self, slots: int) -> None:
        """Hold so many texts from now on. The memory of a slot is taken by the system as the slot fills."""
        self._slots = slots
        self._cache = torch.empty(0)  # the old one goes before the new one comes
        self._caches: list[Tensor] = []
        shape = self._shape
        self._cache = torch.empty(shape.n_layer, slots, 2, shape.n_head, shape.n_positions, shape.n_embd // shape.n_head)
        self._caches = list(self._cache.unsqueeze(3).unbind(0))

    def _resize_within_memory(self, slots: int) -> None:
        """Hold as many as there is room for: some systems refuse more at once than they have, though little of it is used."""
        while True:
            try:
                self.resize(slots)
            except Exception as error:
                if slots == 1 or kind_of(error) is not Fault.MEMORY:
                    raise
                logger.warning("no memory to keep %d texts in flight, so at most %d (%s)", slots, slots // 2, error)
                slots //= 2
            else:
                return

    @torch.inference_mode()
    def __call__(self, parts: Sequence[Part]) -> Tensor:
        """One pass; see Forward."""
        check_parts(parts, self._slots, self.n_positions, self._shape.vocab_size)
        if self._step is None:
            return self._read(parts)
        steps = [part for part in parts if len(part.ids) == 1]
        if len(steps) == len(parts):
            return self._step(self._cache, parts)
        pieces = [part for part in parts if len(part.ids) > 1]
        read = iter(self._read(pieces))
        stepped = iter(self._step(self._cache, steps)) if steps else iter(())
        rows = [next(stepped if len(part.ids) == 1 else read) for part in parts if part.wanted]
        return torch.stack(rows) if rows else torch.empty(0, self._shape.vocab_size)

    def _read(self, parts: Sequence[Part]) -> Tensor:
        """By torch."""
        ids = [token for part in parts for token in part.ids]
        slots, starts = [part.slot for part in parts], [part.start for part in parts]
        cuts = [len(part.ids) for part in parts]
        wanted = [index for index, part in enumerate(parts) if part.wanted]
        with _as_written():
            return self._layers(ids, self._caches, slots, starts, cuts, wanted, gelu_grain())

    def foresee(self, drawn: Drawn) -> None:
        """Nothing: the host itself computes, and now has other things to do."""

    @torch.inference_mode()
    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Sum up log P(continuation | prefix) in nats for each prefix; see Forward."""
        check_prefixes(prefixes, continuation, self.n_positions, self._shape.vocab_size)
        length = len(prefixes[0]) + len(continuation) - 1  # the last token is only predicted, never read
        texts = torch.tensor([[*prefix, *continuation] for prefix in prefixes])
        together = max(1, ROWS_AT_ONCE // length)
        with _as_written():
            return [score for some in texts.split(together) for score in self._score(some, len(prefixes[0]))]

    def _score(self, texts: Tensor, given: int) -> list[float]:
        hidden = self._layers.hidden(texts[:, :-1], gelu_grain())[:, given - 1 :]
        targets = texts[:, given:]
        positions = max(1, LOGITS_AT_ONCE // (len(texts) * self._shape.vocab_size))
        totals = torch.zeros(len(texts), dtype=torch.float64)
        for states, tokens in zip(hidden.split(positions, 1), targets.split(positions, 1), strict=True):
            log_p = self._layers.logits(states).log_softmax(-1).gather(-1, tokens.unsqueeze(-1))
            totals += log_p.sum(dim=(1, 2)).double()
        return totals.tolist()


def _as_written() -> AbstractContextManager[None]:
    """Without TorchScript's optimiser, which finds nothing here and makes the first passes slow by profiling them."""
    return torch.jit.optimized_execution(False)  # pyright: ignore[reportPrivateImportUsage] - in torch's documentation
