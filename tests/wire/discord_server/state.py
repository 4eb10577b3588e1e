"""What all rooms of the loopback Discord share: the rules, the world, the records, and how a request's body is read."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from .changes import Changes
from .errors import invalid_form
from .message_rules import mention_problem
from .openapi import OpenApi
from .ratelimits import RateLimits
from .records import Interaction, Message, Request, Sync
from .rules import Rules
from .world import User, World, mint

Json = dict[str, Any]
API = "/api/v10"


@dataclass(frozen=True)
class Upload:
    """A request's JSON and the files that came with it."""

    body: Any
    files: dict[str, bytes]


@dataclass(eq=False)
class Fault:
    """Something that goes wrong on purpose with the next `times` requests of `method` whose path has `path` in it."""

    method: str
    path: str
    times: int = 1
    status: int = 500


@dataclass(eq=False)
class State:
    """One Discord. `violations` is what a test asserts to be empty; `requests` is the whole talk."""

    token: str
    rules: Rules
    openapi: OpenApi | None
    world: World = field(default_factory=World)
    changes: Changes = field(default_factory=Changes)
    violations: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    interactions: list[Interaction] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    # The gateway's: tells an event about a message to the sessions that may hear it.
    tell: Callable[..., Any] = field(default=lambda *_: None)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.limits = RateLimits(lambda: self.rules, self.clock)

    def clock(self) -> float:
        """Seconds since this Discord began."""
        return time.monotonic() - self._started

    def violate(self, text: str) -> None:
        self.violations.append(f"{self.clock():.3f} s: {text}")

    def new_message(self, **parts: Any) -> Message:
        """A message, already in its channel."""
        message = Message(id=mint(), **parts)
        message.channel.messages.append(message)
        return message

    def planned_fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method == method and fault.path in path:
                fault.times -= 1
                return fault
        return None

    async def read(self, request: web.Request, check: Callable[[Any, dict[str, bytes]], None] | None = None) -> Upload:
        """The body, once it has passed `check` (our sentences) and then Discord's schema (all the rest)."""
        upload = await _parse(request)
        if check:
            check(upload.body, upload.files)
        template = template_of(request)
        problem = self.openapi.problem(request.method, template, upload.body) if self.openapi else None
        if problem:
            raise invalid_form(problem)
        return upload

    def watch_mentions(self, body: Json) -> None:
        problem = mention_problem(body)
        if problem:
            self.violate(f"a message that may ping: {problem}")

    def mentioned(self, text: str) -> tuple[User, ...]:
        ids = map(int, re.findall(r"<@!?(\d+)>", text))
        return tuple(self.world.users[one] for one in ids if one in self.world.users)


def template_of(request: web.Request) -> str:
    """The path as the OpenAPI file writes it; the routes here use the same names."""
    resource = request.match_info.route.resource
    return resource.canonical.removeprefix(API) if resource else ""


def reply(data: object, status: int = 200) -> web.Response:
    """JSON, under exactly the content type that discord.py looks for."""
    return web.Response(body=json.dumps(data).encode(), status=status, content_type="application/json")


def no_content() -> web.Response:
    return web.Response(status=204)


async def _parse(request: web.Request) -> Upload:
    if request.content_type != "multipart/form-data":
        return Upload(_json(await request.text()), {})
    fields = await request.post()
    files = {part.filename: part.file.read() for part in fields.values() if isinstance(part, web.FileField)}
    return Upload(_json(str(fields.get("payload_json", "{}"))), files)


def _json(text: str) -> Any:
    try:
        return json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise invalid_form(f"the body is no JSON: {error}") from None
