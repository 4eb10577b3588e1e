from __future__ import annotations

from random import Random

from trainer.prompts import MAX_WORDS, PromptFinder

TEXT = "The octopus wound the clock. Every night the octopus counted.\n\nIn the morning the clock was gone."


def test_a_story_keeps_the_prompt_it_came_with() -> None:
    sources = PromptFinder(lambda: [TEXT]).find(TEXT, prompt="a clockwork octopus", title="Eight Arms")
    assert {sources.draw(Random(seed)) for seed in range(50)} == {"a clockwork octopus"}


def test_the_corpus_is_read_once_and_only_for_stories_without_a_prompt() -> None:
    readings: list[int] = []

    def texts() -> list[str]:
        readings.append(1)
        return [TEXT]

    finder = PromptFinder(texts)
    finder.find(TEXT, prompt="a clockwork octopus")
    assert readings == []
    finder.find(TEXT)
    finder.find(TEXT, title="Eight Arms")
    assert readings == [1]


def test_a_story_without_a_prompt_gets_title_keywords_first_sentence_and_sometimes_none() -> None:
    finder = PromptFinder(lambda: [TEXT, *(f"The man {n} went to the house in the morning." for n in range(50))])
    sources = finder.find(TEXT, title="Eight Arms")
    drawn = {sources.draw(Random(seed)) for seed in range(400)}
    assert {"Eight Arms", "", "The octopus wound the clock."} <= drawn
    keywords = {*sources.keywords, ""}
    by_keywords = drawn - {"Eight Arms", "The octopus wound the clock."}
    assert len(by_keywords) > 20
    assert all(set(prompt.replace(",", "").split(" ")) <= keywords for prompt in by_keywords)
    assert all(len(prompt.split()) <= MAX_WORDS for prompt in drawn)


def test_keywords_are_of_this_story_and_not_of_all() -> None:
    finder = PromptFinder(lambda: [TEXT, *(f"The man {n} went to the house in the morning." for n in range(50))])
    keywords = finder.find(TEXT).keywords
    assert {"octopus", "clock"} <= set(keywords)
    assert not {"the", "morning"} & set(keywords)


def test_the_same_random_state_draws_the_same_prompt() -> None:
    sources = PromptFinder(lambda: [TEXT]).find(TEXT, title="Eight Arms")
    assert [sources.draw(Random(n)) for n in range(20)] == [sources.draw(Random(n)) for n in range(20)]
