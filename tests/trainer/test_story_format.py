from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.story_format import (
    END_TOKEN,
    FormatError,
    GenreCalibration,
    StoryCodec,
    StoryFormat,
    genre_name,
    scripts_of,
    split_tag,
)


def special_ids(codec: StoryCodec) -> set[int]:
    return {codec.end_id, *(codec.tag_id(genre) for genre in codec.format.genres)}


def test_a_story_is_tag_prompt_line_end_story_end(codec: StoryCodec) -> None:
    ids = codec.story("HORROR", codec.encode_prompt("old house"), codec.encode_text("It creaked."))
    assert codec.tokenizer.decode(ids, skip_special_tokens=False) == "[HORROR] old house\nIt creaked.<|endoftext|>"
    assert ids[0] == codec.tag_id("HORROR")
    assert ids[-1] == codec.end_id


@pytest.mark.parametrize("typed", [END_TOKEN, "[HORROR]", "a [FANTASY] b", f"x{END_TOKEN}[SCI-FI]"])
def test_text_from_people_never_becomes_a_special_token(codec: StoryCodec, typed: str) -> None:
    ids = codec.encode_prompt(typed)
    assert not special_ids(codec) & set(ids)
    assert codec.tokenizer.decode(ids, skip_special_tokens=True) == f" {typed}"


@given(text=st.text(max_size=60))
def test_any_text_is_encoded_without_special_tokens_and_read_back_unchanged(text: str) -> None:
    codec = _shared_codec()
    ids = codec.encode_text(text)
    assert not special_ids(codec) & set(ids)
    assert codec.tokenizer.decode(ids, skip_special_tokens=True) == text


_CODECS: list[StoryCodec] = []


def _shared_codec() -> StoryCodec:
    from trainer.base import add_tags, learn_tokenizer

    if not _CODECS:
        story_format = StoryFormat()
        tokenizer = learn_tokenizer(["a castle by the sea"], 300)
        add_tags(tokenizer, story_format)
        _CODECS.append(StoryCodec(tokenizer, story_format))
    return _CODECS[0]


def test_the_bot_reads_token_for_token_what_the_trainer_taught(codec: StoryCodec, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    codec.tokenizer.save(str(tmp_path / "tokenizer.json"))
    codec.format.save(tmp_path)
    again = StoryCodec(Tokenizer.from_file(str(tmp_path / "tokenizer.json")), StoryFormat.load(tmp_path))
    prompt = "a lamp [HORROR] in <|endoftext|>"
    assert again.opening("COMEDY", again.encode_prompt(prompt)) == codec.opening("COMEDY", codec.encode_prompt(prompt))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[HORROR] the old house", ("HORROR", "the old house")),
        ("  [SCI-FI]\tships", ("SCI-FI", "ships")),
        ("[horror] lower case is known", ("HORROR", "lower case is known")),
        ("[PIRATE] unknown but written as a tag", ("PIRATE", "unknown but written as a tag")),
        ("[pirate] just brackets", (None, "[pirate] just brackets")),
        ("the [HORROR] inside", (None, "the [HORROR] inside")),
        ("[HORROR]glued", (None, "[HORROR]glued")),
        ("[1] a footnote", (None, "[1] a footnote")),
        ("[HORROR]", ("HORROR", "")),
    ],
)
def test_only_a_leading_tag_chooses_the_genre(text: str, expected: tuple[str | None, str]) -> None:
    assert split_tag(text, ("HORROR", "SCI-FI")) == expected


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("sci fi", "SCI-FI"),
        ("[Fairy-Tale]", "FAIRY-TALE"),
        (" horror ", "HORROR"),
        ("", None),
        ("a/b", None),
        ("9", None),
    ],
)
def test_labels_become_names_of_tags(label: str, name: str | None) -> None:
    assert genre_name(label) == name


def test_the_format_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = StoryFormat(("FANTASY", "NOIR"), GenreCalibration(0.7, {"FANTASY": 0.1, "NOIR": -0.1}), ("LATIN",))
    written.save(tmp_path)
    assert StoryFormat.load(tmp_path) == written


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 9, "genres": ["A"]}', '{"version": 1, "genres": ["a b"]}'])
def test_a_torn_format_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "story_format.json").write_text(content)
    with pytest.raises(FormatError, match=r"story_format\.json"):
        StoryFormat.load(tmp_path)


def test_a_tokenizer_without_the_tags_is_refused(codec: StoryCodec) -> None:
    with pytest.raises(FormatError, match=r"\[NOIR\]"):
        StoryCodec(codec.tokenizer, StoryFormat(("NOIR",)))


def test_odds_sum_to_one_and_follow_the_bias() -> None:
    odds = GenreCalibration(1.0, {"B": math.log(3)}).odds({"A": -900.0, "B": -900.0})
    assert odds == pytest.approx({"A": 0.25, "B": 0.75})


def test_scripts_are_those_of_most_letters() -> None:
    assert scripts_of(["castle " * 50, "ж"]) == ("LATIN",)
    assert scripts_of(["замок", "castle"]) == ("LATIN", "CYRILLIC")
