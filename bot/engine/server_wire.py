"""HTTP to a server of completions: JSON calls, and a completion as a stream of chunks. Every failure becomes a Trouble.

Each wait has its limit and ends at once when the engine closes. Leaving a stream closes its connection, by which servers know
that nobody reads any more and stop writing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

import aiohttp

from bot.engine.server_answers import Broken, Chunk, Down, Trouble, chunk_of, json_of, trouble_of
from bot.engine.server_events import EventStream, EventTooLong, WholeCharacters

T = TypeVar("T")

CONNECT_S = 5.0
"""A machine that is there accepts a connection in far less."""
USAGE_S = 2.0
"""The count of tokens comes right after the last piece of text; a server that never says it is not waited for."""


class Closing(Exception):
    """The engine closes: whatever waits gives up."""


class Waits:
    """Every wait of an engine, so that closing it ends all of them."""

    def __init__(self) -> None:
        self.closed = False
        self._scopes: set[asyncio.Timeout] = set()

    async def within(self, seconds: float | None, start: Callable[[], Awaitable[T]]) -> T:
        """What `start()` gives. Raises TimeoutError after `seconds`, Closing as soon as `close` is called."""
        if self.closed:
            raise Closing
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                self._scopes.add(scope)
                return await start()
        except TimeoutError:
            if self.closed and scope.expired():
                raise Closing from None
            raise
        finally:
            self._scopes.discard(scope)

    def close(self) -> None:
        """End the waits that there are, and let no other begin."""
        self.closed = True
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(0)


class Wire:
    """One HTTP session for all servers."""

    def __init__(self, waits: Waits, api_key: str | None, silence_s: float) -> None:
        """`silence_s` is how long a server may say nothing, before the first token or between two. Needs a running loop."""
        self._waits = waits
        self._silence_s = silence_s
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
            # The engine bounds how many there are. Each call has a connection of its own: one that was kept may be closed by
            # the server just then (uvicorn does it after an error), and a story is not worth less than one more handshake.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, url: str) -> tuple[int, Any]:
        """The status and the JSON of an answer; None for what is no JSON. Raises Down."""
        return await self._call("GET", url, None)

    async def post(self, url: str, body: dict[str, Any]) -> Any:
        """The JSON that answers a call. Raises Trouble."""
        status, content = await self._call("POST", url, body)
        if not isinstance(content, dict):
            raise Broken(f"{url} answered {status} without JSON")
        return content

    async def _call(self, method: str, url: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        async def call() -> tuple[int, Any]:
            async with self._session.request(method, url, json=body, allow_redirects=False) as response:
                content = await response.read()
                if method == "POST" and response.status != 200:
                    raise trouble_of(url, response.status, response.headers.get("Retry-After"), content)
                return response.status, json_of(content)

        return await self._answer(url, call)

    async def complete(self, url: str, body: dict[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The chunks of one completion, the one with a finish reason last. Raises Trouble."""

        def post() -> Awaitable[aiohttp.ClientResponse]:
            return self._session.post(url, json=body | {"stream": True}, allow_redirects=False)

        response = await self._answer(url, post)
        try:
            if response.status != 200:
                raise trouble_of(
                    url, response.status, response.headers.get("Retry-After"), await self._answer(url, response.read)
                )
            if response.content_type != "text/event-stream":
                raise Broken(f"{url} answered with {response.content_type}, not with a stream of events")
            events, characters = _Events(response), WholeCharacters()
            last: Chunk | None = None
            while last is None or last.completion_tokens is None:
                chunk = await self._next_chunk(url, events, last)
                if chunk is None:
                    break
                if last is not None:
                    last = replace(last, completion_tokens=chunk.completion_tokens)
                elif chunk.finish is None:
                    yield replace(chunk, text=characters.feed(chunk.text))
                else:
                    last = replace(chunk, text=characters.feed(chunk.text, last=True))
            if last is None and not events.done:
                raise Down(f"{url} closed the connection before the end of the text")
            yield last or Chunk("", "stop")
        finally:
            response.close()

    async def _next_chunk(self, url: str, events: _Events, last: Chunk | None) -> Chunk | None:
        """None at the end. Once the text is over, whatever goes wrong is only an end."""
        try:
            event = await self._answer(url, events.next, self._silence_s if last is None else USAGE_S)
            return None if event is None else chunk_of(url, event)
        except Trouble:
            if last is None:
                raise
            return None

    async def _answer(self, url: str, start: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        seconds = self._silence_s if seconds is None else seconds
        try:
            return await self._waits.within(seconds, start)
        except EventTooLong:
            raise Broken(f"{url} sends something else than events") from None
        except aiohttp.ClientError as error:
            raise Down(f"{url}: {error!r}") from error
        except TimeoutError:
            raise Down(f"{url} said nothing for {seconds:g} s") from None
        except OSError as error:
            raise Down(f"{url}: {error!r}") from error


class _Events:
    """The events of one response, one by one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._content = response.content
        self._stream = EventStream()
        self._ready: deque[str] = deque()
        self._closed = False
        self.done = False
        """Whether the server said that this is all."""

    async def next(self) -> str | None:
        """None at the end."""
        while not self._ready and not self._closed:
            received = await self._content.readany()
            self._closed = not received
            self._ready.extend(self._stream.feed(received) if received else self._stream.end())
        event = self._ready.popleft() if self._ready else None
        self.done = event is not None and event.strip() == "[DONE]"
        return None if self.done else event
