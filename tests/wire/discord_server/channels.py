"""Channels by their ids: messages, typing, direct messages. What a bot token may do."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from . import payloads
from .errors import (
    dm_closed,
    invalid_form,
    missing_access,
    missing_permissions,
    not_the_author,
    unknown_channel,
    unknown_guild,
    unknown_message,
)
from .message_rules import check_message
from .records import Message
from .state import API, State, no_content, reply
from .world import Channel

Json = dict[str, Any]
REPLY = 19


@dataclass(eq=False)
class Channels:
    state: State

    def routes(self) -> list[web.RouteDef]:
        channel = f"{API}/channels/{{channel_id}}"
        messages, message = f"{channel}/messages", f"{channel}/messages/{{message_id}}"
        return [
            web.get(channel, self.fetch),
            web.get(f"{API}/guilds/{{guild_id}}", self.fetch_guild),
            web.post(f"{API}/users/@me/channels", self.open_dm),
            web.post(f"{channel}/typing", self.typing),
            web.get(messages, self.history),
            web.post(messages, self.send),
            web.get(message, self.fetch_message),
            web.patch(message, self.edit),
            web.delete(message, self.delete),
            web.put(f"{message}/reactions/{{emoji_name}}/@me", self.react),
        ]

    async def fetch(self, request: web.Request) -> web.Response:
        return reply(payloads.channel(self._channel(request)))

    async def fetch_guild(self, request: web.Request) -> web.Response:
        guild = self.state.world.guild
        if int(request.match_info["guild_id"]) != guild.id:
            raise unknown_guild()
        return reply(payloads.guild(guild, self.state.world))

    async def open_dm(self, request: web.Request) -> web.Response:
        body = (await self.state.read(request)).body
        user = self.state.world.users.get(int(body["recipient_id"]))
        if user is None or user.is_bot:
            raise invalid_form(f"no person with the id {body['recipient_id']}")
        return reply(payloads.channel(self.state.world.dm_channel(user)))

    async def typing(self, request: web.Request) -> web.Response:
        self._channel(request, to_send=True).typing.append(self.state.clock())
        return no_content()

    async def history(self, request: web.Request) -> web.Response:
        """Newest first, as Discord lists them."""
        channel, query = self._channel(request), request.query
        before, after = int(query.get("before", 1 << 63)), int(query.get("after", 0))
        seen = [one for one in channel.messages if not one.deleted and not one.ephemeral and after < one.id < before]
        newest = sorted(seen, key=lambda one: one.id, reverse=True)[: int(query.get("limit", 50))]
        return reply([payloads.message(one, self.state.world) for one in newest])

    async def send(self, request: web.Request) -> web.Response:
        channel = self._channel(request, to_send=True)
        upload = await self.state.read(request, check_message)
        self.state.watch_mentions(upload.body)
        reply_to = self._replied(channel, upload.body)
        message = self.state.new_message(
            channel=channel, author=self.state.world.bot, reply_to=reply_to, type=REPLY if reply_to else 0
        )
        message.apply(self.state.clock(), upload.body, upload.files)
        await self.state.tell("MESSAGE_CREATE", message)
        return reply(payloads.message(message, self.state.world))

    async def fetch_message(self, request: web.Request) -> web.Response:
        return reply(payloads.message(self._message(request), self.state.world))

    async def edit(self, request: web.Request) -> web.Response:
        message = self._message(request)
        if message.author is not self.state.world.bot:
            raise not_the_author()
        upload = await self.state.read(request, partial(check_message, old=message))
        self.state.watch_mentions(upload.body)
        message.apply(self.state.clock(), upload.body, upload.files)
        await self.state.tell("MESSAGE_UPDATE", message)
        return reply(payloads.message(message, self.state.world))

    async def delete(self, request: web.Request) -> web.Response:
        message = self._message(request)
        message.deleted = True
        await self.state.tell("MESSAGE_DELETE", message)
        return no_content()

    async def react(self, request: web.Request) -> web.Response:
        self._message(request).reactions.append(request.match_info["emoji_name"])
        return no_content()

    def _channel(self, request: web.Request, *, to_send: bool = False) -> Channel:
        channel = self.state.world.channels.get(int(request.match_info["channel_id"]))
        if channel is None:
            raise unknown_channel()
        if not channel.bot_sees_it:
            raise missing_access()
        if to_send and not channel.bot_may_send:
            raise dm_closed() if channel.kind == "dm" else missing_permissions()
        return channel

    def _message(self, request: web.Request) -> Message:
        """Ephemeral messages exist only for the interaction's token."""
        for message in self._channel(request).messages:
            if message.id == int(request.match_info["message_id"]) and not (message.deleted or message.ephemeral):
                return message
        raise unknown_message()

    def _replied(self, channel: Channel, body: Json) -> int | None:
        reference = body.get("message_reference") or {}
        wanted = int(reference.get("message_id") or 0)
        if not wanted or any(one.id == wanted and not one.deleted for one in channel.messages):
            return wanted or None
        if reference.get("fail_if_not_exists", True):
            raise invalid_form("replies to a message that is not there")
        return None
