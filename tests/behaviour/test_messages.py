"""Direct messages and mentions are answered as `/story` is."""

from __future__ import annotations

import pytest
from scripted_storyteller import CASTLE

from bot.discord_ui import wording

pytestmark = pytest.mark.simcord(settle_timeout=60)  # real seconds, for a machine that is busy with a training

TOLD = f"{CASTLE}\n-# seed 4711"


@pytest.fixture
def me(simcord_bot):
    return lambda: simcord_bot.user.mention


async def test_a_direct_message_is_a_prompt(storyteller, alice, sent):
    asked = await alice.send_dm("magic castle")
    answer = alice.user.dm_channel.last_message
    assert storyteller.requests[0].prompt == "magic castle"
    assert answer.content == TOLD
    assert answer.reference.message_id == asked.id
    assert sent()[0]["content"] == f"{CASTLE[:20].strip()} ▌"


async def test_a_mention_is_a_prompt_without_the_mention(storyteller, alice, channel, me, sent):
    await alice.send(channel, f"{me()} magic castle")
    assert storyteller.requests[0].prompt == "magic castle"
    assert channel.last_message.content == TOLD
    assert all(body["allowed_mentions"] == {"parse": [], "replied_user": False} for body in sent()[:1])


async def test_people_named_in_a_mention_are_named_in_the_prompt(simcord_env, storyteller, alice, channel, me):
    bob = simcord_env.guild.add_member(simcord_env.create_user("bob"))
    await alice.send(channel, f"{me()} the day {bob.mention} found a <:dragon:123456> egg")
    assert storyteller.requests[0].prompt == "the day bob found a dragon egg"


@pytest.mark.parametrize("typed", ["/story magic castle", "/story prompt: magic castle", "/STORY   magic castle"])
async def test_a_command_typed_as_text_is_understood(storyteller, alice, typed):
    await alice.send_dm(typed)
    assert storyteller.requests[0].prompt == "magic castle"


async def test_a_tag_at_the_start_is_left_to_the_storyteller(storyteller, alice):
    await alice.send_dm("[HORROR] magic castle")
    assert storyteller.requests[0].prompt == "[HORROR] magic castle"


async def test_a_direct_message_without_words_gets_a_hint(storyteller, alice):
    await alice.send_dm("", attachments=[{"id": "1", "filename": "a.png", "size": 1, "url": "u", "proxy_url": "u"}])
    assert alice.user.dm_channel.last_message.content == wording.HINT
    assert storyteller.requests == []


async def test_a_mention_without_words_gets_a_hint(alice, channel, me):
    await alice.send(channel, me())
    assert channel.last_message.content == wording.HINT


async def test_talk_among_people_is_left_alone(storyteller, alice, channel):
    await alice.send(channel, "nice weather")
    await alice.send(channel, "@everyone look")
    assert storyteller.requests == []


async def test_a_reply_that_only_pings_is_no_prompt(storyteller, alice, channel, me):
    await alice.send(channel, f"{me()} magic castle")
    await alice.send(channel, "nice one!", reply_to=channel.last_message)
    assert len(storyteller.requests) == 1


async def test_other_bots_are_ignored(simcord_env, storyteller, channel, me):
    robot = simcord_env.guild.add_member(simcord_env.create_user("robot", bot=True))
    await robot.send(channel, f"{me()} magic castle")
    assert storyteller.requests == []


async def test_where_the_bot_may_not_write_a_mention_is_answered_by_direct_message(simcord_env, alice, channel, me):
    simcord_env.inject_error("POST", f"/channels/{channel.id}/*", status=403, code=50013, times=None)
    await alice.send(channel, f"{me()} magic castle")
    assert alice.user.dm_channel.last_message.content == TOLD


async def test_a_deleted_prompt_gets_no_story(simcord_env, storyteller, alice, channel, me):
    await alice.send(channel, f"{me()} magic castle")
    simcord_env.inject_error("PATCH", "/channels/*/messages/*", status=404, code=10008, times=None)
    await alice.send(channel, f"{me()} another castle")
    assert storyteller.open_stories == 0


async def test_the_bot_shows_that_it_types(simcord_env, alice):
    await alice.send_dm("magic castle")
    assert any(entry.path.endswith("/typing") for entry in simcord_env.http_requests)
