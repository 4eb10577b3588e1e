"""Engines over tiny models for the tests of this room."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_gpt2 import refuse_int8, tiny_tokenizer, write_model
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

from bot.engine.interface import GenerationRequest, Sampling
from bot.engine.local import LocalEngine


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tests run two files at a time: torch's threads would wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """It runs in fp32, so that its texts are those of `reference`."""
    directory = tmp_path_factory.mktemp("tiny")
    write_model(directory, tokenizer)
    refuse_int8(directory)
    return directory


@pytest.fixture
def model_dir(pristine: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(pristine, tmp_path / "model"))


@pytest.fixture(scope="session")
def reference(pristine: Path) -> GPT2LMHeadModel:
    """The same weights, for `generate` and sums by hand."""
    return GPT2LMHeadModel.from_pretrained(pristine).eval()


@pytest.fixture
async def engine(pristine: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(pristine, threads=1, device="cpu")
    yield engine
    await engine.close()


@pytest.fixture
def request_for(tokenizer: Tokenizer) -> Callable[..., GenerationRequest]:
    """Make a request: `request_for("the dragon", seed=3, temperature=0)`."""

    def make(prompt: str = "[FANTASY] the dragon", new: int = 30, seed: int = 0, **sampling: Any) -> GenerationRequest:
        ids = tuple(tokenizer.encode(prompt).ids)
        return GenerationRequest(ids, new, Sampling(**sampling), seed)

    return make
