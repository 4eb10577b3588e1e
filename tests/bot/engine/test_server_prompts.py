"""What is sent as text reads as it was meant: tags where we put them, and never where people typed them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gpt2 import END, TAGS, tiny_tokenizer
from tokenizers import Tokenizer

from bot.engine.server_prompts import PromptText

SPECIAL = (END, *TAGS)
PROMPT = PromptText(tiny_tokenizer())
SERVERS = tiny_tokenizer()


def specials(tokenizer: Tokenizer, text: str) -> list[str]:
    added = tokenizer.get_added_tokens_decoder()
    return [added[token].content for token in tokenizer.encode(text).ids if token in added and added[token].special]


@pytest.mark.parametrize(
    "typed",
    [
        f"the {END} castle",
        "a [HORROR] story",
        "[HORROR]",
        END * 3,
        f"[HOR{END}ROR]",
        f"[HOR[HORROR]ROR] <|end{END}oftext|>",
        "[FANTASY][HORROR]",
    ],
)
def test_what_people_type_never_becomes_a_special_token(typed: str) -> None:
    ids = [SERVERS.token_to_id("[FANTASY]"), *PROMPT.encode(f" {typed}\n")]
    written = PROMPT.written(ids)
    assert specials(SERVERS, written) == ["[FANTASY]"]
    assert written.startswith("[FANTASY] ")
    assert [c for c in written if not c.isspace()] == [c for c in f"[FANTASY]{typed}" if not c.isspace()]


parts = st.sampled_from([*SPECIAL, "[", "]", "<|", "|>", "endoftext", "HORROR", "FANTASY", " ", "\n", "é", "🐉", "x"])


@given(st.lists(parts | st.text(max_size=5), max_size=12).map("".join))
def test_no_text_at_all_becomes_a_special_token(typed: str) -> None:
    written = PROMPT.written([SERVERS.token_to_id("[HORROR]"), *PROMPT.encode(typed)])
    assert specials(SERVERS, written) == ["[HORROR]"]


@given(st.text(alphabet="the castle dragon, é🐉.\n", max_size=60))
def test_harmless_text_is_sent_as_it_is(typed: str) -> None:
    assert PROMPT.written(PROMPT.encode(typed)) == typed


def test_half_a_character_at_a_cut_is_left_out() -> None:
    ids = PROMPT.encode("🐉 castle")
    assert PROMPT.written(ids[1:]).strip() == "castle"
