"""The README.md of a corpus: where its stories are from, what was removed and why, how they spread, ten of them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.corpus.figures import DISTINCT_OVER, NOWHERE_SURE, example_of
from trainer.settings import CorpusSettings

LENGTHS, GENRES, CONFUSION = "lengths.png", "genres.png", "confusion.png"
"""Pictures beside the card."""
SAMPLES = 10
_UNNAMED_LICENCE = "none named"
_LABELS_SHOWN = 20


def command_of(settings: CorpusSettings) -> str:
    """The command line that makes this corpus again, wherever it is put: the same corpus has the same card."""
    defaults = CorpusSettings(sources=("stories:",), out=Path("x"))
    words = ["python", "-m", "trainer", "corpus", *settings.sources]
    for name, value in vars(settings).items():
        if name in ("sources", "overwrite", "json", "text") or value == getattr(defaults, name):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, tuple):
            words += map(str, value)
        elif value is not True:
            words.append(value.name if isinstance(value, Path) else str(value))
    return shlex.join(words)


def write_card(path: Path, command: str, figures: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> None:
    """Write the card from the corpus's figures and some of its rows. Raises OSError."""
    path.write_text("\n\n".join(_sections(command, figures, samples)) + "\n", encoding="utf-8")


def _sections(command: str, figures: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    words = figures["words"]
    yield "# A corpus of stories"
    yield (
        f"{figures['train']:,} stories to learn from and {figures['held_out']:,} held out, {words['least']:,} to "
        f"{words['most']:,} words long, {words['median']:,} in the median. Made by\n\n```\n{command}\n```\n\n"
        "and read by `python -m trainer train --data` and this directory, or by `datasets.load_from_disk`. All figures here "
        "are in `corpus.json` too."
    )
    yield f"## Sources\n\n{_sources(figures['sources'])}"
    yield (
        "A model or a copy that is made of this corpus is bound by these licences. Those that ask for a name (CC BY) have it "
        "in the columns `author` and `attribution` of each story."
    )
    yield f"## Genres\n\n{_genres(figures['genres_of_sources'])}\n\n![Stories of each genre]({GENRES})"
    yield f"## Lengths\n\n![Words of each story]({LENGTHS})"
    yield f"## What was removed\n\n{_removed(figures)}"
    yield f"## The two sides\n\n{_sides(figures)}"
    if figures["tagging"] is not None:
        yield f"## Genres that nobody named\n\n{_tagging(figures['tagging'])}"
    yield f"## Variety\n\n{_variety(figures)}"
    yield f"## Stories, the first {len(samples)} of a corpus in random order"
    for row in samples:
        quoted = "\n".join(f"> {line}".rstrip() for line in row["text"].split("\n"))
        yield f"**[{row['genre']}] {row['prompt']}** ({row['source']})\n\n{quoted}"


def _sources(sources: Mapping[str, Any]) -> str:
    rows = [
        f"| `{name}` | {source['weight']:g} | {source['records']:,} | {source['passages']:,} | {source['words']:,} | "
        + ", ".join(f"{licence or _UNNAMED_LICENCE} ({records:,})" for licence, records in source["licences"].items())
        + " |"
        for name, source in sources.items()
    ]
    head = ["| source | weight | records | passages | words | licences (records) |", "| --- | --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *rows])


def _genres(sources: Mapping[str, Mapping[str, int]]) -> str:
    genres = sorted({genre for counts in sources.values() for genre in counts})
    rows = [
        " | ".join([f"| {genre}", *(f"{counts.get(genre, 0):,}" for counts in sources.values())])
        + f" | {sum(counts.get(genre, 0) for counts in sources.values()):,} |"
        for genre in genres
    ]
    head = " | ".join(["| to learn from", *(f"`{name}`" for name in sources), "all |"])
    return "\n".join([head, "| --- |" + " --- |" * (len(sources) + 1), *rows])


def _removed(figures: Mapping[str, Any]) -> str:
    lines = [
        f"- {rule['says']}; texts: {rule['texts']:,}. {_quoted(example_of(rule))}".rstrip()
        for rule in figures["cleaning"].values()
    ]
    duplicates, leaks = figures["duplicates"], figures["leaks"]
    lines += [
        f"- {duplicates['exact']:,} passages that another one repeats word for word, {duplicates['near']:,} that it nearly "
        f"repeats; {duplicates['copies_of_held_out']:,} of these were copies of held-out text",
        f"- {leaks['dropped']:,} passages that quote held-out text at length",
    ]
    if figures["other_genre"]:
        lines.append(f"- {figures['other_genre']:,} passages of genres that were not asked for")
    if figures["bad"]:
        lines.append(f"- {figures['bad']:,} records that could not be read. The first: {figures['bad_shown'][0]}")
    if labels := figures["unmapped_labels"]:
        shown = ", ".join(f"{label} ({count:,})" for label, count in list(labels.items())[:_LABELS_SHOWN])
        lines.append(f"- Labels that say no genre (`--label {next(iter(labels))!r}=GENRE` makes one of them one): {shown}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "`" + text.replace("`", "'") + "`" if text else ""


def _sides(figures: Mapping[str, Any]) -> str:
    leaks = figures["leaks"]
    if leaks["after"] is None:
        return "One side is empty, so there is nothing to compare."
    rows = [
        f"| {name} | {found['held_out_13_grams']:,} | {found['in_training']:,} | {found['of_these_common']:,} |"
        for name, found in (
            ("before anything was dropped", leaks["before"]),
            ("after", leaks["after"]),
            ("books that have nothing to do with each other", leaks["between_unrelated_books"]),
        )
    ]
    return "\n".join(
        [
            "A book lies on one side. Runs of 13 words that a held-out passage has, and how many of them the training side has "
            "too; those that three books have are common phrases.\n",
            "| | held-out 13-grams | in training | common |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def _tagging(tagging: Mapping[str, Any]) -> str:
    if tagging["problem"]:
        return tagging["problem"]
    if tagging["threshold"] > 1:
        said = f"{NOWHERE_SURE} {tagging['left_out']:,} passages without a genre were left out."
    else:
        said = _tagged(tagging)
    if tagging["macro_f1"] is None:
        return said + " No tagged passage was held out, so how right it is could not be measured."
    return (
        f"{said} On {tagging['asked']:,} passages of {tagging['books']:,} held-out books its macro-F1 is "
        f"{tagging['macro_f1']:.3f}; that of always guessing {tagging['majority']} is {tagging['majority_macro_f1']:.3f}.\n\n"
        f"![Which genre is taken for which]({CONFUSION})"
    )


def _tagged(tagging: Mapping[str, Any]) -> str:
    return (
        f"A classifier that was learnt from the tagged passages gave {tagging['tagged']:,} passages a genre, of which it was "
        f"{tagging['mean_confidence']:.2f} sure in the mean; {tagging['left_out']:,} were left out, of which it was less than "
        f"{tagging['threshold']:.2f} sure."
    )


def _variety(figures: Mapping[str, Any]) -> str:
    alike, stories = figures["variety"], min(DISTINCT_OVER, figures["train"])
    return (
        f"Two stories of one genre share {alike['shared']:.1%} of their 5-grams, and more than half of them in "
        f"{alike['over_half']:.2%} of {alike['pairs']:,} random pairs. Of all 4-grams of {stories:,} stories "
        f"{alike['distinct_4']:.1%} are different."
    )
