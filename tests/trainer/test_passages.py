from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from trainer.passages import cut, cut_together, sentences

WORDS = st.lists(st.sampled_from(["the", "cat", "sat.", "It", '"No!"', "said", "Mr.", "Fox?", "x" * 30]), min_size=1)
TEXTS = st.lists(WORDS.map(" ".join), min_size=1, max_size=8).map("\n\n".join)


def count_characters(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


@given(text=TEXTS, room=st.integers(20, 200))
def test_passages_hold_every_word_in_order_and_fit(text: str, room: int) -> None:
    passages = cut(text, room, count_characters)
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert all(0 < len(passage) <= room for passage in passages)


@given(texts=st.lists(TEXTS, max_size=6), room=st.integers(20, 200))
def test_texts_are_cut_together_as_they_are_alone(texts: list[str], room: int) -> None:
    assert cut_together(texts, room, count_characters) == [cut(text, room, count_characters) for text in texts]


def test_texts_that_fit_are_counted_in_one_call_and_one_that_is_far_too_long_is_not_counted_whole() -> None:
    counted: list[list[str]] = []

    def count(texts: Sequence[str]) -> list[int]:
        counted.append(list(texts))
        return count_characters(texts)

    book = "A sentence of a book. " * 100
    assert cut_together(["One.", "Two."], 50, count) == [["One."], ["Two."]]
    assert counted == [["One.", "Two."]]
    cut_together(["One.", book, "Two."], 50, count)
    assert counted[1] == ["One.", "Two."]


def test_a_cut_is_at_a_paragraph_end_where_it_can_be() -> None:
    paragraphs = ["One two three. Four five six.", "Seven eight nine. Ten.", "Eleven twelve."]
    assert cut("\n\n".join(paragraphs), 60, count_characters) == [
        "\n\n".join(paragraphs[:1]),
        "\n\n".join(paragraphs[1:]),
    ]


def test_a_paragraph_that_is_too_long_is_cut_at_sentence_ends() -> None:
    text = "One two three four. Five six seven. Eight nine ten. Eleven twelve."
    passages = cut(text, 40, count_characters)
    assert len(passages) > 1
    assert all(passage.endswith(".") for passage in passages)


def test_a_text_that_fits_is_left_as_it_is() -> None:
    assert cut("Short. Text.", 100, count_characters) == ["Short. Text."]


def test_scene_breaks_do_not_open_or_end_a_passage() -> None:
    parts = ["A long first paragraph here.", "* * *", "Another long paragraph here."]
    assert cut("\n\n".join(parts), 40, count_characters) == [parts[0], parts[2]]


def test_titles_and_initials_end_no_sentence() -> None:
    text = 'Mr. Fox met Dr. J. Hare. "Run!" he said. "Why?" Nobody knew...'
    assert sentences(text) == ["Mr. Fox met Dr. J. Hare.", '"Run!" he said.', '"Why?"', "Nobody knew..."]
