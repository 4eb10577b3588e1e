"""The fixture that runs the bot as a process, tried on a stand-in for `python -m bot` that only connects and waits."""

import signal
from pathlib import Path

import pytest
from bot_process import BotStarter
from discord_server import DiscordServer

STAND_IN = """
import asyncio, os, signal, sys
import discord, yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

async def main():
    Route.BASE = os.environ["DISCORD_API_URL"]
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(os.environ["DISCORD_GATEWAY_URL"])
    client = discord.Client(intents=discord.Intents.none())
    stop = lambda: asyncio.create_task(client.close())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    print("state in", os.environ["STATE_DIR"], "arguments", sys.argv[1:])
    await client.start(os.environ["DISCORD_TOKEN"])

asyncio.run(main())
"""


@pytest.fixture
def stand_in(bot_process: BotStarter, tmp_path: Path) -> BotStarter:
    package = tmp_path / "project" / "bot"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(STAND_IN)
    bot_process.project = package.parent
    return bot_process


async def test_a_bot_starts_stops_and_starts_again(discord_server: DiscordServer, stand_in: BotStarter) -> None:
    first = await stand_in("--quiet")
    await first.ready()
    assert await first.stop() == 0
    assert f"state in {stand_in.state_dir} arguments ['--quiet']" in first.output()
    second = await stand_in()
    await second.ready()
    assert await second.stop(signal.SIGKILL) == -signal.SIGKILL
    assert discord_server.gateway.readies == 2
    assert discord_server.violations == []


async def test_a_bot_that_ends_instead_of_connecting_says_why(stand_in: BotStarter) -> None:
    bot = await stand_in(env={"DISCORD_TOKEN": "wrong"})
    with pytest.raises(AssertionError, match="Improper token"):
        await bot.ready()
    assert await bot.wait() == 1
