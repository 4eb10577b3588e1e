"""Who and what exists in the loopback Discord: people, two guilds, channels.

The bot is a member of `guild` and a stranger in `foreign_guild` and in `group`: there an app is heard only if a person
installed it.
"""

import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .records import Message

DISCORD_EPOCH_MS = 1_420_070_400_000

ChannelKind = Literal["text", "dm", "group_dm"]
Context = Literal["guild", "dm", "user_install", "group_dm"]

_serial = count(1)


def mint() -> int:
    """A new snowflake. Its time is real: discord.py reads an interaction's age from it."""
    return ((int(time.time() * 1000) - DISCORD_EPOCH_MS) << 22) | (next(_serial) & 0x3FFFFF)


@dataclass(frozen=True)
class User:
    id: int
    name: str
    is_bot: bool = False


@dataclass(frozen=True)
class Guild:
    id: int
    name: str
    has_bot: bool


@dataclass(eq=False)
class Channel:
    """A channel and all that was said in it. With `bot_may_send` False the bot may read but not write."""

    id: int
    kind: ChannelKind
    guild: Guild | None = None
    name: str = ""
    recipients: tuple[User, ...] = ()
    bot_may_send: bool = True
    messages: list["Message"] = field(default_factory=list, repr=False)
    typing: list[float] = field(default_factory=list, repr=False)

    @property
    def bot_sees_it(self) -> bool:
        return self.guild.has_bot if self.guild else self.kind == "dm"

    @property
    def from_bot(self) -> list["Message"]:
        """What the bot wrote here and did not delete, oldest first."""
        return [message for message in self.messages if message.author.is_bot and not message.deleted]


class World:
    """The people and places of one test."""

    def __init__(self) -> None:
        self.bot = User(mint(), "Storyteller", is_bot=True)
        self.application_id = self.bot.id
        self.person = User(mint(), "ada")
        self.somebody_else = User(mint(), "grace")
        self.users = {user.id: user for user in (self.bot, self.person, self.somebody_else)}
        self.guild = Guild(mint(), "The campfire", has_bot=True)
        self.foreign_guild = Guild(mint(), "A guild without the bot", has_bot=False)
        self.channels: dict[int, Channel] = {}
        self.channel = self.add_channel("general")
        self.other_channel = self.add_channel("stories")
        self.foreign_channel = self.add_channel("elsewhere", guild=self.foreign_guild)
        self.group = self._keep(Channel(mint(), "group_dm", recipients=(self.person, self.somebody_else)))

    def add_user(self, name: str) -> User:
        user = User(mint(), name)
        self.users[user.id] = user
        return user

    def add_channel(self, name: str, guild: Guild | None = None) -> Channel:
        return self._keep(Channel(mint(), "text", guild or self.guild, name))

    def dm_channel(self, user: User) -> Channel:
        """The one direct channel between the bot and `user`."""
        for channel in self.channels.values():
            if channel.kind == "dm" and channel.recipients == (user,):
                return channel
        return self._keep(Channel(mint(), "dm", recipients=(user,)))

    def place(self, context: Context, user: User) -> Channel:
        """Where a person who uses a command in `context` is."""
        match context:
            case "guild":
                return self.channel
            case "dm":
                return self.dm_channel(user)
            case "user_install":
                return self.foreign_channel
            case "group_dm":
                return self.group

    def _keep(self, channel: Channel) -> Channel:
        self.channels[channel.id] = channel
        return channel
