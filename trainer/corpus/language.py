"""What language a text is in, as far as it must be known: is it the one that is wanted?

English is mostly told by its small words: where one word in eight is "the", "and", "of" and the like, no other language is
meant. That takes 20 µs and settles 99 % of passages of English fiction. Doubtful text, and any other language, goes to
py3langid: 0.1 ms a sample, but 1 s and 120 MB to load it once. The price: an English frame around a foreign text passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from trainer.errors import CorpusError

LEAST_WORDS = 20
"""Shorter text is not judged: it may be all names."""
_SAMPLE = 400
"""Letters looked at from each of the beginning, the middle and the end."""
_ENGLISH = frozenset(
    ("the", "and", "of", "to", "that", "his", "with", "she", "you", "were", "they", "this", "would", "there", "which", "said")
)
_ENGLISH_SHARE = 0.125
_SURE = 0.9
"""How sure py3langid must be of another language. It is, of whole sentences, to 0.97 and more."""


def check_language(language: str) -> None:
    """Raise CorpusError for what is no language that can be told."""
    if language != "en" and language not in _identifier().labels:
        known = ", ".join(sorted(_identifier().labels))
        raise CorpusError(f"The language {language!r} can't be told from others; known are: {known}. Or switch this off.")


def other_language(text: str, wanted: str) -> str | None:
    """The code of the language that the text is in, when that is for certain not `wanted`; else None."""
    sample = _sample(text)
    words = sample.split()
    if len(words) < LEAST_WORDS or (wanted == "en" and _is_english(words)):
        return None
    found, sure = _identifier().classify(sample)
    return str(found) if found != wanted and float(sure) >= _SURE else None


def _sample(text: str) -> str:
    if len(text) <= 3 * _SAMPLE:
        return text
    middle = len(text) // 2
    return " ".join((text[:_SAMPLE], text[middle : middle + _SAMPLE], text[-_SAMPLE:]))


def _is_english(words: Sequence[str]) -> bool:
    return sum(word.lower() in _ENGLISH for word in words) >= _ENGLISH_SHARE * len(words)


@cache
def _identifier() -> Any:
    """The model, loaded when it is first needed. It says how sure it is as a probability."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
