"""The engine that runs GPT-2 in this process: the event loop's side of it.

It never computes and never blocks: all of that is in one decode thread (decode_thread.py), whose scheduler (scheduler.py) takes
all texts in flight through each forward pass together.
Importing this module is light; torch and transformers are imported in that thread by the first `load`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bot.engine.before_writing import check_request, check_score
from bot.engine.decode_thread import DecodeThread, Errand
from bot.engine.interface import GenerationRequest, Piece
from bot.engine.model_files import ModelConfig, read_config
from bot.engine.reader import Reader
from bot.engine.scheduler import Scheduler
from bot.engine.ticket import Ticket
from bot.errors import ModelUnavailable

if TYPE_CHECKING:  # it imports torch, which only the thread may do
    from bot.engine.loading import LoadedModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Facts:
    """How a model runs."""

    how: str
    """For people: the device, the numbers, the threads."""
    device: str
    """torch's name of it."""
    weight_bytes: int
    """Of the weights that each pass reads."""


class LocalEngine:
    """An Engine over one model directory. Up to `max_stories` texts are written at once; up to `max_queued` more wait."""

    def __init__(
        self,
        model_dir: Path,
        *,
        threads: int | None,
        device: str = "auto",
        max_stories: int = 8,
        max_queued: int = 200,
        state_dir: Path | None = None,
        on_broken: Callable[[], object] = lambda: None,
    ) -> None:
        """`threads` are torch's inside a forward; None takes the fastest. What was measured of a model
        is kept in `state_dir`. `device` is "auto" or a name for torch.

        `on_broken` is called, on the decode thread, when the GPU's context is lost: every later text would fail, so the
        process should end and be started again. By then each text in flight or waiting got its EngineBroken.
        """
        self._model_dir = model_dir
        self._threads = threads
        self._device = device
        self._max_stories = max_stories
        self._state_dir = state_dir
        self._on_broken = on_broken
        self._thread = DecodeThread(max_queued)
        self._loading: Future[LoadedModel] | None = None
        self._config: ModelConfig | None = None
        self._repeatable = False

    @property
    def ready(self) -> bool:
        """Whether `load` has finished."""
        return self._loading is not None and self._loading.done() and self._loading.exception() is None

    @property
    def repeatable(self) -> bool:
        """Whether the model's sums are the same whatever else is in a pass: known, and promised, once it is loaded.

        The random numbers never differ, as each text has its own.
        """
        return self._repeatable

    @property
    def n_positions(self) -> int:
        """The context in tokens; known before the model is loaded. Raises ModelUnavailable for a broken config.json."""
        return self._known_config().n_positions

    @property
    def facts(self) -> Facts:
        """How the model runs. Raises RuntimeError before it is loaded."""
        if self._loading is None or not self.ready:
            raise RuntimeError("the model is not loaded yet")
        model = self._loading.result()
        return Facts(model.how, model.device, model.forward.weight_bytes)

    async def load(self) -> None:
        """Load off the event loop, once for all callers; after a failure the next call tries again.

        Raises ModelUnavailable, and ShuttingDown after `close`.
        """
        await self._loaded()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Piece, None]:
        """Write one text; loads the model first if nobody did.

        Raises PromptTooLong at once when the prompt leaves fewer than MIN_ROOM positions; QueueFull when too many wait;
        ModelUnavailable; EngineFailed when the model breaks; ShuttingDown when the engine closes or has closed.
        """
        check_request(request, self._known_config())
        await self._loaded()
        reader = Reader()
        self._thread.put(Ticket(request, reader))
        try:
            while True:
                piece = await reader.next()
                yield piece
                if piece.finish_reason is not None:
                    return
        finally:
            reader.gone = True

    async def score(self, prefixes: Sequence[Sequence[int]], continuation: Sequence[int]) -> list[float]:
        """Sum up log P(continuation | prefix) in nats for each prefix, some of them between two steps of the texts in flight:
        no more at once than a round reads of prompts.

        Raises PromptTooLong when a prefix and the continuation exceed n_positions, and what `generate` raises.
        """
        if not prefixes or not continuation:
            return [0.0] * len(prefixes)
        check_score(prefixes, continuation, self._known_config())
        model = await self._loaded()
        together = max(1, model.forward.prompt_tokens // (len(prefixes[0]) + len(continuation)))
        errands = [
            Errand(partial(model.forward.score, prefixes[first : first + together], continuation), Future())
            for first in range(0, len(prefixes), together)
        ]
        for errand in errands:
            self._thread.put(errand)
        scores = await asyncio.gather(*(asyncio.wrap_future(errand.result) for errand in errands))
        return [score for some in scores for score in some]

    async def close(self) -> None:
        """End the texts in flight with ShuttingDown, free the thread and the model.

        A load in flight can't be interrupted; it is given up, and those who wait for it get ShuttingDown at once.
        """
        await self._thread.close()
        self._loading = None

    async def _loaded(self) -> LoadedModel:
        if self._loading is not None and self.ready:
            return self._loading.result()  # at once: of a crowd each would else go twice round the loop
        if self._loading is None or self._loading.done():
            self._loading = self._thread.submit(self._load)
        return await asyncio.shield(asyncio.wrap_future(self._loading))  # a caller that gives up ends no other's wait

    def _load(self) -> LoadedModel:
        """On the decode thread."""
        try:
            self._load_ahead()
            from bot.engine.loading import load_model

            model = load_model(self._model_dir, self._threads, self._device, self._max_stories, self._state_dir)
            self._thread.employ(_scheduler(model, self._on_broken))
        except ModelUnavailable:
            raise
        except Exception as error:
            if self._thread.closing:  # nobody waits any more, and at an exit half of Python may be gone under a load
                logger.debug("a load that was given up failed", exc_info=True)
            else:
                logger.exception("loading %s failed", self._model_dir)
            raise ModelUnavailable(f"The model in {self._model_dir} can't be loaded. The host's log says why.") from error
        self._config = model.config
        self._repeatable = model.forward.repeatable
        return model

    def _load_ahead(self) -> None:
        """What a model on the CPU will most likely need: it is the faster for coming before torch."""
        if self._device == "cpu" or (self._device == "auto" and shutil.which("nvidia-smi") is None):
            try:
                from bot.engine.cpu_compile import compile_step

                compile_step()
            except Exception:  # the model will say what follows from it, if it needs it
                logger.debug("the step could not be compiled ahead", exc_info=True)

    def _known_config(self) -> ModelConfig:
        if self._config is None:
            self._config = read_config(self._model_dir)
        return self._config


def _scheduler(model: LoadedModel, on_broken: Callable[[], object]) -> Scheduler:
    """What texts share is bound here once, so that the scheduler knows of none of it."""
    from bot.engine.draws import Draws
    from bot.engine.writing import Writing

    def begin(request: GenerationRequest) -> Writing:
        return Writing(request, model.vocabulary, model.config.n_positions, model.config.eos_ids)

    return Scheduler(model.forward, lambda slots: Draws(slots, model.unwritable), begin, on_broken=on_broken)
