"""The prompt of a grammar's story: from two words to a sentence, of what the story has bound and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping

from trainer.grammar.plots import Plot
from trainer.grammar.telling import Cast, polish
from trainer.grammar.words import WordList

_OWN_SHARE = 0.4
_SLOT_NAME = re.compile(r"\{(?:[Aa]n? |[Tt]he )?([A-Za-z][a-z-]*\d?)")
_PRONOUNS = frozenset(("he", "him", "his", "himself"))


class PromptForms:
    """Draws prompts: the plot's own, or a form that every plot of its kind has ("{thing}", "a story about {a thing}")."""

    def __init__(self, common: Mapping[str, WordList]) -> None:
        """The forms are the common lists thing-prompt, place-prompt and being-prompt."""
        self._common = common

    def draw(self, plot: Plot, cast: Cast) -> str:
        """One prompt, as a person would type it."""
        own = [form for form in plot.prompts if _is_told(form, cast)]
        if own and cast.random.random() < _OWN_SHARE:
            form = cast.random.choice(own)
        else:
            form = self._common[f"{plot.about}-prompt"].draw(cast.random).parts[0]
        return " ".join(polish_prompt(cast.fill(form, plot.where)).split())


def polish_prompt(prompt: str) -> str:
    """A capital only where the form has one, or the prompt is a sentence."""
    return polish(prompt) if prompt.endswith((".", "?", "!")) else prompt.strip()


def _is_told(form: str, cast: Cast) -> bool:
    """Whether the story has all that the form names."""
    names = {name[0].lower() + name[1:] for name in _SLOT_NAME.findall(form)}
    return all(name in cast.bound or (name in _PRONOUNS and "hero" in cast.bound) for name in names)
