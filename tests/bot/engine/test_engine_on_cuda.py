"""What only a GPU can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bot.engine.interface import GenerationRequest, Sampling
from bot.engine.local import LocalEngine

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


async def test_a_text_longer_than_the_context_leaves_the_gpu_usable(random_model: Path) -> None:
    engine = LocalEngine(random_model, threads=None, device="cuda")
    request = GenerationRequest((5, 6, 7), 300, Sampling(temperature=0.8), seed=1)
    for _ in range(2):
        pieces = [piece async for piece in engine.generate(request)]
        assert pieces[-1].finish_reason is not None
    assert len(await engine.score([[5], [6]], [7, 8])) == 2
    await engine.close()
