"""Where a corpus goes: each output appears whole or not at all, and nothing is replaced without being asked for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.card import CONFUSION, GENRES, LENGTHS, SAMPLES, command_of, write_card
from trainer.corpus.choosing import Corpus
from trainer.corpus.figures import figures_of, say_figures, words_of_stories
from trainer.corpus.pictures import draw_confusion, draw_genres, draw_lengths
from trainer.corpus.writing import Rows, write_data_sets, write_text
from trainer.errors import OutputError
from trainer.prompts import PromptFinder
from trainer.settings import CorpusSettings

FIGURES = "corpus.json"
"""The figures of a corpus, beside its data sets."""


def check_output(settings: CorpusSettings) -> None:
    """Nothing that is there is replaced without being asked for. Raises OutputError."""
    if settings.text is not None:
        _check_text(settings.text, settings.out)
    held_out = _held_out_text(settings.text) if settings.text is not None else None
    for path in filter(None, (settings.out, settings.text, held_out)):
        if path.exists() and not settings.overwrite:
            raise OutputError(f"{path} is there already: choose another name, or say --overwrite to replace it.")
    if settings.out is not None and settings.out.exists() and not (settings.out / "dataset_dict.json").is_file():
        raise OutputError(f"{settings.out} is no corpus, so it is not replaced: choose another --out.")


def _check_text(text: Path, out: Path | None) -> None:
    """What would be found out only after everything is read, or would lose the file. Raises OutputError."""
    if not text.name or text.is_dir():
        raise OutputError(f"{text} is a folder: --text takes the name of a file.")
    if out is not None and (text.resolve() == out.resolve() or out.resolve() in text.resolve().parents):
        raise OutputError(f"--text {text} is in --out {out}, which is replaced as a whole: put the text beside it.")
    if not text.parent.is_dir():
        raise OutputError(f"There is no folder {text.parent} for --text {text.name}: make it first.")


def _held_out_text(text: Path) -> Path:
    return text.with_name(f"held-out-{text.name}")


def staging_of(settings: CorpusSettings) -> Path:
    """Where a corpus is made, beside where it goes: a rename brings it there."""
    target = settings.out or settings.text
    assert target is not None  # noqa: S101 (the settings check it)
    return target.with_name(f"{target.name}.building")


def write_corpus(settings: CorpusSettings, corpus: Corpus, staging: Path) -> None:
    """Write what was asked for; each output appears whole. Raises OSError."""
    chosen = np.concatenate([corpus.train, corpus.held_out])
    finder = PromptFinder(lambda: corpus.staged.texts(np.sort(chosen)))
    rows = Rows(corpus.staged, corpus.tags.genres, finder, settings.seed)
    if settings.text is not None:
        write_text(rows, corpus.held_out, _held_out_text(settings.text))
        write_text(rows, corpus.train, settings.text)
    words = words_of_stories(corpus)
    figures = figures_of(corpus, words)
    if settings.out is not None:
        fresh = staging / "corpus"
        shutil.rmtree(fresh, ignore_errors=True)
        write_data_sets(rows, {"train": corpus.train, "held_out": corpus.held_out}, fresh, _fingerprint(settings))
        _write_report(fresh, settings, figures, rows, corpus, words)
        _replace(settings.out, fresh, staging)
    say_figures(figures)
    if settings.json:
        print(json.dumps(figures))


def _write_report(
    folder: Path, settings: CorpusSettings, figures: Mapping[str, Any], rows: Rows, corpus: Corpus, words: NDArray[np.int64]
) -> None:
    """The figures for programs, the card and its pictures for people."""
    (folder / FIGURES).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    samples = [row for batch in rows.batches(corpus.train[:SAMPLES]) for row in batch]
    write_card(folder / "README.md", command_of(settings), figures, samples)
    draw_lengths(folder / LENGTHS, words)
    draw_genres(folder / GENRES, figures["genres_of_sources"])
    if corpus.tagging is not None and corpus.tagging.scores is not None:
        draw_confusion(folder / CONFUSION, corpus.tagging.scores)


def _fingerprint(settings: CorpusSettings) -> str:
    return hashlib.blake2b(repr((settings.sources, settings.seed, settings.lines)).encode(), digest_size=8).hexdigest()


def _replace(out: Path, fresh: Path, staging: Path) -> None:
    """Put the new corpus in its place; the old one is away only when the new one is whole."""
    old = staging / "old"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    fresh.rename(out)
