"""`copying:` — lists of words said again and again: exercises by which new weights learn to repeat what stands before.

A small model that is taught stories alone learns which words are likely, and for a long time not to look back at the names and
things that it has been told of: on random tokens said twice the second time cost it as much as the first, after two hours on
two cores. A list said again has nothing else to be learnt, and hundreds of steps are enough. The name of what learns it is
induction head (Olsson et al. 2022, In-context Learning and Induction Heads). To be given before the stories, or with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from random import Random

from trainer.errors import CorpusError
from trainer.sources.options import ReadOptions
from trainer.sources.own_stories import LICENCE, read_own_stories
from trainer.sources.source_text import SourceText

DEFAULT_EXERCISES = 10_000
_LIST_WORDS = (2, 32)
_TEXT_WORDS = (24, 160)


def read_exercises(argument: str, _: ReadOptions) -> Iterator[SourceText]:
    """As many exercises as the argument says, of the words of the project's own stories. Raises CorpusError."""
    if argument and not argument.isdecimal():
        raise CorpusError(f"copying:{argument} should end in a number of exercises, as in copying:5000.")
    words = sorted({word for story in read_own_stories(ReadOptions()) if not story.held_out for word in story.text.split()})
    for number in range(int(argument or DEFAULT_EXERCISES)):
        text = _exercise(words, Random(f"copying {number}"))
        yield SourceText(
            text, None, None, None, text, held_out=False, origin=f"copying: exercise {number + 1}", licence=LICENCE
        )


def _exercise(words: Sequence[str], random: Random) -> str:
    """Lists of few words are as likely as those of many: they are where the learning starts."""
    least, most = _LIST_WORDS
    said = random.choices(words, k=round(least * (most / least) ** random.random()))
    return " ".join(islice(cycle(said), max(random.randint(*_TEXT_WORDS), len(said) + 8)))
