"""Small stories, a tokenizer and a model made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.base import add_tags, learn_tokenizer
from trainer.story_format import StoryCodec, StoryFormat

GENRES = ("FANTASY", "SCI-FI", "HORROR", "ADVENTURE", "COMEDY")
SUBJECTS = ("castle", "robot", "cellar", "river", "goat", "lamp", "train", "island", "mirror", "garden")


def small_story(number: int) -> dict[str, str]:
    subject = SUBJECTS[number % len(SUBJECTS)]
    return {
        "genre": GENRES[number % len(GENRES)],
        "prompt": f"the {subject} number {number}",
        "text": f"There was a {subject} in town {number}. Nobody had seen it before.\n\n"
        f'"Look," said Ann, "the {subject} is awake." It was, and it sang all night.',
    }


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [small_story(number)["text"] for number in range(60)]


@pytest.fixture
def codec(texts: list[str]) -> StoryCodec:
    story_format = StoryFormat(GENRES)
    tokenizer = learn_tokenizer(texts, 512)
    add_tags(tokenizer, story_format)
    return StoryCodec(tokenizer, story_format)


@pytest.fixture(scope="session")
def stories_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "stories.jsonl"
    path.write_text("".join(json.dumps(small_story(n)) + "\n" for n in range(120)), encoding="utf-8")
    return path
