"""Start and stop: sentences for what goes wrong at the login, and an orderly end on a signal."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from types import SimpleNamespace

import aiohttp
import discord
import pytest
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot.discord_ui import run
from bot.discord_ui.run import serve
from bot.errors import DiscordUnavailable


class FakeBot:
    """A client that does nothing until it is stopped; `steps` says what was done to it, in order."""

    def __init__(self, login: Exception | None = None, connect: Exception | None = None, *, stubborn=False) -> None:
        self.steps: list[str] = []
        self.closing, self.idle = asyncio.Event(), asyncio.Event()
        if not stubborn:
            self.idle.set()
        self._login, self._connect = login, connect
        self.connected = asyncio.Event()
        self.reaches_the_gateway = True
        self.ws, self.first_tries = None, 0

    async def farewell(self) -> None:
        self.closing.set()
        await self.idle.wait()
        self.steps.append("farewell")

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.steps.append("client closed")

    async def login(self, token: str) -> None:
        if self._login:
            raise self._login

    async def connect(self) -> None:
        if self._connect:
            raise self._connect
        if self.first_tries:
            self.first_tries -= 1
            _ = self.ws.sequence  # as discord.py does after a first try that failed
        if self.reaches_the_gateway:
            self.connected.set()
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def discord_py_as_it_was(monkeypatch):
    monkeypatch.setattr(Route, "BASE", Route.BASE)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", DiscordWebSocket.DEFAULT_GATEWAY)


def refusal(kind: type[discord.HTTPException], status: int) -> discord.HTTPException:
    return kind(SimpleNamespace(status=status, reason="", headers={}), {})


@pytest.mark.parametrize(
    ("bot", "words"),
    [
        (FakeBot(login=discord.LoginFailure("improper")), "DISCORD_TOKEN"),
        (FakeBot(login=refusal(discord.DiscordServerError, 503)), "discordstatus.com"),
        (FakeBot(login=aiohttp.ClientConnectionError("refused")), "127.0.0.1:9"),
        (FakeBot(login=TimeoutError()), "no answer in time"),
        (FakeBot(connect=discord.PrivilegedIntentsRequired(None)), "asks for no privileged intent"),
        (FakeBot(connect=discord.ConnectionClosed(SimpleNamespace(), shard_id=None, code=4004)), "4004"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_keeps_the_bot_from_discord_is_a_sentence_with_what_to_do(bot, words):
    with pytest.raises(DiscordUnavailable, match=words):
        await serve("token", bot, api_url="http://127.0.0.1:9/api/v10", gateway_url=None)
    assert bot.steps == ["farewell", "client closed"]


@pytest.mark.parametrize("token", ["", "  \n", "Bot abc", "abc\n", "tokén"])
async def test_a_token_that_can_not_be_one_is_refused_without_showing_it(token):
    with pytest.raises(DiscordUnavailable, match="DISCORD_TOKEN") as refused:
        await serve(token, FakeBot())
    assert "abc" not in str(refused.value)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_stories_then_the_client_and_returns(signum):
    bot = FakeBot()
    serving = asyncio.create_task(serve("token", bot))
    await bot.connected.wait()
    os.kill(os.getpid(), signum)
    await serving
    assert bot.steps == ["farewell", "client closed"]


@pytest.mark.parametrize(
    ("gateway_url", "words"),
    [
        (None, "wss://gateway.discord.gg/ could not be reached"),
        ("ws://127.0.0.1:9/", "ws://127.0.0.1:9/ .* DISCORD_GATEWAY_URL"),
    ],
)
async def test_a_gateway_that_is_never_reached_ends_the_bot_with_its_address(monkeypatch, gateway_url, words):
    monkeypatch.setattr(run, "FIRST_CONNECTION_S", 0.01)
    bot = FakeBot()
    bot.reaches_the_gateway = False
    with pytest.raises(DiscordUnavailable, match=words):
        await serve("token", bot, gateway_url=gateway_url)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_first_connection_that_fails_is_tried_again(monkeypatch):
    monkeypatch.setattr(run, "FIRST_PAUSE_S", 0)
    bot = FakeBot()
    bot.first_tries = 3
    serving = asyncio.create_task(serve("token", bot))
    async with asyncio.timeout(5):
        await bot.connected.wait()
    serving.cancel()
    await asyncio.wait({serving})


async def test_a_gateway_that_was_reached_once_may_take_its_time(monkeypatch):
    monkeypatch.setattr(run, "FIRST_CONNECTION_S", 0.01)
    bot = FakeBot()
    serving = asyncio.create_task(serve("token", bot))
    await asyncio.sleep(0.05)
    assert not serving.done()
    serving.cancel()
    await asyncio.wait({serving})


async def test_a_lost_connection_is_one_line_in_the_log(caplog):
    bot, log = FakeBot(), logging.getLogger("discord.client")
    serving = asyncio.create_task(serve("token", bot))
    await bot.connected.wait()
    for message in ("Attempting a reconnect in %.2fs", "Something else after %.2fs"):
        log.error(message, 1.5, exc_info=OSError("no route, 100% sure"))
    serving.cancel()
    await asyncio.wait({serving})
    reconnect, other = (record for record in caplog.records if record.name == "discord.client")
    assert reconnect.getMessage() == (
        "The connection to Discord's gateway failed (OSError: no route, 100% sure); trying again in a moment"
    )
    assert reconnect.exc_info is None
    assert other.exc_info is not None
    assert not log.filters


async def test_a_second_signal_ends_at_once(monkeypatch):
    bot, statuses = FakeBot(stubborn=True), []

    def end(status: int) -> None:
        statuses.append(status)
        bot.idle.set()  # the real one does not return; here the test has to go on

    monkeypatch.setattr(os, "_exit", end)
    serving = asyncio.create_task(serve("token", bot))
    await bot.connected.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await bot.closing.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    assert statuses == [128 + signal.SIGTERM]


async def test_a_cancelled_serve_leaves_nothing_running():
    bot = FakeBot()
    serving = asyncio.create_task(serve("token", bot))
    await bot.connected.wait()
    serving.cancel()
    await asyncio.wait({serving})
    assert bot.steps == ["client closed"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_another_discord_is_named_in_one_place():
    bot = FakeBot(login=TimeoutError())
    with pytest.raises(DiscordUnavailable):
        await serve("token", bot, api_url="http://127.0.0.1:9/api/v10/", gateway_url="ws://127.0.0.1:9/")
    assert Route.BASE == "http://127.0.0.1:9/api/v10"
    assert str(DiscordWebSocket.DEFAULT_GATEWAY) == "ws://127.0.0.1:9/"
