"""The two ways to show something to a person: an interaction's own messages, and messages in a channel.

A card draws on a `Surface` and knows nothing of HTTP. What Discord refuses comes out as one of three outcomes, since
there are only three things to do about it: stop (`ReaderLeft`), take the next way (`WayClosed`), or try again
(`Unreachable`). Any other refusal is a fault of ours and goes through as it is.

An interaction's messages are edited through its token: that has a rate limit of its own and works where the bot has no
access (as a user-installed app, in group chats). The price: the token dies after 15 minutes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Protocol

import aiohttp
import discord

from bot.discord_ui import limits


class ReaderLeft(Exception):
    """The message was deleted, so nobody reads on."""


class WayClosed(Exception):
    """Nothing can be shown here any more, or ever: the token is dead, or the bot may not write here."""


class Unreachable(Exception):
    """Discord or the network has a hiccup; the same call may work in a moment."""


class Page(Protocol):
    """A message that is there."""

    async def edit(self, content: str) -> None:
        """Replace its text."""
        ...

    async def delete(self) -> None:
        """Remove it."""
        ...


class Surface(Protocol):
    """A place that takes messages, one below the other."""

    @property
    def open(self) -> bool:
        """False once this way is about to close: what is to stay readable moves on now."""
        ...

    async def send(self, content: str) -> Page:
        """Show a further message."""
        ...

    async def wait(self) -> None:
        """Show for some seconds that something is coming. Never fails."""
        ...


class InteractionSurface:
    """The answer to a deferred interaction: `@original` first, then follow-ups. Make it when the interaction arrives."""

    def __init__(self, interaction: discord.Interaction, clock: Callable[[], float] = time.monotonic) -> None:
        self._interaction = interaction
        self._clock = clock
        self._arrived_s = clock()
        self._answered = False

    @property
    def open(self) -> bool:
        """The token still lives, counted from here: the time in the interaction's id is no use to a clock that is wrong."""
        return self._clock() - self._arrived_s < limits.TOKEN_USED_FOR.total_seconds()

    async def send(self, content: str) -> Page:
        """Fill `@original`, which has been waiting since the defer; after that, send follow-ups."""
        with _outcomes():
            if self._answered:
                message = await self._interaction.followup.send(content, wait=True, suppress_embeds=True)
                return _Message(message)
            await self._interaction.edit_original_response(content=content)
            self._answered = True
            return _Original(self._interaction)

    async def wait(self) -> None:
        """Discord shows a deferred answer as "is thinking" by itself."""


class ChannelSurface:
    """Messages in a channel, or to a user; the first replies to `reply_to`, if that is given."""

    def __init__(self, channel: discord.abc.Messageable, reply_to: discord.Message | None = None) -> None:
        self._channel = channel
        self._reply_to = reply_to
        self._nonce = secrets.token_hex(8)

    @property
    def open(self) -> bool:
        """A channel has no time limit."""
        return True

    async def send(self, content: str) -> Page:
        """Send a message. The nonce stays until it has arrived, so that a second try can't show it twice."""
        with _outcomes():
            if self._reply_to is not None:
                message = await self._reply_to.reply(content, mention_author=False, suppress_embeds=True, nonce=self._nonce)
            else:
                message = await self._channel.send(content, suppress_embeds=True, nonce=self._nonce)
        self._reply_to = None
        self._nonce = secrets.token_hex(8)
        return _Message(message)

    async def wait(self) -> None:
        """Show "is typing", where that is allowed; it is only a courtesy."""
        with suppress(discord.HTTPException, aiohttp.ClientError, OSError):
            await self._channel.typing()


class _Original:
    def __init__(self, interaction: discord.Interaction) -> None:
        self._interaction = interaction

    async def edit(self, content: str) -> None:
        with _outcomes():
            await self._interaction.edit_original_response(content=content)

    async def delete(self) -> None:
        with _outcomes():
            await self._interaction.delete_original_response()


class _Message:
    """A follow-up or a message in a channel: discord.py edits each by the way it was sent."""

    def __init__(self, message: discord.Message) -> None:
        self._message = message

    async def edit(self, content: str) -> None:
        with _outcomes():
            await self._message.edit(content=content)

    async def delete(self) -> None:
        with _outcomes():
            await self._message.delete()


@contextmanager
def _outcomes() -> Generator[None]:
    try:
        yield
    except discord.HTTPException as error:
        outcome = outcome_of(error)
        if outcome is None:
            raise
        raise outcome from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Unreachable(str(error) or type(error).__name__) from error


def outcome_of(error: discord.HTTPException) -> Exception | None:
    """What a refusal of Discord's means for a card; None if it means that the request was wrong."""
    replied_to_nothing = error.code == limits.INVALID_FORM_BODY and "message_reference" in error.text
    if error.code == limits.UNKNOWN_MESSAGE or replied_to_nothing:
        return ReaderLeft(error.text)
    if error.status in limits.WAY_CLOSED or error.code == limits.TOO_MANY_FOLLOW_UPS:
        return WayClosed(error.text)
    if error.status >= 500 or error.status == 429:  # discord.py waits out a 429 five times before it gives up
        return Unreachable(error.text)
    return None
