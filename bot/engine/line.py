"""The line of texts that wait for a slot: servers take turns, so do a server's users; a user's texts keep their order.

    server A ── user 1: a b c        the next ones: a (A, 1) · x (B, 3) · m (A, 2) · y (B, 3) · b (A, 1) · ...
             └─ user 2: m
    server B ── user 3: x y

A text's fair share of waiting is the time until its turn, were turns a fluid: those servers that have somebody waiting get
equal parts of each turn, and those users of a server that have something waiting equal parts of that. Nobody waits much
longer than this (a test says 1.5 times at most), whoever else asks for however many.

Turns are counted in texts, not in tokens: people see stories, and can check it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Line(Generic[T]):
    """Texts in their fair order."""

    def __init__(self) -> None:
        self._servers: dict[Hashable, dict[Hashable, deque[T]]] = {}  # both levels in the order of their next turns
        self._resumed: deque[T] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, item: T, server: int | str | None, user: int | str | None) -> None:
        """To the end of what this user has in the line. A server or user who is new here comes after those who wait.

        No user is somebody else each time, and no server is a place of the user's own.
        """
        whose: Hashable = id(item) if user is None else ("user", user)
        where: Hashable = whose if server is None else ("server", server)
        self._servers.setdefault(where, {}).setdefault(whose, deque()).append(item)
        self._length += 1

    def put_back(self, items: list[T]) -> None:
        """Before all others: these had begun already."""
        self._resumed.extendleft(reversed(items))
        self._length += len(items)

    def pop(self) -> T:
        """The text whose turn it is. Raises IndexError when nobody waits."""
        if self._resumed:
            self._length -= 1
            return self._resumed.popleft()
        if not self._servers:
            raise IndexError("nobody waits")
        server = next(iter(self._servers))
        users = self._servers.pop(server)
        user = next(iter(users))
        items = users.pop(user)
        item = items.popleft()
        if items:
            users[user] = items  # after the server's other users
        if users:
            self._servers[server] = users  # after the other servers
        self._length -= 1
        return item

    def remove(self, unwanted: set[T]) -> None:
        """Take these out, wherever they are."""
        if not unwanted:
            return
        self._resumed = deque(item for item in self._resumed if item not in unwanted)
        servers: dict[Hashable, dict[Hashable, deque[T]]] = {}
        for server, users in self._servers.items():
            kept = {user: deque(item for item in items if item not in unwanted) for user, items in users.items()}
            kept = {user: items for user, items in kept.items() if items}
            if kept:
                servers[server] = kept
        self._servers = servers
        self._length = len(self._resumed) + sum(len(items) for users in servers.values() for items in users.values())

    def in_turn(self) -> Iterator[T]:
        """Everybody in the order in which they would be popped, if nobody came or left."""
        copy: Line[T] = Line()
        copy._resumed = self._resumed.copy()
        copy._servers = {
            server: {user: items.copy() for user, items in users.items()} for server, users in self._servers.items()
        }
        copy._length = self._length
        while copy:
            yield copy.pop()

    def __iter__(self) -> Iterator[T]:
        yield from self._resumed
        for users in self._servers.values():
            for items in users.values():
                yield from items

    def clear(self) -> None:
        """Nobody waits any more."""
        self._resumed.clear()
        self._servers.clear()
        self._length = 0
