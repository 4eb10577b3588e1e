"""What the bot says itself, beside the stories: every sentence of the Discord layer that people read."""

from __future__ import annotations

from bot.errors import StoryError
from bot.storyteller.story import Ending, Stage, Story, StoryUpdate, place_in_line

CURSOR = " ▌"
WAITING = "*Your story waits for the model, which is still loading. It starts by itself.*"
HINT = "Tell me in a few words what the story is about, for example: a lighthouse that moves at night"
NO_MODEL = "This storyteller's model can't be loaded; whoever runs it finds the reason in its log."
STOPPED = "The storyteller was stopped here."
MOVED = "This story goes on in another message."
OUTDATED = "This command has changed since Discord showed it to you. Reload Discord (Ctrl+R) and try again."

STORY_DESCRIPTION = "Tell a story about something"
PROMPT_DESCRIPTION = "What the story is about: two words, or two lines"
GENRE_DESCRIPTION = "The genre; left out, it is found from the prompt"
LENGTH_DESCRIPTION = "The longest it may get, in tokens: 100 tokens are about 75 words"
SEED_DESCRIPTION = "The number under a story tells the same one again; left out, it is drawn"

_ENDINGS = {
    Ending.STOP: "",
    Ending.LENGTH: " · stopped at its length",
    Ending.CANCELLED: f"\n{STOPPED}",
}


class TooManyStories(StoryError):
    """One person has as many stories in flight as this storyteller tells them at once."""

    def __init__(self, limit: int) -> None:
        stories = "a story" if limit == 1 else f"{limit} stories"
        super().__init__(f"You already have {stories} being told. Wait until one is over, and ask again.")


def footer(story: Story) -> str:
    """What stands below a finished story: how to tell it again, and why it ended if not by itself."""
    seed = f"seed {story.seed}" if story.repeatable else f"seed {story.seed}, not repeatable here"
    genre = " · genre: only the most common one" if story.genre_assumed else ""
    return f"{seed}{genre}{_ENDINGS[story.finish_reason]}"


def waiting(update: StoryUpdate) -> str:
    """What stands where a story will be, until it begins; empty once it does."""
    if update.stage is Stage.LOADING:
        return WAITING
    return f"*{place_in_line(update)}*" if update.stage is Stage.QUEUED else ""


def broke(error_id: str) -> str:
    """For a fault of the program: nothing of it but the id under which the log has the rest."""
    return (
        f"Something broke on my side (error {error_id}). "
        "Please try again; if it happens again, tell that number to whoever runs this bot."
    )


def subtext(note: str) -> str:
    """Small and grey in Discord, line by line."""
    return "\n".join(f"-# {line}" for line in note.splitlines() if line.strip())
