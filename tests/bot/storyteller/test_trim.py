from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.storyteller.trim import whole_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two. Thr", "One. Two."),
        ('He said, "Run!" And then', 'He said, "Run!"'),
        ("One long sentence. Mr.", "One long sentence."),
        ("No end here", "No end here…"),
        (
            "A. And a very long half sentence that goes on and on",
            "A. And a very long half sentence that goes on and on…",
        ),
        ("Version 2.5 of it. The", "Version 2.5 of it."),
        ("All of it.\n", "All of it."),
        ("", ""),
    ],
)
def test_a_story_is_cut_after_its_last_whole_sentence(text: str, expected: str) -> None:
    assert whole_sentences(text) == expected


@given(st.text())
def test_trimming_only_takes_from_the_end_and_never_all(text: str) -> None:
    trimmed = whole_sentences(text)
    assert text.startswith((trimmed, trimmed.removesuffix("…")))
    assert bool(trimmed) == bool(text.rstrip())
