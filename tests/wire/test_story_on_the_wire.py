"""The real process against a loopback Discord: what a person in Discord sees, from the login to the farewell."""

from __future__ import annotations

import re
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from bot_process import BotStarter
from discord_server import DiscordServer, Interaction
from discord_server.rules import Rules, Window

from bot.bench.ours import LoopLag, loop_lag
from bot.discord_ui.client import FAREWELL_S

pytestmark = pytest.mark.timeout(300)  # each starts the bot once or twice: seconds alone, a minute beside a training

TAG = re.compile(r"\[(FANTASY|SCI-FI|HORROR|ADVENTURE)\] ")
CURSOR = "▌"
DEFERRED = 5

# A story of random weights is written in a second or two; edits every 0.2 s show it grow, and the rate limits that
# would slow these down have their own test.
QUICK = {"EDIT_INTERVAL_S": "0.2", "STORY_LENGTH": "200", "MAX_STORIES_PER_USER": "8"}


@pytest.fixture(autouse=True)
def _roomy_rate_limits(discord_server: DiscordServer) -> None:
    discord_server.configure(webhook_window=Window(200, 1.0), channel_window=Window(200, 1.0))


def texts_of(story: Interaction) -> list[str]:
    """What stands in Discord of a story, message by message."""
    return [message.content for message in (story.message, *story.followups) if message is not None]


def footerless(content: str) -> str:
    return re.sub(r"\n-# .*", "", content)


def assert_a_story(content: str, tag: str | None = None) -> None:
    assert TAG.match(content), content
    assert tag is None or content.startswith(tag)
    assert CURSOR not in content
    assert re.search(r"-# seed \d+", content)
    assert len(footerless(content)) > len("[FANTASY] ")


def assert_it_grew(contents: list[str]) -> None:
    growing = [content.removesuffix(f" {CURSOR}") for content in contents if content.endswith(CURSOR)]
    assert len(growing) >= 2, contents
    assert all(after.startswith(before) and after != before for before, after in pairwise(growing))


async def test_stories_grow_in_a_channel_a_direct_message_and_at_a_mention(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path
) -> None:
    async with loop_lag(lag := LoopLag()):
        bot = await bot_process(model_dir=random_model, env=QUICK)
        await bot.ready()
        command = await bot.alive_while(discord_server.wait_command("story", timeout_s=60))
        assert [option["name"] for option in command["options"]] == ["prompt", "genre", "length", "seed"]
        assert [choice["value"] for choice in command["options"][1]["choices"]] == [
            "FANTASY",
            "SCI-FI",
            "HORROR",
            "ADVENTURE",
        ]

        # The model still loads: the request is taken at once and waits, and says so.
        named = await discord_server.slash("story", {"prompt": "magic castle", "genre": "FANTASY", "length": 1000})
        await bot.alive_while(named.wait_until(lambda i: "-# seed" in i.content, timeout_s=60))
        assert named.callback is not None
        assert named.callback.type == DEFERRED
        assert named.callback.delay_s < 1
        contents = [edit.content for edit in named.edits]
        assert "waits for the model" in contents[0]
        assert_it_grew(contents[1:])
        assert_a_story(named.message.content, "[FANTASY] ")

        found = await discord_server.slash("story", {"prompt": "magic castle", "length": 1000}, context="user_install")
        await bot.alive_while(found.wait_until(lambda i: "-# seed" in i.content, timeout_s=60))
        assert found.callback is not None
        assert found.callback.delay_s < 1
        assert_it_grew([edit.content for edit in found.edits])
        assert_a_story(found.message.content)

        world = discord_server.world
        await discord_server.dm("[HORROR] the old house", user=world.person)
        private = world.dm_channel(world.person)
        answer = await bot.alive_while(discord_server.wait_message(private, lambda m: "-# seed" in m.content, timeout_s=60))
        assert_a_story(answer.content, "[HORROR] ")

        await discord_server.message("a ship in a bottle", world.channel, mention_bot=True)
        reply = await bot.alive_while(
            discord_server.wait_message(world.channel, lambda m: m.reply_to and "-# seed" in m.content, timeout_s=60)
        )
        assert_a_story(reply.content)

    # An event loop that was blocked by the model would send none for a whole story. The interval is 0.5 s, and yet 1.5 s
    # are allowed, and more on a machine that has no time for this process either, in which the delays are measured.
    assert discord_server.heartbeat_delays_s
    assert max(discord_server.heartbeat_delays_s) < 1.5 + 3 * lag.worst_s, (discord_server.heartbeat_delays_s, lag)
    assert await bot.stop(signal.SIGTERM) == 0
    assert discord_server.violations == []
    assert "Traceback" not in bot.output()


async def test_the_same_seed_tells_the_same_story_alone_and_among_others(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path
) -> None:
    bot = await bot_process(model_dir=random_model, env=QUICK)
    await bot.ready()
    await bot.alive_while(discord_server.wait_command("story", timeout_s=60))
    options = {"prompt": "magic castle", "genre": "FANTASY", "seed": 7}
    together = [await discord_server.slash("story", options if n == 1 else {"prompt": f"ship {n}"}) for n in range(4)]
    for interaction in together:
        await bot.alive_while(interaction.wait_until(lambda i: "-# seed" in i.content, timeout_s=60))
    alone = await discord_server.slash("story", options)
    await bot.alive_while(alone.wait_until(lambda i: "-# seed" in i.content, timeout_s=60))
    assert alone.message.content == together[1].message.content
    assert len({interaction.message.content for interaction in together}) == 4
    assert discord_server.violations == []


async def test_sigterm_marks_the_stories_in_flight_and_a_restart_syncs_nothing(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path
) -> None:
    bot = await bot_process(model_dir=random_model, env=QUICK | {"MAX_STORY_LENGTH": "4000"})
    await bot.ready()
    await bot.alive_while(discord_server.wait_command("story", timeout_s=60))
    story = await discord_server.slash("story", {"prompt": "magic castle", "length": 4000, "genre": "SCI-FI"})
    await bot.alive_while(story.wait_until(lambda i: i.content.startswith("[SCI-FI]"), timeout_s=60))
    assert await bot.stop(signal.SIGTERM) == 0
    last = texts_of(story)[-1]
    assert "-# The storyteller was stopped here." in last
    assert CURSOR not in last
    assert story.message.content.startswith("[SCI-FI] ")
    assert len(discord_server.syncs) == 1

    again = await bot_process(model_dir=random_model, env=QUICK | {"MAX_STORY_LENGTH": "4000"})
    await again.ready()
    second = await discord_server.slash("story", {"prompt": "a robot", "length": 40})
    await again.alive_while(second.wait_until(lambda i: "-# seed" in i.content, timeout_s=60))
    assert len(discord_server.syncs) == 1
    assert await again.stop(signal.SIGINT) == 0
    assert discord_server.violations == []


async def test_stories_survive_rate_limits_a_dropped_connection_and_server_errors(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path
) -> None:
    bot = await bot_process(model_dir=random_model, env=QUICK)
    await bot.ready()
    await bot.alive_while(discord_server.wait_command("story", timeout_s=60))
    discord_server.limits.refuse_next("webhook", 2, 0.3)
    story = await discord_server.slash("story", {"prompt": "magic castle", "genre": "HORROR"})
    await bot.alive_while(story.wait_until(lambda i: "-# seed" in i.content, timeout_s=60))
    assert_a_story(story.message.content, "[HORROR] ")
    assert discord_server.too_many_requests >= 1

    discord_server.gateway.drop()
    await bot.alive_while(discord_server.wait_until(lambda: discord_server.gateway.resumes, timeout_s=30))
    after = await discord_server.slash("story", {"prompt": "magic castle"})
    await bot.alive_while(after.wait_until(lambda i: "-# seed" in i.content, timeout_s=60))
    assert discord_server.violations == []


async def test_two_stories_at_the_default_pace_keep_within_discords_rate_limits(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path
) -> None:
    rules = Rules()
    discord_server.configure(webhook_window=rules.webhook_window, channel_window=rules.channel_window)
    env = {"EDIT_INTERVAL_S": None, "MAX_STORIES_PER_USER": None, "MAX_STORY_LENGTH": "4000"}
    bot = await bot_process(model_dir=random_model, env=env)
    await bot.ready()
    await bot.alive_while(discord_server.wait_command("story", timeout_s=60))
    stories = [await discord_server.slash("story", {"prompt": f"ship {n}", "length": 2000}) for n in range(2)]
    for story in stories:
        await bot.alive_while(
            discord_server.wait_until(lambda s=story: any("-# seed" in text for text in texts_of(s)), timeout_s=120)
        )
        assert len(story.edits) >= 2
    assert discord_server.too_many_requests == 0
    assert discord_server.violations == []
    assert await bot.stop() == 0


async def test_sigterm_while_the_model_loads_tells_those_who_wait_and_does_not_wait_for_the_load(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path, tmp_path: Path
) -> None:
    stuck = tmp_path / "stuck" / "transformers"
    stuck.mkdir(parents=True)
    (stuck / "__init__.py").write_text("import time\ntime.sleep(600)\n")  # a load that does not end
    bot = await bot_process(model_dir=random_model, env=QUICK | {"PYTHONPATH": str(stuck.parent)})
    await bot.ready()
    await bot.alive_while(discord_server.wait_command("story", timeout_s=60))
    story = await discord_server.slash("story", {"prompt": "magic castle"})
    await bot.alive_while(story.wait_until(lambda i: "waits for the model" in i.content, timeout_s=60))
    asked = time.monotonic()
    assert await bot.stop(signal.SIGTERM) == 0
    assert time.monotonic() - asked < FAREWELL_S
    assert "closing and takes no more stories" in story.message.content
    assert discord_server.violations == []
    assert "Traceback" not in bot.output()
    assert "did not end" not in bot.output()


async def test_a_gateway_that_refuses_the_bot_for_good_leaves_no_story_without_its_mark(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path
) -> None:
    bot = await bot_process(model_dir=random_model, env=QUICK | {"MAX_STORY_LENGTH": "4000"})
    await bot.ready()
    await bot.alive_while(discord_server.wait_command("story", timeout_s=60))
    story = await discord_server.slash("story", {"prompt": "magic castle", "length": 4000})
    await bot.alive_while(story.wait_until(lambda i: TAG.match(i.content), timeout_s=60))
    await discord_server.gateway.close(4004)
    assert await bot.wait() == 2
    assert "-# The storyteller was stopped here." in texts_of(story)[-1]
    assert "code 4004" in bot.output()
    assert "Traceback" not in bot.output()


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"DISCORD_TOKEN": "wrong.token.entirely"}, "Discord refused the token in DISCORD_TOKEN"),
        ({"DISCORD_API_URL": "http://127.0.0.1:9/api/v10"}, "can't be reached"),
    ],
)
async def test_what_keeps_it_from_discord_is_one_sentence_and_a_status(
    bot_process: BotStarter, random_model: Path, variables: dict[str, str], says: str
) -> None:
    bot = await bot_process(model_dir=random_model, env={**QUICK, **variables})
    assert await bot.wait(60) == 2
    assert says in bot.output()
    assert "Traceback" not in bot.output()


async def test_torn_weights_end_the_bot_with_their_sentence(
    discord_server: DiscordServer, bot_process: BotStarter, random_model: Path, tmp_path: Path
) -> None:
    import shutil

    torn = Path(shutil.copytree(random_model, tmp_path / "torn"))
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    bot = await bot_process(model_dir=torn, env=QUICK)
    await bot.ready()
    assert await bot.wait(60) == 2
    assert "model.safetensors" in bot.output().strip().splitlines()[-1]
    assert "Traceback" not in bot.output()
