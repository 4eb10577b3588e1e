"""Fixtures of the wire tests: a loopback Discord, and the real bot process that talks to it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bot_process import BotStarter
from discord_server import DiscordServer
from discord_server.openapi import find_openapi


def pytest_report_header() -> str:
    """Say whether bodies are checked against Discord's schema: the tests pass without the file too."""
    path = find_openapi()
    return f"wire: bodies are checked against {path}" if path else "wire: no OpenAPI file, bodies are checked by our rules only"


@pytest.fixture
async def discord_server() -> AsyncIterator[DiscordServer]:
    """A Discord of its own for each test. `discord_server.configure(...)` changes its rules."""
    async with DiscordServer() as server:
        yield server


@pytest.fixture
async def bot_process(discord_server: DiscordServer, tmp_path: Path) -> AsyncIterator[BotStarter]:
    """Starts `python -m bot` against `discord_server`: `bot = await bot_process(); await bot.ready()`."""
    starter = BotStarter(discord_server, tmp_path)
    yield starter
    await starter.stop_all()
