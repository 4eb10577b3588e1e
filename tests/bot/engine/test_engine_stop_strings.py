from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.engine.stop_strings import StopStrings

letters = st.text("abc", max_size=12)


@given(st.lists(letters, max_size=8), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_what_is_shown_is_the_text_before_the_first_stop_string_however_it_is_cut(
    pieces: list[str], strings: list[str]
) -> None:
    stop = StopStrings(strings)
    shown = ""
    whole = ""
    for piece in pieces:
        shown += stop.feed(piece)
        whole += piece
        ends = [whole.find(string) for string in strings if string in whole]
        assert stop.hit == bool(ends)
        if ends:
            break
        assert whole.startswith(shown)
    if stop.hit:
        # a stop string that is found first may begin after one that is longer and not yet whole
        assert shown == whole[: min(whole.find(string) for string in strings if string in whole)]
        assert stop.feed("more") == ""
    else:
        assert shown + stop.flush() == whole


def test_text_that_may_begin_a_stop_string_is_held_back_and_no_more_than_that() -> None:
    stop = StopStrings(["\n\n", "THE END"])
    assert stop.feed("once\n") == "once"
    assert stop.feed("upon TH") == "\nupon "
    assert stop.feed("IS END") == "THIS END"
    assert stop.feed("THE ENDING") == ""
    assert stop.hit
