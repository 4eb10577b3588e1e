"""What every engine checks before it takes a text or a score, and the sentences for those it doesn't take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bot.engine.interface import GenerationRequest
from bot.engine.model_files import ModelConfig
from bot.errors import PromptTooLong, QueueFull, ShuttingDown

MIN_ROOM = 16
"""Positions that a prompt must leave free. A text longer than the context is read again each time half of its room is full,
so with less room than this an engine would mostly read."""


def check_request(request: GenerationRequest, config: ModelConfig) -> None:
    """Raises PromptTooLong, and ValueError for what is the caller's fault."""
    if not request.prompt_ids or request.max_new_tokens < 1:
        raise ValueError("a text needs a prompt of one token or more, and one token or more to write")
    check_length(len(request.prompt_ids), config.n_positions - MIN_ROOM)
    _check_ids(request.prompt_ids, config)


def check_score(
    prefixes: Sequence[Sequence[int]], continuation: Sequence[int], config: ModelConfig, *, kept_free: int = 0
) -> None:
    """Raises PromptTooLong where a prefix and the continuation leave fewer than `kept_free` positions, and ValueError."""
    if not prefixes[0] or any(len(prefix) != len(prefixes[0]) for prefix in prefixes):
        raise ValueError("prefixes to score must have the same length, of one token or more")
    check_length(len(prefixes[0]) + len(continuation), config.n_positions - kept_free)
    _check_ids((token for ids in (*prefixes, continuation) for token in ids), config)


def check_length(tokens: int, limit: int) -> None:
    """Raises PromptTooLong past the limit."""
    if tokens > limit:
        raise PromptTooLong(f"That prompt has {tokens} tokens; this model reads {limit}. Try a shorter one.")


def _check_ids(ids: Iterable[int], config: ModelConfig) -> None:
    """On CUDA an id out of range would break the whole process."""
    if not all(0 <= token < config.vocab_size for token in ids):
        raise ValueError(f"a token is outside the vocabulary of {config.vocab_size}")


def queue_full(max_queued: int) -> QueueFull:
    """For whoever would be one too many in the line."""
    return QueueFull(f"{max_queued} stories are waiting already, and more are not taken. Try again in a few minutes.")


def closed_before() -> ShuttingDown:
    """For whoever has not a word yet when the engine closes."""
    return ShuttingDown("The storyteller is closing and takes no more stories. Try again in a few minutes.")


def closed_within() -> ShuttingDown:
    """For whoever has words already."""
    return ShuttingDown("The storyteller closed in the middle of this story.")
