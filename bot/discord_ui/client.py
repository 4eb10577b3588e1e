"""The bot itself: a Discord client that hears `/story`, direct messages and mentions, and hands them to a storyteller.

Services are handed in; what it keeps is the desk, where the stories in flight are counted. It asks Discord for no
privileged intent: commands need none, and the text of direct messages and of messages that mention us comes without.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
import discord
from discord import app_commands

from bot.discord_ui import limits, wording
from bot.discord_ui.card import Pace, StoryCard
from bot.discord_ui.command import story_command
from bot.discord_ui.listening import prompt_of
from bot.discord_ui.surfaces import ChannelSurface, InteractionSurface, Surface
from bot.discord_ui.sync import sync_if_changed
from bot.discord_ui.telling import Desk, log_fault, say, tell
from bot.storyteller.interface import Storyteller
from bot.storyteller.story import StoryRequest

_log = logging.getLogger(__name__)

FAREWELL_S = 8.0  # Docker kills 10 s after SIGTERM

# What an invitation asks for: to see a mention, to answer it, in threads too. A reply needs to read what it replies to.
_PERMISSIONS = discord.Permissions(
    view_channel=True, send_messages=True, send_messages_in_threads=True, read_message_history=True
)


class StoryBot(discord.Client):
    """Tells stories in Discord. The model is loaded by whoever made the storyteller; stories wait for it meanwhile."""

    def __init__(
        self,
        storyteller: Storyteller,
        *,
        state_dir: Path,
        edit_interval_s: float,
        max_stories_per_user: int,
        proxy: str | None = None,
        pace: Pace | None = None,
    ) -> None:
        """`state_dir` keeps which commands Discord has. Tests hand in a whole `pace`, with its clock."""
        discord.VoiceClient.warn_nacl = discord.VoiceClient.warn_dave = False  # it never speaks: no word of libsodium
        super().__init__(
            intents=_intents(),
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,  # keep nobody's messages in memory
            member_cache_flags=discord.MemberCacheFlags.none(),
            proxy=proxy,
        )
        self.storyteller = storyteller
        self.tree = _Tree(
            self,
            allowed_installs=app_commands.AppInstallationType(guild=True, user=True),
            allowed_contexts=app_commands.AppCommandContext(guild=True, dm_channel=True, private_channel=True),
        )
        self.tree.add_command(story_command(storyteller, self.answer_interaction))
        self._state_dir = state_dir
        self._pace = pace or Pace(edit_interval_s)
        self._desk = Desk(max_stories_per_user)
        self._farewell: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()
        """Set by the first READY of the gateway."""
        self._sync: asyncio.Task[bool] | None = None

    async def setup_hook(self) -> None:
        """Send the commands beside the start, which does not wait for it."""
        self._sync = asyncio.create_task(sync_if_changed(self.tree, self._state_dir / "commands.json"))

    async def on_connect(self) -> None:
        """The gateway wants us."""
        self.connected.set()

    async def on_ready(self) -> None:
        """Say who we are and where an invitation is to be had."""
        invitation = discord.utils.oauth_url(
            self.application_id or 0, permissions=_PERMISSIONS, scopes=("bot", "applications.commands")
        )
        _log.info("Connected as %s, in %d server(s). Invite it with %s", self.user, len(self.guilds), invitation)

    async def answer_interaction(self, interaction: discord.Interaction, request: StoryRequest) -> None:
        """Answer `/story`: defer first, tell then."""
        with self._desk.in_flight():  # from before the defer on: a shutdown meanwhile must not lose it
            surfaces = await _defer(interaction)
            if surfaces:
                asked = replace(request, user=interaction.user.id, server=interaction.guild_id)
                await self._tell(asked, surfaces, interaction.user.id)

    async def on_message(self, message: discord.Message) -> None:
        """Answer a direct message or a mention the same way, by a reply that grows."""
        prompt = prompt_of(message, self.user.id) if self.user else None
        if prompt is None:
            return
        surfaces: list[Surface] = [ChannelSurface(message.channel, reply_to=message)]
        if message.guild is not None:
            surfaces.append(ChannelSurface(message.author))
        with self._desk.in_flight():
            if prompt:
                server = message.guild.id if message.guild is not None else None
                request = StoryRequest(prompt, user=message.author.id, server=server)
                await self._tell(request, surfaces, message.author.id)
            else:
                await say(wording.HINT, StoryCard(surfaces, self._pace))

    async def wait_until_idle(self) -> None:
        """Return when the last edit of each story in flight has landed."""
        await self._desk.wait_until_idle()

    async def farewell(self) -> None:
        """Take no more stories; those in flight get their last edit, with a mark that they were stopped. Done once."""
        if self._farewell is None:
            self._farewell = asyncio.create_task(self._say_farewell(), name="farewell")
        await asyncio.shield(self._farewell)

    async def close(self) -> None:
        """Close the client, after a farewell: discord.py calls this itself when the gateway refuses the bot for good."""
        await self.farewell()
        await super().close()

    async def _say_farewell(self) -> None:
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self.storyteller.close()
                await self.wait_until_idle()
        except TimeoutError:
            _log.warning("Some stories did not end within %.0f s", FAREWELL_S)

    async def _tell(self, request: StoryRequest, surfaces: Sequence[Surface], person: int) -> None:
        await tell(self.storyteller, request, StoryCard(surfaces, self._pace), self._desk, person)


class _Tree(app_commands.CommandTree[StoryBot]):
    """Answers what goes wrong before a story begins; `tell` answers the rest."""

    async def on_error(self, interaction: discord.Interaction[StoryBot], error: app_commands.AppCommandError, /) -> None:
        if isinstance(error, (app_commands.CommandNotFound, app_commands.CommandSignatureMismatch)):
            _log.warning("Discord still shows an older /story: %s", error)
            sentence = wording.OUTDATED
        else:
            sentence = wording.broke(log_fault("A command broke", error))
        if not interaction.response.is_done():
            try:
                await interaction.response.send_message(sentence, ephemeral=True)
            except discord.HTTPException as refusal:
                _log.warning("An interaction could not be answered: %s", refusal)


def _intents() -> discord.Intents:
    intents = discord.Intents.none()
    intents.guilds = True  # which servers and threads there are: a reply needs its channel
    intents.guild_messages = True  # messages that mention us; of the others Discord sends no text
    intents.dm_messages = True  # direct messages
    return intents


async def _defer(interaction: discord.Interaction[discord.Client]) -> list[Surface]:
    """Take the interaction before its 3 seconds are over; return where its story may go, best place first.

    An interaction that could not be taken is still a wish for a story: it is told in the channel or by direct message.
    Nothing is returned when another process has answered it.
    """
    answer = InteractionSurface(interaction)
    channel_id = interaction.channel_id
    elsewhere: list[Surface] = [ChannelSurface(interaction.client.get_partial_messageable(channel_id))] if channel_id else []
    elsewhere.append(ChannelSurface(interaction.user))
    try:
        await interaction.response.defer(thinking=True)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
        late_s = (discord.utils.utcnow() - interaction.created_at).total_seconds()
        if isinstance(error, discord.HTTPException) and error.code == limits.ALREADY_ANSWERED:
            _log.warning("Another process answered this interaction: the bot runs twice with one token")
            return []
        _log.warning("An interaction was not taken, %.1f s after it was made: %s", late_s, error)
        return elsewhere
    late = discord.utils.utcnow() - interaction.created_at
    if late > limits.LATE_AFTER:
        _log.warning(
            "An interaction was taken %.1f s after it was made; at %.0f s it is lost. Is the machine's clock right, "
            "and is something blocking the event loop?",
            late.total_seconds(),
            limits.ANSWER_WITHIN.total_seconds(),
        )
    return [answer, *elsewhere]
