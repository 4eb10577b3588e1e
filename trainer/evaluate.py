"""`python -m trainer evaluate`: held-out loss of a model directory, as a table for people and a line for programs."""

from __future__ import annotations

import json
from typing import Any

from trainer.errors import CorpusError
from trainer.lessons import room_for_a_story
from trainer.material import make_passages, split, spread
from trainer.settings import EvaluateSettings, set_threads
from trainer.sources.texts import read_texts
from trainer.talking import bar, quieten_transformers, say


def evaluate(settings: EvaluateSettings) -> int:
    """Print the losses; the exit status. Raises TrainerError."""
    set_threads(settings.threads)
    texts = read_texts(settings.data, say)
    if settings.held_out_only:
        texts = split(texts, settings.held_out_only).held_out
    if not texts:
        raise CorpusError(f"No story to score in {', '.join(settings.data)}.")

    from trainer.evaluation import HeldOut, Score, by_genre
    from trainer.model_directory import open_model

    quieten_transformers()
    model, codec = open_model(settings.model)
    block = int(model.config.n_positions)

    room = room_for_a_story(block, settings.passage_tokens)
    with bar("Cutting into passages", len(texts), "texts") as report:
        passages = make_passages(texts, codec.format.genres, room, codec.count, report)
    if settings.max_stories:
        passages = spread(passages, settings.max_stories)
    held_out = HeldOut(passages, codec, block)
    with bar("Scoring", held_out.rows, "rows") as report:
        scores = by_genre(passages, held_out.score(model, progress=report))
    total = sum(scores.values(), Score(0.0, 0, 0, 0))
    unigram = held_out.unigram_nats_per_token()
    print(f"{'genre':<12} {'passages':>8} {'tokens':>9} {'nats/token':>11} {'bits/byte':>10}")
    for name, score in [*scores.items(), ("all", total)]:
        print(f"{name:<12} {score.stories:>8} {score.tokens:>9} {score.nats_per_token:>11.4f} {score.bits_per_byte:>10.4f}")
    print(f"The best model without context (unigrams of this very text): {unigram:.4f} nats/token")
    if settings.json:
        line: dict[str, Any] = {
            "model": str(settings.model),
            "data": list(settings.data),
            **total.as_dict(),
            "unigram_nats_per_token": round(unigram, 4),
            "genres": {name: score.as_dict() for name, score in scores.items()},
        }
        print(json.dumps(line))
    return 0
