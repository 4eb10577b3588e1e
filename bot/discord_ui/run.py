"""Run the bot until it is told to stop: log in, stay connected, and on SIGTERM or Ctrl-C let the stories end well.

Login is done apart from connecting, since discord.py tries again for ever once it is connected, but a wrong token or an
unreachable Discord at the start is something to be told at once, in a sentence.
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
FAREWELL_S = 8.0  # Docker kills 10 s after SIGTERM

_PORTAL = "https://discord.com/developers/applications"


async def serve(token: str, bot: StoryBot, *, api_url: str | None = None, gateway_url: str | None = None) -> None:
    """Log in, answer people until SIGTERM or SIGINT, end the stories in flight, return.

    `api_url` ("http://127.0.0.1:1234/api/v10") and `gateway_url` ("ws://127.0.0.1:1234/") are for another Discord than
    discord.com. Raises DiscordUnavailable, a sentence, when Discord can't be reached or does not want us.
    """
    _check(token)
    _point_discord_py_at(api_url, gateway_url)
    stop = asyncio.Event()
    with _signals_set(stop):
        async with bot:
            connected = asyncio.create_task(_stay_connected(bot, token), name="discord")
            stopped = asyncio.create_task(stop.wait(), name="stop")
            try:
                await asyncio.wait({connected, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not connected.done():
                    await _say_farewell(bot)
            finally:
                connected.cancel()
                stopped.cancel()
                await asyncio.wait({connected, stopped})
            if not connected.cancelled():
                connected.result()


async def _say_farewell(bot: StoryBot) -> None:
    """Stop taking stories; those in flight get their last edit, with a mark that they were stopped."""
    _log.info("Stopping: ending the stories in flight. A second signal stops at once.")
    try:
        async with asyncio.timeout(FAREWELL_S):
            await bot.storyteller.close()
            await bot.wait_until_idle()
    except TimeoutError:
        _log.warning("Some stories did not end within %.0f s", FAREWELL_S)


async def _stay_connected(bot: StoryBot, token: str) -> None:
    with _sentences():
        async with asyncio.timeout(LOGIN_TIMEOUT_S):
            await bot.login(token)
    with _sentences():
        await bot.connect()


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
            f"Discord refused the intents that the bot asked for: open {_PORTAL}, choose the application, and turn on "
            "Bot -> Privileged Gateway Intents -> Message Content Intent."
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
