"""Settings from a TOML file: its keys are the options of the command line, which go before it.

    data = ["stories:", "my/tales.jsonl"]
    base = "gpt2"
    learning-rate = 5e-5

The file is turned into options, so that one parser reads and checks both, in the same words.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import BadSetting


def with_file(args: Sequence[str], settings: type[Any]) -> list[str]:
    """The arguments of a command, with those of the file that its --config names put before them.

    Raises BadSetting for a file that can't be read, or that has a key which is none of the settings'.
    """
    named = _config_of(args)
    if named is None:
        return list(args)
    command, *rest = args
    return [command, *_options(Path(named), settings), *rest]


def _config_of(args: Sequence[str]) -> str | None:
    for place, arg in enumerate(args):
        if arg == "--config":
            return args[place + 1] if place + 1 < len(args) else None
        if arg.startswith("--config="):
            return arg.removeprefix("--config=")
    return None


def _options(path: Path, settings: type[Any]) -> list[str]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"--config {path} can't be read ({getattr(error, 'strerror', None) or error}).") from None
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"--config {path} is no TOML: {error}.") from None
    known = {field.name for field in dataclasses.fields(settings)} - {"config"}
    options: list[str] = []
    for key, value in content.items():
        name = key.replace("-", "_")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0].replace("_", "-")
            raise BadSetting(f"{path} has {key!r}, which is no setting of this command; the nearest is {near!r}.")
        values: list[Any] = value if isinstance(value, list) else [value]
        if isinstance(value, bool):
            options.append(f"--{'' if value else 'no-'}{name.replace('_', '-')}")
        elif not all(isinstance(part, str | int | float) for part in values):
            raise BadSetting(f"{path}: {key!r} should be a value or a list of values.")
        else:
            options += [f"--{name.replace('_', '-')}", *map(str, values)]
    return options
