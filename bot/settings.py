"""The settings of the bot: one frozen, typed object, read once from the environment and the clone's .env.

Each variable is described here and nowhere else; .env.example is checked against it by a test. A wrong value ends the start
with a sentence that names the variable and what it may be.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bot.errors import BadSetting

ROOT = Path(__file__).resolve().parent.parent
"""The clone: models/, .env and .state/ are found from here, wherever the command is run."""


def default_model_dir() -> Path:
    """The bundled model that models/DEFAULT names."""
    try:
        return ROOT / "models" / (ROOT / "models" / "DEFAULT").read_text(encoding="utf-8").strip()
    except OSError:
        return ROOT / "models" / "DEFAULT"  # named in the sentence that says that there is no model


class Settings(BaseSettings):
    """Everything a host may change. A variable's name is the field's, in capitals."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    discord_token: SecretStr | None = Field(
        None, description="the bot's token; without one the storyteller runs in the terminal"
    )
    model_dir: Path = Field(
        default_factory=default_model_dir,
        description="the directory of the model that tells the stories; with ENGINE_URL, of its tokenizer and genres",
    )
    engine_url: str | None = Field(
        None,
        description="the servers that run the model instead of this machine, as http://gpu1:8000,http://gpu2:8000; "
        "unset, the model runs here",
    )
    engine_model: str | None = Field(
        None, description="the model's name on those servers; unset, they are asked, and the only one there is taken"
    )
    engine_api_key: SecretStr | None = Field(None, description="the key that those servers want, if they want one")
    engine_timeout_s: float = Field(
        60, ge=1, le=3600, description="seconds that a server may be silent, before the first word or between two"
    )
    story_length: int = Field(
        300, ge=16, le=4096, description="new tokens of a story at most, when nobody says; 4 are about 3 words"
    )
    max_story_length: int = Field(
        1000, ge=16, le=4096, description="the longest story that a person may ask for, in new tokens"
    )
    max_stories: int = Field(8, ge=1, le=256, description="stories written at the same time; more wait their turn")
    max_queued: int = Field(
        200, ge=1, le=100_000, description="stories that may wait; who asks past that is told to come later"
    )
    max_stories_per_user: int = Field(2, ge=1, le=100, description="stories that one person may have waiting or growing")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the model runs; auto takes a GPU where there is one"
    )
    threads: int | None = Field(
        None, ge=1, le=512, description="CPU threads of the model; unset, what was fastest at the first start"
    )
    edit_interval_s: float = Field(1.2, ge=0.2, le=30, description="seconds between two edits of a growing story")
    state_dir: Path = Field(ROOT / ".state", description="where the bot keeps what it must remember between two starts")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="how much the log says")
    discord_api_url: str | None = Field(
        None, pattern=r"^https?://", description="an HTTP proxy in place of Discord's API, as https://host/api/v10"
    )
    discord_gateway_url: str | None = Field(
        None, pattern=r"^wss?://", description="a gateway proxy in place of Discord's, as wss://host"
    )

    @field_validator("model_dir", "state_dir")
    @classmethod
    def _from_the_clone(cls, path: Path) -> Path:
        return ROOT / path.expanduser()

    @field_validator("engine_url")
    @classmethod
    def _each_an_address(cls, urls: str | None) -> str | None:
        addresses = [url.strip() for url in (urls or "").split(",") if url.strip()]
        for address in addresses:
            _check_address(address)
        if urls is not None and not addresses:
            raise ValueError(_ADDRESSES)
        return urls

    @field_validator("engine_api_key")
    @classmethod
    def _fits_a_header(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not (key.get_secret_value().isascii() and key.get_secret_value().isprintable()):
            raise ValueError("it should be on one line, of letters, digits and signs")
        return key

    @field_validator("log_level", "device", mode="before")
    @classmethod
    def _any_case(cls, value: Any, info: Any) -> Any:
        if not isinstance(value, str):
            return value
        return value.upper() if info.field_name == "log_level" else value.lower()


def load_settings(**overrides: Any) -> Settings:
    """The settings, with what the command line overrides. Raises BadSetting.

    They are read from the file that STORYTELLER_ENV_FILE names, the clone's .env by default, and from the environment, which
    wins; an empty variable there is the default, so that `DISCORD_TOKEN= make bot` opens the terminal.
    """
    file = Path(os.environ.get("STORYTELLER_ENV_FILE") or ROOT / ".env")
    emptied = {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in Settings.model_fields.items()
        if os.environ.get(name.upper()) == ""
    }
    try:
        return Settings(_env_file=file, **(emptied | overrides))  # pyright: ignore[reportCallIssue] (pydantic-settings takes it)
    except ValidationError as error:
        raise BadSetting("\n".join(_sentence(item) for item in error.errors())) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"The file {file} can't be read ({error}): save it as UTF-8 text.") from None


_ADDRESSES = "it should be addresses with http:// or https:// and a comma between them"


def _check_address(url: str) -> None:
    """Raises ValueError for what no request can be sent to."""
    parts = urlsplit(url)  # itself raises it for half an IPv6 address, `.port` for what is no port, "idna" for no host's name
    if parts.username is not None:
        raise ValueError("a name and password have no place in it; a key is ENGINE_API_KEY")
    if " " in url or parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError(_ADDRESSES)
    parts.hostname.encode("idna")


def _sentence(item: Any) -> str:
    """One fault of one variable, for the host. A token is never repeated."""
    name = str(item["loc"][0])
    secret = name in ("discord_token", "engine_api_key") or (name == "engine_url" and "@" in str(item["input"]))
    value = "its value" if secret else repr(item["input"])
    reason = str(item["msg"]).replace("Input should", "it should").replace("String should", "it should")
    reason = reason.removeprefix("Value error, ")
    return (
        f"{name.upper()} can't be {value}: {reason}. It is {Settings.model_fields[name].description}. "
        "Change it in .env or the environment."
    )
