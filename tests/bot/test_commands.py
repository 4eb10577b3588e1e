"""The commands as a person runs them, on a real model directory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(300)  # each starts a process that imports torch

ROOT = Path(__file__).resolve().parents[2]


def environment(model: Path) -> dict[str, str]:
    """This process's own, without what would reach Discord or read a developer's .env."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DISCORD_")}
    mine = {"STORYTELLER_ENV_FILE": os.devnull, "MODEL_DIR": str(model), "STATE_DIR": str(model.parent / "state")}
    return {**kept, **mine, "STORY_LENGTH": "40"}


def bot(model: Path, *arguments: str, typed: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        cwd=ROOT,
        env={**environment(model), **variables},
        input=typed,
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_without_a_token_the_storyteller_opens_in_the_terminal(random_model: Path) -> None:
    done = bot(random_model, typed="/story magic castle genre:FANTASY\n/quit\n")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert "No DISCORD_TOKEN" in lines[0]
    assert "discord.com/developers" in lines[0]
    assert any(line.startswith("[FANTASY] ") for line in lines)
    assert "Traceback" not in done.stderr


def test_one_story_and_out_is_the_same_for_the_same_seed(random_model: Path) -> None:
    arguments = ("console", "--once", "magic castle", "--genre", "horror", "--length", "24", "--seed", "5", "--json")
    first, second = (json.loads(bot(random_model, *arguments).stdout.splitlines()[-1]) for _ in range(2))
    assert first["text"] == second["text"]
    assert first["text"].startswith("[HORROR] ")
    assert first["finish_reason"] in ("stop", "length")
    assert first["new_tokens"] <= 24
    assert set(first) == {
        *("prompt", "genre", "text", "seed", "prompt_tokens", "new_tokens"),
        *("ttft_ms", "tok_per_s", "finish_reason", "model"),
    }


def test_genres_of_prompts_come_as_json_lines(random_model: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a robot\n\nan old house\n", encoding="utf-8")
    done = bot(random_model, "genre", "--json", "--file", str(prompts), "magic castle")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    assert [line["prompt"] for line in lines] == ["magic castle", "a robot", "an old house"]
    for line in lines:
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=0.001)
        assert line["genre"] == max(line["probabilities"], key=line["probabilities"].__getitem__)


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (("console", "--once", ""), {}, "There are no words in that prompt"),
        (("console", "--once", "ship", "--genre", "PIRATE"), {}, "This model was not taught 'PIRATE'"),
        (("console", "--once", "ship", "--length", "0"), {}, "A story has from 16 to"),
        (("console", "--once", "castle " * 850), {}, "Try a shorter one"),
        (("genre",), {}, "Give a prompt"),
        (("console", "--once", "ship"), {"MODEL_DIR": "/nowhere"}, "There is no model directory /nowhere"),
        (("console", "--once", "ship"), {"MAX_STORIES": "lots"}, "MAX_STORIES can't be 'lots'"),
        ((), {"DISCORD_TOKEN": "x", "MODEL_DIR": "/nowhere"}, "There is no model directory /nowhere"),
        (("discord",), {}, "There is no DISCORD_TOKEN"),
    ],
)
def test_bad_input_is_one_sentence_and_not_status_0(
    random_model: Path, arguments: tuple[str, ...], variables: dict[str, str], says: str
) -> None:
    done = bot(random_model, *arguments, **variables)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_byte_that_is_no_character_ends_nothing(random_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bot", "console"],
        cwd=ROOT,
        env={**environment(random_model), "PYTHONIOENCODING": "utf-8:strict"},
        input=b"/story magic \xff castle genre:HORROR length:20\n/quit\n",
        capture_output=True,
        timeout=110,
    )
    assert done.returncode == 0
    assert b"[HORROR] " in done.stdout
    assert b"Traceback" not in done.stderr


def test_a_script_whose_story_fails_has_a_status(random_model: Path) -> None:
    done = bot(random_model, "console", typed="/story \n/quit\n")
    assert done.returncode == 2
    assert "no words" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals are of POSIX")
def test_ctrl_c_at_the_prompt_ends_the_program(random_model: Path) -> None:
    import pty
    import signal

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bot", "console"],
        cwd=ROOT,
        env=environment(random_model),
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    while b"> " not in shown:
        shown += os.read(ours, 1000)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    os.close(ours)
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()


def test_help_needs_no_torch(random_model: Path) -> None:
    code = "import sys, bot.__main__, trainer.__main__; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
    assert "genre" in bot(random_model, "--help").stdout
