"""Clean texts of any source, and tell of each rule how many texts it changed or left out, with an example.

The rules themselves are in `rules` and `furniture` (what is mended) and `judgements` (what is left out). Ordinary prose takes
0.1 s per MB on one core. The price of an example for each rule is that a report holds words of the texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trainer.corpus.judgements import judgements
from trainer.corpus.rules import Punctuation, mendings
from trainer.sources.source_text import clean
from trainer.story_format import one_line

EXAMPLE_LETTERS = 80
_BEFORE_CHANGE = 25


@dataclass
class RuleTally:
    """What one rule did."""

    says: str
    """A sentence without its subject: "took out …", "left out …"."""
    removes: bool
    """Leaves whole texts out, rather than changes them."""
    texts: int = 0
    example: dict[str, str] = field(default_factory=dict[str, str])
    """Of the first text: `before` and `after` of a change; `text`, `why` and `origin` of what was left out."""


@dataclass
class CleaningReport:
    """What cleaning did to texts, by rule, in the order of the rules."""

    texts: int = 0
    kept: int = 0
    rules: dict[str, RuleTally] = field(default_factory=dict[str, RuleTally])

    @property
    def removed(self) -> int:
        """Texts that were left out."""
        return self.texts - self.kept

    def merge(self, other: CleaningReport) -> None:
        """Add what was done to other, later texts."""
        self.texts += other.texts
        self.kept += other.kept
        for name, tally in other.rules.items():
            mine = self.rules.setdefault(name, RuleTally(tally.says, tally.removes))
            mine.texts += tally.texts
            mine.example = mine.example or tally.example

    def to_json(self) -> dict[str, Any]:
        """All of it, as `from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CleaningReport:
        """What `to_json` gave; an empty mapping is an empty report."""
        rules = {name: RuleTally(**tally) for name, tally in content.get("rules", {}).items()}
        return cls(content.get("texts", 0), content.get("kept", 0), rules)


class Cleaner:
    """Cleans texts one by one and counts in `report`. Making one costs nothing, so each batch may have its own.

    `language` None keeps every language; `punctuation` "keep" leaves quotes and dashes as they are. Raises CorpusError for a
    language that can't be told from others.
    """

    def __init__(self, *, min_words: int = 10, language: str | None = "en", punctuation: Punctuation = "ascii") -> None:
        self._mendings = mendings(punctuation)
        self._judgements = judgements(min_words, language)
        self.report = CleaningReport(
            rules={rule.name: RuleTally(rule.says, removes=False) for rule in self._mendings}
            | {rule.name: RuleTally(rule.says, removes=True) for rule in self._judgements}
        )

    def clean(self, text: str, origin: str = "") -> str | None:
        """The text with paragraphs parted by one blank line; None where it is left out, for which the report has the reason.

        `origin` says where the text was read, for the example.
        """
        self.report.texts += 1
        text = self._mend(text)
        for rule in self._judgements:
            if why := rule.objection(text):
                shown = {"text": one_line(text[: 2 * EXAMPLE_LETTERS])[:EXAMPLE_LETTERS], "why": why, "origin": origin}
                self._count(rule.name, shown)
                return None
        self.report.kept += 1
        return text

    def _mend(self, text: str) -> str:
        """What a rule cuts out may leave blank lines, so once white space is mended, each change is tidied."""
        tidy = False
        for rule in self._mendings:
            mended = rule.mend(text)
            tidy = tidy or rule.mend is clean
            if mended != text:
                mended = clean(mended) if tidy else mended
                if not self.report.rules[rule.name].example:
                    before, after = _around_change(text, mended)
                    self._count(rule.name, {"before": before, "after": after})
                else:
                    self._count(rule.name, {})
                text = mended
        return text

    def _count(self, name: str, example: dict[str, str]) -> None:
        tally = self.report.rules[name]
        tally.texts += 1
        tally.example = tally.example or example


def _around_change(before: str, after: str) -> tuple[str, str]:
    """Both texts from a little before the first letter in which they differ."""
    low, high = 0, min(len(before), len(after))
    while low < high:  # the longest common beginning, by halves
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    start = max(0, low - _BEFORE_CHANGE)
    return before[start : start + EXAMPLE_LETTERS], after[start : start + EXAMPLE_LETTERS]
