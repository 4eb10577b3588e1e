"""Read server-sent events as they arrive (WHATWG HTML, section 9.2), of which completions use only `data`.

Bytes come in whatever pieces the network makes, so lines are cut as bytes and decoded whole: no chunk border can fall inside a
character. Comments, which servers send to keep a connection open, and other fields than `data` are passed over.
"""

from __future__ import annotations

import codecs

MAX_EVENT_BYTES = 1 << 20
"""No completion chunk comes near it; a page of something else without line ends must not fill the memory."""


class EventTooLong(ValueError):
    """A line or an event goes on for ever: that is no stream of events."""


class EventStream:
    """The `data` of each event, from bytes."""

    def __init__(self) -> None:
        self._bytes = b""
        self._data: list[str] = []
        self._size = 0

    def feed(self, received: bytes) -> list[str]:
        """The events that these bytes complete. Raises EventTooLong."""
        *lines, self._bytes = (self._bytes + received).replace(b"\r\n", b"\n").split(b"\n")
        events = [event for line in lines if (event := self._line(line)) is not None]
        self._size += len(self._bytes)
        if self._size > MAX_EVENT_BYTES or len(self._bytes) > MAX_EVENT_BYTES:
            raise EventTooLong
        self._size -= len(self._bytes)
        return events

    def end(self) -> list[str]:
        """What was left when the connection closed; servers forget the last empty line at times."""
        rest, self._bytes = self._bytes, b""
        events = [self._line(rest), self._line(b"")]
        return [event for event in events if event is not None]

    def _line(self, line: bytes) -> str | None:
        line = line.removesuffix(b"\r")
        if not line:
            event, self._data, self._size = "\n".join(self._data), [], 0
            return event or None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
            self._size += len(value)
        return None


class WholeCharacters:
    """Joins the halves of a character that JSON wrote as two escapes, `\\ud83d` and `\\udc09`, into two chunks."""

    def __init__(self) -> None:
        self._utf16 = codecs.getincrementaldecoder("utf-16-le")("replace")

    def feed(self, text: str, *, last: bool = False) -> str:
        """The text as far as its characters are whole; a half that stays alone becomes U+FFFD."""
        return self._utf16.decode(text.encode("utf-16-le", "surrogatepass"), last)
