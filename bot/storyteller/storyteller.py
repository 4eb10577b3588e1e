"""Tell a story: check the request, find the genre, stream what the engine writes, trim its end.

The genre is found by the model itself: log P(prompt | tag) for each tag, one forward of a row for each, calibrated by what the
model directory says. No second model, and a new genre needs no code; the price is one short forward before the first word.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from bot.engine.interface import Engine, FinishReason, GenerationRequest, Piece
from bot.errors import CannotScore, NothingToTell, ShuttingDown
from bot.model_dir import ModelDescription
from bot.storyteller.request import MAX_SEED, MIN_LENGTH, Limits, Order, check, printable
from bot.storyteller.story import Ending, Stage, Story, StoryRequest, StoryUpdate
from bot.storyteller.trim import whole_sentences

_TRIES = 4
"""A model may end a story before its first word; then the next seed is tried, so that a seed still gives one story."""


@dataclass
class _Draft:
    """A story while it is written."""

    text: str = ""
    new_tokens: int = 0
    first_text_s: float | None = None

    def add(self, piece: Piece, now_s: float) -> bool:
        """Take in a piece; whether people can see more than before."""
        before = self.text
        self.text = (before + printable(piece.text)) if before else printable(piece.text).lstrip()
        self.new_tokens = piece.new_tokens
        if self.text and self.first_text_s is None:
            self.first_text_s = now_s
        return self.text != before


class ModelStoryteller:
    """The storyteller over an engine and a model directory."""

    def __init__(self, engine: Engine, model: ModelDescription, *, default_length: int, max_length: int) -> None:
        """Lengths in new tokens. The engine is loaded by `load`, or by the first request."""
        self._engine = engine
        self._model = model
        self._codec = model.codec
        # Half of the context for the prompt: the other half keeps a story in sight of what it said before.
        room = model.n_positions // 2 - len(self._codec.opening(None, []))
        self._limits = Limits(min(default_length, max_length), max_length, room)

    @property
    def genres(self) -> tuple[str, ...]:
        """The genres of the model directory."""
        return self._model.genres

    @property
    def min_length(self) -> int:
        """The shortest story that may be asked for, in new tokens."""
        return MIN_LENGTH

    @property
    def max_seed(self) -> int:
        """The largest seed; the smallest is 0."""
        return MAX_SEED

    @property
    def max_length(self) -> int:
        """The longest story that may be asked for, in new tokens."""
        return self._limits.max_length

    async def load(self) -> None:
        """Load the model; raises ModelUnavailable."""
        await self._engine.load()

    async def close(self) -> None:
        """End the stories in flight, with what they have."""
        await self._engine.close()

    async def genre_odds(self, prompt: str) -> dict[str, float]:
        """The probability of each genre for a prompt. Raises the StoryError of a prompt that can't be told about."""
        order = check(StoryRequest(prompt), self._codec, self._limits)
        await self._engine.load()
        return await self._odds(order)

    async def _odds(self, order: Order) -> dict[str, float]:
        tags = [[self._codec.tag_id(genre)] for genre in self.genres]
        scores = await self._engine.score(tags, order.prompt_ids)
        return self._codec.format.calibration.odds(dict(zip(self.genres, scores, strict=True)))

    def _prior(self) -> dict[str, float]:
        """The odds of the genres before anything is known of a prompt."""
        return self._codec.format.calibration.odds(dict.fromkeys(self.genres, 0.0))

    async def tell(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
        """See the Storyteller protocol."""
        order = check(request, self._codec, self._limits)
        if not self._engine.ready:
            yield StoryUpdate(Stage.LOADING)
            await self._engine.load()
        started_s = time.perf_counter()
        genre_assumed = False
        if order.genre is None:
            try:
                odds = await self._odds(order)
            except CannotScore:
                odds, genre_assumed = self._prior(), True
            order = replace(order, genre=max(odds, key=odds.__getitem__))
        opening = self._codec.opening(order.genre, order.prompt_ids)
        draft, ending = _Draft(), Ending.STOP
        try:
            for attempt in range(_TRIES):
                async with aclosing(self._engine.generate(self._generation(order, opening, attempt))) as pieces:
                    async for piece in pieces:
                        if piece.waiting is not None:
                            place = piece.waiting
                            yield StoryUpdate(Stage.QUEUED, position=place.position, estimate_s=place.estimate_s)
                        if draft.add(piece, time.perf_counter() - started_s):
                            yield StoryUpdate(Stage.WRITING, self._shown(order, draft.text))
                        if piece.finish_reason is FinishReason.LENGTH:
                            ending = Ending.LENGTH
                if draft.text.strip():
                    break
            else:
                raise NothingToTell("The model found nothing to tell about that. Try it again, or in other words.")
        except ShuttingDown:
            if not draft.text.strip():
                raise
            ending = Ending.CANCELLED
        story = self._story(order, len(opening), draft, ending, time.perf_counter() - started_s)
        story = replace(story, repeatable=self._engine.repeatable, genre_assumed=genre_assumed)
        yield StoryUpdate(Stage.DONE, story.text, story)

    def _generation(self, order: Order, opening: list[int], attempt: int) -> GenerationRequest:
        return GenerationRequest(
            tuple(opening), order.length, self._model.sampling, order.seed + attempt, user=order.user, server=order.server
        )

    def _story(self, order: Order, prompt_tokens: int, draft: _Draft, ending: Ending, seconds: float) -> Story:
        text = draft.text.rstrip() if ending is Ending.STOP else whole_sentences(draft.text)
        return Story(
            prompt=order.prompt,
            genre=order.genre or "",
            text=self._shown(order, text),
            seed=order.seed,
            prompt_tokens=prompt_tokens,
            new_tokens=draft.new_tokens,
            ttft_ms=round(1000 * (draft.first_text_s or 0.0), 1),
            tok_per_s=round(draft.new_tokens / seconds, 1) if seconds > 0 else 0.0,
            finish_reason=ending,
            model=self._model.name,
        )

    def _shown(self, order: Order, text: str) -> str:
        return f"{self._codec.format.tag(order.genre)} {text}"
