"""End a text before the first of some strings, which may come in several pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Hands out text as far as it can't be the beginning of a stop string."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(string for string in strings if string)
        self._held = ""
        self.reached = False
        """Whether a stop string came; nothing is handed out after it."""

    def feed(self, text: str) -> str:
        """What more may be shown now that this text came."""
        if not self._strings or not text or self.reached:
            return "" if self.reached else text
        self._held += text
        found = [at for string in self._strings if (at := self._held.find(string)) >= 0]
        if found:
            shown, self._held, self.reached = self._held[: min(found)], "", True
            return shown
        keep = self._possible_beginning()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def rest(self) -> str:
        """What was held back, when the text ends for another reason."""
        held, self._held = self._held, ""
        return held

    def _possible_beginning(self) -> int:
        """How many characters at the end may become a stop string."""
        longest = min(len(self._held), max(map(len, self._strings)) - 1)
        for length in range(longest, 0, -1):
            end = self._held[-length:]
            if any(string.startswith(end) for string in self._strings):
                return length
        return 0
