"""What can go wrong in a way that a person should read: each error is one sentence that says what to do.

Everything here may be shown as it stands, in Discord and in the terminal. Any other exception is a fault of the program:
it is logged with an id, and the person is told the id and nothing else.
"""


class StoryError(Exception):
    """A sentence for the person who asked, with what to do about it."""


class EmptyPrompt(StoryError):
    """There was nothing to tell a story about."""


class PromptTooLong(StoryError):
    """The prompt does not fit beside a story in the model's context."""


class UnknownGenre(StoryError):
    """The genre asked for is none that this model was taught."""


class BadLength(StoryError):
    """The length asked for is outside what this storyteller writes."""


class BadSeed(StoryError):
    """The seed is no number that the storyteller can repeat."""


class UnknownScript(StoryError):
    """The prompt is in letters that the model was never taught."""


class NothingToTell(StoryError):
    """The model ended each try at a story before its first word."""


class ModelUnavailable(StoryError):
    """The model directory is missing, torn, or holds no model that this program can run."""


class EngineFailed(StoryError):
    """The model stopped in the middle of a story through a fault of its own."""


class EngineBroken(EngineFailed):
    """The model can't go on in this process: only a new start helps."""


class CannotScore(StoryError):
    """The engine's server does not tell how likely a prompt is, so no genre can be found from it."""


class QueueFull(StoryError):
    """As many stories wait as the storyteller takes."""


class ShuttingDown(StoryError):
    """The storyteller is closing and takes no more stories."""


class BadSetting(StoryError):
    """A variable of the environment or of .env has a value that can't be used."""


class DiscordUnavailable(StoryError):
    """Discord refused the bot, or could not be reached at all."""
