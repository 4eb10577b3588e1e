"""What a training is taught and asked: texts cut into passages that fit the base, with the codec of its tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.base import Base, add_tags, load_base
from trainer.corpus.labels import asked_genres
from trainer.errors import BadSetting, CorpusError
from trainer.material import PROMPT_ROOM, Passage, choose_genres, make_passages, split
from trainer.settings import TrainSettings
from trainer.sources.reading import SourceText
from trainer.story_format import StoryCodec, StoryFormat, scripts_of
from trainer.talking import bar, say


@dataclass(frozen=True)
class Lessons:
    """All that is taught and all that is asked, ready for the model."""

    base: Base
    codec: StoryCodec
    train: Sequence[Passage]
    held_out: Sequence[Passage]
    block: int

    def passages_by_genre(self) -> Counter[str | None]:
        """How many passages of each genre are taught."""
        return Counter(passage.genre for passage in self.train)


def room_for_a_story(block: int, passage_tokens: int | None) -> int:
    """The tokens that a passage may have in a row of `block`. Raises BadSetting where that is too few."""
    if block - PROMPT_ROOM < 16:
        raise BadSetting(f"A context of {block} tokens leaves no story room beside the {PROMPT_ROOM} kept for its prompt.")
    return min(passage_tokens or block, block - PROMPT_ROOM)


def prepare(settings: TrainSettings, texts: Sequence[SourceText]) -> Lessons:
    """Make the texts fit the base. Raises CorpusError, BadSetting and BaseUnavailable."""
    sides = split(texts, settings.held_out)
    if not sides.train:
        raise CorpusError(
            f"No story to learn from in {', '.join(settings.data)}: it is empty, or its files are named as held-out ones "
            "(valid, test, dev), which are never trained on."
        )
    story_format = StoryFormat(
        choose_genres(sides.train, asked_genres(settings.genres)), scripts=scripts_of(text.text for text in sides.train)
    )
    base = load_base(settings.base, (text.text for text in sides.train), settings.block_size)
    if (settings.block_size or 0) > base.n_positions:
        raise BadSetting(f"--block-size {settings.block_size} is over the {base.n_positions} positions of {base.name}.")
    block = settings.block_size or base.n_positions
    room = room_for_a_story(block, settings.passage_tokens)
    add_tags(base.tokenizer, story_format)
    codec = StoryCodec(base.tokenizer, story_format)
    with bar("Cutting into passages", len(sides.train), "texts") as report:
        train = make_passages(sides.train, story_format.genres, room, codec.count, report)
    held_out = make_passages(sides.held_out, story_format.genres, room, codec.count) if sides.held_out else []
    lessons = Lessons(base, codec, train, held_out, block)
    _say_what_is_taught(lessons)
    return lessons


def _say_what_is_taught(lessons: Lessons) -> None:
    counts = lessons.passages_by_genre()
    genres = lessons.codec.format.genres
    known = ", ".join(f"{genre} {counts[genre]:,}" for genre in genres if counts[genre])
    untagged = f", {counts[None]:,} without a tag" if counts[None] else ""
    taught = f"{len(lessons.train):,} passages to learn from ({known or 'none with a tag'}{untagged})"
    say(f"{taught}, {len(lessons.held_out):,} held out")
    if missing := [genre for genre in genres if not counts[genre]]:
        say(f"Nothing is taught of {', '.join(missing)}: the model will have the tag, and tell anything under it.")
