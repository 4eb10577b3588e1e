from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from scripted_engine import ScriptedEngine

from bot.engine.interface import FinishReason, Waiting
from bot.errors import EngineFailed, NothingToTell, ShuttingDown
from bot.model_dir import ModelDescription
from bot.storyteller.story import Ending, Stage, Story, StoryRequest, StoryUpdate, place_in_line
from bot.storyteller.storyteller import ModelStoryteller
from trainer.story_format import GenreCalibration, StoryCodec, StoryFormat


def storyteller(engine: ScriptedEngine, model: ModelDescription) -> ModelStoryteller:
    return ModelStoryteller(engine, model, default_length=100, max_length=400)


async def told(engine: ScriptedEngine, model: ModelDescription, request: StoryRequest) -> list[StoryUpdate]:
    return [update async for update in storyteller(engine, model).tell(request)]


async def story_of(engine: ScriptedEngine, model: ModelDescription, request: StoryRequest) -> Story:
    story = (await told(engine, model, request))[-1].story
    assert story is not None
    return story


async def test_a_story_grows_and_opens_with_its_tag(model: ModelDescription) -> None:
    engine = ScriptedEngine(["  The", " castle", " sang.", "\n"])
    updates = await told(engine, model, StoryRequest("magic castle", "fantasy", seed=7))
    assert [update.stage for update in updates] == [Stage.LOADING] + [Stage.WRITING] * 4 + [Stage.DONE]
    growing = [update.text for update in updates[1:-1]]
    assert growing[:3] == ["[FANTASY] The", "[FANTASY] The castle", "[FANTASY] The castle sang."]
    assert all(after.startswith(before) for before, after in pairwise(growing))
    story = updates[-1].story
    assert story is not None
    assert (story.text, story.genre, story.seed) == ("[FANTASY] The castle sang.", "FANTASY", 7)
    assert (story.prompt, story.new_tokens, story.finish_reason) == ("magic castle", 4, Ending.STOP)
    assert story.prompt_tokens == len(engine.requests[0].prompt_ids)


async def test_the_model_reads_tag_prompt_and_line_end(model: ModelDescription) -> None:
    engine = ScriptedEngine(["x"])
    await told(engine, model, StoryRequest("magic castle", "HORROR", length=50))
    request = engine.requests[0]
    assert list(request.prompt_ids) == model.codec.opening("HORROR", model.codec.encode_prompt("magic castle"))
    assert request.max_new_tokens == 50
    assert request.sampling == model.sampling
    assert request.sampling.temperature == 0.8


async def test_the_genre_is_the_likeliest_when_it_is_not_given(model: ModelDescription) -> None:
    engine = ScriptedEngine(["x"])
    engine.scores = [-9.0, -3.0, -1.0, -5.0]
    assert (await story_of(engine, model, StoryRequest("old house"))).genre == "HORROR"
    prefixes, continuation = engine.scored[0]
    assert prefixes == [[model.codec.tag_id(genre)] for genre in model.genres]
    assert continuation == model.codec.encode_prompt("old house")


async def test_a_known_tag_as_the_first_word_chooses_the_genre(model: ModelDescription) -> None:
    engine = ScriptedEngine(["x"])
    story = await story_of(engine, model, StoryRequest("[horror] a [FANTASY] <|endoftext|> house"))
    assert (story.genre, story.prompt) == ("HORROR", "a [FANTASY] <|endoftext|> house")
    special = {model.codec.end_id, *(model.codec.tag_id(genre) for genre in model.genres)}
    assert [token for token in engine.requests[0].prompt_ids if token in special] == [model.codec.tag_id("HORROR")]
    assert not engine.scored


async def test_a_named_genre_wins_over_a_typed_tag(model: ModelDescription) -> None:
    story = await story_of(ScriptedEngine(["x"]), model, StoryRequest("[HORROR] house", "sci fi"))
    assert (story.genre, story.prompt) == ("SCI-FI", "house")


async def test_a_story_at_its_length_ends_with_its_last_whole_sentence(model: ModelDescription) -> None:
    engine = ScriptedEngine(["It was late in the house. ", "The door", " ope"], finish=FinishReason.LENGTH)
    story = await story_of(engine, model, StoryRequest("door", "HORROR"))
    assert (story.text, story.finish_reason) == ("[HORROR] It was late in the house.", Ending.LENGTH)


async def test_a_story_that_ends_before_its_first_word_is_tried_again(model: ModelDescription) -> None:
    engine = ScriptedEngine([], [" ", "\n"], ["At last."])
    story = await story_of(engine, model, StoryRequest("door", "HORROR", seed=5))
    assert story.text == "[HORROR] At last."
    assert story.seed == 5
    assert len({request.seed for request in engine.requests}) == 3
    again = ScriptedEngine([], [" ", "\n"], ["At last."])
    await story_of(again, model, StoryRequest("door", "HORROR", seed=5))
    assert again.requests == engine.requests


async def test_a_model_that_never_says_a_word_is_told_to_the_person(model: ModelDescription) -> None:
    with pytest.raises(NothingToTell):
        await told(ScriptedEngine([], [], [], []), model, StoryRequest("door", "HORROR"))


async def test_a_seed_is_drawn_and_kept_when_none_is_given(model: ModelDescription) -> None:
    stories = [await story_of(ScriptedEngine(["x"]), model, StoryRequest("door", "HORROR")) for _ in range(2)]
    assert stories[0].seed != stories[1].seed


async def test_a_story_that_waits_says_where_it_stands_and_who_asks_is_known_to_the_engine(model: ModelDescription) -> None:
    engine = ScriptedEngine([Waiting(3, 20.0), Waiting(1, None), "It was late."])
    updates = await told(engine, model, StoryRequest("door", "HORROR", user=5, server=6))
    queued = [update for update in updates if update.stage is Stage.QUEUED]
    assert [place_in_line(update) for update in queued] == ["3rd in line, about 20 s", "1st in line"]
    assert [update.stage for update in updates[-2:]] == [Stage.WRITING, Stage.DONE]
    assert (engine.requests[0].user, engine.requests[0].server) == (5, 6)


@pytest.mark.parametrize(
    ("position", "estimate_s", "words"),
    [
        (2, 0.0, "2nd in line, a few seconds"),
        (11, 58.0, "11th in line, about 1 min"),
        (22, 57.0, "22nd in line, about 55 s"),
        (113, 170.0, "113th in line, about 3 min"),
        (101, None, "101st in line"),
    ],
)
def test_a_place_in_the_line_is_a_few_words(position: int, estimate_s: float | None, words: str) -> None:
    assert place_in_line(StoryUpdate(Stage.QUEUED, position=position, estimate_s=estimate_s)) == words


async def test_a_storyteller_that_closes_hands_over_what_it_has(model: ModelDescription) -> None:
    engine = ScriptedEngine(["It was late. ", "And", ShuttingDown("closing")])
    story = await story_of(engine, model, StoryRequest("door", "HORROR"))
    assert story.finish_reason is Ending.CANCELLED
    assert story.text == "[HORROR] It was late."
    with pytest.raises(ShuttingDown):
        await told(ScriptedEngine([ShuttingDown("closing")]), model, StoryRequest("door", "HORROR"))


async def test_a_broken_engine_is_told_and_not_hidden(model: ModelDescription) -> None:
    with pytest.raises(EngineFailed, match="broke"):
        await told(ScriptedEngine(["It", EngineFailed("The model broke.")]), model, StoryRequest("door", "HORROR"))


async def test_closing_the_story_closes_the_generation(model: ModelDescription) -> None:
    engine = ScriptedEngine(["It", " was", " late."])
    telling = storyteller(engine, model).tell(StoryRequest("door", "HORROR"))
    async for update in telling:
        if update.stage is Stage.WRITING:
            break
    await telling.aclose()
    assert engine.closed == 1


async def test_control_characters_of_a_model_are_not_shown(model: ModelDescription) -> None:
    story = await story_of(ScriptedEngine(["A \x1b[31mred\x00 door.\x07"]), model, StoryRequest("door", "HORROR"))
    assert story.text == "[HORROR] A [31mred door."


async def test_odds_sum_to_one_in_the_order_of_the_genres(model: ModelDescription) -> None:
    engine = ScriptedEngine()
    engine.scores = [-2.0, -1.0, -3.0, -4.0]
    odds = await storyteller(engine, model).genre_odds("a ship")
    assert tuple(odds) == model.genres
    assert sum(odds.values()) == pytest.approx(1)
    assert max(odds, key=odds.__getitem__) == "SCI-FI"


async def test_an_engine_that_can_not_score_gives_the_most_common_genre_and_the_story_says_so(model: ModelDescription) -> None:
    biased = StoryFormat(model.genres, GenreCalibration(1.0, {"SCI-FI": 2.0}), ("LATIN",))
    model = replace(model, codec=StoryCodec(model.codec.tokenizer, biased))
    engine = ScriptedEngine(["x"], ["y"])
    engine.cannot_score = True
    story = await story_of(engine, model, StoryRequest("old house"))
    assert (story.genre, story.genre_assumed) == ("SCI-FI", True)
    named = await story_of(engine, model, StoryRequest("old house", "horror"))
    assert (named.genre, named.genre_assumed) == ("HORROR", False)


async def test_a_story_says_whether_its_seed_repeats_it(model: ModelDescription) -> None:
    engine = ScriptedEngine(["x"], ["y"])
    assert (await story_of(engine, model, StoryRequest("old house", "horror"))).repeatable
    engine.repeatable = False
    assert not (await story_of(engine, model, StoryRequest("old house", "horror"))).repeatable
