"""Rate limits by bucket, as Discord counts them: so many requests in a window that opens with the first of them.

A client that reads the headers never sees a 429, and discord.py reads them; `refuse_next` gives one nevertheless, as
Discord does when a limit is shared or changed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .rules import Rules, Window


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on, and the headers to send with the answer."""

    retry_after_s: float | None
    headers: dict[str, str]


@dataclass(frozen=True)
class TooMany:
    """A 429 that was given."""

    t: float
    bucket: str
    retry_after_s: float


@dataclass
class _Count:
    opened: float
    used: int = 0


@dataclass
class _Planned:
    bucket: str
    times: int
    retry_after_s: float


@dataclass
class RateLimits:
    """Counts requests by bucket name and major parameter; `given` lists each 429."""

    rules: Callable[[], Rules]
    clock: Callable[[], float]
    given: list[TooMany] = field(default_factory=list)
    _counts: dict[tuple[str, str], _Count] = field(default_factory=dict)
    _planned: list[_Planned] = field(default_factory=list)

    def refuse_next(self, bucket: str, times: int = 1, retry_after_s: float = 0.2) -> None:
        """Answer the next `times` requests of `bucket` (webhook, send, edit, delete, typing, other) with 429."""
        self._planned.append(_Planned(bucket, times, retry_after_s))

    def take(self, bucket: str, major: str) -> Verdict:
        """Count one request against its bucket."""
        now, window = self.clock(), self._window(bucket)
        count = self._counts.get((bucket, major))
        if count is None or now >= count.opened + window.seconds:
            count = self._counts[bucket, major] = _Count(now)
        left_s = count.opened + window.seconds - now
        retry_after_s = self._planned_refusal(bucket)
        if retry_after_s is None and count.used >= window.requests:
            retry_after_s = left_s
        if retry_after_s is None:
            count.used += 1
        else:
            self.given.append(TooMany(now, bucket, retry_after_s))
        return Verdict(retry_after_s, self._headers(bucket, window, count, left_s, retry_after_s))

    def _window(self, bucket: str) -> Window:
        rules = self.rules()
        if bucket == "webhook":
            return rules.webhook_window
        return rules.other_window if bucket == "other" else rules.channel_window

    def _planned_refusal(self, bucket: str) -> float | None:
        for planned in self._planned:
            if planned.bucket == bucket and planned.times > 0:
                planned.times -= 1
                return planned.retry_after_s
        return None

    def _headers(self, bucket: str, w: Window, count: _Count, left_s: float, retry: float | None) -> dict[str, str]:
        headers = {
            "X-RateLimit-Limit": str(w.requests),
            "X-RateLimit-Remaining": str(max(0, w.requests - count.used)),
            "X-RateLimit-Reset": f"{time.time() + left_s:.3f}",
            "X-RateLimit-Reset-After": f"{left_s:.3f}",
            "X-RateLimit-Bucket": f"loopback-{bucket}",
        }
        if retry is not None:
            # discord.py takes a 429 without Via for Cloudflare's ban and raises at once.
            headers |= {"Retry-After": f"{retry:.3f}", "Via": "1.1 google", "X-RateLimit-Scope": "user"}
        return headers
