"""`python -m trainer corpus`: from sources to a corpus directory, a text file, or both.

    sources -> stage (read, clean, label, cut) -> sides (split, duplicates, leaks) -> tags -> choice -> data sets, text, report

OUT.building/ holds the stage while it is made; a stop leaves it, and the same command goes on from there. OUT itself appears
whole at the end, or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.figures import figures_of, say_figures
from trainer.corpus.gathering import Gathering, SourceUnit, Tallies
from trainer.corpus.labels import parse_labels
from trainer.corpus.preparing import Recipe
from trainer.corpus.selection import choose
from trainer.corpus.sides import Sides, find_sides
from trainer.corpus.stage import Stage, Table, texts_of
from trainer.corpus.tagging import Tagging, Tags
from trainer.corpus.weights import WeightedSource, weighted
from trainer.corpus.workers import Workers
from trainer.corpus.writing import Rows, write_data_sets, write_text
from trainer.errors import CorpusError, OutputError
from trainer.grammar.source import grammar_unit
from trainer.prompts import PromptFinder
from trainer.settings import CorpusSettings
from trainer.sources.columns import ColumnMap
from trainer.sources.reading import GRAMMAR, units
from trainer.story_format import genre_name
from trainer.talking import bars, say

FIGURES = "corpus.json"
"""The figures of a corpus, beside its data sets."""
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Corpus:
    """All that is known when the passages are chosen."""

    sources: Sequence[WeightedSource]
    table: Table
    tallies: Tallies
    sides: Sides
    tags: Tags
    tagging: Tagging | None
    train: Indices
    held_out: Indices


def build(settings: CorpusSettings) -> int:
    """Make the corpus; the exit status. Raises TrainerError."""
    sources = weighted(settings.sources)
    recipe = _recipe(settings)
    columns = ColumnMap.parse(",".join(settings.map))
    _check_output(settings)
    found = _units(settings, sources, recipe)
    staging = _staging(settings)
    workers = Workers()
    try:
        signal.signal(signal.SIGTERM, _terminate)
        stage = Stage(staging / "stage", _identity(settings, found))
        tallies = _gather(stage, recipe, columns, workers, found, settings)
        corpus = _choose(settings, sources, stage, tallies)
        _write(settings, corpus, staging)
    except (KeyboardInterrupt, Terminated) as stopped:
        say(f"\nStopped. What was read is kept in {staging}; the same command goes on from there.")
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
    except OSError as error:
        raise OutputError(
            f"{error.filename or staging} can't be written ({error.strerror or error}). What was read is kept in {staging}: "
            "make room, and give the same command again."
        ) from error
    finally:
        workers.close()
    shutil.rmtree(staging, ignore_errors=True)
    return 0


class Terminated(BaseException):
    """SIGTERM, which ends a run as Ctrl-C does."""


def _terminate(_: int, __: object) -> None:
    raise Terminated


def _recipe(settings: CorpusSettings) -> Recipe:
    return Recipe(
        tuple(genre_name(label) or label for label in settings.genres),
        tuple(sorted(parse_labels(settings.label).items())),
        settings.passage_words,
        settings.min_words,
        None if settings.language == "any" else settings.language,
        settings.punctuation == "ascii",
    )


def _check_output(settings: CorpusSettings) -> None:
    """Nothing that is there is replaced without being asked for. Raises OutputError."""
    for path in filter(None, (settings.out, settings.text)):
        if path.exists() and not settings.overwrite:
            raise OutputError(f"{path} is there already: choose another name, or say --overwrite to replace it.")
    if settings.out is not None and settings.out.exists() and not (settings.out / "dataset_dict.json").is_file():
        raise OutputError(f"{settings.out} is no corpus, so it is not replaced: choose another --out.")
    if settings.text is not None and settings.text.is_dir():  # before anything is read
        raise OutputError(f"{settings.text} is a folder: --text takes the name of a file.")


def _staging(settings: CorpusSettings) -> Path:
    target = settings.out or settings.text
    assert target is not None  # noqa: S101 (the settings check it)
    return target.with_name(f"{target.name}.building")


def _units(settings: CorpusSettings, sources: Sequence[WeightedSource], recipe: Recipe) -> list[SourceUnit]:
    """The files of all sources. A grammar writes as many stories as there shall be lines."""
    found: list[SourceUnit] = []
    for source in sources:
        if source.name.startswith(GRAMMAR):
            argument = source.name.removeprefix(GRAMMAR)
            unit = grammar_unit(argument, settings.lines, recipe.genres, settings.held_out, settings.seed)
            found.append(SourceUnit(source.name, unit))
        else:
            found += [SourceUnit(source.name, unit) for unit in units(source.name)]
    return found


def _identity(settings: CorpusSettings, found: Sequence[SourceUnit]) -> str:
    """A digest of all that decides what is staged: settings, and name, size and time of each file."""
    fields = dataclasses.asdict(settings)
    for name in ("out", "text", "overwrite", "json", "held_out", "confidence"):
        del fields[name]
    files: list[tuple[str, int, int]] = []
    for unit in found:
        path = Path(unit.unit.name)
        status = path.stat() if path.exists() else None
        files.append((unit.unit.name, status.st_size if status else 0, status.st_mtime_ns if status else 0))
    return hashlib.blake2b(json.dumps([fields, files]).encode(), digest_size=16).hexdigest()


def _gather(
    stage: Stage,
    recipe: Recipe,
    columns: ColumnMap,
    workers: Workers,
    found: Sequence[SourceUnit],
    settings: CorpusSettings,
) -> Tallies:
    if stage.state.rows:
        say(f"Going on after {stage.state.rows:,} passages that were read before")
    gathering = Gathering(stage, recipe, columns, workers, strict=settings.strict)
    with bars("passages") as progress:
        gathering.read(found, lambda done, name: progress(f"Reading {Path(name).name}", done, None))
    for name, tally in gathering.tallies.sources.items():
        say(f"{name}: {tally.records:,} records, {tally.passages:,} passages, {tally.words:,} words")
    for note in gathering.tallies.notes:
        say(note)
    if gathering.tallies.bad:
        say(f"{gathering.tallies.bad:,} bad records were passed over. The first: {gathering.tallies.bad_shown[0]}")
    if not stage.state.rows:
        raise CorpusError(
            f"Nothing is left of {', '.join(settings.sources)}: "
            + (gathering.tallies.bad_shown[0] if gathering.tallies.bad else "every record was empty or cleaned away.")
        )
    return gathering.tallies


def _choose(settings: CorpusSettings, sources: Sequence[WeightedSource], stage: Stage, tallies: Tallies) -> Corpus:
    """Sides, tags and the passages that are taken. Raises CorpusError where none is."""
    table = stage.table()
    with bars("done") as progress:
        sides = find_sides(table, stage.folder / "fingerprints", settings.held_out, progress)
        tags = Tags(table, sides)
        untagged = len(tags.untagged)
        tagging = tags.find(settings.confidence, settings.seed, lambda done: progress("Tagging", done, untagged))
    if tagging is not None and tagging.problem:
        say(tagging.problem)
    tagged = ~np.equal(tags.genres, None)
    names = np.array(["" if genre is None else genre for genre in tags.genres])
    genres = np.unique(names, return_inverse=True)[1].astype(np.int64)
    weights = _weights(table, sources)
    train = choose(genres, weights, np.flatnonzero(sides.train & tagged), settings.lines, settings.seed)
    asked = np.flatnonzero(sides.asked & tagged)
    held_out = choose(genres, weights, asked, _held_out_lines(settings, len(train)), settings.seed + 1)
    if not len(train):
        raise CorpusError(
            "No story to learn from is left: none has a genre. Name labels with --label, or add tagged stories (stories:)."
        )
    if settings.lines is not None and len(train) < settings.lines:
        say(f"There are {len(train):,} stories to learn from, fewer than the {settings.lines:,} lines asked for.")
    return Corpus(sources, table, tallies, sides, tags, tagging, train, held_out)


def _held_out_lines(settings: CorpusSettings, train: int) -> int | None:
    """How many held-out passages go with so many to learn from: their share, where lines are counted."""
    if settings.lines is None:
        return None
    share = settings.held_out or 0.05
    return max(1, round(train * share / (1 - share)))


def _weights(table: Table, sources: Sequence[WeightedSource]) -> NDArray[np.float64]:
    known = {source.name: source.weight for source in sources}
    encoded = table.column("source").combine_chunks().dictionary_encode()
    by_code = np.array([known[name] for name in encoded.dictionary.to_pylist()])
    return by_code[encoded.indices.to_numpy()]


def _write(settings: CorpusSettings, corpus: Corpus, staging: Path) -> None:
    """Write what was asked for; each output appears whole. Raises OSError."""
    chosen = np.concatenate([corpus.train, corpus.held_out])
    finder = PromptFinder(texts_of(corpus.table, np.sort(chosen)))
    rows = Rows(corpus.table, corpus.tags.genres, finder, settings.seed)
    if settings.text is not None:
        write_text(rows, corpus.held_out, settings.text.with_name(f"held-out-{settings.text.name}"))
        write_text(rows, corpus.train, settings.text)
    fresh = staging / "corpus"
    shutil.rmtree(fresh, ignore_errors=True)
    if settings.out is not None:
        splits = {"train": corpus.train, "held_out": corpus.held_out}
        write_data_sets(rows, splits, fresh, _fingerprint(settings))
    figures = figures_of(corpus)
    say_figures(figures)
    if settings.out is not None:
        (fresh / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        _replace(settings.out, fresh, staging)
    if settings.json:
        print(json.dumps(figures))


def _fingerprint(settings: CorpusSettings) -> str:
    return hashlib.blake2b(repr((settings.sources, settings.seed, settings.lines)).encode(), digest_size=8).hexdigest()


def _replace(out: Path, fresh: Path, staging: Path) -> None:
    """Put the new corpus in its place; the old one is away only when the new one is whole."""
    old = staging / "old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
