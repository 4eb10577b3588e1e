"""Builds the services from the settings, in one place."""

from __future__ import annotations

from collections.abc import Callable

from bot.engine.interface import Engine
from bot.engine.local import LocalEngine
from bot.model_dir import ModelDescription, describe
from bot.settings import Settings
from bot.storyteller.storyteller import ModelStoryteller


def build_storyteller(settings: Settings, on_broken: Callable[[], object] = lambda: None) -> ModelStoryteller:
    """The storyteller over the engine of the settings; nothing heavy is imported or loaded yet. Raises ModelUnavailable.

    `on_broken` is called, on another thread, when the model can't go on in this process; with servers it never is.
    """
    model = describe(settings.model_dir, with_weights=settings.engine_url is None)
    engine = build_engine(settings, model, on_broken)
    return ModelStoryteller(engine, model, default_length=settings.story_length, max_length=settings.max_story_length)


def build_engine(settings: Settings, model: ModelDescription, on_broken: Callable[[], object]) -> Engine:
    """The servers of ENGINE_URL, else this machine."""
    if settings.engine_url is None:
        return LocalEngine(
            model.directory,
            threads=settings.threads,
            device=settings.device,
            max_stories=settings.max_stories,
            max_queued=settings.max_queued,
            state_dir=settings.state_dir,
            on_broken=on_broken,
        )
    from bot.engine.http import HttpEngine  # brings aiohttp along, 0.3 s that the terminal needs not wait for

    return HttpEngine(
        settings.engine_url,
        model.directory,
        model=settings.engine_model,
        api_key=settings.engine_api_key.get_secret_value() if settings.engine_api_key else None,
        silence_s=settings.engine_timeout_s,
        max_stories=settings.max_stories,
        max_queued=settings.max_queued,
        sampling=model.sampling,
    )
