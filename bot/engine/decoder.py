"""The forward passes of GPT-2: a prompt, one more token, a batch to score. Nothing here knows what a story is.

Each text has its own keys and values and goes forward alone (batch 1), so its numbers can't depend on its neighbours.
The price is one pass over the weights for each text and token; a decoder with batched slots can take this one's place
behind the same three calls.

Every call is checked against n_positions first: one token past it raises IndexError on a CPU, and on CUDA it is a
device assert after which every later call of the process fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

LOGITS_AT_ONCE = 2**24
"""Logits held at a time while scoring (64 MiB in float32): 14 prefixes x 200 tokens x 50k would else take 560 MB."""


class Decoder(Protocol):
    """What the decode thread asks of a model. Logits are one row over the vocabulary, on the model's device."""

    def prefill(self, ids: Sequence[int]) -> tuple[Tensor, Any]:
        """Read a whole text: the logits after its last token, and its keys and values."""
        ...

    def step(self, token: int, cache: Any) -> Tensor:
        """Read one more token into `cache`, which changes: the logits after it."""
        ...

    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Sum up log P(continuation | prefix) in nats; the prefixes have the same length, one or more."""
        ...


class Gpt2Decoder:
    """A Decoder over transformers' GPT-2 with its growing cache: simple, and equal to `generate` token for token."""

    def __init__(self, model: GPT2LMHeadModel) -> None:
        self._model = model
        self._n_positions = int(model.config.n_positions)

    @torch.inference_mode()
    def prefill(self, ids: Sequence[int]) -> tuple[Tensor, Any]:
        """One forward of the whole text; costs len(ids) tokens of compute, during which no other text goes on."""
        self._check_fits(len(ids))
        output = self._model(self._batch([ids]), use_cache=True, logits_to_keep=1)
        return output.logits[0, -1], output.past_key_values

    @torch.inference_mode()
    def step(self, token: int, cache: Any) -> Tensor:
        """One forward of one token."""
        self._check_fits(cache.get_seq_length() + 1)
        output = self._model(self._batch([[token]]), past_key_values=cache, use_cache=True)
        return output.logits[0, -1]

    @torch.inference_mode()
    def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """One batched forward of all prefixes; only the output layer goes in parts, as its logits are what is large."""
        self._check_fits(len(prefixes[0]) + len(continuation))
        # the last token is only predicted, never read
        rows = self._batch([[*prefix, *continuation[:-1]] for prefix in prefixes])
        hidden: Tensor = self._model.transformer(rows, use_cache=False).last_hidden_state[:, len(prefixes[0]) - 1 :]
        targets = self._batch([continuation])
        positions = max(1, LOGITS_AT_ONCE // (len(prefixes) * self._model.config.vocab_size))
        totals = torch.zeros(len(prefixes), dtype=torch.float64)
        for states, tokens in zip(hidden.split(positions, dim=1), targets.split(positions, dim=1), strict=True):
            log_p = self._model.lm_head(states).float().log_softmax(dim=-1)
            at_targets = log_p.gather(-1, tokens.expand(len(prefixes), -1).unsqueeze(-1))
            totals += at_targets.sum(dim=(1, 2)).double().cpu()
        return cast("list[float]", totals.tolist())

    def _batch(self, rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(rows, device=self._model.device)

    def _check_fits(self, length: int) -> None:
        if not 0 < length <= self._n_positions:
            raise ValueError(f"{length} tokens do not fit a model of {self._n_positions} positions")
