"""From what a person typed to what can be told: the genre they named, the prompt's tokens, a length and a seed that fit.

All checks of a request are here, so that Discord and the terminal refuse the same things in the same words.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections import Counter
from dataclasses import dataclass

from bot.errors import BadLength, BadSeed, EmptyPrompt, PromptTooLong, UnknownGenre, UnknownScript
from bot.storyteller.story import StoryRequest
from trainer.story_format import StoryCodec, genre_name, one_line, script, split_tag

MIN_LENGTH = 16
MAX_SEED = 2**53 - 1
"""The largest whole number that Discord and JSON carry without rounding."""

_MENTION = re.compile(r"@(?:everyone|here)|<[@#:a-z!&][^>\s]*>")


@dataclass(frozen=True)
class Limits:
    """What may be asked for, in tokens."""

    default_length: int
    max_length: int
    max_prompt_tokens: int


@dataclass(frozen=True)
class Order:
    """A request that was checked."""

    prompt: str
    prompt_ids: tuple[int, ...]
    genre: str | None
    """None: to be found from the prompt."""
    length: int
    seed: int
    user: int | str | None
    server: int | str | None


def check(request: StoryRequest, codec: StoryCodec, limits: Limits) -> Order:
    """The request as an order. Raises the StoryError that says what to change."""
    tag, rest = split_tag(printable(request.prompt), codec.format.genres)
    genre = _known_genre(request.genre, codec) if request.genre else None
    if tag is not None:
        genre = genre or _known_genre(tag, codec)
    prompt = one_line(rest)
    if prompt or tag is None:
        _check_words(prompt, codec)
    prompt_ids = tuple(codec.encode_prompt(prompt))
    if len(prompt_ids) > limits.max_prompt_tokens:
        raise PromptTooLong(
            f"That prompt has {len(prompt_ids):,} tokens; this model reads {limits.max_prompt_tokens:,} beside a story. "
            f"Try a shorter one, of {limits.max_prompt_tokens // 2:,} words at most."
        )
    length, seed = _length(request.length, limits), _seed(request.seed)
    return Order(prompt, prompt_ids, genre, length, seed, request.user, request.server)


def _known_genre(label: str, codec: StoryCodec) -> str:
    name = genre_name(label)
    if name is None or name not in codec.format.genres:
        raise UnknownGenre(
            f"This model was not taught {one_line(label)[:40]!r}. Choose one of {', '.join(codec.format.genres)}, "
            "or leave the genre out."
        )
    return name


def _check_words(prompt: str, codec: StoryCodec) -> None:
    """Refuse a prompt that says nothing, or says it in letters that the model never saw."""
    letters = [c for c in _MENTION.sub("", prompt) if c.isalpha()]
    if not letters and not any(c.isdigit() for c in _MENTION.sub("", prompt)):
        raise EmptyPrompt("There are no words in that prompt. Say in a few words what the story is about: magic castle")
    known = codec.format.scripts
    foreign = Counter(script(c) for c in letters if script(c) not in known)
    if known and letters and sum(foreign.values()) * 2 > len(letters):
        raise UnknownScript(
            f"This model reads {' and '.join(known).title()} letters, and that prompt is in {next(iter(foreign)).title()}. "
            "Write it in letters that the model knows."
        )


def _length(length: int | None, limits: Limits) -> int:
    if length is None:
        return limits.default_length
    if not MIN_LENGTH <= length <= limits.max_length:
        raise BadLength(
            f"A story has from {MIN_LENGTH} to {limits.max_length} tokens here, not {length}. Choose a length between."
        )
    return length


def _seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(2**32)  # ten digits: a person may type it again
    if not 0 <= seed <= MAX_SEED:
        raise BadSeed(f"A seed is a whole number from 0 to {MAX_SEED}, not {seed}. Choose another, or leave it out.")
    return seed


def printable(text: str) -> str:
    """The text without control characters and halves of characters: people and models may write any, terminals obey some."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
