"""Streamed characters are whole, and together they are the text."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bot.engine.characters import Characters, Vocabulary

SIZE = 400


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    characters = Characters(Vocabulary(tokenizer, SIZE, frozenset()))
    return [text_of(characters, [token_id]) for token_id in ids]


def text_of(characters: Characters, ids: list[int]) -> str:
    for token_id in ids:
        characters.add(token_id)
    return characters.take()


@settings(max_examples=300, deadline=None)
@given(ids=st.lists(st.integers(0, SIZE - 1), max_size=60))
def test_streamed_equals_decoded_for_any_tokens_even_invalid_bytes(tokenizer: Tokenizer, ids: list[int]) -> None:
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    text = "".join(streamed(tokenizer, ids))
    assert whole.startswith(text)
    assert set(whole[len(text) :]) <= {"\ufffd"}
    assert len(whole) - len(text) <= 2  # a character has at most three bytes too few


@settings(max_examples=200, deadline=None)
@given(ids=st.lists(st.integers(0, SIZE - 1), max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
def test_tokens_together_are_the_text_that_they_are_one_by_one(tokenizer: Tokenizer, ids: list[int], cuts: list[int]) -> None:
    together = Characters(Vocabulary(tokenizer, SIZE, frozenset()))
    borders = [0, *sorted(cuts), len(ids)]
    text = "".join(text_of(together, ids[start:end]) for start, end in pairwise(borders))
    assert text == "".join(streamed(tokenizer, ids))


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=30))
def test_text_comes_back_with_no_character_broken(tokenizer: Tokenizer, text: str) -> None:
    pieces = streamed(tokenizer, tokenizer.encode(text).ids)
    assert "".join(pieces) == tokenizer.decode(tokenizer.encode(text).ids)
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


def test_a_character_waits_for_its_last_byte(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.token_to_id(byte) for byte in "ðŁĲī"]  # 🐉 in four tokens of one byte
    assert streamed(tokenizer, ids) == ["", "", "", "🐉"]


def test_bytes_that_are_no_character_are_not_held_back(tokenizer: Tokenizer) -> None:
    stray = tokenizer.token_to_id("Ģ")  # the byte 0x80
    assert streamed(tokenizer, [stray] * 5) == ["\ufffd"] * 5


def test_tags_and_padding_are_unwritable_and_the_end_is_not(tokenizer: Tokenizer) -> None:
    end = tokenizer.token_to_id("<|endoftext|>")
    vocabulary = Vocabulary(tokenizer, tokenizer.get_vocab_size() + 2, frozenset({end}))
    tags = {tokenizer.token_to_id("[FANTASY]"), tokenizer.token_to_id("[HORROR]")}
    padding = {tokenizer.get_vocab_size(), tokenizer.get_vocab_size() + 1}
    assert vocabulary.unwritable == tags | padding
