"""Application commands: their definitions as the bot uploads them, and options made from what a person typed.

The client of a person checks what it sends against the definition, so an option that does not exist, a missing one or a
value out of range is a fault of the test and raises here.
"""

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from . import payloads
from .errors import invalid_form, unknown_command
from .records import Sync
from .rules import MAX_CHOICES
from .state import API, State, no_content, reply
from .world import Channel, User, mint

Json = dict[str, Any]
SUBCOMMAND, GROUP, STRING, INTEGER, BOOLEAN, USER, CHANNEL, ROLE, MENTIONABLE, NUMBER = range(1, 11)
Scope = int | None  # a guild's id; None: global


@dataclass(eq=False)
class Commands:
    """All uploaded commands, by scope. They outlive the bot's process, as at Discord."""

    state: State
    by_scope: dict[Scope, dict[tuple[str, int], Json]] = field(default_factory=dict)

    def routes(self) -> list[web.RouteDef]:
        both = [f"{API}/applications/{{application_id}}/commands"]
        both.append(f"{API}/applications/{{application_id}}/guilds/{{guild_id}}/commands")
        table: list[web.RouteDef] = []
        for base in both:
            one = f"{base}/{{command_id}}"
            table += [web.get(base, self.list), web.put(base, self.replace), web.post(base, self.upsert)]
            table += [web.get(one, self.fetch), web.patch(one, self.edit), web.delete(one, self.delete)]
        return table

    @property
    def names(self) -> list[str]:
        return [command["name"] for scope in self.by_scope.values() for command in scope.values()]

    def find(self, name: str, kind: int = 1) -> Json:
        """The definition that a person in the guild would reach by `name`."""
        for scope in (self.state.world.guild.id, None):
            found = self.by_scope.get(scope, {}).get((name, kind))
            if found:
                return found
        raise AssertionError(f"The bot has no command /{name}; it has {self.names}.")

    async def list(self, request: web.Request) -> web.Response:
        return reply([*self.by_scope.get(_scope(request), {}).values()])

    async def replace(self, request: web.Request) -> web.Response:
        scope = _scope(request)
        definitions = (await self.state.read(request, lambda body, _: _check_all(body))).body or []
        old = self.by_scope.get(scope, {})
        fresh = [self._stored(one, scope, old) for one in definitions]
        self.by_scope[scope] = {(one["name"], one["type"]): one for one in fresh}
        self.state.syncs.append(Sync(self.state.clock(), scope, tuple(one["name"] for one in fresh)))
        return reply(fresh)

    async def upsert(self, request: web.Request) -> web.Response:
        scope = _scope(request)
        definition = (await self.state.read(request, lambda body, _: _check_all([body]))).body
        known = self.by_scope.setdefault(scope, {})
        stored = self._stored(definition, scope, known)
        known[stored["name"], stored["type"]] = stored
        self.state.syncs.append(Sync(self.state.clock(), scope, (stored["name"],)))
        return reply(stored, 201)

    async def fetch(self, request: web.Request) -> web.Response:
        return reply(self._by_id(request))

    async def edit(self, request: web.Request) -> web.Response:
        command = self._by_id(request)
        command |= (await self.state.read(request)).body
        self.state.syncs.append(Sync(self.state.clock(), _scope(request), (command["name"],)))
        return reply(command)

    async def delete(self, request: web.Request) -> web.Response:
        command = self._by_id(request)
        del self.by_scope[_scope(request)][command["name"], command["type"]]
        return no_content()

    def _by_id(self, request: web.Request) -> Json:
        for command in self.by_scope.get(_scope(request), {}).values():
            if command["id"] == request.match_info["command_id"]:
                return command
        raise unknown_command()

    def _stored(self, definition: Json, scope: Scope, old: dict[tuple[str, int], Json]) -> Json:
        kind = definition.get("type", 1)
        known = old.get((definition["name"], kind))
        ids = {"id": known["id"] if known else str(mint()), "application_id": str(self.state.world.application_id)}
        place = {"guild_id": str(scope)} if scope else {}
        defaults = {"description": "", "options": [], "default_member_permissions": None, "nsfw": False}
        return {**defaults, **definition, **ids, **place, "type": kind, "version": str(mint())}


@dataclass(frozen=True)
class Filled:
    """A command's `data` as it goes into an interaction: options with their types, people and places resolved."""

    options: list[Json]
    resolved: Json


def fill(definition: Json, path: list[str], values: Json, focused: str | None = None) -> Filled:
    """Options for `definition` (below the subcommands in `path`) from plain `values`."""
    if path:
        inner = _by_name(definition, path[0])
        below = fill(inner, path[1:], values, focused)
        return Filled([{"name": inner["name"], "type": inner["type"], "options": below.options}], below.resolved)
    wanted = {option["name"]: option for option in definition.get("options") or []}
    missing = [name for name, option in wanted.items() if option.get("required") and name not in values]
    assert focused or not missing, f"/{definition['name']} needs {missing}"
    options, resolved = [], {}
    for name, value in values.items():
        option = _by_name(definition, name)
        if name != focused:
            _check_value(option, value)
        options.append({"name": name, "type": option["type"], "value": _plain(value)})
        if name == focused:
            options[-1]["focused"] = True
        _resolve(resolved, value)
    return Filled(options, resolved)


def _by_name(definition: Json, name: str) -> Json:
    for option in definition.get("options") or []:
        if option["name"] == name:
            return option
    known = [option["name"] for option in definition.get("options") or []]
    raise AssertionError(f"{definition['name']} has no option or subcommand {name!r}; it has {known}")


def _check_value(option: Json, value: object) -> None:
    kinds = {STRING: str, INTEGER: int, BOOLEAN: bool, USER: User, CHANNEL: Channel, NUMBER: (int, float)}
    kind = kinds.get(option["type"])
    assert kind is None or isinstance(value, kind), f"{option['name']} wants {kind}, not {value!r}"
    choices = [choice["value"] for choice in option.get("choices") or []]
    assert not choices or value in choices, f"{option['name']} wants one of {choices}, not {value!r}"
    size = len(value) if isinstance(value, str) else value
    for bound, too_far in (("min", lambda limit: size < limit), ("max", lambda limit: size > limit)):
        limit = option.get(f"{bound}_length" if isinstance(value, str) else f"{bound}_value")
        assert limit is None or not too_far(limit), f"{option['name']}: {value!r} is beyond its {bound} of {limit}"


def _plain(value: object) -> object:
    return str(value.id) if isinstance(value, User | Channel) else value


def _resolve(resolved: Json, value: object) -> None:
    if isinstance(value, User):
        resolved.setdefault("users", {})[str(value.id)] = payloads.user(value)
        resolved.setdefault("members", {})[str(value.id)] = payloads.member(value)
    elif isinstance(value, Channel):
        resolved.setdefault("channels", {})[str(value.id)] = payloads.channel(value)


def _scope(request: web.Request) -> Scope:
    guild_id = request.match_info.get("guild_id")
    return int(guild_id) if guild_id else None


def _check_all(definitions: list[Json]) -> None:
    names = [(one["name"], one.get("type", 1)) for one in definitions or []]
    if len(set(names)) < len(names):
        raise invalid_form(f"two commands have one name: {names}")
    for one in definitions or []:
        _check_definition(one, is_command=True)


def _check_definition(one: Json, *, is_command: bool = False) -> None:
    """What Discord asks beyond its schema: descriptions, required options first, 25 choices, lower case."""
    name, options = one["name"], one.get("options") or []
    if one.get("type", 1) == 1 or not is_command:
        if name != name.lower() or " " in name:
            raise invalid_form(f"the name {name!r} is not in lower case without spaces")
        if not 1 <= len(one.get("description") or "") <= 100:
            raise invalid_form(f"the description of {name!r} has not 1 to 100 characters")
    required = [bool(option.get("required")) for option in options]
    if required != sorted(required, reverse=True):
        raise invalid_form(f"{name!r} has a required option after an optional one")
    if len(one.get("choices") or []) > MAX_CHOICES:
        raise invalid_form(f"{name!r} has over {MAX_CHOICES} choices")
    if one.get("choices") and one.get("autocomplete"):
        raise invalid_form(f"{name!r} has choices and autocomplete")
    for option in options:
        _check_definition(option)
