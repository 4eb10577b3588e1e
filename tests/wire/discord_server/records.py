"""What the bot did, as a test reads it. `t` is seconds since the server started."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from .changes import Changes
from .rules import FLAG_COMPONENTS_V2, FLAG_EPHEMERAL, FLAG_LOADING
from .world import Channel, Context, User

Json = dict[str, Any]
InteractionKind = Literal["command", "component", "autocomplete", "modal"]
INTERACTION_TYPES: dict[InteractionKind, int] = {"command": 2, "component": 3, "autocomplete": 4, "modal": 5}
TEXT_DISPLAY = 10


def walk_components(components: list[Json]) -> Iterator[Json]:
    """Each component, then those inside it: rows, sections with their accessory, containers, labels."""
    for component in components:
        yield component
        nested = list(component.get("components") or [])
        nested += [component[key] for key in ("accessory", "component") if component.get(key)]
        yield from walk_components(nested)


@dataclass(frozen=True)
class Request:
    """One request of the bot and the answer's status; `code` is Discord's error code, if it was refused."""

    t: float
    method: str
    path: str
    status: int
    code: int | None = None

    def __str__(self) -> str:
        return f"{self.t:7.3f} s {self.method} {self.path} -> {self.status} {self.code or ''}"


@dataclass(frozen=True)
class Sync:
    """One upload of command definitions; `guild_id` is None for the global ones."""

    t: float
    guild_id: int | None
    names: tuple[str, ...]


@dataclass(frozen=True)
class Revision:
    """A message as one request left it, with the body of that request."""

    t: float
    content: str
    body: Json = field(repr=False)


@dataclass(frozen=True)
class Callback:
    """The one answer to an interaction; `delay_s` counts from its dispatch."""

    t: float
    delay_s: float
    type: int
    flags: int
    data: Json = field(repr=False)

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & FLAG_EPHEMERAL)


@dataclass(eq=False)
class Message:
    """A message as it stands, with all its revisions. `files` holds what was uploaded with it, by name."""

    id: int
    channel: Channel
    author: User
    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list, repr=False)
    flags: int = 0
    type: int = 0
    reply_to: int | None = None
    mentions: tuple[User, ...] = ()
    interaction: "Interaction | None" = field(default=None, repr=False)
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    revisions: list[Revision] = field(default_factory=list, repr=False)
    reactions: list[str] = field(default_factory=list, repr=False)
    deleted: bool = False

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & FLAG_EPHEMERAL)

    @property
    def loading(self) -> bool:
        """True while people see 'the bot is thinking'."""
        return bool(self.flags & FLAG_LOADING)

    @property
    def text(self) -> str:
        """All that a person reads: the content, the embeds' descriptions and each text of Components V2."""
        parts = [self.content, *(embed.get("description") or "" for embed in self.embeds)]
        parts += [c.get("content", "") for c in walk_components(self.components) if c.get("type") == TEXT_DISPLAY]
        return "\n".join(part for part in parts if part)

    @property
    def custom_ids(self) -> list[str]:
        return [c["custom_id"] for c in walk_components(self.components) if c.get("custom_id")]

    def apply(self, t: float, body: Json, files: dict[str, bytes]) -> Revision:
        """Take over what `body` sets and note the revision; only uploads of `files` add to the old ones."""
        self.content = (body["content"] or "") if "content" in body else self.content
        self.embeds = (body["embeds"] or []) if "embeds" in body else self.embeds
        self.components = _numbered(body["components"] or []) if "components" in body else self.components
        self.flags = self.flags & ~FLAG_LOADING | (body.get("flags") or 0) & ~(FLAG_EPHEMERAL | FLAG_LOADING)
        self.files = {**self._kept_files(body), **files}
        self.revisions.append(Revision(t, self.content, body))
        return self.revisions[-1]

    def _kept_files(self, body: Json) -> dict[str, bytes]:
        """An `attachments` list in an edit names the files that stay; without the list all of them stay."""
        if "attachments" not in body:
            return self.files
        names = {entry.get("filename") for entry in body["attachments"] or []}
        return {name: content for name, content in self.files.items() if name in names}

    @property
    def is_v2(self) -> bool:
        return bool(self.flags & FLAG_COMPONENTS_V2)


def _numbered(components: list[Json]) -> list[Json]:
    """Discord gives each component without an id the next free number."""
    taken = {component["id"] for component in walk_components(components) if component.get("id")}
    following = 1
    for component in walk_components(components):
        if not component.get("id"):
            while following in taken:
                following += 1
            component["id"] = following
            taken.add(following)
    return components


@dataclass(eq=False)
class Interaction:
    """One use of a command, a button, a select or a modal, and all that the bot answered.

    `message` is what @original names: the bot's answer, or the message that holds the button once that was deferred or
    updated. `edits` are the PATCHes of it by this interaction's token, in order.
    """

    id: int
    token: str
    kind: InteractionKind
    user: User
    context: Context
    channel: Channel
    payload: Json = field(repr=False)
    t: float
    changes: Changes = field(repr=False)
    source: Message | None = field(default=None, repr=False)
    callback: Callback | None = None
    message: Message | None = None
    edits: list[Revision] = field(default_factory=list)
    followups: list[Message] = field(default_factory=list)

    @property
    def content(self) -> str:
        return self.message.content if self.message else ""

    @property
    def text(self) -> str:
        return self.message.text if self.message else ""

    @property
    def choices(self) -> list[Json]:
        """What an autocomplete offers: name and value of each."""
        return list(self.callback.data.get("choices") or []) if self.callback else []

    @property
    def edit_gaps_s(self) -> list[float]:
        """The time between each two edits that follow each other."""
        return [after.t - before.t for before, after in zip(self.edits, self.edits[1:], strict=False)]

    async def wait_until(self, predicate: Callable[["Interaction"], object], timeout_s: float = 10.0) -> "Interaction":
        """Return this interaction as soon as `predicate` holds of it; AssertionError after `timeout_s`."""
        await self.changes.wait_until(lambda: predicate(self), timeout_s, lambda: repr(self))
        return self

    async def wait_answered(self, timeout_s: float = 5.0) -> Callback:
        await self.wait_until(lambda i: i.callback, timeout_s)
        assert self.callback is not None
        return self.callback
