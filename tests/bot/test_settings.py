from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.errors import BadSetting
from bot.settings import ROOT, Settings, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("STORYTELLER_ENV_FILE", str(tmp_path / ".env"))


def test_every_variable_is_in_the_example_with_a_comment() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    named = {match.group(1): number for number, line in enumerate(lines) if (match := re.match(r"([A-Z_]+)=", line))}
    assert set(named) == {name.upper() for name in Settings.model_fields}
    for name, number in named.items():
        above = lines[number - 1]
        assert above.startswith("#") or re.match(r"[A-Z_]+=", above), f"{name} has no comment"


def test_the_example_is_a_valid_env_file_and_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    without_a_file = load_settings()
    monkeypatch.setenv("STORYTELLER_ENV_FILE", str(ROOT / ".env.example"))
    assert load_settings() == without_a_file
    assert without_a_file.discord_token is None


def test_an_empty_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DISCORD_TOKEN=somebodys.real.token\nTHREADS=\n", encoding="utf-8")
    assert load_settings().discord_token is not None
    monkeypatch.setenv("DISCORD_TOKEN", "")
    assert load_settings().discord_token is None


def test_a_home_directory_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", "~/models/mine")
    assert load_settings().model_dir == Path.home() / "models" / "mine"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("STORY_LENGTH=120\nTHREADS=2\n", encoding="utf-8")
    monkeypatch.setenv("STORY_LENGTH", "140")
    settings = load_settings()
    assert (settings.story_length, settings.threads) == (140, 2)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("STORY_LENGTH", "many", "STORY_LENGTH can't be 'many'"),
        ("STORY_LENGTH", "3", "greater than or equal to 16"),
        ("MAX_STORIES", "0", "MAX_STORIES can't be '0'"),
        ("DEVICE", "tpu", "'auto', 'cpu' or 'cuda'"),
        ("LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("DISCORD_API_URL", "discord.com", "DISCORD_API_URL"),
        ("ENGINE_URL", "gpu1:8000", "as http://gpu1:8000,http://gpu2:8000"),
        ("ENGINE_URL", "http://gpu1:8000 http://gpu2:8000", "a comma between them"),
        ("ENGINE_URL", ",", "a comma between them"),
        ("ENGINE_URL", "http://gpu1:80000", "ENGINE_URL can't be 'http://gpu1:80000': Port out of range"),
        ("ENGINE_URL", "http://gpu1,http://:8000", "ENGINE_URL can't be"),
        ("ENGINE_URL", "http://gpu1..here", "ENGINE_URL can't be"),
        ("ENGINE_URL", "http://[::1", "ENGINE_URL can't be"),
        ("ENGINE_TIMEOUT_S", "0", "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_names_the_variable_and_what_it_may_be(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting, match=re.escape(says)):
        load_settings()


def test_a_path_is_found_from_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DIR", "models/mine")
    assert load_settings().model_dir == ROOT / "models" / "mine"


@pytest.mark.parametrize("name", ["DISCORD_TOKEN", "ENGINE_API_KEY"])
def test_a_secret_is_not_shown_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "very.secret.token")
    assert "secret.token" not in repr(load_settings())


def test_a_password_in_an_address_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_URL", "http://me:sesame@gpu1:8000")
    with pytest.raises(BadSetting, match="a key is ENGINE_API_KEY") as raised:
        load_settings()
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize("urls", ["http://gpu1:8000, https://gpu2/v1", "http://gpu1:8000,", "http://[::1]:8000"])
def test_several_servers_may_be_named(monkeypatch: pytest.MonkeyPatch, urls: str) -> None:
    monkeypatch.setenv("ENGINE_URL", urls)
    assert load_settings().engine_url == urls


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"STORY_LENGTH=\xff\xfe\n")
    with pytest.raises(BadSetting, match=r"\.env"):
        load_settings()


def test_settings_can_not_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.story_length = 5  # type: ignore[misc]


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("ENGINE_API_KEY", key)
    with pytest.raises(BadSetting, match="on one line") as raised:
        load_settings()
    assert key not in str(raised.value)
