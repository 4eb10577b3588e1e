"""`python -m trainer corpus`: from sources to a corpus directory, a text file, or both.

    sources -> stage (read, clean, label, cut) -> sides (split, duplicates, leaks) -> tags -> choice -> data sets, text, report

OUT.building/ holds the stage while it is made; a stop leaves it, and the same command goes on from there. OUT itself appears
whole at the end, or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from trainer.alone import alone_in
from trainer.corpus.choosing import choose_corpus
from trainer.corpus.gathering import Gathering, SourceUnit, Tallies
from trainer.corpus.labels import asked_genres, parse_labels
from trainer.corpus.output import check_output, staging_of, write_corpus
from trainer.corpus.preparing import Recipe
from trainer.corpus.stage import Stage
from trainer.corpus.weights import WeightedSource, weighted
from trainer.corpus.workers import Workers
from trainer.errors import CorpusError, OutputError
from trainer.grammar.grammar import DATA as GRAMMAR_DATA
from trainer.grammar.source import grammar_unit
from trainer.settings import CorpusSettings
from trainer.sources.columns import ColumnMap
from trainer.sources.reading import GRAMMAR, units
from trainer.talking import bars, say


def build(settings: CorpusSettings) -> int:
    """Make the corpus; the exit status. Raises TrainerError."""
    sources = weighted(settings.sources)
    recipe = _recipe(settings)
    columns = ColumnMap.parse(",".join(settings.map))
    check_output(settings)
    found = _units(settings, sources, recipe)
    staging = staging_of(settings)
    with alone_in(staging):
        return _build(settings, sources, recipe, columns, found, staging)


def _build(
    settings: CorpusSettings,
    sources: Sequence[WeightedSource],
    recipe: Recipe,
    columns: ColumnMap,
    found: Sequence[SourceUnit],
    staging: Path,
) -> int:
    workers = Workers()
    try:
        signal.signal(signal.SIGTERM, _terminate)
        stage = Stage(staging / "stage", _identity(settings, found))
        tallies = _gather(stage, recipe, columns, workers, found, settings)
        corpus = choose_corpus(settings, sources, stage, tallies)
        write_corpus(settings, corpus, staging)
    except (KeyboardInterrupt, Terminated) as stopped:
        kept = any(staging.glob("stage/part-*.arrow"))
        say(f"\nStopped. What was read is kept in {staging}; the same command goes on from there." if kept else "\nStopped.")
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
    except BrokenPipeError:  # of stdout: the corpus is written
        shutil.rmtree(staging, ignore_errors=True)
        raise
    except OSError as error:
        raise OutputError(
            f"{error.filename or staging} can't be written ({error.strerror or error}). What was read is kept in {staging}: "
            "make room, and give the same command again."
        ) from error
    finally:
        workers.close()
        _forget_if_empty(staging)
    shutil.rmtree(staging, ignore_errors=True)
    return 0


def _forget_if_empty(staging: Path) -> None:
    """A run that read nothing leaves nothing behind."""
    if staging.exists() and not any(staging.glob("stage/part-*.arrow")):
        shutil.rmtree(staging, ignore_errors=True)


class Terminated(BaseException):
    """SIGTERM, which ends a run as Ctrl-C does."""


def _terminate(_: int, __: object) -> None:
    raise Terminated


def _recipe(settings: CorpusSettings) -> Recipe:
    return Recipe(
        asked_genres(settings.genres),
        tuple(sorted(parse_labels(settings.label).items())),
        settings.passage_words,
        settings.min_words,
        None if settings.language == "any" else settings.language,
        settings.punctuation == "ascii",
    )


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
    files = [_mark(unit) for unit in found]
    return hashlib.blake2b(json.dumps([fields, files]).encode(), digest_size=16).hexdigest()


def _mark(unit: SourceUnit) -> tuple[str, int, int]:
    """The name of a unit with size and time of all its files: of a folder's, and of what a grammar tells by and about."""
    if unit.source.startswith(GRAMMAR):
        argument = unit.source.removeprefix(GRAMMAR)
        paths = [GRAMMAR_DATA, *([Path(argument)] if argument else [])]
    else:
        paths = [Path(unit.unit.name)]
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()]
    statuses = [file.stat() for file in files]
    return unit.unit.name, sum(s.st_size for s in statuses), max((s.st_mtime_ns for s in statuses), default=0)


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
    _say_unmapped(gathering.tallies)
    if gathering.tallies.bad:
        say(f"{gathering.tallies.bad:,} bad records were passed over. The first: {gathering.tallies.bad_shown[0]}")
    if not stage.state.rows:
        raise CorpusError(
            f"Nothing is left of {', '.join(settings.sources)}: "
            + (gathering.tallies.bad_shown[0] if gathering.tallies.bad else "every record was empty or cleaned away.")
        )
    return gathering.tallies


def _say_unmapped(tallies: Tallies, most: int = 5) -> None:
    """Name the labels that no genre is known of, with a place where each stands."""
    labels = sorted(tallies.unmapped, key=lambda label: (-tallies.unmapped[label], label))
    if not labels:
        return
    shown = ", ".join(
        f"{label!r} ({tallies.unmapped[label]:,}, first in {tallies.unmapped_at[label]})" for label in labels[:most]
    )
    more = f" and {len(labels) - most:,} more" if len(labels) > most else ""
    say(f"Labels that say no known genre: {shown}{more}. For one that does: --label {shlex.quote(f'{labels[0]}=GENRE')}")
