"""`stories:` — the whole short stories that come with the project, with a fixed fifth of each genre held out.

Which fifth: of each genre the stories with the lowest lots, by a hash of their texts. So a story stays on its side when others
are added, as far as a fixed share allows, and every training and every grammar is measured against the same ones. The price is
that all of them (3 MB) are read before the first is handed on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path

from trainer.sources.json_lines import read_json_lines
from trainer.sources.lots import lot
from trainer.sources.options import ReadOptions
from trainer.sources.source_text import SourceText

FOLDER = Path(__file__).parent.parent / "data" / "stories"
LICENCE = "CC0-1.0"
HELD_OUT_SHARE = 0.2


def read_own_stories(options: ReadOptions, folder: Path = FOLDER) -> Iterator[SourceText]:
    """All of them, file by file, each marked as held out or not."""
    own = ReadOptions(bad=options.bad, note=options.note)  # --map is for other people's columns
    stories = [story for path in sorted(folder.glob("*.jsonl")) for story in read_json_lines(path, False, own)]
    if not stories:
        options.fault(f"The stories that come with the project are not in {folder}: install it again.")
    chosen = held_out_fifth(stories)
    for story in stories:
        yield replace(story, held_out=story.text in chosen, licence=LICENCE)


def held_out_fifth(stories: Iterable[SourceText]) -> set[str]:
    """The texts of the fifth of each genre, rounded up, that is never trained on."""
    by_genre: dict[str | None, set[str]] = {}
    for story in stories:
        by_genre.setdefault(story.genre, set()).add(story.text)
    return {text for texts in by_genre.values() for text in sorted(texts, key=lot)[: ceil(HELD_OUT_SHARE * len(texts))]}
