"""The gateway: one WebSocket for each connection, sessions that outlive it and can be resumed.

Text frames only, though discord.py asks for zlib-stream: it takes both. An event goes to a session if its intents cover
it, as at Discord; `withheld` counts those that did not go, for the test that wonders why the bot is deaf.
"""

import asyncio
import json
import secrets
from collections import Counter
from typing import Any

from aiohttp import WSMsgType, web

from . import payloads
from .records import Message
from .rules import MAX_GATEWAY_SENDS
from .sessions import Heartbeat, Op, Session
from .state import State

Json = dict[str, Any]
INTENT_GUILDS, INTENT_GUILD_MESSAGES, INTENT_DM_MESSAGES, INTENT_MESSAGE_CONTENT = 1 << 0, 1 << 9, 1 << 12, 1 << 15


class Gateway:
    """All sessions and what the bot did on them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.url = ""
        self.sessions: dict[str, Session] = {}
        self.identifies: list[Json] = []
        self.resumes: list[float] = []
        self.readies = 0
        self.close_codes: list[int | None] = []
        self.heartbeats: list[Heartbeat] = []
        self.withheld: Counter[str] = Counter()
        self._opened = 0
        self._connections: list[_Connection] = []

    @property
    def live(self) -> list[Session]:
        return [session for session in self.sessions.values() if session.socket and not session.socket.closed]

    @property
    def intents(self) -> int | None:
        """Those of the last IDENTIFY."""
        return self.identifies[-1].get("intents") if self.identifies else None

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one connection from HELLO to its end."""
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self._opened += 1
        connection = _Connection(self, socket, request.transport, self._opened)
        self._connections.append(connection)
        try:
            await connection.serve()
        finally:
            self._connections.remove(connection)
            await connection.forget()
        return socket

    async def dispatch(self, event: str, data: Json, intent: int = 0) -> None:
        """Send an event to each session with `intent` (0: to all)."""
        for session in list(self.sessions.values()):
            if intent and not session.intents & intent:
                self.withheld[event] += 1
            else:
                await session.send(event, data)

    async def tell(self, event: str, message: Message) -> None:
        """MESSAGE_CREATE, _UPDATE, _DELETE; content only where Discord shows it without the privileged intent."""
        channel = message.channel
        if message.ephemeral or not channel.bot_sees_it:
            return
        intent = INTENT_GUILD_MESSAGES if channel.guild else INTENT_DM_MESSAGES
        world = self.state.world
        shown = channel.guild is None or message.author.is_bot or world.bot in message.mentions
        for session in list(self.sessions.values()):
            if not session.intents & intent:
                self.withheld[event] += 1
                continue
            with_content = shown or bool(session.intents & INTENT_MESSAGE_CONTENT)
            await session.send(event, payloads.message_event(message, world, with_content=with_content))

    async def ask_reconnect(self) -> None:
        """RECONNECT (op 7): the bot should close and resume."""
        for session in self.live:
            await session.deliver({"op": Op.RECONNECT, "d": None})

    async def invalidate(self, *, resumable: bool = False) -> None:
        """INVALID SESSION (op 9); without `resumable` the bot has to identify anew."""
        for session in self.live:
            if not resumable:
                del self.sessions[session.id]
            await session.deliver({"op": Op.INVALID_SESSION, "d": resumable})

    async def close(self, code: int) -> None:
        """Close each connection with `code`; after 4000 or 1001 the bot may resume."""
        for connection in list(self._connections):
            await connection.close(code)

    def drop(self) -> None:
        """Cut each connection without a word, as a lost network does."""
        for connection in self._connections:
            if connection.transport:
                connection.transport.abort()


class _Connection:
    """One WebSocket: says HELLO, then answers frame by frame."""

    def __init__(
        self, gateway: Gateway, socket: web.WebSocketResponse, transport: asyncio.Transport | None, number: int
    ) -> None:
        self.gateway, self.state = gateway, gateway.state
        self.socket = socket
        self.transport = transport
        self.number = number
        self.session: Session | None = None
        self.goodbye: int | None = None  # the code of the bot's close frame
        self.closed_with: int | None = None  # ours
        self.sends: list[float] = []

    async def serve(self) -> None:
        interval_ms = int(self.state.rules.heartbeat_interval_s * 1000)
        await self._send({"op": Op.HELLO, "d": {"heartbeat_interval": interval_ms}})
        while (frame := await self.socket.receive()).type is WSMsgType.TEXT:
            await self._answer(json.loads(frame.data))
            await self.state.changes.notify()
        if frame.type is WSMsgType.CLOSE:
            self.goodbye = frame.data

    async def close(self, code: int, reason: str = "") -> None:
        self.closed_with = code
        await self.socket.close(code=code, message=reason.encode())

    async def forget(self) -> None:
        """A bot that says goodbye (1000, 1001) ends its session; any other end leaves it to be resumed."""
        self.gateway.close_codes.append(self.closed_with or self.goodbye)
        session = self.session
        if session and session.socket is self.socket:
            session.socket = None
            if self.goodbye in (1000, 1001):
                self.gateway.sessions.pop(session.id, None)
        # Shielded: at the server's end this handler is cancelled, and a waiting test should learn of it still.
        await asyncio.shield(self.state.changes.notify())

    async def _answer(self, frame: Json) -> None:
        match frame.get("op"):
            case Op.HEARTBEAT:
                await self._heartbeat()
                return
            case Op.IDENTIFY:
                await self._identify(frame["d"])
            case Op.RESUME:
                await self._resume(frame["d"])
        self._count_send()

    async def _heartbeat(self) -> None:
        t = self.state.clock()
        before = [beat.t for beat in self.gateway.heartbeats if beat.connection == self.number]
        delay_s = t - before[-1] - self.state.rules.heartbeat_interval_s if before else None
        self.gateway.heartbeats.append(Heartbeat(t, self.number, delay_s))
        await self._send({"op": Op.ACK, "d": None})

    async def _identify(self, data: Json) -> None:
        self.gateway.identifies.append(data)
        if data.get("token") != self.state.token:
            await self.close(4004, "Authentication failed.")
        elif self.session:
            self.state.violate("gateway: identified twice on one connection (4005)")
            await self.close(4005)
        elif data.get("intents", 0) & self.state.rules.disallowed_intents:
            await self.close(4014, "Disallowed intent(s).")
        else:
            await self._ready(data)

    async def _ready(self, data: Json) -> None:
        world = self.state.world
        self.session = Session(secrets.token_hex(8), data["intents"], data.get("shard", [0, 1]), self.socket)
        self.gateway.sessions[self.session.id] = self.session
        ready = {
            "v": 10,
            "user": payloads.user(world.bot),
            "guilds": [{"id": str(world.guild.id), "unavailable": True}],
            "session_id": self.session.id,
            "resume_gateway_url": self.gateway.url,
            "application": {"id": str(world.application_id), "flags": self.state.rules.application_flags},
            "shard": self.session.shard,
        }
        await self.session.send("READY", ready)
        if data["intents"] & INTENT_GUILDS:
            await self.session.send("GUILD_CREATE", payloads.guild_create(world.guild, world))
        self.gateway.readies += 1

    async def _resume(self, data: Json) -> None:
        session = self.gateway.sessions.get(data.get("session_id") or "")
        if data.get("token") != self.state.token:
            await self.close(4004)
        elif session is None:
            await self._send({"op": Op.INVALID_SESSION, "d": False})
        else:
            self.session, session.socket = session, self.socket
            self.gateway.resumes.append(self.state.clock())
            for frame in session.sent[int(data.get("seq") or 0) :]:
                await session.deliver(frame)
            await session.send("RESUMED", {})

    def _count_send(self) -> None:
        now = self.state.clock()
        self.sends = [t for t in self.sends if t > now - 60] + [now]
        if len(self.sends) > MAX_GATEWAY_SENDS:
            self.state.violate(f"gateway: {len(self.sends)} frames in 60 s; Discord takes {MAX_GATEWAY_SENDS}")

    async def _send(self, frame: Json) -> None:
        try:
            await self.socket.send_str(json.dumps(frame))
        except ConnectionError:
            return  # the connection is gone; serve() ends by itself
