"""A server of completions on loopback that does what a test tells it to, faults above all.

Like the real ones it lists a model, has /health, and refuses what its kind does not take. Each streamed completion takes the
next answer of `answers`; without one it writes `max_tokens` of `words`, by default each time WORD.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, Self

from aiohttp import web

WORD = " castle"
TRANSFORMERS_FIELDS = {"prompt", "max_tokens", "seed", "stop", "stream", "temperature", "top_p", "generation_config"}
Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def event(text: str = "", finish: str | None = None, usage: int | None = None, **more: Any) -> bytes:
    """One chunk as vLLM sends it."""
    content: dict[str, Any] = {"choices": [{"index": 0, "text": text, "finish_reason": finish, **more}]}
    if usage is not None:
        content["usage"] = {"completion_tokens": usage}
    return f"data: {json.dumps(content)}\n\n".encode()


DONE = b"data: [DONE]\n\n"


class CompletionsServer:
    """Use it as a context. `url` stays the same over `stop` and `start`."""

    def __init__(self, owner: str = "vllm", *, context: int = 64, model: str = "tiny") -> None:
        self.owner = owner
        self.context = context
        self.model = model
        self.key: str | None = None
        self.health = 200
        self.refuses_trials: str | None = None
        self.lists_models = True
        self.logprob: Callable[[Sequence[int]], float] | None = None
        """Of the last of these tokens, after the others."""
        self.words: Callable[[dict[str, Any]], Iterator[str]] = lambda _body: repeat(WORD)
        self.answers: deque[Answer] = deque()
        self.bodies: list[dict[str, Any]] = []
        """The streamed completions that were asked for."""
        self.trials: list[dict[str, Any]] = []
        self.scored: list[dict[str, Any]] = []
        self.reading = asyncio.Event()
        """A completion waits for nothing but its reader to go."""
        self.disconnected = asyncio.Event()
        """A reader closed the connection while a completion was being written."""
        self.in_flight = self.most_in_flight = 0
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=self.health)

    async def _models(self, request: web.Request) -> web.Response:
        self._check_key(request)
        if not self.lists_models:
            raise web.HTTPInternalServerError(text="Internal Server Error")
        return web.json_response({"data": [{"id": self.model, "owned_by": self.owner, "max_model_len": self.context}]})

    def _check_key(self, request: web.Request) -> None:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            raise web.HTTPUnauthorized(text='{"error": "Unauthorized"}')

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        self._check_key(request)
        body = await request.json()
        if not body.get("stream"):
            return self._whole(body)
        self.bodies.append(body)
        self._check_model(body)
        answer = self.answers.popleft() if self.answers else self._story
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await answer(request, body)
        except (asyncio.CancelledError, ConnectionResetError):
            self.disconnected.set()
            raise
        finally:
            self.in_flight -= 1

    def _check_model(self, body: dict[str, Any]) -> None:
        if self.owner == "transformers":
            if not isinstance(body["prompt"], str):
                raise web.HTTPBadRequest(text='{"detail": "prompt must be a string."}')
            if unexpected := set(body) - TRANSFORMERS_FIELDS:
                raise web.HTTPUnprocessableEntity(text=json.dumps({"detail": f"Unexpected fields: {unexpected}"}))
        elif body.get("model", self.model) != self.model:
            message = f"The model `{body['model']}` does not exist."
            raise web.HTTPNotFound(text=json.dumps({"error": {"message": message}}))

    def _whole(self, body: dict[str, Any]) -> web.Response:
        self._check_model(body)
        if "prompt_logprobs" in body or "echo" in body:
            return self._scores(body)
        self.trials.append(body)
        if self.refuses_trials is not None:
            raise web.HTTPBadRequest(text=json.dumps({"error": {"message": self.refuses_trials}}))
        return web.json_response({"choices": [{"index": 0, "text": " x"}], "usage": {"completion_tokens": 1}})

    def _scores(self, body: dict[str, Any]) -> web.Response:
        self.scored.append(body)
        choices: list[dict[str, Any]] = []
        for index, ids in enumerate(body["prompt"]):
            logprobs = [self.logprob(ids[:end]) for end in range(2, len(ids) + 1)] if self.logprob else []
            if self.logprob is None:
                choices.append({"index": index, "text": ""})
            elif "echo" in body:
                choices.append({"index": index, "logprobs": {"token_logprobs": [None, *logprobs, -1.0]}})
            else:
                told = [
                    {str(token): {"logprob": logprob}, "1": {"logprob": -0.1}}
                    for token, logprob in zip(ids[1:], logprobs, strict=True)
                ]
                choices.append({"index": index, "prompt_logprobs": [None, *told]})
        return web.json_response({"choices": choices[::-1]})

    async def _story(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if len(body["prompt"]) + body["max_tokens"] > self.context and isinstance(body["prompt"], list):
            raise web.HTTPBadRequest(text='{"error": {"message": "too long"}}')
        count = body["max_tokens"]
        words = map(event, islice(self.words(body), count))
        return await sends(*words, event("", "length"), event("", usage=count), DONE)(request, body)


def sends(*parts: bytes | asyncio.Event, closes: bool = False) -> Answer:
    """A stream of these bytes, each a write of its own; an event is waited for. `closes` breaks it off."""

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for part in parts:
            if isinstance(part, bytes):
                await response.write(part)
            else:
                await part.wait()
        if closes and request.transport is not None:
            request.transport.close()
        return response

    return answer


def fails(status: int, text: str = "no", **headers: str) -> Answer:
    """An answer that is no stream."""

    async def answer(_request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers={key.replace("_", "-"): value for key, value in headers.items()})

    return answer


def never() -> asyncio.Event:
    """What does not happen."""
    return asyncio.Event()
