from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.discord_ui.sync import fingerprint

commands = st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none()), max_size=4)


@given(commands, st.randoms())
def test_the_order_of_commands_and_of_their_fields_does_not_matter(given_commands, random):
    shuffled = [dict(random.sample(list(command.items()), len(command))) for command in given_commands]
    random.shuffle(shuffled)
    assert fingerprint(shuffled, 1) == fingerprint(given_commands, 1)


@given(commands)
def test_another_application_needs_its_own_sync(given_commands):
    assert fingerprint(given_commands, 1) != fingerprint(given_commands, 2)


def test_a_new_genre_changes_the_fingerprint():
    before = [{"name": "story", "options": [{"choices": ["FANTASY"]}]}]
    after = [{"name": "story", "options": [{"choices": ["FANTASY", "HORROR"]}]}]
    assert fingerprint(before, 1) != fingerprint(after, 1)
