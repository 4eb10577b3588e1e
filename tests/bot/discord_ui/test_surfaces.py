from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import aiohttp
import discord
import pytest

from bot.discord_ui import limits
from bot.discord_ui.surfaces import (
    ChannelSurface,
    InteractionSurface,
    ReaderLeft,
    Unreachable,
    WayClosed,
    outcome_of,
)


def refusal(status: int, code: int = 0, message: str = "") -> discord.HTTPException:
    response = SimpleNamespace(status=status, reason="", headers={})
    return discord.HTTPException(response, {"code": code, "message": message})


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (404, 10008, ReaderLeft),
        (404, 10015, WayClosed),
        (401, 50027, WayClosed),
        (404, 10062, WayClosed),
        (403, 50013, WayClosed),
        (403, 50007, WayClosed),
        (400, 40094, WayClosed),
        (500, 0, Unreachable),
        (503, 0, Unreachable),
        (429, 0, Unreachable),
    ],
)
def test_what_discord_refuses_is_one_of_three_outcomes(status, code, outcome):
    assert type(outcome_of(refusal(status, code))) is outcome


def test_a_wrong_request_is_a_fault_of_ours():
    assert outcome_of(refusal(400, 50035, "content: too long")) is None


def test_a_reply_to_a_message_that_is_gone_has_no_reader():
    error = refusal(400, 50035, "In message_reference: Unknown message")
    assert type(outcome_of(error)) is ReaderLeft


async def test_a_lost_connection_is_a_hiccup():
    async def typing_fails():
        raise aiohttp.ClientConnectionError("gone")

    channel = SimpleNamespace(send=lambda *_, **__: typing_fails(), typing=typing_fails)
    with pytest.raises(Unreachable):
        await ChannelSurface(channel).send("x")
    await ChannelSurface(channel).wait()  # a courtesy that fails is no failure


async def test_a_second_try_can_not_show_a_message_twice():
    nonces = []

    async def send(content, *, nonce, **_):
        nonces.append(nonce)
        if len(nonces) == 1:
            raise aiohttp.ServerDisconnectedError
        return SimpleNamespace()

    surface = ChannelSurface(SimpleNamespace(send=send))
    with pytest.raises(Unreachable):
        await surface.send("x")
    await surface.send("x")
    await surface.send("y")
    assert nonces[0] == nonces[1] != nonces[2]


@pytest.mark.parametrize(("age_min", "is_open"), [(0, True), (14, True), (14.6, False), (20, False)])
def test_a_token_is_used_for_its_fifteen_minutes_and_no_longer(age_min, is_open):
    now_s = 100.0
    created_at = discord.utils.utcnow() - timedelta(hours=1)  # as it looks to a host whose clock is an hour ahead
    surface = InteractionSurface(SimpleNamespace(created_at=created_at), clock=lambda: now_s)
    now_s += age_min * 60
    assert surface.open is is_open
    assert limits.TOKEN_USED_FOR < limits.TOKEN_LIFE
