"""Two processes teach what one teaches: the real command under torchrun, over gloo on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trainer.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def command(data: Path, out: Path, batch_size: int) -> list[str]:
    return [
        *("train", "--data", str(data), "--base", "new:tiny", "--out", str(out), "--batch-size", str(batch_size)),
        *("--max-steps", "4", "--eval-steps", "2", "--held-out", "0.2", "--threads", "1", "--dropout", "0"),
        *("--optimizer", "adamw"),
    ]


def held_out_losses(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("step") and "held-out loss" in line]


@pytest.mark.timeout(300)
def test_two_processes_teach_what_one_teaches_with_the_same_rows(
    stories_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "trainer"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    two = subprocess.run(
        [*torchrun, *command(stories_file, tmp_path / "two", 2), "--precision", "fp32"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("passages to learn from") == 1  # the first speaks for both
    assert main([*command(stories_file, tmp_path / "one", 4), "--precision", "fp32"]) == 0
    assert held_out_losses(two.stderr) == held_out_losses(capsys.readouterr().err)
    one, both = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(both[name], tensor, rtol=1e-3, atol=1e-4)
