"""How a story is drawn: paced, coalesced, and never without its end."""

from __future__ import annotations

import asyncio

import pytest
from fake_discord import Clock, FakeSurface, idle

from bot.discord_ui import limits, wording
from bot.discord_ui.card import NoWayLeft, StoryCard
from bot.discord_ui.surfaces import ReaderLeft, Unreachable, WayClosed
from bot.storyteller.story import Ending, Stage, Story, StoryUpdate


def writing(text: str) -> StoryUpdate:
    return StoryUpdate(Stage.WRITING, text)


def done(text: str, ending: Ending = Ending.STOP) -> StoryUpdate:
    return StoryUpdate(Stage.DONE, text, Story("p", "FANTASY", text, 42, 5, 50, 30.0, 100.0, ending, "fake"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_edits_come_at_the_interval_and_show_the_newest_text(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace(1.2)) as card:
        for n in range(1, 31):  # ten updates in a second, for three seconds
            card.show(writing("[X] " + "a" * n))
            await clock.advance(0.1)
        await idle()
        assert [len(content) - len("[X]  ▌") for _, content in surface.calls] == [1, 13, 25]
        card.show(done("[X] " + "a" * 30))
        await card.finish()
    assert surface.calls[-1] == ("edit", f"[X] {'a' * 30}\n-# seed 42")


async def test_an_edit_that_would_change_nothing_is_not_sent(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        for _ in range(3):
            card.show(writing("[X] the same"))
            await clock.advance(2)
    assert surface.calls == [("send", "[X] the same ▌")]


async def test_a_slow_edit_holds_up_nothing_and_is_followed_by_the_newest_text(clock):
    surface = FakeSurface()
    surface.slow = asyncio.Event()
    async with StoryCard([surface], clock.pace()) as card:
        for n in range(50):
            card.show(writing(f"[X] {n}"))
            await clock.advance(0.1)
        surface.slow.set()
        await clock.advance(2)
        await clock.advance(2)
    assert [content for _, content in surface.calls] == ["[X] 0 ▌", "[X] 49 ▌"]


async def test_the_last_edit_does_not_wait_for_its_turn(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        card.show(writing("[X] a"))
        await idle()
        card.show(done("[X] a b"))
        await card.finish()
    assert surface.messages == ["[X] a b\n-# seed 42"]


async def test_the_last_edit_is_tried_again_until_it_lands(clock):
    surface = FakeSurface(None, Unreachable(), Unreachable())
    async with StoryCard([surface], clock.pace()) as card:
        card.show(writing("[X] a"))
        await idle()
        card.show(done("[X] a b"))
        finishing = asyncio.create_task(card.finish())
        await idle()
        await clock.advance(1)
        await clock.advance(2)
        await finishing
    assert surface.messages == ["[X] a b\n-# seed 42"]


async def test_a_discord_that_stays_away_is_said_in_the_end(clock):
    surface = FakeSurface()
    surface.always = Unreachable("no network")
    async with StoryCard([surface], clock.pace()) as card:
        card.show(done("[X] a"))
        finishing = asyncio.create_task(card.finish())
        for _ in range(4):
            await idle()
            await clock.advance(5)
        with pytest.raises(Unreachable):
            await finishing


async def test_an_edit_in_the_middle_that_fails_is_made_up_by_the_next(clock):
    surface = FakeSurface(Unreachable())
    async with StoryCard([surface], clock.pace()) as card:
        card.show(writing("[X] a"))
        await idle()
        assert surface.messages == []
        await clock.advance(1.2)
        assert surface.messages == ["[X] a ▌"]


async def test_waiting_for_the_model_is_said_and_then_replaced(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        card.show(StoryUpdate(Stage.LOADING))
        await idle()
        assert surface.messages == [wording.WAITING]
        card.show(writing("[X] a"))
        await clock.advance(1.2)
        assert surface.messages == ["[X] a ▌"]


async def test_a_place_in_the_line_is_shown_and_then_replaced(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        card.show(StoryUpdate(Stage.QUEUED, position=3, estimate_s=21.0))
        await idle()
        assert surface.messages == ["*3rd in line, about 20 s*"]
        card.show(StoryUpdate(Stage.QUEUED, position=2, estimate_s=9.0))
        await clock.advance(1.2)
        assert surface.messages == ["*2nd in line, about 10 s*"]
        card.show(writing("[X] a"))
        await clock.advance(1.2)
        assert surface.messages == ["[X] a ▌"]


async def test_nothing_is_sent_for_a_story_without_text_yet(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        card.show(writing(""))
        await idle()
        card.show(writing(" \n"))
        await clock.advance(1.2)
    assert surface.calls == []


async def test_a_deleted_message_is_noticed_at_the_next_update(clock):
    surface = FakeSurface(None, ReaderLeft())
    async with StoryCard([surface], clock.pace()) as card:
        card.show(writing("[X] a"))
        await idle()
        card.show(writing("[X] a b"))
        await clock.advance(1.2)
        with pytest.raises(ReaderLeft):
            card.show(writing("[X] a b c"))


async def test_a_token_about_to_die_hands_over_to_the_channel_and_says_so(clock):
    interaction, channel = FakeSurface(), FakeSurface()
    async with StoryCard([interaction, channel], clock.pace()) as card:
        card.show(writing("[X] a"))
        await idle()
        interaction.open = False
        card.show(writing("[X] a b"))
        await clock.advance(1.2)
        card.show(done("[X] a b c"))
        await card.finish()
    assert interaction.messages == [f"[X] a\n-# {wording.MOVED}"]
    assert channel.messages == ["[X] a b c\n-# seed 42"]


async def test_a_way_that_closes_in_the_middle_keeps_the_pages_that_are_whole(clock):
    interaction, channel, direct = FakeSurface(), FakeSurface(WayClosed()), FakeSurface()
    first = "[X] " + "a" * (limits.PAGE_CHARS - 4)
    async with StoryCard([interaction, channel, direct], clock.pace()) as card:
        card.show(writing(f"{first} b"))
        await idle()
        interaction.always = WayClosed()
        card.show(done(f"{first} b c"))
        await card.finish()
    assert interaction.messages == [first, "b ▌"]
    assert direct.messages == ["b c\n-# seed 42"]


async def test_with_no_way_left_the_card_says_so(clock):
    surface = FakeSurface()
    surface.always = WayClosed()
    async with StoryCard([surface], clock.pace()) as card:
        card.show(done("[X] a"))
        with pytest.raises(NoWayLeft):
            await card.finish()


@pytest.mark.parametrize("text", ["😀" * 3000, "a" * (limits.PAGE_CHARS - 4), "a" * 40_000])
async def test_every_message_fits_even_with_the_longest_note(clock, text):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        card.show(writing(f"[X] {text}"))
        await idle()
        await card.finish("An error\nwith many\nlines " * 200)
    contents = [content for _, content in surface.calls]
    assert all(0 < len(content.encode("utf-16-le")) // 2 <= limits.MESSAGE_CHARS for content in contents)
    assert len(surface.messages) <= 1 + limits.FOLLOW_UPS


async def test_typing_is_shown_until_there_is_text_and_then_no_more(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        await idle()
        await clock.advance(limits.TYPING_AGAIN_S)
        assert surface.waits == 2
        card.show(writing("[X] a"))
        await idle()
        await clock.advance(limits.TYPING_AGAIN_S)
        await clock.advance(limits.TYPING_AGAIN_S)
    assert surface.waits == 2


async def test_a_note_without_a_story_is_the_whole_answer(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        await card.finish("That genre is none of mine, @everyone.")
    assert surface.messages == ["That genre is none of mine, @\u200beveryone."]


async def test_a_fence_left_open_does_not_swallow_the_footer(clock):
    surface = FakeSurface()
    async with StoryCard([surface], clock.pace()) as card:
        card.show(done("[X] ```\nlook", Ending.LENGTH))
        await card.finish()
    assert "```" not in surface.messages[0]
    assert surface.messages[0].endswith("\n-# seed 42 · stopped at its length")
