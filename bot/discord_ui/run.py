"""Run the bot until it is told to stop: log in, stay connected, and on SIGTERM or Ctrl-C let the stories end well.

discord.py tries the gateway again for ever. That is right once it has been reached; a wrong token or a Discord that can't
be reached at the start is told in a sentence instead, so login is done apart and the first connection has its time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager

import aiohttp
import discord
import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot.discord_ui.client import StoryBot
from bot.errors import DiscordUnavailable

_log = logging.getLogger(__name__)

LOGIN_TIMEOUT_S = 60.0  # discord.py tries five times on a 5xx, which takes 25 s
FIRST_CONNECTION_S = 60.0  # some six tries at the gateway
FIRST_PAUSE_S = 1.0  # between them, doubled each time

_PORTAL = "https://discord.com/developers/applications"


async def serve(token: str, bot: StoryBot, *, api_url: str | None = None, gateway_url: str | None = None) -> None:
    """Log in, answer people until SIGTERM or SIGINT, end the stories in flight, return.

    `api_url` ("http://127.0.0.1:1234/api/v10") and `gateway_url` ("ws://127.0.0.1:1234/") are for another Discord than
    discord.com. Raises DiscordUnavailable, a sentence, when Discord can't be reached or does not want us.
    """
    _check(token)
    _point_discord_py_at(api_url, gateway_url)
    stop = asyncio.Event()
    with _signals_set(stop), _short_reconnects():
        async with bot:
            connected = asyncio.create_task(_stay_connected(bot, token, gateway_url), name="discord")
            stopped = asyncio.create_task(stop.wait(), name="stop")
            try:
                await asyncio.wait({connected, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    _log.info("Stopping: ending the stories in flight. A second signal stops at once.")
                await bot.farewell()  # a gateway that refuses us for good leaves stories in flight, too
            finally:
                connected.cancel()
                stopped.cancel()
                await asyncio.wait({connected, stopped})
            if not connected.cancelled():
                connected.result()


async def _stay_connected(bot: StoryBot, token: str, gateway_url: str | None) -> None:
    with _sentences():
        async with asyncio.timeout(LOGIN_TIMEOUT_S):
            await bot.login(token)
    with _sentences():
        connecting = asyncio.create_task(_connect(bot), name="gateway")
        reached = asyncio.create_task(bot.connected.wait(), name="first connection")
        try:
            done, _ = await asyncio.wait({connecting, reached}, timeout=FIRST_CONNECTION_S, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise DiscordUnavailable(_no_gateway(gateway_url))
            await connecting
        finally:
            reached.cancel()
            connecting.cancel()
            await asyncio.wait({connecting, reached})


async def _connect(bot: StoryBot) -> None:
    """Connect and stay so, for as many tries as it takes."""
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await bot.connect()
        except AttributeError:
            # discord.py 2.7.1: when its very first try fails, it waits for up to 2 s and then asks the WebSocket that it
            # has not got for a sequence number. Its waits would grow; here they start anew, so ours grow instead.
            if bot.ws is not None:  # pyright: ignore[reportUnnecessaryComparison] - it is None before the first connection
                raise
            await asyncio.sleep(pause_s)
            pause_s *= 2


def _no_gateway(gateway_url: str | None) -> str:
    culprit = "DISCORD_GATEWAY_URL, which names it, " if gateway_url is not None else "https://discordstatus.com "
    return (
        f"The login worked, but Discord's gateway at {DiscordWebSocket.DEFAULT_GATEWAY} could not be reached within "
        f"{FIRST_CONNECTION_S:.0f} s: check {culprit}and whether this machine's firewall or proxy lets WebSockets through."
    )


def _check(token: str) -> None:
    """Refuse what can't be a token before aiohttp trips over it. Never shows the token."""
    if not token.strip():
        raise DiscordUnavailable(f"DISCORD_TOKEN is empty: copy the bot's token from {_PORTAL} (Bot -> Reset Token).")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise DiscordUnavailable(
            "DISCORD_TOKEN has a space, a line end or a character in it that no token has: copy it again from "
            f"{_PORTAL} (Bot -> Reset Token), the token alone, without quotes and without the word Bot."
        )


def _point_discord_py_at(api_url: str | None, gateway_url: str | None) -> None:
    if api_url is not None:
        Route.BASE = api_url.rstrip("/")
    if gateway_url is not None:
        DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway_url)


@contextmanager
def _sentences() -> Generator[None]:
    """What keeps us from Discord, as a sentence with what to do."""
    try:
        yield
    except discord.LoginFailure as error:
        raise DiscordUnavailable(
            f"Discord refused the token in DISCORD_TOKEN: copy it again from {_PORTAL} (Bot -> Reset Token)."
        ) from error
    except discord.PrivilegedIntentsRequired as error:
        raise DiscordUnavailable(
            "Discord refused the intents of this connection (code 4014). This bot asks for no privileged intent, so that "
            f"should not happen: look at the application's page in {_PORTAL} for a notice, and report it as a fault of the bot."
        ) from error
    except discord.ConnectionClosed as error:
        raise DiscordUnavailable(
            f"Discord closed the connection for good (code {error.code}): look at the application in {_PORTAL}."
        ) from error
    except discord.HTTPException as error:
        raise DiscordUnavailable(
            f"{Route.BASE} answered {error.status} to the login: look at https://discordstatus.com and try again later."
        ) from error
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise DiscordUnavailable(
            f"{Route.BASE} can't be reached ({str(error) or 'no answer in time'}): check this machine's network, "
            "its DNS and its firewall or proxy."
        ) from error


@contextmanager
def _short_reconnects() -> Generator[None]:
    """discord.py logs each lost connection with its traceback; here it is a line with the cause."""
    logger = logging.getLogger("discord.client")
    logger.addFilter(_without_traceback)
    try:
        yield
    finally:
        logger.removeFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    cause = record.exc_info[1] if record.exc_info else None
    if cause is not None and str(record.msg).startswith("Attempting a reconnect"):
        record.msg = "The connection to Discord's gateway failed (%s: %s); trying again in a moment"
        record.args = (type(cause).__name__, cause)
        record.exc_info = None
    return True


@contextmanager
def _signals_set(stop: asyncio.Event) -> Generator[None]:
    """The first SIGTERM or SIGINT sets `stop`, the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    handled: list[signal.Signals] = []

    def on_signal(signum: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + signum)  # no clean-up on purpose: it is what takes too long
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(signum, on_signal, signum)
            handled.append(signum)
        except NotImplementedError:  # Windows: Ctrl-C raises KeyboardInterrupt there
            _log.debug("No handler for %s on this platform", signum.name)
    try:
        yield
    finally:
        for signum in handled:
            loop.remove_signal_handler(signum)
