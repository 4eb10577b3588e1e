"""`python -m trainer grammar`: print stories, or check the plots."""

from __future__ import annotations

from random import Random

from trainer.corpus.labels import genre_meant
from trainer.errors import BadSetting
from trainer.grammar.check import say_check
from trainer.grammar.grammar import DATA, Grammar
from trainer.settings import GrammarSettings


def tell_or_check(settings: GrammarSettings) -> int:
    """The exit status: 1 where a check found something. Raises BadSetting and GrammarError."""
    wanted = _wanted(settings)
    grammar = Grammar(settings.folder or DATA, only=[wanted] if wanted else [])
    if wanted and wanted not in grammar.genres:
        raise BadSetting(f"The grammar has no genre {wanted}; look at the folders in {settings.folder or DATA}.")
    names = list(grammar.genres)
    if settings.check:
        return 1 if say_check(grammar, names) else 0
    about = " ".join(settings.about) or None
    for number in range(settings.count):
        genre = names[number % len(names)]
        tale = grammar.tell(genre, Random(f"{settings.seed} {number}"), about)
        print(f"[{tale.genre}] {tale.prompt}\n\n{tale.text}\n\n({tale.plot})\n")
    return 0


def _wanted(settings: GrammarSettings) -> str | None:
    if settings.genre is None:
        return None
    name = genre_meant(settings.genre)
    if name is None:
        raise BadSetting(f"--genre {settings.genre!r} can't be a genre: use letters, digits and hyphens.")
    return name
