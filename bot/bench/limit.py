"""How often this machine can read a model's weights in a second: no story alone is told faster, each token needs them all."""

from __future__ import annotations

import time

_MEASURED_S = 0.3


def reads_per_s(weight_bytes: int, device: str) -> float:
    """The best of many reads of so many bytes by all cores; weights that fit a cache are read from there, as in telling."""
    import torch

    weights = torch.ones(max(1, weight_bytes // 4), device=device)
    best_s = float("inf")
    deadline_s = time.perf_counter() + _MEASURED_S
    while (started_s := time.perf_counter()) < deadline_s:
        weights.sum().item()  # waits for a GPU
        best_s = min(best_s, time.perf_counter() - started_s)
    return 1 / best_s
