"""What people do at the loopback Discord: use a command, press a button, write a message.

Each method dispatches the event and returns the record at once; the test then waits on the record for the bot's part.
"""

import secrets
from dataclasses import dataclass
from typing import Any

from . import payloads
from .commands import Commands, fill
from .gateway import Gateway
from .interactions import MODAL
from .records import Interaction, InteractionKind, Message, walk_components
from .state import State
from .world import Channel, Context, User, mint

Json = dict[str, Any]
REPLY = 19


@dataclass(eq=False)
class People:
    """Mixed into the server, so that a test says `await server.slash(...)`."""

    state: State
    gateway: Gateway
    commands: Commands

    async def slash(
        self,
        name: str,
        options: Json | None = None,
        *,
        user: User | None = None,
        context: Context = "guild",
        channel: Channel | None = None,
    ) -> Interaction:
        """Use the command `name` ("story", or "admin status" with a subcommand), its options by name."""
        data = self._command_data(name, options or {}, None, context)
        return await self._interact("command", data, user, context, channel)

    async def autocomplete(
        self,
        name: str,
        option: str,
        text: str = "",
        *,
        others: Json | None = None,
        user: User | None = None,
        context: Context = "guild",
    ) -> Interaction:
        """Type `text` into an option of a command; the offers come in `interaction.choices`."""
        data = self._command_data(name, {**(others or {}), option: text}, option, context)
        return await self._interact("autocomplete", data, user, context, None)

    async def press(
        self, message: Message, custom_id: str, *, values: list[str] | None = None, user: User | None = None
    ) -> Interaction:
        """Press a button (or choose `values` of a select) of `message`, named by its custom_id or its label."""
        component = _component(message, custom_id)
        data: Json = {"custom_id": component["custom_id"], "component_type": component["type"], "id": component["id"]}
        if values is not None:
            data["values"] = values
        context = message.interaction.context if message.interaction else None
        context = context or ("guild" if message.channel.guild else "dm")
        return await self._interact("component", data, user, context, message.channel, message)

    async def submit(self, opened: Interaction, values: dict[str, str]) -> Interaction:
        """Fill in the modal that `opened` was answered with; `values` by custom_id."""
        assert opened.callback, "no modal was opened"
        assert opened.callback.type == MODAL, f"the answer was of type {opened.callback.type}, no modal"
        components = [_submitted(part, values) for part in opened.callback.data["components"]]
        data = {"custom_id": opened.callback.data["custom_id"], "components": components}
        return await self._interact("modal", data, opened.user, opened.context, opened.channel, opened.source)

    async def dm(self, text: str, *, user: User | None = None) -> Message:
        """Write to the bot in private."""
        author = user or self.state.world.person
        return await self._write(text, self.state.world.dm_channel(author), author)

    async def message(
        self,
        text: str,
        channel: Channel | None = None,
        *,
        mention_bot: bool = False,
        user: User | None = None,
        reply_to: Message | None = None,
    ) -> Message:
        """Write in a channel; with `mention_bot` the text begins with the bot's mention."""
        world = self.state.world
        said = f"<@{world.bot.id}> {text}" if mention_bot else text
        return await self._write(said, channel or world.channel, user or world.person, reply_to)

    async def _write(self, text: str, channel: Channel, author: User, reply_to: Message | None = None) -> Message:
        mentions = self.state.mentioned(text)
        message = self.state.new_message(channel=channel, author=author, mentions=mentions)
        if reply_to:
            message.reply_to, message.type = reply_to.id, REPLY
        message.apply(self.state.clock(), {"content": text}, {})
        await self.gateway.tell("MESSAGE_CREATE", message)
        return message

    async def _interact(
        self,
        kind: InteractionKind,
        data: Json,
        user: User | None,
        context: Context,
        channel: Channel | None,
        source: Message | None = None,
    ) -> Interaction:
        who = user or self.state.world.person
        where = channel or self.state.world.place(context, who)
        interaction = Interaction(
            id=mint(),
            token=secrets.token_urlsafe(48),
            kind=kind,
            user=who,
            context=context,
            channel=where,
            payload=data,
            t=self.state.clock(),
            changes=self.state.changes,
            source=source,
        )
        self.state.interactions.append(interaction)
        event = payloads.interaction(interaction, data, self.state.world)
        await self.gateway.dispatch("INTERACTION_CREATE", event)
        return interaction

    def _command_data(self, name: str, values: Json, focused: str | None, context: Context) -> Json:
        first, *path = name.split()
        definition = self.commands.find(first)
        for key, wanted in (
            ("contexts", payloads.CONTEXTS[context]),
            ("integration_types", payloads.INSTALLS[context]),
        ):
            shown = definition.get(key)
            assert shown is None or wanted in shown, f"nobody sees /{first} in {context}: its {key} are {shown}"
        filled = fill(definition, path, values, focused)
        data = {"id": definition["id"], "name": first, "type": 1, "options": filled.options}
        return {**data, "resolved": filled.resolved} if filled.resolved else data


def _component(message: Message, wanted: str) -> Json:
    every = [part for part in walk_components(message.components) if part.get("custom_id")]
    for part in every:
        if wanted in (part["custom_id"], part.get("label")):
            assert not part.get("disabled"), f"{wanted!r} is disabled: nobody can press it"
            return part
    known = [(part["custom_id"], part.get("label")) for part in every]
    raise AssertionError(f"The message has nothing to press named {wanted!r}; it has {known}")


def _submitted(part: Json, values: dict[str, str]) -> Json:
    """One component of a modal as it comes back: rows and labels keep their inputs, inputs get their values."""
    shape: Json = {"type": part["type"], "id": part.get("id", 1)}
    if "components" in part:
        return {**shape, "components": [_submitted(inner, values) for inner in part["components"]]}
    if "component" in part:
        return {**shape, "component": _submitted(part["component"], values)}
    if "custom_id" not in part:
        return shape
    custom_id = part["custom_id"]
    value = values.get(custom_id, part.get("value") or "")
    return {**shape, "custom_id": custom_id, "value": value, "values": [value]}
