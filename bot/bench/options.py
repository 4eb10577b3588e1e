"""What `python -m bot bench` may be told; light, since every command's help reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Size = Literal["bundled", "gpt2"]


@dataclass(frozen=True)
class BenchOptions:
    """How fast this machine tells stories, beside `generate` and the continuous batching of transformers in turns with it."""

    model: Path | None = None
    """The model directory, in place of MODEL_DIR."""
    size: Size = "bundled"
    """bundled: the model directory. gpt2: 124M parameters with random weights, made for this run and removed after it; speed
    does not depend on them."""
    users: int = 8
    """Stories that are asked for at the same moment."""
    tokens: int = 64
    """New tokens of each story."""
    rounds: int = 3
    """How often both take their turns; what is printed is of all of them together."""
    sweep: Path | None = None
    """A PNG of total tokens/s and time to first token against 1 to 64 users."""
    queue: int = 0
    """Ask for so many stories at once after the rounds, with a slot for each of --users: do all end, is the wait fair, does
    memory grow?"""
    json: bool = False
    """Print one line of JSON, last on stdout."""
