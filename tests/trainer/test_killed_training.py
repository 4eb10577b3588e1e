"""Killed at any moment and started again, a training ends with the weights of one that nobody killed, bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]

# One process imports what a training needs and each try is a child of it, so that ten of them take seconds. Every second one
# dies while it saves, the others in a step, as by a power cut.
DRIVER = """
import json, os, random, signal, sys, time
arguments, kills = json.loads(sys.argv[1]), int(sys.argv[2])
import torch, transformers
import trainer.finishing, trainer.teaching, trainer.training
from trainer import checkpoints
from trainer.__main__ import main
from trainer.story_trainer import StoryTrainer

chance = random.Random(7)


def die_soon(turn):
    # Odd turns die inside a save, even ones in the middle of a step; how far each gets is drawn.
    left = chance.randint(1, 3) if turn % 2 else chance.randint(2, 6)
    name = "publish" if turn % 2 else "training_step"
    owner = checkpoints if turn % 2 else StoryTrainer
    real = getattr(owner, name)

    def counted(*parts, **named):
        nonlocal left
        left -= 1
        if left == 0:
            if turn % 2 and chance.random() < 0.5:
                real(*parts, **named)  # published, and killed before anything is told of it
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*parts, **named)

    setattr(owner, name, counted)


def attempt(turn):
    child = os.fork()
    if child == 0:
        if turn is not None:
            die_soon(turn)
        os._exit(main(arguments))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


ends = []
for turn in range(kills):
    ends.append(attempt(turn))
    chance.random()  # a child draws from its copy: move on, or all would die at the same place
ends.append(attempt(None))
print(json.dumps(ends))
"""


def command(data: Path, out: Path) -> list[str]:
    return [
        *("train", "--data", str(data), "--base", "new:tiny", "--out", str(out), "--max-steps", "30", "--batch-size", "2"),
        *("--save-steps", "3", "--eval-steps", "30", "--held-out", "0.2", "--threads", "1", "--dropout", "0.1"),
    ]


def drive(arguments: list[str], kills: int) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, json.dumps(arguments), str(kills)], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.timeout(300)
def test_a_training_killed_ten_times_ends_with_the_weights_of_one_that_nobody_killed(
    stories_file: Path, tmp_path: Path
) -> None:
    ends = drive(command(stories_file, tmp_path / "killed"), kills=10)
    assert ends.count(-9) == 10
    assert ends[-1] == 0
    assert drive(command(stories_file, tmp_path / "whole"), kills=0) == [0]
    killed, whole = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    assert all(bool((killed[name] == whole[name]).all()) for name in whole)
