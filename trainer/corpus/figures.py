"""What a corpus is, in figures: printed for people, as one line of JSON for programs, and kept in the corpus as corpus.json."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer.corpus.leaks import Leaks
from trainer.corpus.tagging import Tagging
from trainer.story_format import one_line
from trainer.talking import say
from trainer.variety import Variety, variety

if TYPE_CHECKING:
    from trainer.corpus.choosing import Corpus

PAIRS = 10_000
DISTINCT_OVER = 1_000
NOWHERE_SURE = (
    "However sure it is, the genre classifier is not right four times in five on held-out books, so it tagged nothing."
)
_SAMPLED = 1_000
"""Stories of each genre that are compared."""


def words_of_stories(corpus: Corpus) -> NDArray[np.int64]:
    """How many words each story to learn from has, in the order in which they were read."""
    texts = corpus.staged.texts(np.sort(corpus.train))
    return np.fromiter((len(text.split()) for text in texts), np.int64, len(corpus.train))


def figures_of(corpus: Corpus, words: NDArray[np.int64]) -> dict[str, Any]:
    """All figures, in an order that is always the same; `words` are those of each story to learn from."""
    duplicates, overlap = corpus.sides.duplicates, corpus.sides.overlap
    tallies = corpus.tallies
    return {
        "train": len(corpus.train),
        "held_out": len(corpus.held_out),
        "genres": dict(sorted(Counter(corpus.tags.genres[corpus.train].tolist()).items())),
        "genres_of_sources": _genres_of_sources(corpus),
        "words": {"least": int(words.min()), "median": int(np.median(words)), "most": int(words.max())},
        "sources": {
            source.name: {
                "weight": source.weight,
                "records": tallies.sources[source.name].records,
                "passages": tallies.sources[source.name].passages,
                "words": tallies.sources[source.name].words,
                "licences": dict(sorted(tallies.sources[source.name].licences.items())),
            }
            for source in corpus.sources
            if source.name in tallies.sources
        },
        "cleaning": {name: rule for name, rule in tallies.cleaning.get("rules", {}).items() if rule["texts"]},
        "other_genre": tallies.other_genre,
        "unmapped_labels": dict(sorted(tallies.unmapped.items(), key=lambda item: (-item[1], item[0]))),
        "bad": tallies.bad,
        "bad_shown": tallies.bad_shown,
        "duplicates": {
            "exact": int(duplicates.exact.sum()),
            "near": int(duplicates.near.sum()),
            "copies_of_held_out": int(duplicates.copies_of_held_out.sum()),
        },
        "leaks": {
            "dropped": int(corpus.sides.leaking.sum()),
            "before": _shared(overlap.before) if overlap else None,
            "after": _shared(overlap.after) if overlap else None,
            "between_unrelated_books": _shared(overlap.expected) if overlap else None,
        },
        "tagging": _tagging(corpus.tagging),
        "variety": vars(_variety(corpus)),
    }


def _genres_of_sources(corpus: Corpus) -> dict[str, dict[str, int]]:
    """Stories to learn from, by source and genre."""
    names = corpus.staged.names("source")[corpus.train].tolist()
    counts = Counter(zip(names, corpus.tags.genres[corpus.train].tolist(), strict=True))
    return {
        source.name: {genre: count for (name, genre), count in sorted(counts.items()) if name == source.name}
        for source in corpus.sources
    }


def _tagging(tagging: Tagging | None) -> dict[str, Any] | None:
    """None where every passage came with a genre, or none did."""
    if tagging is None:
        return None
    scores = tagging.scores
    return {
        "tagged": tagging.tagged,
        "left_out": tagging.left_out,
        "threshold": round(tagging.threshold, 4),
        "mean_confidence": round(tagging.mean_confidence, 4),
        "macro_f1": round(scores.macro_f1, 4) if scores else None,
        "majority": scores.majority if scores else None,
        "majority_macro_f1": round(scores.majority_macro_f1, 4) if scores else None,
        "asked": scores.passages if scores else 0,
        "books": scores.books if scores else 0,
        "problem": tagging.problem,
    }


def _shared(leaks: Leaks) -> dict[str, int]:
    return {"held_out_13_grams": leaks.runs, "in_training": leaks.shared, "of_these_common": leaks.common}


def _variety(corpus: Corpus) -> Variety:
    """Of stories within each genre. The corpus is in random order, so its first ones are a sample."""
    genres = corpus.tags.genres[corpus.train]
    groups: list[list[str]] = []
    for name in sorted(set(genres.tolist())):
        chosen = corpus.train[np.flatnonzero(genres == name)[:_SAMPLED]]
        groups.append(list(corpus.staged.texts(chosen)))
    return variety(groups, PAIRS, DISTINCT_OVER)


def say_figures(figures: dict[str, Any]) -> None:
    """The figures in sentences."""
    genres = ", ".join(f"{genre} {count:,}" for genre, count in figures["genres"].items())
    say(f"{figures['train']:,} stories to learn from ({genres}), {figures['held_out']:,} held out")
    for rule in figures["cleaning"].values():
        say(f"Cleaning {rule['says']}; texts: {rule['texts']:,}. {example_of(rule)}".rstrip())
    duplicates, leaks = figures["duplicates"], figures["leaks"]
    say(
        f"Dropped: {duplicates['exact']:,} copies and {duplicates['near']:,} near copies, {duplicates['copies_of_held_out']:,} "
        f"of them of held-out text; {leaks['dropped']:,} passages that quote held-out text"
    )
    if leaks["after"]:
        before, after, expected = leaks["before"], leaks["after"], leaks["between_unrelated_books"]
        say(
            f"13-grams of held-out passages that training passages have too: {before['in_training']:,} of "
            f"{before['held_out_13_grams']:,} before, {after['in_training']:,} after; "
            f"unrelated books share {expected['in_training']:,} of {expected['held_out_13_grams']:,}"
        )
    if tagging := figures["tagging"]:
        _say_tagging(tagging)
    alike, stories = figures["variety"], min(DISTINCT_OVER, figures["train"])
    say(
        f"Two stories of a genre share {alike['shared']:.1%} of their 5-grams, and more than half in {alike['over_half']:.2%} "
        f"of {alike['pairs']:,} pairs; distinct-4 of {stories:,} stories is {alike['distinct_4']:.3f}"
    )


def example_of(rule: dict[str, Any]) -> str:
    """What a rule of cleaning did to one text, on one line; "" where it has no example."""
    example = {name: one_line(str(text)) for name, text in rule["example"].items()}
    if "why" in example:
        return f"Such as ({example['why']}): {example['text']}"
    return f"Such as: {example['before']} -> {example['after']}" if "before" in example else ""


def _say_tagging(tagging: dict[str, Any]) -> None:
    if tagging["problem"]:
        return  # it was told when it was found
    if tagging["threshold"] > 1:
        say(f"{NOWHERE_SURE} {tagging['left_out']:,} passages without a genre were left out; --confidence 0.5 keeps more")
    else:
        _say_tagged(tagging)
    if tagging["macro_f1"] is not None:
        say(
            f"Its macro-F1 on {tagging['asked']:,} passages of {tagging['books']:,} held-out books is "
            f"{tagging['macro_f1']:.3f}; that of always guessing {tagging['majority']} {tagging['majority_macro_f1']:.3f}"
        )


def _say_tagged(tagging: dict[str, Any]) -> None:
    say(
        f"{tagging['tagged']:,} passages without a genre were given one by a classifier that was {tagging['threshold']:.2f} "
        f"sure or more; {tagging['left_out']:,} were left out"
    )
