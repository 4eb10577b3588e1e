"""What a front end may ask of the storyteller: Discord and the terminal call the same few things."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from bot.storyteller.story import StoryRequest, StoryUpdate


class Storyteller(Protocol):
    """Tells stories. All of it is safe to call while the model still loads."""

    @property
    def genres(self) -> tuple[str, ...]:
        """The genres that this model was taught, in the order of the model directory. Known before the model is loaded."""
        ...

    @property
    def min_length(self) -> int:
        """The shortest story that may be asked for, in new tokens."""
        ...

    @property
    def max_seed(self) -> int:
        """The largest seed; the smallest is 0."""
        ...

    @property
    def max_length(self) -> int:
        """The longest story that may be asked for, in new tokens."""
        ...

    def tell(self, request: StoryRequest) -> AsyncGenerator[StoryUpdate, None]:
        """Tell one story: LOADING first if the model is not ready, QUEUED while others are before it, WRITING as it grows,
        DONE once at the end.

        Raises a StoryError (a sentence for the person) before the first WRITING for a request that can't be met, and
        EngineFailed in the middle when the model breaks. When the storyteller closes in the middle, the story ends with
        DONE and `finish_reason` "cancelled". Closing the generator cancels the story.
        """
        ...

    async def genre_odds(self, prompt: str) -> dict[str, float]:
        """The probability of each genre for a prompt; they sum to 1, in the order of `genres`."""
        ...

    async def load(self) -> None:
        """Load the model; raises ModelUnavailable."""
        ...

    async def close(self) -> None:
        """Take no more stories, end those in flight (they get their DONE), free the model."""
        ...
