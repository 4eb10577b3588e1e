"""`python -m bot.bench.start DIR`: a process that says so when its model is ready, and ends; to be timed from outside."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bot.building import build_storyteller
from bot.settings import load_settings

READY = "ready"


async def start(model_dir: Path) -> None:
    """Load, say READY, and close. Raises StoryError."""
    storyteller = build_storyteller(load_settings(model_dir=model_dir))
    try:
        await storyteller.load()
        print(READY, flush=True)
    finally:
        await storyteller.close()


if __name__ == "__main__":
    asyncio.run(start(Path(sys.argv[1])))
