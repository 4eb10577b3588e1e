"""The sources of a corpus with their weights: `stories@2` is drawn from twice as readily as the others."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from trainer.errors import BadSetting


@dataclass(frozen=True)
class WeightedSource:
    """A source as the readers take it, and its weight."""

    name: str
    weight: float = 1.0


def weighted(sources: tuple[str, ...]) -> tuple[WeightedSource, ...]:
    """The sources of a command line. Raises BadSetting for a weight or a name that is none, and for a source named twice."""
    for source in sources:
        if os.fsencode(source).decode("utf-8", "ignore") != source:
            raise BadSetting(f"The name of the source {source!a} is no UTF-8: rename it.")
    found = tuple(map(_weighted, sources))
    names = [source.name for source in found]
    for name in names:
        if names.count(name) > 1:
            raise BadSetting(f"The source {name} is named twice: a weight says that it counts more, as in {name}@2.")
    return found


def _weighted(source: str) -> WeightedSource:
    match = re.fullmatch(r"(.+)@([^@/]*)", source)
    if match is None or Path(source).exists():
        return WeightedSource(source)
    name, written = match.groups()
    try:
        weight = float(written)
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise BadSetting(f"{source}: the weight after @ should be a number over 0, such as {name}@2.")
    return WeightedSource(name, weight)
