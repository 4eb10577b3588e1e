"""The HTTP side: who may ask, what goes wrong on purpose, how often, and who the bot is.

One middleware does for each request what Discord does before it looks at the content: the token, the rate limit; and
afterwards what a test needs: a record of the request, and a violation if a rule was broken.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from . import payloads
from .errors import ApiError, invalid_form, unauthorized
from .records import Request
from .state import API, State, reply, template_of

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BUCKETS = {
    ("POST", "/channels/{channel_id}/messages"): "send",
    ("PATCH", "/channels/{channel_id}/messages/{message_id}"): "edit",
    ("DELETE", "/channels/{channel_id}/messages/{message_id}"): "delete",
    ("POST", "/channels/{channel_id}/typing"): "typing",
}
WITHOUT_BOT_TOKEN = ("/webhooks/{webhook_id}/{webhook_token}", "/interactions/")


@dataclass(eq=False)
class Rest:
    state: State

    def routes(self) -> list[web.RouteDef]:
        table = [web.get(f"{API}{path}", self.gateway_url) for path in ("/gateway", "/gateway/bot")]
        table += [web.get(f"{API}/users/@me", self.me)]
        for path in ("/oauth2/applications/@me", "/applications/@me"):
            table.append(web.get(f"{API}{path}", self.application))
        return table

    async def gateway_url(self, request: web.Request) -> web.Response:
        limit = {"total": 1000, "remaining": 999, "reset_after": 86_400_000, "max_concurrency": 1}
        url = f"ws://{request.host}/gateway"
        return reply({"url": url, "shards": 1, "session_start_limit": limit})

    async def me(self, request: web.Request) -> web.Response:
        return reply({**payloads.user(self.state.world.bot), "verified": True, "mfa_enabled": False, "flags": 0})

    async def application(self, request: web.Request) -> web.Response:
        return reply(payloads.application(self.state.world, self.state.rules.application_flags))

    def middleware(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.startswith(API):
                return await handler(request)
            t = self.state.clock()
            try:
                response = await self._admit(request, handler)
            except ApiError as error:
                response = self._refuse(request, error)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                # Without the schema nothing else would say so; a fault of this server shows here as well.
                _log.exception("%s %s", request.method, request.path)
                response = self._refuse(request, invalid_form(f"the loopback cannot read this: {error!r}"))
            self._record(t, request, response)
            await self.state.changes.notify()
            return response

        return guard

    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        template = template_of(request)
        if request.match_info.http_exception:
            raise ApiError(404, 0, "404: Not Found", "the loopback has no such route: add it or do not call it")
        open_to_all = template.startswith(WITHOUT_BOT_TOKEN)
        if not open_to_all and request.headers.get("Authorization") != f"Bot {self.state.token}":
            raise unauthorized()
        fault = self.state.planned_fault(request.method, request.path)
        if fault:
            raise ApiError(fault.status, 0, "a fault that the test asked for")
        return await self._within_limits(request, handler, template)

    async def _within_limits(self, request: web.Request, handler: Handler, template: str) -> web.StreamResponse:
        if template.startswith("/interactions/"):
            return await handler(request)  # answered once only, and bound to no limit
        bucket = "webhook" if template.startswith("/webhooks/") else BUCKETS.get((request.method, template), "other")
        majors = [request.match_info.get(name, "") for name in ("webhook_token", "channel_id", "guild_id")]
        verdict = self.state.limits.take(bucket, "+".join(majors))
        if verdict.retry_after_s is None:
            try:
                response = await handler(request)
            except ApiError as error:  # an answer like any other, so it has the headers too
                response = self._refuse(request, error)
        else:
            wait = {"message": "You are being rate limited.", "retry_after": verdict.retry_after_s, "global": False}
            response = reply(wait, 429)
        response.headers.update(verdict.headers)
        return response

    def _refuse(self, request: web.Request, error: ApiError) -> web.Response:
        if error.violation:
            self.state.violate(f"{request.method} {_short(request)}: {error.violation} ({error.code})")
        return reply(error.body(), error.status)

    def _record(self, t: float, request: web.Request, response: web.StreamResponse) -> None:
        code = None
        if response.status >= 400 and isinstance(response, web.Response) and isinstance(response.body, bytes):
            code = json.loads(response.body).get("code")
        self.state.requests.append(Request(t, request.method, _short(request), response.status, code))


def _short(request: web.Request) -> str:
    """The path without the version and with the token cut: it is long and says nothing."""
    path = request.path.removeprefix(API)
    for name in ("webhook_token", "interaction_token"):
        token = request.match_info.get(name)
        path = path.replace(token, f"{token[:6]}…") if token else path
    return path
