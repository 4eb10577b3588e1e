"""The bench as a person runs it: figures that fit each other, and a sentence for what can't be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bot.bench.crowd import askers, fair_turns

pytestmark = pytest.mark.timeout(300)  # each starts processes that import torch and transformers

ROOT = Path(__file__).resolve().parents[2]


def bench(model: Path, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISCORD_")}
    return subprocess.run(
        [sys.executable, "-m", "bot", "bench", "--model", str(model), *arguments],
        cwd=ROOT,
        env={**kept, "STORYTELLER_ENV_FILE": os.devnull, "STATE_DIR": str(state), "THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def test_one_run_measures_both_and_prints_json_last(random_model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sweep.png"
    few = ("--users", "3", "--tokens", "12", "--rounds", "1", "--queue", "20", "--sweep", str(picture))
    done = bench(random_model, tmp_path / "state", *few, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for name in (
        "generate_tok_per_s",
        "tok_per_s",
        "ttft_ms",
        "users_tok_per_s",
        "users_ttft_p95_s",
        "limit_tok_per_s",
        "start_s",
    ):
        assert figures[name] > 0
    assert figures["ratio"] == pytest.approx(figures["tok_per_s"] / figures["generate_tok_per_s"], rel=0.01)
    assert figures["users_ratio"] == pytest.approx(figures["users_tok_per_s"] / figures["generate_users_tok_per_s"], rel=0.01)
    assert figures["share_of_limit"] == pytest.approx(figures["tok_per_s"] / figures["limit_tok_per_s"], abs=0.001)
    assert figures["loop_lag_max_ms"] >= 0
    assert (figures["users"], figures["rounds"]) == (3, 1)
    assert [step["users"] for step in figures["sweep"]] == [1, 2, 4, 8, 16, 32, 64]
    assert (figures["queue"]["stories"], figures["queue"]["ended"]) == (20, 20)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "3 at once" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--users", "0"), "whole numbers of 1 or more"),
        (("--users", "257"), "too many"),
        (("--size", "gpt2"), "not both"),
        (("--sweep", "/nowhere/sweep.png"), "a folder that is there"),
        (("--tokens", "5000"), "too many"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(
    random_model: Path, tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    done = bench(random_model, tmp_path, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_crowd_has_one_who_asks_for_a_third_and_a_server_that_asks_for_another() -> None:
    who = askers(60)
    assert len(who) == 60
    assert who.count((0, 0)) == 20
    assert sum(server == 1 for server, _ in who) == 20


def test_fair_turns_share_equally_among_servers_then_among_people() -> None:
    # alone in a server, a person's second story has its turn when both servers have had two
    assert fair_turns([(0, 0), (0, 0), (1, 0), (1, 1)]) == pytest.approx([2, 4, 4, 4])
    assert fair_turns([(0, 0)] * 3) == pytest.approx([1, 2, 3])
