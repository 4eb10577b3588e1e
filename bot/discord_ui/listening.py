"""Find the prompt in a message: which messages are for us, and what in them is meant for the storyteller.

In a server the bot is spoken to by writing its mention. A reply that only pings it ("nice one!" below a story) is talk
among people, and Discord's "reply with a ping" is on by default, so that alone asks for no story.
"""

from __future__ import annotations

import re

import discord

_SPOKEN = frozenset({discord.MessageType.default, discord.MessageType.reply})
_TYPED_COMMAND = re.compile(r"\A/story\b\s*(?:prompt:)?", re.IGNORECASE)
_CUSTOM_EMOJI = re.compile(r"<a?:(\w+):\d+>")


def prompt_of(message: discord.Message, me: int) -> str | None:
    """The prompt; "" if the message is for us and has no words; None if it is not for us."""
    if message.author.bot or message.webhook_id is not None or message.type not in _SPOKEN:
        return None
    mine = _mention(me)
    if message.guild is not None and not mine.search(message.content):
        return None
    text = mine.sub(" ", message.content)
    for user in message.mentions:
        text = _mention(user.id).sub(user.display_name, text)
    text = _CUSTOM_EMOJI.sub(r"\1", text).strip()
    return _TYPED_COMMAND.sub("", text).strip()


def _mention(user_id: int) -> re.Pattern[str]:
    return re.compile(rf"<@!?{user_id}>")
