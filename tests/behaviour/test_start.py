"""What happens when the bot starts: what it asks for, and when it sends its commands."""

from __future__ import annotations

import discord
import pytest
from scripted_storyteller import ScriptedStoryteller

pytestmark = pytest.mark.simcord(settle_timeout=60)  # real seconds, for a machine that is busy with a training


def syncs(env) -> int:
    return sum(entry.method == "PUT" and entry.path.endswith("/commands") for entry in env.http_requests)


async def test_a_second_start_does_not_send_the_commands_again(simcord_env, new_bot):
    await simcord_env.settle()
    assert syncs(simcord_env) == 1
    await simcord_env.restart_bot(new_bot())
    await simcord_env.settle()
    assert syncs(simcord_env) == 1


async def test_another_model_with_other_genres_sends_them_again(simcord_env, new_bot):
    await simcord_env.settle()
    await simcord_env.restart_bot(new_bot(ScriptedStoryteller(genres=("ROMANCE", "WESTERN"))))
    await simcord_env.settle()
    assert syncs(simcord_env) == 2


async def test_a_torn_record_sends_them_again(simcord_env, new_bot, tmp_path):
    await simcord_env.settle()
    (tmp_path / "commands.json").write_text('{"sha2')
    await simcord_env.restart_bot(new_bot())
    await simcord_env.settle()
    assert syncs(simcord_env) == 2


async def test_commands_that_discord_refuses_do_not_stop_the_bot(simcord_env, new_bot, alice, tmp_path, caplog):
    await simcord_env.settle()
    (tmp_path / "commands.json").unlink()
    simcord_env.inject_error("PUT", "/applications/*", status=403)
    await simcord_env.restart_bot(new_bot())
    await simcord_env.settle()
    assert "could not be sent to Discord" in caplog.text
    await alice.send_dm("magic castle")
    assert alice.user.dm_channel.last_message.content.startswith("[FANTASY] ")


async def test_no_privileged_intent_is_asked_for(simcord_bot):
    privileged = discord.Intents(members=True, presences=True, message_content=True)
    assert not simcord_bot.intents.value & privileged.value


async def test_more_genres_than_choices_are_found_while_typing(simcord_env, new_bot, alice, channel):
    await simcord_env.restart_bot(new_bot(ScriptedStoryteller(genres=tuple(f"GENRE-{n}" for n in range(40)))))
    await simcord_env.settle()
    choices = await alice.autocomplete(channel, "story", "genre", "genre-3")
    assert [choice["value"] for choice in choices] == ["GENRE-3", *(f"GENRE-{n}" for n in range(30, 40))]


async def test_one_person_has_so_many_stories_at_once(simcord_env, simcord_bot, storyteller, alice, channel):
    with simcord_bot._desk.seat(alice.id), simcord_bot._desk.seat(alice.id):
        result = await alice.slash(channel, "story", prompt="magic castle")
    assert "You already have 2 stories being told" in result.response.content
    assert storyteller.requests == []
