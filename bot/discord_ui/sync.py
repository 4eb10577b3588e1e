"""Tell Discord which commands there are, but only when they have changed since the last time.

Discord limits how many commands may be created in a day, and bots that sync at each start have run into that. So a hash
of what would be sent is kept beside the bot's other state. The price: a command deleted at Discord by other means stays
away until the commands change or the file is deleted.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, cast

import aiohttp
import discord
from discord import app_commands

_log = logging.getLogger(__name__)


async def sync_if_changed(tree: app_commands.CommandTree[Any], record: Path) -> bool:
    """Sync the tree if `record` does not hold its hash; True if it was sent.

    Never raises for what Discord or the disk refuses: a bot with yesterday's commands is better than none.
    """
    wanted = fingerprint([command.to_dict(tree) for command in tree.get_commands()], tree.client.application_id)
    if _read(record) == wanted:
        _log.debug("The commands are as Discord has them")
        return False
    try:
        await tree.sync()
    except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
        _log.error(
            "The commands could not be sent to Discord (%s). Those of before still work, if there were any. "
            "It is tried again at the next start; if this stays, look at Installation in the developer portal: "
            "User Install and Guild Install should both be on.",
            error,
        )
        return False
    _log.info("Sent %d command(s) to Discord; people may have to reload it to see a change", len(tree.get_commands()))
    _write(record, wanted)
    return True


def fingerprint(commands: list[Any], application_id: int | None) -> str:
    """A hash of the commands and of the application they belong to; their order does not matter."""
    canonical = sorted(json.dumps(command, sort_keys=True, ensure_ascii=True) for command in commands)
    return hashlib.sha256(json.dumps([application_id, *canonical]).encode()).hexdigest()


def _read(record: Path) -> str | None:
    """The hash of last time; None if there is no such file, or a torn one."""
    try:
        content: object = json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None
    return str(cast(dict[str, object], content).get("sha256")) if isinstance(content, dict) else None


def _write(record: Path, wanted: str) -> None:
    """Replace the record as a whole, so that a crash leaves the old one or the new one."""
    fresh = record.with_suffix(".tmp")
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps({"sha256": wanted}), encoding="utf-8")
        fresh.replace(record)
    except OSError as error:
        _log.warning("%s can't be written (%s): the commands will be sent at each start", record, error)
