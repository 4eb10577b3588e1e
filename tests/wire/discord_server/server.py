"""The loopback Discord as a test holds it: start it, let people act, wait, read what the bot did.

It is one aiohttp server on 127.0.0.1 in the test's own event loop. So a test must not block that loop: heartbeats would
look late that are not.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

from .channels import Channels
from .commands import Commands
from .gateway import Gateway
from .interactions import Interactions
from .openapi import find_openapi, load_openapi
from .people import People
from .ratelimits import RateLimits
from .records import Interaction, Json, Message, Request, Sync
from .rest import Rest
from .rules import Rules
from .state import API, Fault, State
from .world import Channel, World

TOKEN = "loopback-token-for-tests-only"


class DiscordServer(People):
    """Discord, small enough for one test. `async with DiscordServer() as discord_server: ...`"""

    def __init__(self, rules: Rules | None = None, token: str = TOKEN) -> None:
        path = find_openapi()
        state = State(token, rules or Rules(), load_openapi(path) if path else None)
        gateway = Gateway(state)
        state.tell = gateway.tell
        super().__init__(state, gateway, Commands(state))
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        rest = Rest(self.state)
        app = web.Application(middlewares=[rest.middleware()], client_max_size=32 * 1024 * 1024)
        for room in (rest, self.commands, Channels(self.state), Interactions(self.state)):
            app.add_routes(room.routes())
        app.router.add_get("/gateway", self.gateway.handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.gateway.url = self.gateway_url
        return self

    async def __aexit__(self, *_: object) -> None:
        self.gateway.drop()
        if self._runner:
            await self._runner.cleanup()

    # Where the bot finds it

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}{API}"

    @property
    def gateway_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/gateway"

    @property
    def token(self) -> str:
        return self.state.token

    @property
    def environment(self) -> dict[str, str]:
        """What `python -m bot` needs to come here."""
        return {"DISCORD_TOKEN": self.token, "DISCORD_API_URL": self.api_url, "DISCORD_GATEWAY_URL": self.gateway_url}

    def configure(self, **rules: Any) -> None:
        """Change rules from now on: `server.configure(token_lifetime_s=1.0)`. See `Rules` for the names."""
        self.state.rules = dataclasses.replace(self.state.rules, **rules)

    def fail_next(self, method: str, path: str, times: int = 1, status: int = 500) -> None:
        """Answer the next requests of `method` whose path has `path` in it with `status`."""
        self.state.faults.append(Fault(method, path, times, status))

    # What the bot did

    @property
    def rules(self) -> Rules:
        return self.state.rules

    @property
    def world(self) -> World:
        return self.state.world

    @property
    def violations(self) -> list[str]:
        """Each broken rule in a sentence. A test ends with `assert server.violations == []`."""
        return self.state.violations

    @property
    def requests(self) -> list[Request]:
        return self.state.requests

    @property
    def syncs(self) -> list[Sync]:
        return self.state.syncs

    @property
    def interactions(self) -> list[Interaction]:
        return self.state.interactions

    @property
    def limits(self) -> RateLimits:
        return self.state.limits

    @property
    def too_many_requests(self) -> int:
        """How many answers were 429."""
        return len(self.state.limits.given)

    @property
    def openapi_checked(self) -> bool:
        """Whether Discord's schema was there to check bodies against."""
        return self.state.openapi is not None

    @property
    def intents(self) -> int | None:
        return self.gateway.intents

    @property
    def heartbeat_delays_s(self) -> list[float]:
        """How late each heartbeat came after the interval, the first of each connection left out."""
        return [beat.delay_s for beat in self.gateway.heartbeats if beat.delay_s is not None]

    # Waiting

    async def wait_until(self, predicate: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Return as soon as `predicate` holds; it is asked after each request and each frame of the bot."""
        await self.state.changes.wait_until(predicate, timeout_s, self.report)

    async def wait_ready(self, timeout_s: float = 20.0, *, times: int = 1) -> None:
        """Return when the bot has identified for the `times`-th time and is connected."""
        await self.wait_until(lambda: self.gateway.readies >= times and self.gateway.live, timeout_s)

    async def wait_command(self, name: str, timeout_s: float = 20.0) -> Json:
        """The definition of the command `name`, once the bot has uploaded it."""
        await self.wait_until(lambda: name in self.commands.names, timeout_s)
        return self.commands.find(name)

    async def wait_message(
        self, channel: Channel, predicate: Callable[[Message], object] = lambda _: True, timeout_s: float = 10.0
    ) -> Message:
        """The bot's first message in `channel` of which `predicate` holds, as soon as there is one."""

        def found() -> list[Message]:
            return [message for message in channel.from_bot if predicate(message)]

        await self.wait_until(found, timeout_s)
        return found()[0]

    def report(self) -> str:
        """What happened until now, for the reader of a failed test."""
        gateway, lines = self.gateway, [str(one) for one in self.requests[-30:]]
        lines.append(f"READY sent: {gateway.readies}, connected: {len(gateway.live)}, intents: {self.intents}")
        lines.append(f"closed with: {gateway.close_codes}, events withheld: {dict(gateway.withheld)}")
        lines.append(f"violations: {self.violations}")
        return "\n".join(lines)
