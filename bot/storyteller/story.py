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
    user: int | str | None = None
    """Who asks, so that one who asks for ten stories does not hold up the others. None: somebody else each time."""
    server: int | str | None = None
    """Where they ask; servers take turns. None: a place of the user's own, as in direct messages."""


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
    QUEUED = "queued"  # others are before it
    WRITING = "writing"
    DONE = "done"


@dataclass(frozen=True)
class StoryUpdate:
    """How a story stands now. `text` is all of it so far and only grows until DONE, which may trim its end."""

    stage: Stage
    text: str = ""
    story: Story | None = None
    """Set at DONE, and only there."""
    position: int = 0
    """At QUEUED: the place in the line; 1 is the next to begin."""
    estimate_s: float | None = None
    """At QUEUED: seconds until it begins, if that can be said."""


def place_in_line(update: StoryUpdate) -> str:
    """How a QUEUED story stands, in a few words: "3rd in line, about 20 s"."""
    position = f"{update.position}{_ordinal_suffix(update.position)} in line"
    return position if update.estimate_s is None else f"{position}, {_about(update.estimate_s)}"


def _ordinal_suffix(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _about(seconds: float) -> str:
    """In steps that one can rely on: an estimate to the second would be none."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 57.5:
        return f"about {5 * round(seconds / 5)} s"
    return f"about {max(1, round(seconds / 60))} min"
