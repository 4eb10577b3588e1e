"""Which tokens a text must not go on with: those that would repeat an n-gram, and the last token of a banned word.

Kept on the host, where a token costs a look-up or two, and not a comparison with all of the text.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence


class NgramLedger:
    """Which tokens would repeat an n-gram of the text so far, in constant time a token."""

    def __init__(self, n: int) -> None:
        self._tail: tuple[int, ...] = ()  # the last n - 1 tokens
        self._followers: dict[tuple[int, ...], set[int]] = {}
        self._prefix_length = n - 1

    def add(self, token: int) -> None:
        """The text goes on with this token."""
        tail = self._tail
        if len(tail) < self._prefix_length:
            self._tail = (*tail, token)
            return
        followers = self._followers.get(tail)
        if followers is None:
            self._followers[tail] = {token}
        else:
            followers.add(token)
        self._tail = (*tail, token)[1:]

    def banned(self) -> Sequence[int]:
        """What has already followed the last n - 1 tokens."""
        followers = self._followers.get(self._tail)
        return sorted(followers) if followers else ()


class BannedWords:
    """Words that must not be written. One of several tokens is banned at its last, as in transformers' NoBadWords."""

    def __init__(self, words: Sequence[tuple[int, ...]], context: Sequence[int]) -> None:
        """`context` is the text so far, its prompt included."""
        words = [word for word in words if word]
        self._always = sorted({word[0] for word in words if len(word) == 1})
        self._by_last_of_prefix: defaultdict[int, list[tuple[tuple[int, ...], int]]] = defaultdict(list)
        for word in words:
            if len(word) > 1:
                self._by_last_of_prefix[word[-2]].append((word[:-1], word[-1]))
        longest = max((len(word) for word in words), default=1)
        self._tail: deque[int] = deque(context, maxlen=max(1, longest - 1))

    @property
    def constant(self) -> bool:
        """Whether the same tokens are banned all the time: no word has several."""
        return not self._by_last_of_prefix

    def add(self, token: int) -> None:
        """The text goes on with this token."""
        self._tail.append(token)

    def banned(self) -> Sequence[int]:
        """What would end a banned word now."""
        ends = self._by_last_of_prefix.get(self._tail[-1]) if self._tail else None
        if not ends:
            return self._always
        tail = tuple(self._tail)
        return [*self._always, *(last for prefix, last in ends if tail[-len(prefix) :] == prefix)]
