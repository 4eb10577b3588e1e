"""What only a GPU can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.__main__ import main
from trainer.arguments import precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def test_training_on_a_gpu_is_in_bf16_where_it_computes_in_it(stories_file: Path, tmp_path: Path) -> None:
    numbers = precision()
    assert numbers.flags.get("bf16") or numbers.flags.get("fp16")
    assert torch.cuda.get_device_name() in numbers.reason
    out = tmp_path / "model"
    arguments = ["train", "--data", str(stories_file), "--base", "new:tiny", "--out", str(out), "--max-steps", "4"]
    assert main(arguments) == 0
    assert (out / "model.safetensors").is_file()
