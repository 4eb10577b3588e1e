"""The command `/story`, made for the model that is loaded: its genres and its length are the options people see.

Annotations are evaluated where the command is made, since they hold those values; so there is no
`from __future__ import annotations` in this file.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import discord
from discord import app_commands

from bot.discord_ui import limits, wording
from bot.storyteller.interface import Storyteller
from bot.storyteller.story import StoryRequest

Answer = Callable[[discord.Interaction, StoryRequest], Awaitable[None]]


def story_command(storyteller: Storyteller, answer: Answer) -> app_commands.Command[Any, ..., None]:
    """`/story prompt genre? length? seed?`, which hands a request to `answer` and does nothing else."""
    prompts = _Text(limits.PROMPT_CHARS)
    genres = _genre_option(storyteller.genres)
    lengths = _Whole(storyteller.min_length, storyteller.max_length)
    seeds = _Whole(0, storyteller.max_seed)

    @app_commands.command(name="story", description=wording.STORY_DESCRIPTION)
    @app_commands.describe(
        prompt=wording.PROMPT_DESCRIPTION,
        genre=wording.GENRE_DESCRIPTION,
        length=wording.LENGTH_DESCRIPTION,
        seed=wording.SEED_DESCRIPTION,
    )
    async def story(
        interaction: discord.Interaction,
        prompt: Annotated[str, prompts],
        genre: Annotated[str, genres] | None = None,
        length: Annotated[int, lengths] | None = None,
        seed: Annotated[int, seeds] | None = None,
    ) -> None:
        await answer(interaction, StoryRequest(prompt, genre, length, seed))

    return story


class _Text(app_commands.Transformer):
    """A text of 1 to `longest` characters."""

    def __init__(self, longest: int) -> None:
        self._longest = longest

    @property
    def min_value(self) -> int:
        return 1

    @property
    def max_value(self) -> int:
        return self._longest

    async def transform(self, interaction: discord.Interaction, value: str, /) -> str:
        return value


class _Whole(app_commands.Transformer):
    """A whole number; Discord's client refuses one outside the range before it is sent."""

    def __init__(self, lowest: int, highest: int) -> None:
        self._lowest, self._highest = lowest, highest

    @property
    def type(self) -> discord.AppCommandOptionType:
        return discord.AppCommandOptionType.integer

    @property
    def min_value(self) -> int:
        return self._lowest

    @property
    def max_value(self) -> int:
        return self._highest

    async def transform(self, interaction: discord.Interaction, value: int, /) -> int:
        return value


class _GenreChoice(app_commands.Transformer):
    """One of the genres, offered as a list."""

    def __init__(self, genres: Sequence[str]) -> None:
        self._genres = genres

    @property
    def choices(self) -> list[app_commands.Choice[str | int | float]]:
        return _as_choices(self._genres)

    async def transform(self, interaction: discord.Interaction, value: str, /) -> str:
        return value


class _GenreSearch(app_commands.Transformer):
    """One of more genres than a list of choices holds: found while typing."""

    def __init__(self, genres: Sequence[str]) -> None:
        self._genres = genres

    async def transform(self, interaction: discord.Interaction, value: str, /) -> str:
        return value

    async def autocomplete(  # pyright: ignore[reportIncompatibleMethodOverride] - discord.py types the value as a union
        self,
        interaction: discord.Interaction,
        value: str,
        /,
    ) -> list[app_commands.Choice[str | int | float]]:
        """The genres that hold what was typed, those that start with it first."""
        typed = value.upper()
        found = sorted((genre for genre in self._genres if typed in genre), key=lambda genre: genre.find(typed))
        return _as_choices(found[: limits.CHOICES])


def _genre_option(genres: Sequence[str]) -> app_commands.Transformer:
    return _GenreChoice(genres) if len(genres) <= limits.CHOICES else _GenreSearch(genres)


def _as_choices(genres: Sequence[str]) -> list[app_commands.Choice[str | int | float]]:
    return [app_commands.Choice(name=genre, value=genre) for genre in genres]
