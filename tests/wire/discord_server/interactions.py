"""Answers to interactions: the one callback within 3 s, then @original and the follow-ups while the token lives.

A token that ran out is answered with 50027 and is no violation: a story may outlast it, and the bot has to cope. A late
or second callback, a follow-up too many and an edit before the callback are violations.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from . import payloads
from .errors import (
    already_answered,
    invalid_form,
    invalid_webhook_token,
    too_many_followups,
    unknown_interaction,
    unknown_message,
    unknown_webhook,
)
from .message_rules import check_message
from .records import Callback, Interaction, InteractionKind, Message, Revision
from .rules import FLAG_EPHEMERAL, FLAG_LOADING, MAX_CHOICES, MAX_CUSTOM_ID, MAX_MODAL_COMPONENTS, MAX_MODAL_TITLE
from .state import API, State, Upload, no_content, reply

Json = dict[str, Any]
MESSAGE, DEFERRED_MESSAGE, DEFERRED_UPDATE, UPDATE, AUTOCOMPLETE, MODAL = 4, 5, 6, 7, 8, 9
ALLOWED_ANSWERS: dict[InteractionKind, set[int]] = {
    "command": {MESSAGE, DEFERRED_MESSAGE, MODAL},
    "component": {MESSAGE, DEFERRED_MESSAGE, DEFERRED_UPDATE, UPDATE, MODAL},
    "autocomplete": {AUTOCOMPLETE},
    "modal": {MESSAGE, DEFERRED_MESSAGE, DEFERRED_UPDATE, UPDATE},
}
COMMAND_RESPONSE = 20


@dataclass(eq=False)
class Interactions:
    state: State

    def routes(self) -> list[web.RouteDef]:
        webhook = f"{API}/webhooks/{{webhook_id}}/{{webhook_token}}"
        table = [
            web.post(f"{API}/interactions/{{interaction_id}}/{{interaction_token}}/callback", self.callback),
            web.post(webhook, self.follow_up),
        ]
        for path in (f"{webhook}/messages/@original", f"{webhook}/messages/{{message_id}}"):
            table += [web.get(path, self.fetch), web.patch(path, self.edit), web.delete(path, self.delete)]
        return table

    async def callback(self, request: web.Request) -> web.Response:
        interaction = self._asked(request)
        t = self.state.clock()
        upload = await self.state.read(request, partial(_check_callback, interaction))
        data = upload.body.get("data") or {}
        interaction.callback = Callback(t, t - interaction.t, upload.body["type"], data.get("flags") or 0, data)
        await self._show(interaction, Upload(data, upload.files))
        if request.query.get("with_response") not in ("1", "true", "True"):
            return no_content()
        return reply(self._callback_response(interaction))

    async def follow_up(self, request: web.Request) -> web.Response:
        interaction = self._alive(request)
        original = interaction.message
        if original and original.loading and interaction.callback and interaction.callback.type == DEFERRED_MESSAGE:
            return await self._edit(request, interaction, original)  # as documented: it replaces 'is thinking …'
        limit = self.state.rules.user_install_followups
        if interaction.context in ("user_install", "group_dm") and len(interaction.followups) >= limit:
            raise too_many_followups(f"over {limit} follow-ups of a user-installed app")
        upload = await self.state.read(request, check_message)
        message = self._new_message(interaction, (upload.body.get("flags") or 0) & FLAG_EPHEMERAL)
        interaction.followups.append(message)
        self._apply(message, upload)
        await self.state.tell("MESSAGE_CREATE", message)
        return reply(payloads.message(message, self.state.world))

    async def fetch(self, request: web.Request) -> web.Response:
        interaction = self._alive(request)
        return reply(payloads.message(self._target(request, interaction), self.state.world))

    async def edit(self, request: web.Request) -> web.Response:
        interaction = self._alive(request)
        return await self._edit(request, interaction, self._target(request, interaction))

    async def delete(self, request: web.Request) -> web.Response:
        message = self._target(request, self._alive(request))
        message.deleted = True
        await self.state.tell("MESSAGE_DELETE", message)
        return no_content()

    async def _edit(self, request: web.Request, interaction: Interaction, message: Message) -> web.Response:
        upload = await self.state.read(request, partial(check_message, old=message))
        revision = self._apply(message, upload)
        if message is interaction.message:
            interaction.edits.append(revision)
        await self.state.tell("MESSAGE_UPDATE", message)
        return reply(payloads.message(message, self.state.world))

    async def _show(self, interaction: Interaction, upload: Upload) -> None:
        """What a callback puts before the person."""
        assert interaction.callback is not None
        match interaction.callback.type:
            case 4 | 5 as kind:
                loading = FLAG_LOADING if kind == DEFERRED_MESSAGE else 0
                message = self._new_message(interaction, interaction.callback.flags & FLAG_EPHEMERAL | loading)
                interaction.message = message
                if kind == MESSAGE:
                    self._apply(message, upload)
                await self.state.tell("MESSAGE_CREATE", message)
            case 6:
                interaction.message = interaction.source
            case 7 if interaction.source:
                interaction.message = interaction.source
                self._apply(interaction.source, upload)
                await self.state.tell("MESSAGE_UPDATE", interaction.source)

    def _apply(self, message: Message, upload: Upload) -> Revision:
        self.state.watch_mentions(upload.body)
        return message.apply(self.state.clock(), upload.body, upload.files)

    def _new_message(self, interaction: Interaction, flags: int) -> Message:
        kind = COMMAND_RESPONSE if interaction.kind == "command" else 0
        return self.state.new_message(
            channel=interaction.channel,
            author=self.state.world.bot,
            flags=flags,
            type=kind,
            interaction=interaction,
        )

    def _asked(self, request: web.Request) -> Interaction:
        """The interaction that this callback may still answer."""
        wanted = int(request.match_info["interaction_id"]), request.match_info["interaction_token"]
        found = [one for one in self.state.interactions if (one.id, one.token) == wanted]
        if not found:
            raise unknown_interaction("answers an interaction that never was")
        interaction, late_s, limit_s = found[0], self.state.clock() - found[0].t, self.state.rules.answer_within_s
        if interaction.callback:
            raise already_answered("answers an interaction a second time")
        if late_s > limit_s:
            raise unknown_interaction(f"answers after {late_s:.3f} s; Discord waits {limit_s} s")
        return interaction

    def _alive(self, request: web.Request) -> Interaction:
        """The answered interaction whose token this is, while it lives."""
        if int(request.match_info["webhook_id"]) != self.state.world.application_id:
            raise unknown_webhook("a webhook that is not this application's")
        found = [one for one in self.state.interactions if one.token == request.match_info["webhook_token"]]
        if not found:
            raise invalid_webhook_token("a token that never was")
        if self.state.clock() - found[0].t > self.state.rules.token_lifetime_s:
            raise invalid_webhook_token()
        if found[0].callback is None:
            raise unknown_webhook("uses the token before answering the interaction")
        return found[0]

    def _target(self, request: web.Request, interaction: Interaction) -> Message:
        wanted = request.match_info.get("message_id")
        if wanted is None:
            message = interaction.message
            if message is None:
                raise unknown_webhook("asks for @original after an answer that shows none")
        else:
            mine = [one for one in (interaction.message, *interaction.followups) if one and one.id == int(wanted)]
            message = mine[0] if mine else None
        if message is None or message.deleted:
            raise unknown_message()
        return message

    def _callback_response(self, interaction: Interaction) -> Json:
        callback, message = interaction.callback, interaction.message
        assert callback is not None
        shape: Json = {"id": str(interaction.id), "type": payloads.INTERACTION_TYPES[interaction.kind]}
        if message is None:
            return {"interaction": shape}
        shape |= {
            "response_message_id": str(message.id),
            "response_message_loading": message.loading,
            "response_message_ephemeral": message.ephemeral,
        }
        if callback.type == DEFERRED_UPDATE:
            return {"interaction": shape}
        resource = {"type": callback.type, "message": payloads.message(message, self.state.world)}
        return {"interaction": shape, "resource": resource}


def _check_callback(interaction: Interaction, body: Json, files: dict[str, bytes]) -> None:
    kind, data = body.get("type"), body.get("data") or {}
    if kind not in ALLOWED_ANSWERS[interaction.kind]:
        raise invalid_form(f"a {interaction.kind} is not answered with type {kind}")
    if kind == MESSAGE:
        check_message(data, files)
    elif kind == UPDATE:
        check_message(data, files, interaction.source)
    elif kind == AUTOCOMPLETE:
        _check_choices(data.get("choices") or [])
    elif kind == MODAL:
        _check_modal(data)


def _check_choices(choices: list[Json]) -> None:
    if len(choices) > MAX_CHOICES:
        raise invalid_form(f"{len(choices)} choices; Discord takes {MAX_CHOICES}")
    for choice in choices:
        if not 1 <= len(choice["name"]) <= 100 or len(str(choice["value"])) > 100:
            raise invalid_form(f"the choice {choice} has not 1 to 100 characters")


def _check_modal(data: Json) -> None:
    if not 1 <= len(data.get("title") or "") <= MAX_MODAL_TITLE:
        raise invalid_form(f"a modal's title has not 1 to {MAX_MODAL_TITLE} characters")
    if not 1 <= len(data.get("custom_id") or "") <= MAX_CUSTOM_ID:
        raise invalid_form(f"a modal's custom_id has not 1 to {MAX_CUSTOM_ID} characters")
    if not 1 <= len(data.get("components") or []) <= MAX_MODAL_COMPONENTS:
        raise invalid_form(f"a modal has not 1 to {MAX_MODAL_COMPONENTS} components")
