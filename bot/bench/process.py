"""Processes of their own for what ours is measured beside: one that ends, hangs or breaks its GPU's context takes none along.

Each loads the model, says None, and then answers one question at a time; while one works the others wait for their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bot.errors import StoryError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_END_S = 10


class OtherProcess:
    """One of them, as it is asked from here."""

    def __init__(self, what: str, pipe: Connection[Any, Any], process: BaseProcess) -> None:
        self._what = what
        self._pipe = pipe
        self._process = process

    def ask(self, question: object, patience_s: float | None = None) -> object:
        """Blocks until it has answered. Raises StoryError, also once it has ended or been silent for so long, which ends it."""
        try:
            self._pipe.send(question)
        except OSError as error:
            raise StoryError(f"The process that runs {self._what} has ended.") from error
        return self.answer(patience_s)

    def answer(self, patience_s: float | None = None) -> object:
        """Its next word. Raises StoryError."""
        try:
            if not self._pipe.poll(patience_s):
                self._process.kill()  # or it would go on beside what is measured next
                raise StoryError(f"The process that runs {self._what} has said nothing for {patience_s:.0f} s.")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise StoryError(f"The process that runs {self._what} ended: look at what it said above.") from error
        if isinstance(answer, str):
            raise StoryError(answer)
        return cast("object", answer)


@contextmanager
def other_process(
    what: str, serve: Callable[..., None], *arguments: object, patience_s: float | None = None
) -> Generator[OtherProcess]:
    """Run `serve(*arguments, pipe)` there, once it has said None: a string in its place is why it can't. Raises StoryError."""
    context = get_context("spawn")
    here, there = cast("tuple[Connection[Any, Any], Connection[Any, Any]]", context.Pipe())
    process = context.Process(target=serve, args=(*arguments, there), daemon=True)
    process.start()
    there.close()
    try:
        other = OtherProcess(what, here, process)
        other.answer(patience_s)
        yield other
    finally:
        here.close()  # it waits for its turn, and ends by itself
        process.join(_END_S)
        process.kill()
        process.join()


def quiet_transformers() -> None:
    """No progress bars and no advice between the lines of the bench; to be called in such a process."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def load_model(model_dir: Path, device: str) -> Any:
    """GPT-2 by transformers as it is meant for this device: bf16 on a GPU that has it, else fp32."""
    import torch
    from transformers import GPT2LMHeadModel

    on_gpu = torch.device(device).type == "cuda"
    dtype = torch.bfloat16 if on_gpu and torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    model: Any = GPT2LMHeadModel.from_pretrained(model_dir, dtype=dtype, local_files_only=True)
    return model.eval().to(device)
