"""What the trainer says while it works: lines and progress bars for people, on stderr; results go to stdout."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from trainer.processes import is_first


def say(line: str) -> None:
    """One line, at once; of several processes the first one speaks."""
    if is_first():
        print(line, file=sys.stderr, flush=True)


def shows_bars() -> bool:
    """Whether there is a terminal to draw on; STORY_PROGRESS=1 draws into a log file too."""
    return is_first() and (sys.stderr.isatty() or "STORY_PROGRESS" in os.environ)


@contextmanager
def bar(doing: str, total: int, unit: str) -> Generator[Callable[[int], None]]:
    """A progress bar; yields what is called with how much is done in all."""
    from tqdm import tqdm

    with tqdm(total=total, desc=doing, unit=f" {unit}", disable=not shows_bars()) as drawn:

        def report(done: int) -> None:
            drawn.update(done - drawn.n)

        yield report


@contextmanager
def bars(unit: str) -> Generator[Callable[[str, int, int | None], None]]:
    """Several progress bars, one after the other; yields what is called with what is done, how much, and of how many."""
    from tqdm import tqdm

    drawn: Any = None
    doing = ""

    def report(now: str, done: int, total: int | None) -> None:
        nonlocal drawn, doing
        if now != doing:
            if drawn is not None:
                drawn.close()
            drawn, doing = tqdm(total=total, desc=now, unit=f" {unit}", disable=not shows_bars(), initial=done), now
        elif drawn is not None:
            drawn.update(done - drawn.n)

    try:
        yield report
    finally:
        if drawn is not None:
            drawn.close()


def quieten_hub() -> None:
    """The hub's client tells of each of its tries; one sentence at the end is enough."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def quieten_transformers() -> None:
    """Keep its warnings of tied weights and its bars of reading a file from people; errors still come through."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
