"""The grammar of all genres: the files, read once, and stories drawn from them.

trainer/data/grammar/common/*.txt      words for every genre, names, forms of prompts
trainer/data/grammar/GENRE/words*.txt  words of one genre
trainer/data/grammar/GENRE/plots*.txt  its plots
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from trainer.grammar.errors import GrammarError
from trainer.grammar.nouns import Noun, noun_from
from trainer.grammar.plots import KINDS, Plot, read_plots
from trainer.grammar.prompts import PromptForms
from trainer.grammar.telling import Cast, tell
from trainer.grammar.words import WordList, read_words
from trainer.story_format import genre_name

DATA = Path(__file__).parent.parent / "data" / "grammar"
MIN_WORDS, MAX_WORDS = 60, 160
_TRIES = 30


@dataclass(frozen=True)
class Tale:
    """One story that the grammar wrote."""

    genre: str
    plot: str
    prompt: str
    text: str


@dataclass(frozen=True)
class Genre:
    """The plots and words of one genre."""

    name: str
    plots: Sequence[Plot]
    lists: dict[str, WordList]


class Grammar:
    """All genres of a folder."""

    def __init__(self, folder: Path = DATA, only: Collection[str] = ()) -> None:
        """Reads the files, of some genres only where they are named. Raises GrammarError."""
        common = sorted((folder / "common").glob("*.txt"))
        self.genres: dict[str, Genre] = {}
        for path in sorted(path for path in folder.iterdir() if path.is_dir() and path.name != "common"):
            name = genre_name(path.name)
            if only and name not in only:
                continue
            plots = [plot for file in sorted(path.glob("plots*.txt")) for plot in read_plots(file)]
            if name is None or not plots:
                raise GrammarError(f"{path} has no plots: put a plots.txt there, or take the folder away.")
            self.genres[name] = Genre(name, plots, read_words(common, sorted(path.glob("words*.txt"))))
        self._prompts = PromptForms(read_words(common))
        self.kinds = self._kinds()

    def _kinds(self) -> dict[str, str]:
        """The kind of each noun that some list has, by its last word."""
        kinds: dict[str, str] = {}
        for kind in KINDS:
            for genre in self.genres.values():
                for entry in [*genre.lists[kind].own, *genre.lists[kind].common]:
                    kinds.setdefault(entry.parts[0].split()[-1].lower(), kind)
        return kinds

    def tell(self, genre: str, random: Random, about: str | None = None, plot: Plot | None = None) -> Tale:
        """One story of 60 to 160 words; `about` is what a person might type. Raises GrammarError."""
        known = self.genres[genre]
        subject = noun_from(about, self.kinds) if about is not None else None
        chosen, text = known.plots[0], ""
        for _ in range(_TRIES):
            chosen = plot or random.choice(_fitting(known, subject))
            cast = Cast(known.lists, random)
            # The subject is drawn first: nothing else may take its word.
            cast.bound[chosen.about] = subject[1] if subject else cast.draw_noun(chosen.about)
            text = tell(chosen, cast)
            if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
                prompt = about if about is not None else self._prompts.draw(chosen, cast)
                return Tale(genre, chosen.name, prompt, text)
        raise GrammarError(
            f"{chosen.where}: {chosen.name!r} is never {MIN_WORDS} to {MAX_WORDS} words long; it was {len(text.split())}."
        )


def _fitting(genre: Genre, subject: tuple[str, Noun] | None) -> Sequence[Plot]:
    """The plots about a subject of this kind; all where none is given, or no plot is about that kind."""
    if subject is None:
        return genre.plots
    return [plot for plot in genre.plots if plot.about == subject[0]] or genre.plots


@cache
def bundled() -> Grammar:
    """The grammar that comes with the project."""
    return Grammar()
