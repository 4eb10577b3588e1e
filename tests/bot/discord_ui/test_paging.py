from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from bot.discord_ui.paging import clip, page_starts, pages, units

LIMIT = 40
words = st.text(st.sampled_from("ab.!é😀👍🏽\u200d\u0301🇩🇪"), min_size=1, max_size=60)
spaces = st.sampled_from([" ", "  ", "\n", "\n\n", "\t", " \n \n "])
texts = st.lists(st.one_of(words, spaces), max_size=40).map("".join) | st.text(max_size=300)


def squeezed(text: str) -> str:
    return "".join(text.split())


@given(texts)
def test_all_text_is_on_the_pages_in_order(text):
    assert squeezed("".join(pages(text, page_starts(text, LIMIT)))) == squeezed(text)


@given(texts)
def test_no_page_is_empty_or_over_the_limit(text):
    for page in pages(text, page_starts(text, LIMIT)):
        assert page.strip() == page
        assert 0 < units(page) <= LIMIT


@given(texts, st.data())
@example("a" * 41, None)
def test_a_break_that_was_shown_stays_while_the_text_grows(text, data):
    shown: tuple[int, ...] = ()
    cuts = [] if data is None else sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    for n in [*cuts, len(text)]:
        later = page_starts(text[:n], LIMIT, shown)
        assert later[: len(shown)] == shown
        shown = later
    assert shown == page_starts(text, LIMIT)  # nobody has to remember them: they follow from the text


@given(texts, st.integers(0, 300))
def test_trimming_the_end_moves_no_break_before_it(text, n):
    shown = page_starts(text, LIMIT)
    trimmed = page_starts(text[:n], LIMIT, shown)
    assert trimmed == tuple(start for start in shown if start < len(text[:n].rstrip()))
    assert all(0 < units(page) <= LIMIT for page in pages(text[:n], trimmed))


@given(texts)
def test_a_clipped_text_fits_and_says_that_it_was_cut(text):
    clipped = clip(text, LIMIT)
    assert units(clipped) <= LIMIT
    assert clipped == text.strip() or clipped.endswith("…")


def both_pages(text: str) -> list[str]:
    return pages(text, page_starts(text, LIMIT))


def test_a_page_ends_with_a_paragraph_if_it_can():
    assert both_pages("One. Two three four.\n\nFive. Six seven eight nine.") == [
        "One. Two three four.",
        "Five. Six seven eight nine.",
    ]


def test_else_with_a_sentence():
    assert both_pages('He said "wait there." And then he went away for ever.') == [
        'He said "wait there."',
        "And then he went away for ever.",
    ]


def test_else_with_a_word():
    assert both_pages("a castle made of glass and of green light stood there") == [
        "a castle made of glass and of green",
        "light stood there",
    ]


def test_a_word_longer_than_a_page_is_cut_but_no_emoji_and_no_accent():
    family = "👨\u200d👩\u200d👧"
    assert both_pages("x" * 37 + family)[0] == "x" * 37
    assert both_pages("x" * 39 + "e\u0301")[0] == "x" * 39
    assert both_pages("x" * 38 + "🇩🇪")[0] == "x" * 38


def test_a_word_that_ends_just_at_the_limit_stays_whole():
    assert both_pages("a" * 20 + " " + "b" * 19 + " c") == ["a" * 20 + " " + "b" * 19, "c"]
