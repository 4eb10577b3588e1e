"""What goes to a server in place of a prompt's token ids, and where a long story goes on.

A server that takes text reads special tokens in it, so text from people must not spell one: its tokens are written out, and
wherever the server's tokenizer would see a special token in them a space is put into it ("[ HORROR]"). That check asks the
tokenizer itself, so it holds for any; the price is one more encoding of each such prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer

from bot.engine.before_writing import MIN_ROOM, check_length
from bot.engine.interface import GenerationRequest


class PromptText:
    """The model's tokenizer in both readings: ours, in which text stays text, and the server's."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Takes the tokenizer over."""
        self._servers = Tokenizer.from_str(tokenizer.to_str())
        self._ours = tokenizer
        self._ours.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder()
        self._special = {index: token.content for index, token in added.items() if token.special}

    def encode(self, text: str) -> list[int]:
        """Text as token ids, none of which is special."""
        return self._ours.encode(text, add_special_tokens=False).ids

    def written(self, ids: Sequence[int]) -> str:
        """The text that a server reads as these ids: special tokens written out, and none in what people wrote."""
        parts: list[str] = []
        plain: list[int] = []
        for token in (*ids, None):
            if token is not None and token not in self._special:
                plain.append(token)
                continue
            parts.append(self._harmless(self._ours.decode(plain, skip_special_tokens=False).strip("\ufffd")))
            plain = []
            if token is not None:
                parts.append(self._special[token])
        return "".join(parts)

    def servers_ids(self, text: str) -> list[int]:
        """Text as a server reads it."""
        return self._servers.encode(text, add_special_tokens=False).ids

    def _harmless(self, text: str) -> str:
        while spans := self._special_spans(text):
            for start, end in reversed(spans):
                inside = text[start:end]
                broken = f"{inside[0]} {inside[1:]}" if len(inside) > 1 and inside[1] != " " else ""
                text = text[:start] + broken + text[end:]
        return text

    def _special_spans(self, text: str) -> list[tuple[int, int]]:
        read = self._servers.encode(text, add_special_tokens=False)
        return [span for token, span in zip(read.ids, read.offsets, strict=True) if token in self._special]


class Manuscript:
    """A story as far as it is written, and how a server goes on with it."""

    def __init__(self, request: GenerationRequest, prompt: PromptText) -> None:
        self._request = request
        self._prompt = prompt
        self._text: list[str] = []
        self._settled = 0  # tokens of the parts that are over
        self._part = 0  # and of the one being written

    @property
    def tokens(self) -> int:
        """Tokens written so far, by the server's count where it gave one, else by our tokenizer's, which may find too many."""
        return min(self._settled + self._part, self._request.max_new_tokens)

    @property
    def complete(self) -> bool:
        """Whether as much was written as was asked for."""
        return self.tokens >= self._request.max_new_tokens

    def add(self, text: str) -> None:
        """A server wrote this."""
        self._text.append(text)
        if text:
            self._part += len(self._prompt.encode(text))

    def count(self, tokens: int | None) -> None:
        """What the server says it wrote in the part being written."""
        if tokens is not None:
            self._part = tokens

    def end_part(self) -> bool:
        """A request is over; whether it wrote anything."""
        grown, self._settled, self._part = self._part > 0, self.tokens, 0
        return grown

    def to_go_on_from(self, context: int) -> tuple[list[int], int]:
        """The tokens that a server with this context reads next, and how many it may write.

            [prompt | old old old new new new]  the context is full
            [prompt | new new new            ]  goes on here

        The prompt and the newest half of what fits beside it, as in the local engine. Raises PromptTooLong.
        """
        prompt = self._request.prompt_ids
        check_length(len(prompt), context - MIN_ROOM)
        left = self._request.max_new_tokens - self.tokens
        ids = [*prompt, *self._prompt.encode("".join(self._text))]
        if context - len(ids) < min(left, MIN_ROOM):
            ids = [*prompt, *ids[len(prompt) :][-((context - len(prompt)) // 2) :]]
        return ids, min(left, context - len(ids))
