from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.engine.server_events import MAX_EVENT_BYTES, EventStream, EventTooLong, WholeCharacters
from bot.engine.stop_strings import StopStrings


def events(*parts: bytes) -> list[str]:
    stream = EventStream()
    return [event for part in parts for event in stream.feed(part)] + stream.end()


def cut(text: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(borders)]


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1), max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 500), max_size=10),
)
def test_events_are_the_same_however_they_are_cut(texts: list[str], line_end: str, places: list[int]) -> None:
    raw = "".join(f": comment{line_end}data: {text}{line_end}{line_end}" for text in texts).encode()
    assert events(*cut(raw, places)) == texts


def test_lines_of_one_event_are_joined_and_other_fields_passed_over() -> None:
    assert events(b"id: 1\nevent: x\ndata: a\ndata:b\nretry: 5\n\n\n\n: ping\n\n") == ["a\nb"]


def test_the_last_event_needs_no_empty_line() -> None:
    assert events(b"data: a\n\ndata: b") == ["a", "b"]


@pytest.mark.parametrize("flood", [b"x", b"data: x\n"])
def test_what_never_ends_is_refused(flood: bytes) -> None:
    stream = EventStream()
    with pytest.raises(EventTooLong):
        deque((stream.feed(flood * (MAX_EVENT_BYTES // 100)) for _ in range(200)), maxlen=0)


@given(st.lists(st.sampled_from(["a", "é", "🐉", "\ud83d", "\udc09"]), max_size=12))
def test_halves_of_characters_are_joined_and_those_that_stay_alone_replaced(parts: list[str]) -> None:
    characters = WholeCharacters()
    fed = [characters.feed(part) for part in parts] + [characters.feed("", last=True)]
    whole = "".join(parts).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert "".join(fed) == whole
    assert all(piece.encode() is not None for piece in fed)  # no half is ever handed out


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(st.integers(0, 30)))
def test_a_text_ends_before_its_first_stop_string_however_it_comes(text: str, stop: list[str], places: list[int]) -> None:
    stops = StopStrings(stop)
    borders = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    shown = "".join(stops.feed(text[start:end]) for start, end in pairwise(borders))
    ends = [text.find(string) + len(string) for string in stop if string in text]
    if not ends:
        assert not stops.hit
        assert shown + stops.flush() == text
    else:
        first = min(ends)
        assert stops.hit
        assert text.startswith(shown)
        assert len(shown) <= first
        assert not any(string in shown for string in stop)
