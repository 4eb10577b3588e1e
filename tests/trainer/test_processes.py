"""Two processes teach what one teaches: the real command under torchrun, over gloo on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]


def run(launcher: list[str], data: Path, out: Path, batch_size: int) -> subprocess.CompletedProcess[str]:
    command = [
        *(sys.executable, *launcher, "-m", "trainer", "train", "--data", str(data), "--base", "new:tiny", "--out", str(out)),
        *("--batch-size", str(batch_size), "--max-steps", "4", "--eval-steps", "2", "--held-out", "0.2", "--threads", "1"),
        *("--dropout", "0", "--optimizer", "adamw"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.timeout(300)
def test_two_processes_teach_what_one_teaches_with_the_same_rows(stories_file: Path, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = run(torchrun, stories_file, tmp_path / "two", batch_size=2)
    assert two.returncode == 0, two.stderr
    one = run([], stories_file, tmp_path / "one", batch_size=4)
    assert one.returncode == 0, one.stderr
    assert two.stderr.count("passages to learn from") == 1  # the first speaks for both
    losses = [[line for line in run.stderr.splitlines() if "held-out loss" in line and "step" in line] for run in (one, two)]
    assert losses[0] == losses[1]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=1e-4)
