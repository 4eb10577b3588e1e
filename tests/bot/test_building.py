"""Which engine tells the stories is one setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.building import build_engine
from bot.engine.http import HttpEngine
from bot.engine.interface import Engine
from bot.engine.local import LocalEngine
from bot.model_dir import describe
from bot.settings import default_model_dir, load_settings


@pytest.mark.parametrize(("url", "kind"), [(None, LocalEngine), ("http://gpu1:8000", HttpEngine)])
def test_servers_tell_the_stories_where_they_are_named_else_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str | None, kind: type[Engine]
) -> None:
    monkeypatch.setenv("STORYTELLER_ENV_FILE", str(tmp_path / "none"))
    engine = build_engine(load_settings(engine_url=url), describe(default_model_dir()), lambda: None)
    assert isinstance(engine, kind)
