"""A bot of one screen to test the loopback Discord with: an unmodified discord.py, led there as the real bot is."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import BytesIO

import discord
import pytest
import yarl
from discord import app_commands
from discord.gateway import DiscordWebSocket
from discord.http import Route
from discord_server import DiscordServer


class SmallBot(discord.Client):
    """Defers, edits and follows up; offers castles; answers direct messages and mentions; has one button."""

    def __init__(self, intents: discord.Intents | None = None) -> None:
        some = discord.Intents(guilds=True, guild_messages=True, dm_messages=True)
        super().__init__(intents=intents or some, allowed_mentions=discord.AllowedMentions.none(), guild_ready_timeout=0.01)
        self.edits = 2
        self.heard: list[discord.Message] = []
        self.tree = app_commands.CommandTree(self)
        self.tree.add_command(story)
        self.tree.add_command(app_commands.Command(name="ask", description="Open a form", callback=ask))
        self.tree.add_command(app_commands.Command(name="card", description="Show a card", callback=card))

    async def setup_hook(self) -> None:
        await self.tree.sync()

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Not the 5 s that discord.py waits before it identifies anew."""

    async def on_message(self, message: discord.Message) -> None:
        self.heard.append(message)
        if message.author != self.user and message.content:
            await message.channel.typing()
            await message.reply(f"You said: {message.clean_content}")


class Again(discord.ui.View):
    @discord.ui.button(label="Another one", custom_id="again")
    async def again(self, itx: discord.Interaction, _: discord.ui.Button["Again"]) -> None:
        await itx.response.defer()
        await itx.edit_original_response(content="Another castle.", view=None)


class Card(discord.ui.LayoutView):
    def __init__(self) -> None:
        super().__init__()
        button = discord.ui.Button[Card](label="Turn", custom_id="turn")
        button.callback = self.turn
        row = discord.ui.ActionRow[Card](button)
        self.add_item(discord.ui.Container(discord.ui.TextDisplay("# A card"), row))

    async def turn(self, interaction: discord.Interaction) -> None:
        back = discord.ui.LayoutView().add_item(discord.ui.TextDisplay("The back"))
        await interaction.response.edit_message(view=back)


class Form(discord.ui.Modal, title="A story"):
    about = discord.ui.TextInput["Form"](label="About", custom_id="about")

    async def on_submit(self, itx: discord.Interaction, /) -> None:
        await itx.response.send_message(f"About {self.about.value}", ephemeral=True)


@app_commands.command()
async def story(itx: discord.Interaction[SmallBot], prompt: str, length: app_commands.Range[int, 1, 9] = 1) -> None:
    """Tell a story"""
    await itx.response.defer()
    for number in range(itx.client.edits):
        await itx.edit_original_response(content=f"{prompt} {number}", view=Again())
    await itx.followup.send(f"The end, {length}.")


@story.autocomplete("prompt")
async def castles(_: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
    return [app_commands.Choice(name=f"{typed} castle", value="castle")]


async def ask(itx: discord.Interaction) -> None:
    await itx.response.send_modal(Form())


async def card(itx: discord.Interaction) -> None:
    await itx.response.send_message(view=Card())
    await itx.followup.send("As a file", file=discord.File(BytesIO(b"once"), "story.txt"))


@asynccontextmanager
async def running(
    bot: SmallBot, server: DiscordServer, patch: pytest.MonkeyPatch, token: str | None = None
) -> AsyncGenerator[asyncio.Task[None]]:
    """Run `bot` against `server` in this event loop; the task ends when the bot does."""
    patch.setattr(Route, "BASE", server.api_url)
    patch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(server.gateway_url))
    task = asyncio.create_task(bot.start(token or server.token))
    try:
        yield task
    finally:
        await bot.close()
        await asyncio.gather(task, return_exceptions=True)
