"""What the gateway keeps of one IDENTIFY while connections come and go: the frames sent, to be sent again on RESUME."""

import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from aiohttp import web

Json = dict[str, Any]


class Op(IntEnum):
    """docs/topics/opcodes-and-status-codes#gateway"""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    RESUME = 6
    RECONNECT = 7
    INVALID_SESSION = 9
    HELLO = 10
    ACK = 11


@dataclass(frozen=True)
class Heartbeat:
    """One heartbeat; `delay_s` is how much later than the interval it came after the one before (None: the first)."""

    t: float
    connection: int
    delay_s: float | None


@dataclass(eq=False)
class Session:
    """What one IDENTIFY opened. `socket` is None while the bot is away; what it misses waits in `sent`."""

    id: str
    intents: int
    shard: list[int]
    socket: web.WebSocketResponse | None
    sent: list[Json] = field(default_factory=list, repr=False)

    async def send(self, event: str, data: Json) -> None:
        self.sent.append({"op": Op.DISPATCH, "t": event, "s": len(self.sent) + 1, "d": data})
        await self.deliver(self.sent[-1])

    async def deliver(self, frame: Json) -> None:
        if self.socket is None or self.socket.closed:
            return
        try:
            await self.socket.send_str(json.dumps(frame))
        except ConnectionError:  # the bot went away in this moment: the frame waits for its RESUME
            self.socket = None
