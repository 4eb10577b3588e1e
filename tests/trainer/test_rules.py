"""Who may import whom: the design's rules, held by reading the imports."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def importing(folder: str) -> set[str]:
    return {name for path in (ROOT / folder).rglob("*.py") for name in imports(path)}


def starting(names: set[str], *prefixes: str) -> set[str]:
    return {name for name in names if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)}


def test_the_bot_imports_only_the_story_format_of_the_trainer() -> None:
    allowed = starting(importing("bot"), "trainer.story_format")
    assert starting(importing("bot"), "trainer") == allowed
    assert allowed


def test_the_trainer_imports_nothing_of_the_bot() -> None:
    assert not starting(importing("trainer"), "bot", "discord")


def test_the_story_format_has_no_torch_in_it() -> None:
    assert not starting(imports(ROOT / "trainer/story_format.py"), "torch", "transformers", "datasets")


def test_discord_talks_to_the_storyteller_and_never_to_the_engine() -> None:
    assert not starting(importing("bot/discord_ui"), "bot.engine", "trainer", "torch", "transformers", "bot.console")


def test_the_storyteller_knows_no_front_end_and_no_torch() -> None:
    assert not starting(importing("bot/storyteller"), "bot.discord_ui", "bot.console", "discord", "torch", "transformers")


def test_the_terminal_and_discord_are_equal_callers_of_the_storyteller() -> None:
    allowed = ("bot.errors", "bot.storyteller.interface", "bot.storyteller.story")
    for front in ("console.py", *(f"discord_ui/{path.name}" for path in (ROOT / "bot/discord_ui").glob("*.py"))):
        found = starting(imports(ROOT / "bot" / front), "bot") - {"bot.errors", "bot.discord_ui"}
        assert found == starting(found, *allowed, "bot.discord_ui"), front


def test_the_storyteller_knows_of_the_engine_only_its_interface() -> None:
    found = starting(importing("bot/storyteller"), "bot.engine")
    assert found == starting(found, "bot.engine.interface")


def test_the_engine_knows_no_story() -> None:
    assert not starting(importing("bot/engine"), "bot.storyteller", "bot.discord_ui", "bot.console", "discord", "trainer")
