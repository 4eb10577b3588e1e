"""`generate` of transformers in a process of its own: what most bots do, one story after another.

Of its own, so that neither the threads nor the memory of the one that is measured depend on the other. It has torch's own
choice of threads, the best numbers of the device (bf16 on a GPU, fp32 on a CPU) and the same prompts and sampling.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bot.bench.options import Size
from bot.bench.process import OtherProcess, load_model, other_process, quiet_transformers

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from torch import Tensor

    from bot.engine.interface import Sampling


@dataclass(frozen=True)
class Told:
    """One story."""

    tokens: int
    seconds: float
    """From the request to its last token."""
    ttft_s: float
    """From the request to its first token."""


class Baseline:
    """The other process."""

    def __init__(self, process: OtherProcess) -> None:
        self._process = process

    def tell(self, prompt_ids: Sequence[int], new_tokens: int, seed: int) -> Told:
        """One story; blocks until it is told. Raises StoryError."""
        return cast("Told", self._process.ask((list(prompt_ids), new_tokens, seed)))


@contextmanager
def baseline(model_dir: Path, size: Size, device: str, sampling: Sampling) -> Generator[Baseline]:
    """Start it; for the size "gpt2" it first writes that model into `model_dir`, an empty directory. Raises StoryError."""
    with other_process("transformers' generate", _serve, model_dir, size, device, asdict(sampling)) as process:
        yield Baseline(process)


def write_random_gpt2(source: Path, to: Path) -> None:
    """GPT-2 124M with random weights under the tokenizer and the story format of `source`."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, pad_token_id=0)).save_pretrained(to)
    for name in ("tokenizer.json", "tokenizer_config.json", "story_format.json"):
        shutil.copy(source / name, to / name)


def _serve(model_dir: Path, size: Size, device: str, sampling: dict[str, Any], pipe: Connection[Any, Any]) -> None:
    """What the process runs."""
    import torch

    quiet_transformers()
    try:
        if size == "gpt2":
            from bot.settings import default_model_dir

            write_random_gpt2(default_model_dir(), model_dir)
        model = load_model(model_dir, device)
    except Exception as error:  # noqa: BLE001 - told where it was started
        pipe.send(f"transformers can't load the model: {error}")
        return
    model.generation_config.pad_token_id = model.config.eos_token_id
    pipe.send(None)
    try:
        while True:
            prompt_ids, new_tokens, seed = pipe.recv()
            torch.manual_seed(seed)
            pipe.send(_tell(model, torch.tensor([prompt_ids], device=device), new_tokens, sampling))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return  # the bench has ended


def _tell(model: Any, prompt: Tensor, new_tokens: int, sampling: dict[str, Any]) -> Told:
    clock = _FirstToken()
    written = model.generate(
        prompt,
        do_sample=True,
        min_new_tokens=new_tokens,  # as many as ours: the end token is not drawn before
        max_new_tokens=new_tokens,
        temperature=sampling["temperature"],
        top_k=sampling["top_k"],
        top_p=sampling["top_p"],
        streamer=clock,
    )
    return Told(written.shape[1] - prompt.shape[1], time.perf_counter() - clock.started_s, clock.first_s - clock.started_s)


class _FirstToken:
    """A streamer for `generate`, which gives it the prompt, then each token."""

    def __init__(self) -> None:
        self.started_s = time.perf_counter()
        self.first_s = self.started_s
        self._given = 0

    def put(self, value: object) -> None:
        """Some tokens."""
        self._given += 1
        if self._given == 2:
            self.first_s = time.perf_counter()

    def end(self) -> None:
        """After the last one."""
