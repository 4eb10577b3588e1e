"""What a server's answers mean: a chunk of a completion, or a Trouble, which says whether to ask again.

A server may be a proxy's error page, half a JSON, or a version that nobody has seen, so nothing in an answer is trusted.
"""

from __future__ import annotations

import email.utils
import json
import time
from dataclasses import dataclass
from typing import Any, cast

MAX_RETRY_AFTER_S = 30.0
"""Nobody waits longer for a first word; a server that asks for more is told of as busy."""


class Trouble(Exception):
    """A server did not do what was asked; the text is for the log."""


class Down(Trouble):
    """It can't be reached, fell silent, or broke off."""


class Broken(Trouble):
    """It failed, or what it sent is no completion. Another try may do."""


class Busy(Trouble):
    """It has too much to do, or is still loading its model."""

    def __init__(self, what: str, retry_after_s: float | None = None) -> None:
        """`retry_after_s` is what the server asked for."""
        super().__init__(what)
        self.retry_after_s = retry_after_s


class Refused(Trouble):
    """It does not take this request, and will not when asked again."""

    def __init__(self, status: int, what: str) -> None:
        """The HTTP status, and the server's words."""
        super().__init__(what)
        self.status = status


@dataclass(frozen=True)
class Chunk:
    """A bit of a completion. The last one has a finish reason, and the number of tokens where the server counts."""

    text: str
    finish: str | None = None
    completion_tokens: int | None = None
    stopped_by: str | None = None
    """The stop string that ended it, where the server says so."""


def chunk_of(url: str, event: str) -> Chunk:
    """What one event says. Raises Broken."""
    content = json_of(event)
    if not isinstance(content, dict):
        raise Broken(f"{url} sent an event that is no JSON object: {event[:200]!r}")
    fields = cast("dict[str, Any]", content)
    if fields.get("error"):
        raise Broken(f"{url} failed: {str(fields['error'])[:500]}")
    usage: Any = fields.get("usage")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    tokens = tokens if isinstance(tokens, int) else None
    choices: Any = fields.get("choices")
    if choices == [] or (choices is None and tokens is not None):
        return Chunk("", None, tokens)
    choice: Any = choices[0] if isinstance(choices, list) else None
    if not isinstance(choice, dict) or not isinstance(choice.get("text", ""), str):
        raise Broken(f"{url} sent an event that is no completion: {event[:200]!r}")
    finish, stopped_by = choice.get("finish_reason"), choice.get("stop_reason")
    if finish in ("error", "abort", "content_filter"):
        raise Broken(f"{url} gave the text up ({finish})")
    return Chunk(choice.get("text", ""), finish or None, tokens, stopped_by if isinstance(stopped_by, str) else None)


def trouble_of(url: str, status: int, retry_after: str | None, content: bytes) -> Trouble:
    """What an answer without success means."""
    what = f"{url} answered {status}: {_detail(content)}"
    if status in (429, 503):
        return Busy(what, _retry_after_s(retry_after))
    if 400 <= status < 500 and status != 408:
        return Refused(status, what)
    return Broken(what)


def _detail(content: bytes) -> str:
    """The server's own words: OpenAI's {"error": {"message"}}, FastAPI's {"detail"}, or the beginning of whatever it is."""
    fields: Any = json_of(content)
    said: Any = (fields.get("error") or fields.get("detail") or fields.get("message")) if isinstance(fields, dict) else None
    if isinstance(said, dict):
        said = said.get("message") or said
    return str(said or content.decode("utf-8", "replace"))[:500]


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, or a date (RFC 9110, section 10.2.3); None for neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def json_of(content: bytes | str) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(content)
    except ValueError:
        return None
