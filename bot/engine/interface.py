"""What every engine promises to the storyteller: token ids go in, text comes out as it is written.

An engine knows no genre, no prompt and no Discord. The local one (local.py) decodes with torch in a thread of this process; the
other (http.py) lets servers do it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

GREEDY_BELOW = 1e-5
"""A lower temperature is greedy: dividing by it overflows float32 (vLLM draws the line at the same place)."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Each part is off at its neutral value, and they act in the order written here."""

    repetition_penalty: float = 1.0
    """Over 1 makes tokens that are already there less likely (Keskar et al. 2019); 1 is off."""
    no_repeat_ngram: int = 0
    """No run of so many tokens occurs twice in the new text; 0 is off."""
    temperature: float = 1.0
    """Under 1 sharpens, over 1 flattens; 0 is greedy."""
    top_k: int = 0
    """Keep the k likeliest tokens; 0 is off."""
    top_p: float = 1.0
    """Keep the likeliest tokens up to this share of the probability (Holtzman et al. 2020); 1 is off."""
    min_p: float = 0.0
    """Drop tokens less likely than this share of the likeliest (Nguyen et al. 2024); 0 is off."""
    banned_ids: tuple[tuple[int, ...], ...] = ()
    """Words that are never written, as tokens; of one with several the last is banned where the others stand before it.
    They act together with no_repeat_ngram."""


@dataclass(frozen=True)
class GenerationRequest:
    """One text to write: what it goes on from, how far, and how it is drawn."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling
    seed: int
    """The same seed and request give the same text on the same machine, where the engine is `repeatable`."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these; a beginning of one is held back until it is known not to be one."""
    user: int | str | None = None
    """Who asks: texts of one user take their turns with those of others. None: somebody else each time."""
    server: int | str | None = None
    """Where they ask: servers take turns, too. None: a server of the user's own."""


class FinishReason(StrEnum):
    """Why a text ended."""

    STOP = "stop"  # the model wrote its end token or a stop string
    LENGTH = "length"  # max_new_tokens were written


@dataclass(frozen=True)
class Waiting:
    """A text's place in the line."""

    position: int
    """1 is the next to begin."""
    estimate_s: float | None
    """Seconds until it begins, from the pace of the texts before it; None while none was measured, and with servers."""


class Piece(NamedTuple):  # as Part is, and for the same reason
    """What was written since the last piece. `text` holds whole characters only and may be empty.

    A reader slower than the model gets several tokens in one piece. While a text waits for its turn, pieces without text say
    where it stands.
    """

    text: str
    new_tokens: int
    """All tokens written so far, the end token not counted."""
    finish_reason: FinishReason | None = None
    """Set on the last piece, and only there."""
    waiting: Waiting | None = None
    """Set while the text waits, and only before its first token; a text that begins at once has none."""


class Engine(Protocol):
    """Writes many texts at once without ever holding up the event loop."""

    @property
    def ready(self) -> bool:
        """Whether `load` has finished."""
        ...

    @property
    def repeatable(self) -> bool:
        """Whether a seed promises the same text again, whatever else is being written."""
        ...

    @property
    def n_positions(self) -> int:
        """The context of the model in tokens. A longer text goes on by forgetting its oldest part, never its prompt."""
        ...

    async def load(self) -> None:
        """Load the model off the event loop. Raises ModelUnavailable; a second call waits for the first."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Write one text, piece by piece. Closing the generator cancels it at the next token.

        Loads the model first if nobody did. Raises PromptTooLong and QueueFull at once, ModelUnavailable when it can't be
        loaded, EngineFailed when it breaks, and ShuttingDown when the engine closes.
        """
        ...

    async def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Log P(continuation | prefix) in nats for each prefix; the prefixes have the same length.

        Raises CannotScore where the model's probabilities can't be had.
        """
        ...

    async def close(self) -> None:
        """End the texts in flight and free the thread."""
        ...
