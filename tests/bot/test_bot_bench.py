"""The bench as a person runs it: figures that fit each other, and a sentence for what can't be measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from bot.bench.command import bench as measure
from bot.bench.continuous import GPU_SETTINGS, OWN_CHOICE, Continuous, Setting, ToldTogether, continuous
from bot.bench.crowd import askers, fair_turns
from bot.bench.options import BenchOptions
from bot.bench.process import OtherProcess, other_process
from bot.engine.interface import Sampling
from bot.errors import StoryError
from bot.settings import load_settings

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
        "continuous_users_tok_per_s",
        "limit_tok_per_s",
        "start_s",
    ):
        assert figures[name] > 0
    assert figures["ratio"] == pytest.approx(figures["tok_per_s"] / figures["generate_tok_per_s"], rel=0.01)
    assert figures["users_ratio"] == pytest.approx(figures["users_tok_per_s"] / figures["generate_users_tok_per_s"], rel=0.01)
    beside_continuous = figures["users_tok_per_s"] / figures["continuous_users_tok_per_s"]
    assert figures["users_ratio_to_continuous"] == pytest.approx(beside_continuous, rel=0.01)
    assert figures["share_of_limit"] == pytest.approx(figures["tok_per_s"] / figures["limit_tok_per_s"], abs=0.001)
    assert figures["loop_lag_max_ms"] >= 0
    assert (figures["users"], figures["rounds"]) == (3, 1)
    assert [step["users"] for step in figures["sweep"]] == [1, 2, 4, 8, 16, 32, 64]
    assert (figures["queue"]["stories"], figures["queue"]["ended"]) == (20, 20)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "3 at once" in done.stdout
    assert "beside continuous batching" in done.stdout


@pytest.mark.parametrize("fails", ["at its start", "in a round"])
async def test_where_continuous_batching_does_not_work_the_rest_is_measured(
    random_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: str,
) -> None:
    @contextmanager
    def broken(*_: object) -> Generator[Continuous]:
        if fails == "at its start":
            raise StoryError("no kernel image")
        yield Continuous(cast("OtherProcess", Asked("no kernel image")))

    monkeypatch.setattr("bot.bench.command.continuous", broken)
    settings = load_settings(model_dir=random_model, state_dir=tmp_path, threads=1)
    assert await measure(BenchOptions(users=2, tokens=8, rounds=2, json=True), settings) == 0
    said = capsys.readouterr()
    figures = json.loads(said.out.splitlines()[-1])
    assert (figures["continuous_users_tok_per_s"], figures["users_ratio_to_continuous"]) == (None, None)
    assert figures["users_ratio"] > 0
    assert "continuous" not in said.out.splitlines()[-2]
    assert said.err.count("it does not work here: no kernel image") == 1


def test_the_fastest_setting_that_works_is_kept_and_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {OWN_CHOICE: 1.0, GPU_SETTINGS[1]: "can't capture", GPU_SETTINGS[2]: 0.5}
    running: list[object] = []

    @contextmanager
    def process(what: str, serve: object, *arguments: object, patience_s: float) -> Generator[Asked]:
        setting = next(argument for argument in arguments if isinstance(argument, Setting))
        speed = speeds[setting]
        running.append(setting)
        yield Asked(speed if isinstance(speed, str) else ToldTogether(2 * 8, speed))
        running.remove(setting)

    monkeypatch.setattr("bot.bench.continuous.other_process", process)
    said: list[str] = []
    with continuous(Path(), "cuda", Sampling(), [[1], [2]], 8, said.append) as kept:
        assert running == [GPU_SETTINGS[2]]
        assert kept.tell([[1], [2]], 8).seconds == 0.5
    assert running == []
    assert sum("can't capture" in line for line in said) == 1


def test_a_story_cut_short_is_no_figure() -> None:
    with pytest.raises(StoryError, match="15 tokens in place of 16"):
        Continuous(cast("OtherProcess", Asked(ToldTogether(15, 1.0)))).tell([[1], [2]], 8)


def test_continuous_batching_says_why_it_cannot_begin(tmp_path: Path) -> None:
    with pytest.raises(StoryError, match="its own choice: "), continuous(tmp_path, "cpu", Sampling(), [[1]], 8, print):
        pass


def test_a_process_that_ends_by_itself_is_a_sentence() -> None:
    with pytest.raises(StoryError, match="that runs it ended"), other_process("it", sys.exit):
        pass


def hangs(pipe: Any) -> None:
    pipe.send(None)
    pipe.recv()
    time.sleep(60)


def test_a_process_that_hangs_is_a_sentence_and_is_ended() -> None:
    with other_process("it", hangs) as process:
        with pytest.raises(StoryError, match="that runs it has said nothing for 1 s"):
            process.ask("how long?", patience_s=1)
        with pytest.raises(StoryError, match=r"that runs it (has )?ended"):
            process.ask("are you there?", patience_s=5)


class Asked:
    """A process that always answers the same, a string being why it can't."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def ask(self, question: object, patience_s: float | None = None) -> object:
        if isinstance(self._answer, str):
            raise StoryError(self._answer)
        return self._answer


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
