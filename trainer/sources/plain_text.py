"""Plain text, plain or gzipped: one story a line, or stories parted by end marks, or a book.

Which of them, the first 200 lines decide for the whole file:

- a line that is `<|endoftext|>` alone: stories of several lines, parted by such lines, as GPT-2's trainers have them;
- else the first line has a tag, or half of all lines do: one story a line;
- else at least one empty line for every twenty lines of text: a book, see `books`;
- else: one story a line.

The price of one rule for everybody: short stories of one line each with empty lines between them, and no tags, are taken for
the paragraphs of a book. Such a file is told of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import chain, islice
from pathlib import Path

from trainer.sources.books import read_book
from trainer.sources.lines import Lines
from trainer.sources.options import ReadOptions
from trainer.sources.source_text import SourceText, clean, what_is_no_text
from trainer.sources.story_lines import PARAGRAPH_BREAK, from_line
from trainer.story_format import END_TOKEN, one_line, split_tag

LINES_TO_JUDGE_BY = 200
LINES_PER_GAP = 20
"""A book has an empty line for every so many lines of text at least."""
START_MARK = "<|startoftext|>"


class Form(Enum):
    """What the lines of a text file are."""

    STORY_A_LINE = "one story a line"
    MARKED = "stories parted by end marks"
    BOOK = "a book"


def form_of(head: Sequence[str]) -> Form:
    """What a file is whose first lines these are."""
    lines = [line.strip() for line in head]
    filled = [line for line in lines if line]
    if END_TOKEN in lines:
        return Form.MARKED
    tagged = sum(split_tag(line)[0] is not None for line in filled)
    if not filled or split_tag(filled[0])[0] is not None or 2 * tagged >= len(filled):
        return Form.STORY_A_LINE
    return Form.BOOK if gaps(lines) * LINES_PER_GAP >= len(filled) else Form.STORY_A_LINE


def looks_like_book(head: Sequence[str]) -> bool:
    """Tell the first lines of a book from those of a file with one story a line."""
    return form_of(head) is Form.BOOK


def gaps(lines: Sequence[str]) -> int:
    """How many times empty lines stand between lines of text."""
    starts = sum(bool(line) and not before for before, line in zip(["", *lines], lines, strict=False))
    return max(0, starts - 1)


def read_text(path: Path, held_out: bool, options: ReadOptions) -> Iterator[SourceText]:
    """The texts of a text file: its stories, or its chapters."""
    lines = Lines(path, options)
    numbered = ((lines.number, line) for line in lines)
    first = list(islice(numbered, LINES_TO_JUDGE_BY))
    head = [line for _, line in first]
    match form_of(head):
        case Form.BOOK:
            _tell_of_long_lines(path, head, options)
            yield from read_book(lines, chain(head, (line for _, line in numbered)), held_out, options)
        case Form.MARKED:
            yield from _marked_stories(path, chain(first, numbered), held_out, options)
        case Form.STORY_A_LINE:
            yield from _story_lines(path, head, chain(first, numbered), held_out, options)


def _tell_of_long_lines(path: Path, head: Sequence[str], options: ReadOptions) -> None:
    """Say so where nothing but the empty lines speaks for a book: no paragraph is wrapped."""
    filled = sum(bool(line.strip()) for line in head)
    if gaps([line.strip() for line in head]) == filled - 1:
        options.note(
            f"{path} is read as one book, since empty lines part its paragraphs. If each line is a story of its own, take the "
            "empty lines out, or begin each with a tag."
        )


def _story_lines(
    path: Path, head: Sequence[str], lines: Iterable[tuple[int, str]], held_out: bool, options: ReadOptions
) -> Iterator[SourceText]:
    tagged = [line for line in map(str.strip, head) if split_tag(line)[0]]
    corpus_form = 2 * sum(from_line(line) is not None for line in tagged) > len(tagged)
    for number, written in lines:
        line = written.strip()
        read = from_line(line) if corpus_form or PARAGRAPH_BREAK in line else None
        genre, prompt, rest = read or (*_split(line),)
        if text := _checked(rest, f"{path}:{number}", options):
            yield _story(text, genre, prompt, f"{path}:{number}", held_out)


def _split(line: str) -> tuple[str | None, str, str]:
    genre, rest = split_tag(line)
    return genre, "", rest


def _marked_stories(path: Path, lines: Iterable[tuple[int, str]], held_out: bool, options: ReadOptions) -> Iterator[SourceText]:
    story: list[str] = []
    start = 1
    for number, line in chain(lines, [(0, END_TOKEN)]):
        if line.strip() != END_TOKEN:
            start = start if story else number
            story += [line] if story or line.strip() else []
            continue
        genre, _, rest = _split("".join(story).strip().removeprefix(START_MARK))
        story = []
        if text := _checked(rest, f"{path}:{start}", options):
            yield _story(text, genre, "", f"{path}:{start}", held_out)


def _checked(written: str, origin: str, options: ReadOptions) -> str:
    """The text, cleaned; empty, and told of, where it is none."""
    if problem := what_is_no_text(written):
        options.fault(f"{origin} {problem}.")
        return ""
    return clean(written)


def _story(text: str, genre: str | None, prompt: str, origin: str, held_out: bool) -> SourceText:
    labels = (genre,) if genre else ()
    return SourceText(text, genre, one_line(prompt) or None, None, text, held_out, labels, origin)
