"""`grammar:` as a source: stories drawn from the plots, every genre in turn, no two the same.

A story is a function of the seed and its number, so all can be written again after a break. A plot is a book: all its stories
lie on one side of the split, since they share sentences. The price is a held-out set of few plots.

`grammar:FILE` takes what the stories are about from a file, one prompt a line, rather than from the grammar's own words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from random import Random

from trainer.errors import CorpusError
from trainer.grammar.grammar import Genre, Grammar, Tale, bundled
from trainer.sources.lots import lot
from trainer.sources.options import ReadOptions
from trainer.sources.reading import GRAMMAR, Unit
from trainer.sources.source_text import SourceText

DEFAULT_STORIES = 40_000
LICENCE = "CC0-1.0"
_TRIES = 200


def read(argument: str = "", count: int = DEFAULT_STORIES, genres: Sequence[str] = (), seed: int = 1) -> Iterator[SourceText]:
    """`count` different stories in all, as evenly spread over the genres as can be. Raises CorpusError and GrammarError."""
    grammar = bundled()
    names = [name for name in grammar.genres if not genres or name in genres]
    if not names:
        raise CorpusError(
            f"The grammar writes {', '.join(grammar.genres)}, and none of {', '.join(genres)}: choose among these."
        )
    subjects = _subjects(Path(argument)) if argument else None
    seen: set[bytes] = set()
    for number in range(count):
        tale = _new_tale(grammar, names[number % len(names)], number, seed, subjects, seen)
        yield SourceText(
            tale.text,
            tale.genre,
            tale.prompt,
            None,
            _book(tale.genre, tale.plot),
            held_out=False,
            origin=f"grammar:{argument} story {number + 1}",
            licence=LICENCE,
        )


def grammar_unit(argument: str, lines: int | None, genres: Sequence[str], held_out: float, seed: int) -> Unit:
    """The stories for a corpus: so many that the lines are full when held-out plots are taken off. Raises CorpusError."""
    count = DEFAULT_STORIES if lines is None else _stories_for(lines, genres, held_out)

    def texts(_: ReadOptions) -> Iterator[SourceText]:
        return read(argument, count, genres, seed)

    return Unit(f"{GRAMMAR}{argument} {count}", texts)


def _stories_for(lines: int, genres: Sequence[str], held_out: float) -> int:
    known = [genre for name, genre in bundled().genres.items() if not genres or name in genres]
    most = max((_held_out_share(genre, held_out) for genre in known), default=0.0)
    # A twentieth more, since plots are drawn by chance, and a few stories are as good as alike.
    return ceil(lines / (1 - most) * 1.05) + 8 * len(known)


def _held_out_share(genre: Genre, held_out: float) -> float:
    apart = sum(lot(_book(genre.name, plot.name)) < held_out for plot in genre.plots)
    return min(apart / len(genre.plots), 0.9)


def _book(genre: str, plot: str) -> str:
    return f"grammar/{genre}/{plot}"


def _new_tale(grammar: Grammar, genre: str, number: int, seed: int, subjects: Sequence[str] | None, seen: set[bytes]) -> Tale:
    for attempt in range(_TRIES):
        random = Random(f"{seed} {genre} {number} {attempt}")
        tale = grammar.tell(genre, random, random.choice(subjects) if subjects else None)
        digest = hashlib.blake2b(tale.text.encode(), digest_size=8).digest()
        if digest not in seen:
            seen.add(digest)
            return tale
    raise CorpusError(f"The grammar has no new {genre} story after {number:,}: ask for fewer --lines, or add plots.")


def _subjects(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} can't be read ({error}): grammar:FILE takes a text file with one prompt a line.") from None
    subjects = [line for line in lines if line]
    if not subjects:
        raise CorpusError(f"{path} is empty: grammar:FILE takes a text file with one prompt a line.")
    return subjects
