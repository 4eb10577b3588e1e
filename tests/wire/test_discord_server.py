"""The loopback Discord against an unmodified discord.py: a good bot passes, what Discord refuses is refused."""

from collections.abc import AsyncIterator

import discord
import pytest
from discord_server import Context, DiscordServer, Window
from small_bot import SmallBot, running


@pytest.fixture
async def bot(discord_server: DiscordServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SmallBot]:
    """A small bot, connected, its commands uploaded."""
    small = SmallBot()
    async with running(small, discord_server, monkeypatch):
        await discord_server.wait_ready()
        yield small


async def test_a_bot_logs_in_and_uploads_its_commands_once(discord_server: DiscordServer, bot: SmallBot) -> None:
    await bot.wait_until_ready()
    assert [guild.name for guild in bot.guilds] == ["The campfire"]
    assert [sync.names for sync in discord_server.syncs] == [("story", "ask", "card")]
    assert discord_server.intents == bot.intents.value
    assert discord_server.violations == []


@pytest.mark.parametrize("context", ["guild", "dm", "user_install", "group_dm"])
async def test_a_command_defers_edits_and_follows_up(discord_server: DiscordServer, bot: SmallBot, context: Context) -> None:
    told = await discord_server.slash("story", {"prompt": "castle", "length": 3}, context=context)
    await told.wait_until(lambda i: i.followups)
    assert told.callback
    assert told.callback.type == 5
    assert 0 <= told.callback.delay_s < 1
    assert [edit.content for edit in told.edits] == ["castle 0", "castle 1"]
    assert len(told.edit_gaps_s) == 1
    assert told.content == "castle 1"
    assert told.followups[0].content == "The end, 3."
    assert discord_server.violations == []


async def test_an_autocomplete_offers_choices(discord_server: DiscordServer, bot: SmallBot) -> None:
    typing = await discord_server.autocomplete("story", "prompt", "old")
    await typing.wait_answered()
    assert typing.choices == [{"name": "old castle", "value": "castle"}]
    assert discord_server.violations == []


async def test_a_button_edits_the_message_that_holds_it(discord_server: DiscordServer, bot: SmallBot) -> None:
    told = await discord_server.slash("story", {"prompt": "castle"})
    await told.wait_until(lambda i: i.followups)
    assert told.message
    pressed = await discord_server.press(told.message, "Another one")
    await pressed.wait_until(lambda i: i.edits)
    assert pressed.message is told.message
    assert told.content == "Another castle."
    assert told.message.custom_ids == []
    assert discord_server.violations == []


async def test_a_form_is_opened_and_submitted(discord_server: DiscordServer, bot: SmallBot) -> None:
    opened = await discord_server.slash("ask")
    await opened.wait_answered()
    sent = await discord_server.submit(opened, {"about": "a lighthouse"})
    await sent.wait_answered()
    assert sent.content == "About a lighthouse"
    assert sent.message
    assert sent.message.ephemeral
    assert discord_server.violations == []


async def test_a_card_of_components_and_a_file(discord_server: DiscordServer, bot: SmallBot) -> None:
    shown = await discord_server.slash("card")
    await shown.wait_until(lambda i: i.followups)
    assert shown.message
    assert shown.message.is_v2
    assert shown.text == "# A card"
    assert shown.followups[0].files == {"story.txt": b"once"}
    turned = await discord_server.press(shown.message, "turn")
    await turned.wait_answered()
    assert shown.text == "The back"
    assert discord_server.violations == []


async def test_direct_messages_and_mentions_are_heard(discord_server: DiscordServer, bot: SmallBot) -> None:
    private = await discord_server.dm("a lost key")
    answer = await discord_server.wait_message(private.channel)
    assert (answer.content, answer.reply_to) == ("You said: a lost key", private.id)
    await discord_server.message("a lost key", mention_bot=True)
    answer = await discord_server.wait_message(discord_server.world.channel)
    assert answer.content == "You said: @Storyteller a lost key"
    assert private.channel.typing
    assert discord_server.violations == []


async def test_other_talk_comes_without_its_text(discord_server: DiscordServer, bot: SmallBot) -> None:
    await discord_server.message("not for the bot")
    await discord_server.dm("for the bot")
    await discord_server.wait_message(discord_server.world.dm_channel(discord_server.world.person))
    assert bot.heard[0].content == ""
    assert discord_server.world.channel.from_bot == []


async def test_a_429_is_waited_for_and_counted(discord_server: DiscordServer, bot: SmallBot) -> None:
    discord_server.limits.refuse_next("webhook", times=2, retry_after_s=0.05)
    told = await discord_server.slash("story", {"prompt": "castle"})
    await told.wait_until(lambda i: i.followups)
    assert discord_server.too_many_requests == 2
    assert told.content == "castle 1"
    assert discord_server.violations == []


async def test_discord_py_reads_the_rate_limit_and_stays_below(discord_server: DiscordServer, bot: SmallBot) -> None:
    discord_server.configure(webhook_window=Window(2, 0.2))
    bot.edits = 4
    told = await discord_server.slash("story", {"prompt": "castle"})
    await told.wait_until(lambda i: i.followups)
    assert told.followups[0].revisions[0].t - told.edits[0].t > 0.2
    assert discord_server.too_many_requests == 0


async def test_a_wrong_token_is_refused(discord_server: DiscordServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(SmallBot(), discord_server, monkeypatch, token="wrong") as task:
        with pytest.raises(discord.LoginFailure):
            await task
    assert discord_server.requests[0].status == 401


async def test_a_disallowed_intent_closes_the_gateway(discord_server: DiscordServer, monkeypatch: pytest.MonkeyPatch) -> None:
    discord_server.configure(disallowed_intents=discord.Intents(message_content=True).value)
    wants_all = SmallBot(discord.Intents.all())
    async with running(wants_all, discord_server, monkeypatch) as task:
        with pytest.raises(discord.PrivilegedIntentsRequired):
            await task


async def test_a_lost_connection_is_resumed_with_what_was_missed(discord_server: DiscordServer, bot: SmallBot) -> None:
    discord_server.gateway.drop()
    told = await discord_server.slash("story", {"prompt": "castle"})
    await told.wait_until(lambda i: i.followups)
    assert len(discord_server.gateway.resumes) == 1
    assert discord_server.gateway.readies == 1


async def test_a_bot_comes_back_when_asked_to_and_when_its_session_is_gone(
    discord_server: DiscordServer, bot: SmallBot
) -> None:
    gateway = discord_server.gateway
    await gateway.ask_reconnect()
    await discord_server.wait_until(lambda: len(gateway.resumes) == 1)
    await gateway.close(4000)
    await discord_server.wait_until(lambda: len(gateway.resumes) == 2)
    await gateway.invalidate()
    await discord_server.wait_ready(times=2)
    assert len(gateway.live) == 1


async def test_heartbeats_are_measured(discord_server: DiscordServer, monkeypatch: pytest.MonkeyPatch) -> None:
    discord_server.configure(heartbeat_interval_s=0.05)
    async with running(SmallBot(), discord_server, monkeypatch):
        await discord_server.wait_until(lambda: len(discord_server.heartbeat_delays_s) >= 5)
    assert sorted(discord_server.heartbeat_delays_s)[2] < 0.05


async def test_what_no_person_could_send_fails_in_the_test(discord_server: DiscordServer, bot: SmallBot) -> None:
    with pytest.raises(AssertionError, match="no command /tale"):
        await discord_server.slash("tale")
    with pytest.raises(AssertionError, match="needs"):
        await discord_server.slash("story")
    with pytest.raises(AssertionError, match="beyond its max of 9"):
        await discord_server.slash("story", {"prompt": "castle", "length": 10})


async def test_waiting_in_vain_tells_what_was_seen(discord_server: DiscordServer, bot: SmallBot) -> None:
    with pytest.raises(AssertionError, match="GET /users/@me -> 200"):
        await discord_server.wait_until(lambda: False, timeout_s=0.01)
