"""Lists of words and phrases, as the files in trainer/data/grammar hold them.

    == job: name | tool          a list, and what the parts of its entries are called
    baker | rolling pin          an entry; {job} is "baker", {job.tool} the "rolling pin" of the same story
    night nurse | lamp

An entry may itself have slots and choices ("Old {she-name}"). A list that a genre and the common files both have is drawn from
the genre's entries mostly: the price of a common word in every genre is that it says little about any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from trainer.grammar.errors import GrammarError

COMMON_SHARE = 0.15
"""How often a draw is from the common entries of a list that the genre has too."""
_HEADING = re.compile(r"==\s*([a-z][a-z-]*)\s*(?::\s*(.+))?")


@dataclass(frozen=True)
class Entry:
    """One word or phrase, in all its parts."""

    parts: tuple[str, ...]


@dataclass
class WordList:
    """The entries of one name. `parts` names what stands between the bars."""

    parts: tuple[str, ...]
    own: list[Entry] = field(default_factory=list[Entry])
    common: list[Entry] = field(default_factory=list[Entry])

    def draw(self, random: Random) -> Entry:
        """One entry, of the genre's own mostly."""
        if not self.own or (self.common and random.random() < COMMON_SHARE):
            return random.choice(self.common)
        return random.choice(self.own)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, notes left out, blank ones as "". Raises GrammarError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise GrammarError(f"{path} can't be read: {error}. Save it as UTF-8 text.") from None
    for number, line in enumerate(lines, 1):
        if not line.startswith("#"):
            yield number, line.rstrip()


def read_words(common: Iterable[Path], own: Iterable[Path] = ()) -> dict[str, WordList]:
    """All lists of the files, by name. Raises GrammarError."""
    lists: dict[str, WordList] = {}
    for paths, is_own in ((common, False), (own, True)):
        for path in paths:
            _read_file(path, lists, is_own)
    return lists


def _read_file(path: Path, lists: dict[str, WordList], own: bool) -> None:
    current: WordList | None = None
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        if line.startswith("=="):
            current = _heading(f"{path}:{number}", line, lists)
            continue
        if current is None:
            raise GrammarError(f"{path}:{number} stands before any list: begin one with == and its name.")
        parts = tuple(part.strip() for part in _bars(line))
        if len(parts) != len(current.parts) or not all(parts):
            expected = " | ".join(current.parts)
            raise GrammarError(f"{path}:{number} has {len(parts)} parts where the list has {len(current.parts)}: {expected}.")
        (current.own if own else current.common).append(Entry(parts))


def _bars(line: str) -> list[str]:
    """The line at the bars that stand outside of choices in brackets."""
    return re.split(r"\|(?![^\[\]]*\])", line)


def _heading(where: str, line: str, lists: dict[str, WordList]) -> WordList:
    match = _HEADING.fullmatch(line.strip())
    if match is None:
        raise GrammarError(f"{where}: {line!r} is no heading of a list; write == name, or == name: part | part.")
    name, written = match.groups()
    parts = tuple(part.strip() for part in written.split("|")) if written else ("name",)
    known = lists.setdefault(name, WordList(parts))
    if known.parts != parts:
        raise GrammarError(f"{where}: the list {name} has the parts {' | '.join(known.parts)} elsewhere: use the same.")
    return known
