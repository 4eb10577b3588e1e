"""End a text where it would say one of the strings that stop it, whatever pieces it comes in."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Holds back what may be the beginning of a stop string, and nothing else."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(string for string in stop if string)
        self._held = ""
        self.hit = False
        """Whether a stop string was met; the text ends before it."""

    def feed(self, text: str) -> str:
        """What of the text so far may be shown now."""
        if not self._stop or self.hit:
            return "" if self.hit else text
        text = self._held + text
        found = [at for string in self._stop if (at := text.find(string)) >= 0]
        if found:
            self.hit, self._held = True, ""
            return text[: min(found)]
        held = max((self._beginning(text, string) for string in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _beginning(text: str, string: str) -> int:
        """How many characters at the end of the text begin the string."""
        return next((n for n in range(min(len(string) - 1, len(text)), 0, -1) if text.endswith(string[:n])), 0)
