"""A GPU that only a new process gets over: the process ends with the status by which a supervisor starts it again."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from bot import building, console
from bot.__main__ import main
from bot.discord_ui import run
from bot.errors import EngineBroken


class Broken:
    """A storyteller whose model breaks, on another thread, as soon as it is loaded."""

    genres = ("FANTASY",)
    min_length, max_length, max_seed = 16, 400, 2**53 - 1

    def __init__(self, on_broken: Callable[[], object] = lambda: None) -> None:
        self.on_broken = on_broken

    async def load(self) -> None:
        threading.Thread(target=self.on_broken).start()

    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYTELLER_ENV_FILE", os.devnull)
    monkeypatch.setenv("DISCORD_TOKEN", "a.token.of-nobody")
    monkeypatch.setattr(building, "build_storyteller", lambda _settings, on_broken=lambda: None: Broken(on_broken))


def test_the_bot_on_discord_leaves_and_ends_with_70(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[str] = []

    async def serve(*_: object, **__: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.append("Discord")

    monkeypatch.setattr(run, "serve", serve)
    assert main(["discord"]) == 70
    assert left == ["Discord"]
    assert "Start the bot again" in capsys.readouterr().err


def test_the_terminal_ends_with_70_after_the_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def once(*_: object, **__: object) -> int:
        raise EngineBroken("The model broke.")

    monkeypatch.setattr(console, "once", once)
    assert main(["console", "--once", "castle"]) == 70
    assert "The model broke." in capsys.readouterr().err
