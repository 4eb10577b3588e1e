"""One text being written: what the model has read of it, how its tokens are drawn, what is still to be handed out."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bot.engine.characters import Characters
from bot.engine.interface import FinishReason, GenerationRequest, Piece
from bot.engine.loading import LoadedModel
from bot.engine.sampling import Chooser


class Writing:
    """A text that grows by one token for each `advance`. It belongs to the decode thread."""

    def __init__(self, model: LoadedModel, request: GenerationRequest) -> None:
        self._model = model
        self._request = request
        self._chooser = Chooser(request.sampling, request.seed, request.prompt_ids, model.unwritable)
        self._characters = Characters(model.vocabulary)
        self._context = list(request.prompt_ids)  # the prompt and the new tokens that are not forgotten
        self._cache: Any = None
        self._new_tokens = 0

    def advance(self) -> Piece:
        """Read what is unread, write one token. The piece with a finish_reason is the last one."""
        token = self._chooser.choose(self._next_logits())
        if token in self._model.config.eos_ids:
            return Piece("", self._new_tokens, FinishReason.STOP)
        self._context.append(token)
        self._new_tokens += 1
        full = self._new_tokens >= self._request.max_new_tokens
        return Piece(self._characters.feed(token), self._new_tokens, FinishReason.LENGTH if full else None)

    def _next_logits(self) -> Tensor:
        if len(self._context) > self._model.config.n_positions:
            self._forget_the_oldest()
        if self._cache is None:
            logits, self._cache = self._model.decoder.prefill(self._context)
            return logits
        return self._model.decoder.step(self._context[-1], self._cache)

    def _forget_the_oldest(self) -> None:
        """Keep the prompt and the newest half of what fits beside it, and read that again from the start.

            [prompt | old old old new new new]  n_positions are full
            [prompt | new new new            ]  goes on here

        Half, because reading again costs a prefill: so it is paid once in (n_positions - prompt) / 2 tokens.
        """
        prompt = len(self._request.prompt_ids)
        kept = (self._model.config.n_positions - prompt) // 2
        self._context = [*self._request.prompt_ids, *self._context[-kept:]]
        self._cache = None
