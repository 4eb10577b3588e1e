"""What goes into the storyteller and what comes out: the words that all front ends share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class StoryRequest:
    """What a person asked for, as they wrote it."""

    prompt: str
    genre: str | None = None
    """A genre's name ("FANTASY", in any case); None: a tag at the start of the prompt, else found from the prompt."""
    length: int | None = None
    """New tokens at most; None is the host's default. A token is about three quarters of a word."""
    seed: int | None = None
    """None draws one. It is kept in the Story, so that the same story can be told again."""


class Ending(StrEnum):
    """Why a story is over."""

    STOP = "stop"  # the model ended it
    LENGTH = "length"  # it reached its length and was trimmed to its last whole sentence
    CANCELLED = "cancelled"  # the storyteller closed in the middle of it


@dataclass(frozen=True)
class Story:
    """A story that is over, with all that is needed to tell it again."""

    prompt: str
    genre: str
    text: str
    """What people read: the tag, a space, the story. Never only the tag."""
    seed: int
    prompt_tokens: int
    new_tokens: int
    ttft_ms: float
    """From the request (the model being ready) to the first text, in milliseconds."""
    tok_per_s: float
    finish_reason: Ending
    model: str
    repeatable: bool = True
    """Whether the same seed tells the same story again."""
    genre_assumed: bool = False
    """Whether the genre is only the model's most common one, since its engine could not find one."""


class Stage(StrEnum):
    """How far a story is."""

    LOADING = "loading"  # the model is not ready yet; the story waits
    WRITING = "writing"
    DONE = "done"


@dataclass(frozen=True)
class StoryUpdate:
    """How a story stands now. `text` is all of it so far and only grows until DONE, which may trim its end."""

    stage: Stage
    text: str = ""
    story: Story | None = None
    """Set at DONE, and only there."""
