"""Builds the services from the settings, in one place."""

from __future__ import annotations

from collections.abc import Callable

from bot.engine.local import LocalEngine
from bot.model_dir import describe
from bot.settings import Settings
from bot.storyteller.storyteller import ModelStoryteller


def build_storyteller(settings: Settings, on_broken: Callable[[], object] = lambda: None) -> ModelStoryteller:
    """The storyteller over the local engine; nothing heavy is imported or loaded yet. Raises ModelUnavailable.

    `on_broken` is called, on another thread, when the model can't go on in this process.
    """
    model = describe(settings.model_dir)
    engine = LocalEngine(
        model.directory,
        threads=settings.threads,
        device=settings.device,
        max_stories=settings.max_stories,
        max_queued=settings.max_queued,
        threads_record=settings.state_dir / "threads.json",
        on_broken=on_broken,
    )
    return ModelStoryteller(engine, model, default_length=settings.story_length, max_length=settings.max_story_length)
