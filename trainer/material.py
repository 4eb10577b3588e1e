"""From sources to stories that fit the context: read, split into training and held-out, cut, find prompts.

The side of the split is a hash of the book, so it is the same in every run and for every base: a model taught in two runs has
one held-out set, and a book is never on both sides. The price is that a share of 5 % is 5 % of the books only in the mean.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from trainer.errors import CorpusError
from trainer.passages import CountTokens, cut_together
from trainer.prompts import MAX_WORDS, PromptFinder, PromptSources
from trainer.sources.lots import lot
from trainer.sources.source_text import SourceText, batched
from trainer.story_format import CORE_GENRES

PROMPT_ROOM = 2 * MAX_WORDS
"""Tokens of a row kept free for tag, prompt and end; a longer prompt is left out of the row rather than its story."""
_CHARACTERS_AT_ONCE = 2**20
"""Of texts that are counted in one call: a thousand short stories, or a book or two. No more of a corpus is in memory."""


@dataclass(frozen=True)
class Passage:
    """One story as it will be taught, with what its prompt is drawn from."""

    text: str
    genre: str | None
    prompts: PromptSources


Item = TypeVar("Item")


class Some(Sequence[Item], Generic[Item]):
    """Some items of a sequence, by their indices: what lies on disk stays there."""

    def __init__(self, items: Sequence[Item], indices: Sequence[int]) -> None:
        """Copies nothing."""
        self._items = items
        self._indices = indices

    def __len__(self) -> int:
        """How many."""
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        """One item, or fewer of them."""
        return Some(self._items, self._indices[index]) if isinstance(index, slice) else self._items[self._indices[index]]


@dataclass(frozen=True)
class Split:
    """Texts on the two sides."""

    train: Sequence[SourceText]
    held_out: Sequence[SourceText]


def held_out_under(drawn: Sequence[float], share: float, named: bool) -> float:
    """The lot under which a book is held out, given the sorted lots of all books that no file name holds out.

    Of two books or more one is always held out, that of the lowest lot, unless files are `named` as held-out ones; one is
    always taught, that of the highest.
    """
    if not drawn or share <= 0:
        return 0.0
    limit = drawn[1] if len(drawn) > 1 and drawn[0] >= share and not named else share
    return min(limit, drawn[-1])


def split(texts: Sequence[SourceText], share: float) -> Split:
    """Each text to its side: held-out where its file says so, or the lot of its book is low enough."""
    named = [text.held_out for text in texts]
    lots = [lot(text.book) for text in texts]
    drawn = sorted({value for value, apart in zip(lots, named, strict=True) if not apart})
    limit = held_out_under(drawn, share, any(named))
    apart = [flag or value < limit for flag, value in zip(named, lots, strict=True)]
    return Split(
        Some(texts, [index for index, flag in enumerate(apart) if not flag]),
        Some(texts, [index for index, flag in enumerate(apart) if flag]),
    )


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


@dataclass(frozen=True, slots=True)
class _Piece:
    """Where a passage stands in its text; `text` is kept only where it is no slice of it."""

    index: int
    start: int
    end: int
    first: bool
    text: str | None = None


def _pieces_of(index: int, text: SourceText, passages: Sequence[str]) -> Iterator[_Piece]:
    position = 0
    for number, passage in enumerate(passages):
        start = text.text.find(passage, position)
        if start < 0:  # a sentence was parted from the next by more than a space
            yield _Piece(index, position, position, number == 0, passage)
        else:
            position = start + len(passage)
            yield _Piece(index, start, position, number == 0)


class Passages(Sequence[Passage]):
    """Passages that are read from their texts when they are asked for, so that a corpus on disk stays there.

    In memory are only where each one stands and what its prompt is drawn from.
    """

    def __init__(self, texts: Sequence[SourceText], pieces: Sequence[_Piece], genres: Sequence[str]) -> None:
        """Finds the prompt sources of all passages: in two passes over the texts, in one where each has its own prompt."""
        self._texts = texts
        self._pieces = pieces
        self._genres = frozenset(genres)
        finder = PromptFinder(lambda: (text for _, text in self._each()))
        self._prompts = [
            # What introduces the whole text introduces its first passage only.
            finder.find(text, prompt=source.prompt if piece.first else None, title=source.title if piece.first else None)
            for (piece, source), text in self._each()
        ]

    def _each(self) -> Iterator[tuple[tuple[_Piece, SourceText], str]]:
        held: tuple[int, SourceText] | None = None
        for piece in self._pieces:
            if held is None or held[0] != piece.index:
                held = piece.index, self._texts[piece.index]
            yield (piece, held[1]), _text_of(piece, held[1])

    def __len__(self) -> int:
        """How many."""
        return len(self._pieces)

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | Sequence[Passage]:
        """One passage, or some."""
        if isinstance(index, slice):
            return Some(self, range(len(self))[index])
        piece = self._pieces[index]
        source = self._texts[piece.index]
        genre = source.genre if source.genre in self._genres else None
        return Passage(_text_of(piece, source), genre, self._prompts[index])


def _text_of(piece: _Piece, source: SourceText) -> str:
    return piece.text if piece.text is not None else source.text[piece.start : piece.end]


def make_passages(
    texts: Sequence[SourceText],
    genres: Sequence[str],
    room: int,
    count: CountTokens,
    progress: Callable[[int], None] = lambda _: None,
) -> Passages:
    """Whole passages of at most `room` tokens, each with its prompt sources. A genre that is not taught becomes none.

    Raises CorpusError when nothing is left.
    """
    pieces: list[_Piece] = []
    done = 0
    for some in batched(texts, _CHARACTERS_AT_ONCE):
        for text, passages in zip(some, cut_together([text.text for text in some], room, count), strict=True):
            pieces += _pieces_of(done, text, passages)
            done += 1
        progress(done)
    if not pieces:
        raise CorpusError("The sources hold no story: each line or record was blank.")
    return Passages(texts, pieces, genres)
