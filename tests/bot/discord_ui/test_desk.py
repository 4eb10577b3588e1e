from __future__ import annotations

import asyncio

import pytest
from fake_discord import idle

from bot.discord_ui.telling import Desk
from bot.discord_ui.wording import TooManyStories


async def test_each_person_has_their_own_limit():
    desk = Desk(per_person=1)
    with desk.seat(1), desk.seat(2), pytest.raises(TooManyStories, match="already have a story"), desk.seat(1):
        pass
    with desk.seat(1):
        pass


async def test_waiting_ends_with_the_last_story():
    desk = Desk(per_person=5)
    with desk.in_flight():
        with desk.in_flight():
            waiting = asyncio.create_task(desk.wait_until_idle())
        await idle()
        assert not waiting.done()
    await idle()
    assert waiting.done()
