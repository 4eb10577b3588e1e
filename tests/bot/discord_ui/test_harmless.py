from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.discord_ui.harmless import ZERO_WIDTH_SPACE, harmless

SCRAPS = ["@", "everyone", "here", "<@", "<@!", "<@&", "<#", "123", ">", ":", "/", "`", "http", "discord.gg", "discord"]
SCRAPS += [".com", "a", " ", "\n", "\x00", "\x1b", "steam", "invite"]
texts = st.lists(st.sampled_from(SCRAPS), max_size=30).map("".join) | st.text(max_size=80)

# What Discord makes something of, as its client reads it.
PINGS = re.compile(r"@everyone|@here|<@[!&]?\d+>|<#\d+>")
LINKS = re.compile(r"[A-Za-z]://|discord\.gg/|discord(?:app)?\.com/", re.IGNORECASE)


@given(texts)
def test_nothing_pings_links_or_opens_a_block(text):
    safe = harmless(text)
    assert not PINGS.search(safe)
    assert not LINKS.search(safe)
    assert "``" not in safe
    assert ">>" not in safe


@given(texts, st.integers(0, 120))
def test_the_start_of_a_growing_text_stays_as_it_is(text, n):
    assert harmless(text).startswith(harmless(text[:n]))


@given(texts)
def test_only_what_is_invisible_is_added(text):
    visible = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)
    assert harmless(text).replace(ZERO_WIDTH_SPACE, "") == visible.replace(ZERO_WIDTH_SPACE, "")


@given(texts)
def test_a_safe_text_is_left_alone(text):
    assert harmless(harmless(text)) == harmless(text)


@pytest.mark.parametrize(
    "text",
    [
        '[FANTASY] "Who goes there?" she asked. *Nobody*, said the door: not I.\n\n***\n\nIt was 10:30.',
        "mail me @ noon, or bob@castle.example",
        "He wrote `lumos` -- and/or <nothing> at all.",
        "👩‍👧 日本語 é ½",
    ],
)
def test_ordinary_text_is_not_touched(text):
    assert harmless(text) == text
