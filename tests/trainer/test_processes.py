"""Two processes teach what one teaches: the real command under torchrun, over gloo on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from trainer.precision import cpu_has_bf16

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
@pytest.mark.parametrize(
    ("asked", "taught_in", "near"),
    [
        ("fp32", "fp32", 1e-4),
        pytest.param("auto", "bf16", 5e-4, marks=pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU has no bf16")),
    ],
)
def test_two_processes_teach_what_one_teaches_with_the_same_rows(
    asked: str, taught_in: str, near: float, stories_file: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def teach(name: str, batch_size: int, *launcher: str) -> str:
        done = subprocess.run(
            [
                sys.executable,
                *launcher,
                "-m",
                "trainer",
                *command(stories_file, tmp_path / name, batch_size),
                "--precision",
                asked,
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=140,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    two = teach("two", 2, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    assert two.count("passages to learn from") == 1  # the first speaks for both
    assert two.count(f"Number format: {taught_in}") == 1
    losses = held_out_losses(two)
    assert losses
    assert held_out_losses(teach("one", 4)) == losses
    one, both = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in one.items():
        if name.endswith("c_attn.bias"):  # the part of keys shifts all scores alike: its gradient is what was rounded
            _, keys, _ = both[name].view(3, -1)
            keys.copy_(tensor.view(3, -1)[1])
        torch.testing.assert_close(both[name], tensor, rtol=1e-3, atol=near)  # steps moved them by 2e-3
