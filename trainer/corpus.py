"""From sources to stories that fit the context: read, split into training and held-out, cut, find prompts.

The side of the split is a hash of the book, so it is the same in every run and for every base: a model taught in two runs has
one held-out set, and a book is never on both sides. The price is that a share of 5 % is 5 % of the books only in the mean.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from trainer.errors import CorpusError
from trainer.passages import CountTokens, cut
from trainer.prompts import MAX_WORDS, PromptFinder, PromptSources
from trainer.reading import SourceText
from trainer.story_format import CORE_GENRES

PROMPT_ROOM = 2 * MAX_WORDS
"""Tokens of a row kept free for tag, prompt and end; a longer prompt is left out of the row rather than its story."""


@dataclass(frozen=True)
class Passage:
    """One story as it will be taught, with what its prompt is drawn from."""

    text: str
    genre: str | None
    prompts: PromptSources


@dataclass(frozen=True)
class Split:
    """Texts on the two sides."""

    train: list[SourceText]
    held_out: list[SourceText]


def is_held_out(book: str, share: float) -> bool:
    """Which side a book is on, by a hash of its name (or of its text, where it has none)."""
    digest = hashlib.blake2b(book.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def split(texts: Iterable[SourceText], share: float) -> Split:
    """Each text to its side: held-out where its file says so or the hash of its book does."""
    sides = Split([], [])
    for text in texts:
        (sides.held_out if text.held_out or is_held_out(text.book, share) else sides.train).append(text)
    return sides


def choose_genres(texts: Sequence[SourceText], wanted: Sequence[str]) -> tuple[str, ...]:
    """The genres that the model will know: those wanted, else the four that are always there and all that the texts have."""
    if wanted:
        return tuple(dict.fromkeys(wanted))
    found = Counter(text.genre for text in texts if text.genre is not None)
    return (*CORE_GENRES, *(name for name, _ in found.most_common() if name not in CORE_GENRES))


def make_passages(
    texts: Sequence[SourceText],
    genres: Sequence[str],
    room: int,
    count: CountTokens,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Passage]:
    """Whole passages of at most `room` tokens, each with its prompt sources. A genre that is not taught becomes none.

    Raises CorpusError when nothing is left.
    """
    pieces: list[SourceText] = []
    for done, text in enumerate(texts):
        for number, passage in enumerate(cut(text.text, room, count)):
            # What introduces the whole text introduces its first passage only.
            first = number == 0
            pieces.append(
                replace(text, text=passage, prompt=text.prompt if first else None, title=text.title if first else None)
            )
        if done % 100 == 0:
            progress(done)
    progress(len(texts))
    if not pieces:
        raise CorpusError("The sources hold no story: each line or record was blank.")
    finder = PromptFinder(piece.text for piece in pieces)
    return [
        Passage(
            piece.text,
            piece.genre if piece.genre in genres else None,
            finder.find(piece.text, prompt=piece.prompt, title=piece.title),
        )
        for piece in pieces
    ]
