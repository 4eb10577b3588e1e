"""What a shutdown waits for: every answer that was begun, from before its defer until its last edit has landed."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import discord
import pytest
from fake_discord import idle

from bot.discord_ui import client, wording
from bot.discord_ui.client import StoryBot
from bot.errors import ModelUnavailable, ShuttingDown
from bot.storyteller.story import StoryRequest


class ClosingStoryteller:
    """Has nothing to tell: it raises `failure`, or ShuttingDown once it is closed."""

    genres, min_length, max_length, max_seed = ("FANTASY",), 16, 400, 2**53 - 1

    def __init__(self, failure: Exception | None = None) -> None:
        self.closes = 0
        self._closed = asyncio.Event()
        self._failure = failure

    async def tell(self, request):
        if self._failure is not None:
            raise self._failure
        await self._closed.wait()
        raise ShuttingDown("The storyteller is closing.")
        yield

    async def close(self) -> None:
        self.closes += 1
        self._closed.set()


class SlowInteraction:
    """Its defer takes until `go_on` is set, its answer ends in `shown`."""

    def __init__(self) -> None:
        self.go_on, self.shown = asyncio.Event(), []
        self.channel_id, self.guild_id, self.user, self.created_at = None, None, SimpleNamespace(id=1), discord.utils.utcnow()
        self.client, self.response = None, SimpleNamespace(defer=self._defer)

    async def _defer(self, *, thinking: bool) -> None:
        await self.go_on.wait()

    async def edit_original_response(self, *, content: str) -> None:
        self.shown.append(content)


@pytest.fixture
def new_bot(tmp_path):
    return lambda teller: StoryBot(teller, state_dir=tmp_path, edit_interval_s=0, max_stories_per_user=2)


async def test_an_interaction_that_is_still_being_deferred_gets_its_answer(new_bot):
    bot, interaction = new_bot(ClosingStoryteller()), SlowInteraction()
    answering = asyncio.create_task(bot.answer_interaction(interaction, StoryRequest("magic castle")))
    await idle()
    leaving = asyncio.create_task(bot.farewell())
    await idle()
    assert not leaving.done()
    interaction.go_on.set()
    await leaving
    assert interaction.shown == ["The storyteller is closing."]
    assert answering.done()


async def test_a_hint_that_is_under_way_gets_there(new_bot, monkeypatch):
    bot, go_on, said = new_bot(ClosingStoryteller()), asyncio.Event(), []

    async def reply(content, **_):
        await go_on.wait()
        said.append(content)

    monkeypatch.setattr(client, "prompt_of", lambda *_: "")
    bot._connection.user = SimpleNamespace(id=7)
    message = SimpleNamespace(channel=None, guild=None, author=SimpleNamespace(id=1), reply=reply)
    answering = asyncio.create_task(bot.on_message(message))
    await idle()
    leaving = asyncio.create_task(bot.farewell())
    await idle()
    assert not leaving.done()
    go_on.set()
    await leaving
    assert said == [wording.HINT]
    assert answering.done()


async def test_closing_the_client_ends_the_stories_first_and_once(new_bot, monkeypatch):
    teller, interaction = ClosingStoryteller(), SlowInteraction()
    bot = new_bot(teller)
    interaction.go_on.set()
    answering = asyncio.create_task(bot.answer_interaction(interaction, StoryRequest("magic castle")))
    await idle()
    await asyncio.gather(bot.close(), bot.farewell())  # discord.py calls close by itself when the gateway refuses the bot
    assert interaction.shown == ["The storyteller is closing."]
    assert teller.closes == 1
    assert answering.done()


async def test_stories_that_do_not_end_hold_up_the_end_only_so_long(new_bot, monkeypatch, caplog):
    monkeypatch.setattr(client, "FAREWELL_S", 0.01)
    bot, interaction = new_bot(ClosingStoryteller()), SlowInteraction()
    answering = asyncio.create_task(bot.answer_interaction(interaction, StoryRequest("magic castle")))
    await idle()
    await bot.farewell()
    assert "did not end" in caplog.text
    assert not answering.done()
    answering.cancel()


async def test_paths_of_the_host_are_for_its_log_and_not_for_people(new_bot, caplog):
    interaction = SlowInteraction()
    interaction.go_on.set()
    bot = new_bot(ClosingStoryteller(ModelUnavailable("config.json in /home/mary/models is torn.")))
    await bot.answer_interaction(interaction, StoryRequest("magic castle"))
    assert interaction.shown == [wording.NO_MODEL]
    assert "/home/mary/models" in caplog.text
