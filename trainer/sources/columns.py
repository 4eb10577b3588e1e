"""Which column of a table, or field of a record, holds what: told by `--map text=body,genre=label`, else by its name.

A guess goes by names alone and never by looking at values: the same file with other rows must be read the same way. The price
is that odd names have to be told, and that the error must then list the columns that are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from trainer.errors import BadSetting, CorpusError

GUESSES = {
    "text": ("text", "story", "body", "content", "story_text", "full_text", "passage"),
    "prompt": ("prompt", "writing_prompt", "premise"),
    "genre": ("genre", "genres", "label", "labels", "tag", "tags", "category", "categories", "subject", "subjects"),
    "title": ("title", "story_title", "chapter_title"),
    "book": ("book", "book_title", "book_name", "book_id"),
    "source": ("source",),
    "author": ("author", "authors", "writer"),
    "licence": ("licence", "license", "rights"),
    "attribution": ("attribution", "credit"),
}
"""What columns are called, the likeliest name first. Capitals make no difference."""


class NoTextColumn(CorpusError):
    """These columns hold no text that can be found."""


@dataclass(frozen=True)
class ColumnMap:
    """The column that holds each thing; None for what is to be guessed, or was not found."""

    text: str | None = None
    prompt: str | None = None
    genre: str | None = None
    """Its label or labels."""
    title: str | None = None
    book: str | None = None
    source: str | None = None
    """Where the book is from; with it, books of one title from two places are two books."""
    author: str | None = None
    licence: str | None = None
    attribution: str | None = None

    @classmethod
    def parse(cls, setting: str) -> ColumnMap:
        """Read "text=body,genre=label". Raises BadSetting."""
        chosen: dict[str, str] = {}
        for pair in filter(None, (part.strip() for part in setting.split(","))):
            role, equals, column = (part.strip() for part in pair.partition("="))
            role = {"license": "licence"}.get(role, role)
            if role not in GUESSES:
                raise BadSetting(f"--map {pair}: there is no {role!r} to map to; there are {', '.join(GUESSES)}.")
            if not equals or not column:
                raise BadSetting(f"--map {pair}: name the column that holds the {role}, as in --map {role}=COLUMN.")
            if role in chosen:
                raise BadSetting(f"--map names two columns for {role}: {chosen[role]} and {column}. Leave one out.")
            chosen[role] = column
        return cls(**chosen)

    def chosen(self) -> dict[str, str]:
        """Each thing that a column is named for, with that column."""
        return {field.name: column for field in fields(self) if (column := getattr(self, field.name)) is not None}

    def missing(self, columns: Sequence[str]) -> str:
        """Those of the named columns that are not there, as they were given; empty when all are."""
        return ", ".join(f"{role}={column}" for role, column in self.chosen().items() if column not in columns)

    def find(self, columns: Sequence[str]) -> ColumnMap:
        """The same with guesses for what is not named, and None for what is not there. Raises NoTextColumn."""
        told = {role: column for role, column in self.chosen().items() if column in columns}
        if "text" in self.chosen() and "text" not in told:
            raise NoTextColumn(f"has no field {self.text}, which --map text={self.text} names; it has: {_listed(columns)}.")
        free = {column.strip().casefold(): column for column in reversed(columns) if column not in told.values()}
        guessed = {
            role: next((free[name] for name in names if name in free), None)
            for role, names in GUESSES.items()
            if role not in self.chosen()
        }
        found = replace(ColumnMap(), **guessed, **told)
        if found.text is None:
            raise NoTextColumn(
                f"has no field {', '.join(GUESSES['text'][:-1])} or {GUESSES['text'][-1]}; it has: {_listed(columns)}. "
                "Name the one with the text: --map text=COLUMN."
            )
        return found


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns) or "nothing"
