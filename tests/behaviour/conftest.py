from __future__ import annotations

import pytest
from scripted_storyteller import ScriptedStoryteller
from simcord.env import Env

from bot.discord_ui.card import Pace
from bot.discord_ui.client import StoryBot


@pytest.fixture
def storyteller() -> ScriptedStoryteller:
    return ScriptedStoryteller()


@pytest.fixture
def new_bot(storyteller, tmp_path):
    """Build the bot as `bot.__main__` does; its card draws at every change, since no time passes here."""
    pace = Pace(interval_s=0, retry_after_s=(0, 0))
    return lambda teller=storyteller: StoryBot(teller, state_dir=tmp_path, edit_interval_s=0, max_stories_per_user=2, pace=pace)


@pytest.fixture
def simcord_bot(new_bot):
    return new_bot()


@pytest.fixture
def channel(simcord_env: Env):
    return simcord_env.create_guild().create_text_channel("stories")


@pytest.fixture
def alice(simcord_env: Env, channel):
    return simcord_env.guild.add_member(simcord_env.create_user("alice"))


@pytest.fixture
def sent(simcord_env: Env):
    """The texts that the bot sent or edited, in order; and the bodies they were in."""
    return lambda: [
        entry.json
        for entry in simcord_env.http_requests
        if entry.method in {"POST", "PATCH"} and isinstance(entry.json, dict) and "content" in entry.json
    ]
