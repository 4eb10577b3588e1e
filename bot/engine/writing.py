"""One text being written: what its slot has read of it, what is to be read next, what is to be handed out."""

from __future__ import annotations

from bot.engine.characters import Characters, Vocabulary
from bot.engine.forward import Part
from bot.engine.interface import FinishReason, GenerationRequest, Piece
from bot.engine.stop_strings import StopStrings
from bot.engine.text_draws import TextDraws

PROMPT_PIECE = 64
"""A prompt is read in pieces of so many tokens. Where it is cut decides on the last bits of its logits, so the cuts depend on
the text alone, and the load decides only how many pieces go into a round."""


class Writing:
    """A text that grows by one token for each `take`. It belongs to the decode thread."""

    def __init__(self, request: GenerationRequest, vocabulary: Vocabulary, n_positions: int, eos_ids: frozenset[int]) -> None:
        self.draws = TextDraws(request.sampling, request.seed, request.prompt_ids)
        self._characters = Characters(vocabulary)
        self._stop = StopStrings(request.stop) if request.stop else None
        self._ready = ""  # past the stop strings, and in no piece yet
        self._prompt_tokens = len(request.prompt_ids)
        self._max_new_tokens = request.max_new_tokens
        self._n_positions = n_positions
        self._eos_ids = eos_ids
        self._context = list(request.prompt_ids)  # the prompt and the new tokens that are not forgotten
        self._read = 0  # so many of them are in the slot
        self.new_tokens = 0
        self.finish_reason: FinishReason | None = None
        """Set once the text is over."""

    @property
    def remaining(self) -> int:
        """The most tokens that are still to be written."""
        return self._max_new_tokens - self.new_tokens

    def next_part(self, slot: int) -> Part:
        """What has to be read next: a piece of a prompt, or the newest token."""
        if self._read + 1 == len(self._context) <= self._n_positions:
            return Part(slot, self._read, self._context[-1:])
        if len(self._context) > self._n_positions:
            self._forget_the_oldest()
        end = min(self._read + PROMPT_PIECE, len(self._context))
        return Part(slot, self._read, self._context[self._read : end], wanted=end == len(self._context))

    def was_read(self, part: Part) -> None:
        """The slot holds this part now, and more is to be read before a token comes."""
        self._read = part.start + len(part.ids)

    def read_again(self) -> None:
        """The slot was lost: all of the context has to be read once more."""
        self._read = 0

    def take(self, token: int) -> bool:
        """The slot holds all there was, and the text goes on with this token; whether it is over by that."""
        self._read = len(self._context)
        if token in self._eos_ids:
            self.finish_reason = FinishReason.STOP
            return True
        self._context.append(token)
        self._characters.add(token)
        self.new_tokens += 1
        if self._stop is not None:
            self._ready += self._stop.feed(self._characters.take())
            if self._stop.hit:
                self.finish_reason = FinishReason.STOP
                return True
        if self.new_tokens >= self._max_new_tokens:
            self.finish_reason = FinishReason.LENGTH
            return True
        return False

    def piece(self) -> Piece:
        """What was written since the last piece; the last one has the finish_reason."""
        if self._stop is None:
            return Piece(self._characters.take(), self.new_tokens, self.finish_reason)
        text, self._ready = self._ready, ""
        if self.finish_reason is not None:
            text += self._stop.flush()
        return Piece(text, self.new_tokens, self.finish_reason)

    def _forget_the_oldest(self) -> None:
        """Keep the prompt and the newest half of what fits beside it.

            [prompt | old old old new new new]  n_positions are full
            [prompt | new new new            ]  goes on here

        Half, because it is read again at its new positions: so that is paid once in (n_positions - prompt) / 2 tokens. The
        prompt keeps its positions, and what the slot holds of it.
        """
        kept = (self._n_positions - self._prompt_tokens) // 2
        del self._context[self._prompt_tokens : -kept]
        self._read = min(self._read, self._prompt_tokens)
