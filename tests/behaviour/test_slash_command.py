"""`/story`, driven through the real bot and a Discord in memory."""

from __future__ import annotations

import logging

import pytest
from scripted_storyteller import CASTLE, GENRES

from bot.discord_ui import limits
from bot.errors import EngineFailed, PromptTooLong
from bot.storyteller.story import Ending

pytestmark = pytest.mark.simcord(settle_timeout=60)  # real seconds, for a machine that is busy with a training


async def test_story_is_deferred_then_grows_then_opens_with_its_tag(simcord_env, alice, channel, sent):
    result = await alice.slash(channel, "story", prompt="magic castle")
    first_call = next(entry for entry in simcord_env.http_requests if "callback" in entry.path)
    assert first_call.json["type"] == 5
    assert [body["content"] for body in sent()] == [
        f"{CASTLE[:20]} ▌",
        f"{CASTLE[:40]} ▌",
        f"{CASTLE} ▌",
        f"{CASTLE}\n-# seed 4711",
    ]
    assert result.response.content.startswith("[FANTASY] ")
    assert result.followups == []


async def test_story_waits_for_the_model_with_a_sentence(storyteller, alice, channel, sent):
    storyteller.loading = True
    result = await alice.slash(channel, "story", prompt="magic castle")
    assert "waits for the model" in sent()[0]["content"]
    assert result.response.content.startswith("[FANTASY] ")


async def test_the_genres_offered_are_those_of_the_storyteller(simcord_env, simcord_bot):
    command = simcord_bot.tree.get_command("story").to_dict(simcord_bot.tree)
    options = {option["name"]: option for option in command["options"]}
    assert [choice["value"] for choice in options["genre"]["choices"]] == list(GENRES)
    assert (options["length"]["min_value"], options["length"]["max_value"]) == (16, 400)
    assert (options["seed"]["min_value"], options["seed"]["max_value"]) == (0, 2**53 - 1)
    assert (options["prompt"]["min_length"], options["prompt"]["max_length"]) == (1, 6000)
    assert [name for name, option in options.items() if option["required"]] == ["prompt"]
    assert sorted(command["integration_types"]) == [0, 1]
    assert sorted(command["contexts"]) == [0, 1, 2]


async def test_everything_a_person_chose_reaches_the_storyteller(storyteller, alice, channel):
    await alice.slash(channel, "story", prompt="a quiet ship", genre="SCI-FI", length=120, seed=7)
    (request,) = storyteller.requests
    assert (request.prompt, request.genre, request.length, request.seed) == ("a quiet ship", "SCI-FI", 120, 7)


async def test_the_command_works_in_direct_messages_too(simcord_env, alice):
    result = await alice.user.slash("story", prompt="magic castle")
    assert result.response.content.startswith(CASTLE)


async def test_what_can_not_be_told_is_answered_with_its_sentence(storyteller, alice, channel):
    storyteller.texts, storyteller.failure = (), PromptTooLong("That prompt has 2000 tokens; this model reads 512.")
    result = await alice.slash(channel, "story", prompt="magic castle")
    assert result.response.content == "That prompt has 2000 tokens; this model reads 512."


async def test_a_model_that_breaks_in_the_middle_leaves_what_was_written(storyteller, alice, channel):
    storyteller.failure = EngineFailed("The model stopped. Please try again.")
    result = await alice.slash(channel, "story", prompt="magic castle")
    assert result.response.content == f"{CASTLE}\n-# The model stopped. Please try again."


@pytest.mark.parametrize("texts", [(), (CASTLE,)])
async def test_a_fault_of_the_program_is_told_by_an_id_that_the_log_has(storyteller, alice, channel, caplog, texts):
    storyteller.texts, storyteller.failure = texts, ZeroDivisionError("secret detail")
    with caplog.at_level(logging.ERROR):
        result = await alice.slash(channel, "story", prompt="magic castle")
    content = result.response.content
    assert "Something broke on my side (error " in content
    assert "secret" not in content
    assert "Traceback" not in content
    assert all(text in content for text in texts)
    error_id = content.split("(error ")[1][:6]
    (record,) = [record for record in caplog.records if error_id in record.getMessage()]
    assert record.exc_info is not None


async def test_a_story_stopped_by_the_host_says_so_and_keeps_its_text(storyteller, alice, channel):
    storyteller.ending = Ending.CANCELLED
    result = await alice.slash(channel, "story", prompt="magic castle")
    assert result.response.content == f"{CASTLE}\n-# seed 4711\n-# The storyteller was stopped here."


async def test_a_model_can_not_ping_anybody(storyteller, alice, channel, sent):
    storyteller.texts = ("[FANTASY] The king cried @everyone and @here and <@1234> and <@&99> and <#5>",)
    result = await alice.slash(channel, "story", prompt="magic castle")
    for body in sent():
        assert body["allowed_mentions"]["parse"] == []
        for ping in ("@everyone", "@here", "<@1234>", "<@&99>", "<#5>"):
            assert ping not in body["content"]
    assert "The king cried @" in result.response.content


async def test_a_long_story_goes_on_in_follow_ups_and_nothing_is_too_long(storyteller, alice, channel, sent):
    whole = "[FANTASY] " + " ".join(f"Sentence number {i} of a very long story is here." for i in range(120))
    storyteller.texts = [whole[:n] for n in range(100, len(whole), 400)] + [whole]
    result = await alice.slash(channel, "story", prompt="magic castle")
    messages = [result.response.content, *(followup.content for followup in result.followups)]
    assert len(messages) == 4
    assert messages[-1].endswith("\n-# seed 4711")
    assert " ".join(messages).removesuffix("\n-# seed 4711").split() == whole.split()
    assert all(0 < len(body["content"]) <= limits.MESSAGE_CHARS for body in sent())


async def test_a_story_longer_than_all_follow_ups_ends_with_an_ellipsis(storyteller, alice, channel):
    storyteller.texts = ("[FANTASY] " + "word " * 4000,)
    result = await alice.slash(channel, "story", prompt="magic castle")
    assert len(result.followups) == 5
    assert "…" in result.followups[-1].content


async def test_a_page_that_the_last_trim_emptied_is_deleted(storyteller, alice, channel):
    whole = "[FANTASY] " + "word " * 360
    storyteller.texts = (whole, whole + "more", whole[:1500])
    result = await alice.slash(channel, "story", prompt="magic castle")
    assert result.followups == []
    assert result.response.content == f"{whole[:1500].strip()}\n-# seed 4711"


async def test_an_edit_that_fails_once_lands_at_the_next_try(simcord_env, storyteller, alice, channel):
    storyteller.texts = (CASTLE,)
    simcord_env.inject_error("PATCH", "/webhooks/*", status=503, times=2)
    result = await alice.slash(channel, "story", prompt="magic castle")
    assert result.response.content == f"{CASTLE}\n-# seed 4711"


async def test_a_deleted_answer_stops_the_story_quietly(simcord_env, storyteller, alice, channel, sent, caplog):
    simcord_env.inject_error("PATCH", "/webhooks/*", status=404, code=limits.UNKNOWN_MESSAGE, times=None)
    with caplog.at_level(logging.WARNING):
        await alice.slash(channel, "story", prompt="magic castle")
    assert storyteller.open_stories == 0
    assert len(sent()) <= 2
    assert caplog.records == []


@pytest.mark.parametrize(("status", "code"), [(401, 50027), (404, 10015)])
async def test_a_dead_token_moves_the_story_into_the_channel(simcord_env, alice, channel, status, code):
    simcord_env.inject_error("PATCH", "/webhooks/*", status=status, code=code, times=None)
    await alice.slash(channel, "story", prompt="magic castle")
    assert channel.last_message.content == f"{CASTLE}\n-# seed 4711"


async def test_where_the_bot_may_not_write_a_dead_token_moves_the_story_to_a_direct_message(simcord_env, alice, channel):
    simcord_env.inject_error("PATCH", "/webhooks/*", status=401, code=50027, times=None)
    simcord_env.inject_error("POST", f"/channels/{channel.id}/messages", status=403, code=50013, times=None)
    await alice.slash(channel, "story", prompt="magic castle")
    assert alice.user.dm_channel.last_message.content == f"{CASTLE}\n-# seed 4711"


async def test_an_interaction_taken_too_late_still_gets_its_story_in_the_channel(simcord_env, alice, channel, caplog):
    simcord_env.inject_error("POST", "/interactions/*", status=404, code=10062)
    with caplog.at_level(logging.WARNING):
        await alice.slash(channel, "story", prompt="magic castle")
    assert channel.last_message.content == f"{CASTLE}\n-# seed 4711"
    assert "was not taken" in caplog.text


async def test_an_interaction_that_another_process_answered_is_left_to_it(simcord_env, storyteller, alice, channel):
    simcord_env.inject_error("POST", "/interactions/*", status=400, code=40060)
    await alice.slash(channel, "story", prompt="magic castle")
    assert storyteller.requests == []


async def test_a_story_with_no_way_left_is_a_line_in_the_log(simcord_env, storyteller, alice, channel, caplog):
    simcord_env.inject_error("PATCH", "/webhooks/*", status=401, code=50027, times=None)
    simcord_env.inject_error("POST", "/channels/*/messages", status=403, code=50007, times=None)
    with caplog.at_level(logging.ERROR):
        await alice.slash(channel, "story", prompt="magic castle")
    assert "found no way" in caplog.text
    assert storyteller.open_stories == 0
