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
from trainer.sources.reading import SourceText
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


def lot(book: str) -> float:
    """Where a book falls between 0 and 1, by a hash of its name (or of its text, where it has none)."""
    return int.from_bytes(hashlib.blake2b(book.encode(), digest_size=8).digest(), "big") / 2**64


def split(texts: Sequence[SourceText], share: float) -> Split:
    """Each text to its side: held-out where its file says so, or the lot of its book is under the share.

    Of two books or more one is always held out, that of the lowest lot, and one is always taught, that of the highest.
    """
    lots = {text.book: lot(text.book) for text in texts if not text.held_out}
    chosen = {book for book, drawn in lots.items() if drawn < share}
    if lots and share > 0:
        by_lot = sorted(lots, key=lots.__getitem__)
        if len(lots) > 1 and not any(text.held_out for text in texts):
            chosen.add(by_lot[0])
        chosen.discard(by_lot[-1])
    held_out = [text for text in texts if text.held_out or text.book in chosen]
    return Split([text for text in texts if not (text.held_out or text.book in chosen)], held_out)


def spread(passages: Sequence[Passage], most: int) -> list[Passage]:
    """At most so many of the passages, evenly spread over all of them."""
    count = min(most, len(passages))
    return [passages[index * len(passages) // count] for index in range(count)]


def digest_of(texts: Iterable[SourceText]) -> str:
    """A fingerprint of all that the texts say, by which a training knows that it is taught the same thing."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        digest.update(repr((text.text, text.genre, text.prompt, text.title, text.book, text.held_out)).encode())
    return digest.hexdigest()


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
