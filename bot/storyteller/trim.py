"""End a story that ran into its length at its last whole sentence."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"""[.!?…]["'”’)\]*_]*(?=\s|$)""")
_ABBREVIATION = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|vs)\.$")


def whole_sentences(text: str) -> str:
    """The text up to its last sentence end; with an ellipsis where that would cost more than half of it."""
    text = text.rstrip()
    ends = [m.end() for m in _SENTENCE_END.finditer(text) if not _ABBREVIATION.search(text[: m.end()])]
    if ends and ends[-1] * 2 >= len(text):
        return text[: ends[-1]]
    return f"{text}…" if text else text
