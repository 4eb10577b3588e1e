from __future__ import annotations

import pytest

from bot.errors import BadLength, BadSeed, EmptyPrompt, PromptTooLong, StoryError, UnknownGenre, UnknownScript
from bot.model_dir import ModelDescription
from bot.storyteller.request import MAX_SEED, Limits, Order, check
from bot.storyteller.story import StoryRequest

LIMITS = Limits(default_length=100, max_length=400, max_prompt_tokens=120)


def order(model: ModelDescription, prompt: str, **kwargs: object) -> Order:
    return check(StoryRequest(prompt, **kwargs), model.codec, LIMITS)  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["", "   \n", "🐉🏰", "@everyone", "```\n```", "<@1234567890> !!", "…", "\u202e\u200b"])
def test_a_prompt_without_words_is_refused_with_an_example(model: ModelDescription, prompt: str) -> None:
    with pytest.raises(EmptyPrompt, match="magic castle"):
        order(model, prompt)


@pytest.mark.parametrize(
    "prompt", ["a 🐉", "1984", "```code``` castle", "@everyone in the castle", "café", "naïve <|endoftext|>"]
)
def test_a_prompt_with_words_is_taken_as_it_is(model: ModelDescription, prompt: str) -> None:
    assert order(model, prompt).prompt == prompt


@pytest.mark.parametrize("prompt", ["طلسم القلعة", "טירת קסמים", "魔法の城"])
def test_letters_that_the_model_never_saw_are_named(model: ModelDescription, prompt: str) -> None:
    with pytest.raises(UnknownScript, match=r"reads Latin letters, and that prompt is in (Arabic|Hebrew|Cjk)"):
        order(model, prompt)


def test_a_long_prompt_is_refused_with_both_numbers(model: ModelDescription) -> None:
    with pytest.raises(PromptTooLong, match=r"has [\d,]+ tokens; this model reads 120"):
        order(model, "castle " * 860)


@pytest.mark.parametrize("kwargs", [{"genre": "PIRATE"}, {"genre": "?"}])
def test_a_genre_that_the_model_lacks_is_refused_with_those_it_has(model: ModelDescription, kwargs: dict[str, str]) -> None:
    with pytest.raises(UnknownGenre, match="FANTASY, SCI-FI, HORROR, ADVENTURE"):
        order(model, "a ship", **kwargs)


def test_a_tag_that_the_model_lacks_is_refused_too(model: ModelDescription) -> None:
    with pytest.raises(UnknownGenre, match="PIRATE"):
        order(model, "[PIRATE] a ship")


def test_a_tag_alone_is_a_story_of_that_genre(model: ModelDescription) -> None:
    assert order(model, "[HORROR]").genre == "HORROR"


@pytest.mark.parametrize("length", [0, -5, 15, 401, 10**9])
def test_a_length_out_of_range_is_refused(model: ModelDescription, length: int) -> None:
    with pytest.raises(BadLength, match="from 16 to 400"):
        order(model, "a ship", length=length)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_out_of_range_is_refused(model: ModelDescription, seed: int) -> None:
    with pytest.raises(BadSeed):
        order(model, "a ship", seed=seed)


def test_halves_of_characters_and_control_characters_are_left_out(model: ModelDescription) -> None:
    assert order(model, "\ud800 magic\x00 castle\x1b").prompt == "magic castle"


def test_every_refusal_is_one_sentence_for_a_person(model: ModelDescription) -> None:
    for prompt in ("", "castle " * 860, "[PIRATE] ship", "טירה"):
        with pytest.raises(StoryError) as raised:
            order(model, prompt)
        assert str(raised.value)
        assert "\n" not in str(raised.value)
