"""The model that everybody gets: it is there, it is small enough, and it tells a story."""

from __future__ import annotations

from pathlib import Path

from bot.building import build_storyteller
from bot.engine.model_files import shard_files, weights_file
from bot.settings import ROOT, Settings, default_model_dir
from bot.storyteller.story import StoryRequest


def test_the_default_model_is_bundled_with_its_card() -> None:
    directory = default_model_dir()
    assert directory.parent == ROOT / "models"
    assert 0 < sum(file.stat().st_size for file in shard_files(weights_file(directory))) <= 64_000_000
    card = (directory / "README.md").read_text(encoding="utf-8")
    assert "python -m trainer train" in card
    assert "nats per token" in card


async def test_two_words_become_a_tagged_story_that_a_seed_repeats(tmp_path: Path) -> None:
    storyteller = build_storyteller(Settings(model_dir=default_model_dir(), state_dir=tmp_path))
    stories = []
    try:
        for _ in range(2):
            updates = [update async for update in storyteller.tell(StoryRequest("magic castle", seed=1))]
            stories.append(updates[-1].story)
    finally:
        await storyteller.close()
    first, second = stories
    assert first is not None
    assert second is not None
    assert first.genre == "FANTASY"
    assert first.text.startswith("[FANTASY] ")
    assert len(first.text.split()) > 40
    assert first.text == second.text
