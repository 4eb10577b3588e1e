"""Read all sources into the stage: cleaned, labelled, cut and fingerprinted, with a count of everything.

The stage is committed every few thousand records and at the end of each file. Ctrl-C, SIGTERM and a crash leave what was
committed; the same command goes on from there, and the corpus is the same as if nothing had happened.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, cast

from trainer.corpus.cleaning import CleaningReport
from trainer.corpus.duplicates import Fingerprints
from trainer.corpus.preparing import Prepared, Recipe, prepare_batch
from trainer.corpus.stage import Stage
from trainer.corpus.workers import Workers
from trainer.sources.columns import ColumnMap
from trainer.sources.reading import Unit
from trainer.sources.source_text import SourceText, batched

COMMIT_RECORDS = 20_000
BATCH_CHARACTERS = 200_000  # so that a worker never waits long for another
BAD_SHOWN = 20


@dataclass
class SourceTally:
    """What one source gave."""

    records: int = 0
    passages: int = 0
    words: int = 0
    licences: dict[str, int] = field(default_factory=dict[str, int])
    """Records of each licence; "" for those that name none."""


@dataclass
class Tallies:
    """All that is counted while reading, kept in the stage as JSON."""

    sources: dict[str, SourceTally] = field(default_factory=dict[str, SourceTally])
    cleaning: dict[str, Any] = field(default_factory=dict[str, Any])
    unmapped: dict[str, int] = field(default_factory=dict[str, int])
    unmapped_at: dict[str, str] = field(default_factory=dict[str, str])
    other_genre: int = 0
    bad: int = 0
    bad_shown: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Tallies:
        """The tallies that `asdict` wrote."""
        tallies = cls(**content)
        tallies.sources = {name: SourceTally(**cast("Any", tally)) for name, tally in tallies.sources.items()}
        return tallies

    def add(self, source: str, texts: Sequence[SourceText], bad: Sequence[str], prepared: Prepared) -> None:
        """Count one batch, and the sentences about records of it that could not be read."""
        self.bad += len(bad)
        self.bad_shown = [*self.bad_shown, *bad][:BAD_SHOWN]
        tally = self.sources.setdefault(source, SourceTally())
        tally.records += len(texts)
        tally.passages += len(prepared.rows)
        tally.words += prepared.words
        for text in texts:
            tally.licences[text.licence or ""] = tally.licences.get(text.licence or "", 0) + 1
        report = CleaningReport.from_json(self.cleaning)
        report.merge(CleaningReport.from_json(prepared.cleaning))
        self.cleaning = report.to_json()
        self.unmapped = dict(Counter(self.unmapped) + prepared.unmapped)
        self.unmapped_at = {**prepared.unmapped_at, **self.unmapped_at}
        self.other_genre += prepared.other_genre


@dataclass(frozen=True)
class SourceUnit:
    """A file of a source, as it is read in one go."""

    source: str
    unit: Unit


class Gathering:
    """Reads units into a stage."""

    def __init__(self, stage: Stage, recipe: Recipe, columns: ColumnMap, workers: Workers, *, strict: bool) -> None:
        """Goes on from what the stage has."""
        self._stage = stage
        self._recipe = recipe
        self._columns = columns
        self._workers = workers
        self._strict = strict
        self.tallies = Tallies.from_json(stage.state.tallies)
        self._bad: list[str] = []
        self._fingerprints = Fingerprints(stage.folder / "fingerprints", keep=stage.state.rows)

    def read(self, units: Sequence[SourceUnit], progress: Callable[[int, str], None]) -> None:
        """Read what is not read yet; `progress` is told of passages in all and of the unit. Raises CorpusError and OSError."""
        for number in range(self._stage.state.unit, len(units)):
            self._read_unit(number, units[number], progress)
        self._fingerprints.close()

    def _read_unit(self, number: int, source_unit: SourceUnit, progress: Callable[[int, str], None]) -> None:
        source, unit = source_unit.source, source_unit.unit
        done = self._stage.state.records
        texts = unit.read(self._columns, None if self._strict else self._bad.append, self._note)
        for _ in islice(texts, done):
            pass
        self._bad.clear()  # they were counted before the stop
        under_way: deque[tuple[list[SourceText], list[str]]] = deque()

        def jobs() -> Iterator[tuple[Recipe, str, list[SourceText]]]:
            for batch in batched(texts, BATCH_CHARACTERS):
                under_way.append((batch, self._take_bad()))
                yield self._recipe, source, batch

        uncommitted = 0
        for prepared in self._workers.map(prepare_batch, jobs()):
            batch, bad = under_way.popleft()
            self.tallies.add(source, batch, bad, prepared)
            for row in prepared.rows:
                self._stage.add(row)
                self._fingerprints.add(row["text"])
            done += len(batch)
            uncommitted += len(batch)
            progress(sum(tally.passages for tally in self.tallies.sources.values()), unit.name)
            if uncommitted >= COMMIT_RECORDS:
                self._commit(number, done)
                uncommitted = 0
        self.tallies.add(source, [], self._take_bad(), Prepared())
        self._commit(number + 1, 0)

    def _take_bad(self) -> list[str]:
        """What was bad since it was asked last. It is counted with the batch, so that a stop counts nothing twice."""
        taken = list(self._bad)
        self._bad.clear()
        return taken

    def _commit(self, unit: int, records: int) -> None:
        self._fingerprints.flush()  # first: the stage must never name a passage that has no fingerprint
        self._stage.commit(unit, records, asdict(self.tallies))

    def _note(self, sentence: str) -> None:
        if sentence not in self.tallies.notes:
            self.tallies.notes.append(sentence)
