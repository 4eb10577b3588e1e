"""Each rule of Discord that the loopback holds a bot to, broken on purpose by plain HTTP, without a bot in between."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from discord_server import Context, DiscordServer, Interaction, Window

NO_PINGS = {"parse": []}


@dataclass(frozen=True)
class Api:
    """Discord's HTTP API as a careless bot would use it. Each call returns status and body."""

    server: DiscordServer
    session: aiohttp.ClientSession

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bot {token or self.server.token}"}
        url = self.server.api_url + path
        async with self.session.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json() if answer.status != 204 else None

    async def command(self, context: Context = "guild") -> Interaction:
        if "story" not in self.server.commands.names:
            definition = [{"name": "story", "description": "Tell a story", "type": 1}]
            await self.call("PUT", f"/applications/{self.server.world.application_id}/commands", definition)
        return await self.server.slash("story", context=context)

    async def answer(self, itx: Interaction, kind: int = 4, **data: Any) -> tuple[int, Any]:
        path = f"/interactions/{itx.id}/{itx.token}/callback?with_response=1"
        return await self.call("POST", path, {"type": kind, "data": data})

    async def edit(self, itx: Interaction, **body: Any) -> tuple[int, Any]:
        return await self.call("PATCH", f"{self.webhook(itx)}/messages/@original", body)

    async def follow_up(self, itx: Interaction, **body: Any) -> tuple[int, Any]:
        return await self.call("POST", f"{self.webhook(itx)}?wait=true", body)

    async def say(self, **body: Any) -> tuple[int, Any]:
        return await self.call("POST", f"/channels/{self.server.world.channel.id}/messages", body)

    def webhook(self, itx: Interaction) -> str:
        return f"/webhooks/{self.server.world.application_id}/{itx.token}"


@pytest.fixture
async def api(discord_server: DiscordServer) -> AsyncIterator[Api]:
    async with aiohttp.ClientSession() as session:
        yield Api(discord_server, session)


def only_violation(server: DiscordServer) -> str:
    assert len(server.violations) == 1, server.violations
    return server.violations[0]


async def test_an_interaction_is_answered_once(api: Api) -> None:
    itx = await api.command()
    assert (await api.answer(itx, content="once"))[0] == 200
    status, body = await api.answer(itx, content="twice")
    assert (status, body["code"]) == (400, 40060)
    assert "second time" in only_violation(api.server)


async def test_an_interaction_is_answered_in_time(api: Api) -> None:
    api.server.configure(answer_within_s=0.0)
    status, body = await api.answer(await api.command(), content="late")
    assert (status, body["code"]) == (404, 10062)
    assert "answers after" in only_violation(api.server)


async def test_a_callback_tells_what_it_made(api: Api) -> None:
    itx = await api.command()
    _, body = await api.answer(itx, kind=5, flags=64)
    assert body["interaction"]["response_message_loading"]
    assert body["interaction"]["response_message_ephemeral"]
    assert body["resource"]["message"]["interaction_metadata"]["id"] == str(itx.id)


@pytest.mark.parametrize(
    ("message", "code", "rule"),
    [
        ({"content": ""}, 50006, "empty"),
        ({"content": "  \n"}, 50006, "empty"),
        ({}, 50006, "empty"),
        ({"content": "a" * 2001}, 50035, "2001 characters"),
        ({"embeds": [{"description": "a" * 4097}]}, 50035, "4097"),
        ({"embeds": [{"description": "a" * 3500}] * 2}, 50035, "7000 characters"),
        ({"content": "a", "flags": 1 << 15}, 50035, "together with content"),
        ({"flags": 1 << 15, "components": [{"type": 10, "content": "a"}] * 41}, 50035, "41 components"),
        ({"flags": 1 << 15, "components": [{"type": 10, "content": "a" * 2001}] * 2}, 50035, "4002 displayed"),
        ({"components": [{"type": 10, "content": "a"}]}, 50035, "without the flag"),
        ({"components": [{"type": 1, "components": [{"type": 2, "style": 1, "custom_id": "a"}]}]}, 50035, "label"),
        (
            {"components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "a", "custom_id": "b"}] * 2}]},
            50035,
            "twice",
        ),
    ],
)
async def test_a_message_keeps_discords_limits(api: Api, message: dict[str, Any], code: int, rule: str) -> None:
    status, body = await api.say(**message)
    assert (status, body["code"]) == (400, code)
    assert rule in only_violation(api.server)
    assert (await api.answer(await api.command(), **message))[0] == 400
    itx = await api.command()
    await api.answer(itx, kind=5)
    assert (await api.edit(itx, **message))[0] == 400
    assert len(api.server.violations) == 3


@pytest.mark.parametrize("text", ["@everyone", "hello @here", "<@123>", "<@&9>"])
async def test_a_text_that_may_ping_says_that_it_does_not(api: Api, text: str) -> None:
    assert (await api.say(content=text, allowed_mentions=NO_PINGS))[0] == 200
    assert (await api.say(content="nobody @ all"))[0] == 200
    assert api.server.violations == []
    assert (await api.say(content=text))[0] == 200
    assert (await api.say(content=text, allowed_mentions={"parse": ["everyone"]}))[0] == 200
    assert len(api.server.violations) == 2


async def test_a_token_is_used_after_the_answer(api: Api) -> None:
    status, body = await api.edit(await api.command(), content="early")
    assert (status, body["code"]) == (404, 10015)
    assert "before answering" in only_violation(api.server)


async def test_a_token_runs_out_and_that_is_no_violation(api: Api) -> None:
    itx = await api.command()
    await api.answer(itx, kind=5)
    api.server.configure(token_lifetime_s=0.0)
    status, body = await api.edit(itx, content="too late")
    assert (status, body["code"]) == (401, 50027)
    assert api.server.requests[-1].code == 50027
    assert api.server.violations == []


async def test_the_first_follow_up_of_a_deferred_answer_replaces_it(api: Api) -> None:
    itx = await api.command()
    await api.answer(itx, kind=5)
    assert itx.message
    assert itx.message.loading
    await api.follow_up(itx, content="the story")
    assert (itx.content, itx.message.loading, itx.followups) == ("the story", False, [])


async def test_a_user_installed_app_has_five_follow_ups(api: Api) -> None:
    api.server.configure(webhook_window=Window(99, 5.0))
    itx = await api.command("user_install")
    await api.answer(itx, content="the story")
    assert [(await api.follow_up(itx, content="more"))[0] for _ in range(5)] == [200] * 5
    status, body = await api.follow_up(itx, content="too much")
    assert (status, body["code"]) == (400, 40094)
    assert "follow-ups" in only_violation(api.server)


async def test_the_sixth_request_in_five_seconds_is_a_429(api: Api) -> None:
    itx = await api.command()
    await api.answer(itx, kind=5)
    statuses = [(await api.edit(itx, content=f"{number}"))[0] for number in range(6)]
    assert statuses == [200] * 5 + [429]
    another = await api.command()
    await api.answer(another, kind=5)
    assert (await api.edit(another, content="its bucket is its own"))[0] == 200
    assert api.server.too_many_requests == 1


async def test_a_user_installed_app_has_no_channel(api: Api) -> None:
    path = f"/channels/{api.server.world.foreign_channel.id}/messages"
    status, body = await api.call("POST", path, {"content": "hello"})
    assert (status, body["code"]) == (403, 50001)


async def test_a_channel_and_a_person_can_shut_the_bot_out(api: Api) -> None:
    world = api.server.world
    private = world.dm_channel(world.person)
    for channel, code in ((world.channel, 50013), (private, 50007)):
        channel.bot_may_send = False
        status, body = await api.call("POST", f"/channels/{channel.id}/messages", {"content": "hello"})
        assert (status, body["code"]) == (403, code)
    assert api.server.violations == []


async def test_a_wrong_token_is_unauthorized(api: Api) -> None:
    status, body = await api.call("GET", "/users/@me", token="wrong")
    assert (status, body) == (401, {"message": "401: Unauthorized", "code": 0})


async def test_a_route_that_is_not_there_fails_loudly(api: Api) -> None:
    assert (await api.call("GET", "/voice/regions"))[0] == 404
    assert "no such route" in only_violation(api.server)


async def test_a_planned_fault_happens_as_often_as_asked(api: Api) -> None:
    api.server.fail_next("GET", "/gateway", times=1, status=502)
    assert [(await api.call("GET", "/gateway"))[0] for _ in range(2)] == [502, 200]


async def test_a_body_that_nobody_can_read_is_refused(api: Api) -> None:
    path = f"/channels/{api.server.world.channel.id}/messages"
    status, body = await api.call("POST", path, ["no", "object"])
    assert (status, body["code"]) == (400, 50035)
    assert "cannot read this" in only_violation(api.server)


async def test_bodies_are_checked_against_discords_schema(api: Api) -> None:
    if not api.server.openapi_checked:
        pytest.skip("Discord's OpenAPI file is not there")
    status, body = await api.say(content="hello", tts="loudly")
    assert (status, body["code"]) == (400, 50035)
    assert "OpenAPI" in only_violation(api.server)
