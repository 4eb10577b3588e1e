"""`python -m bot.bench.start DIR`: a process that ends as soon as its model is ready, to be timed from outside."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bot.building import build_storyteller
from bot.settings import load_settings


async def start(model_dir: Path) -> None:
    """Load and close. Raises StoryError."""
    storyteller = build_storyteller(load_settings(model_dir=model_dir))
    try:
        await storyteller.load()
    finally:
        await storyteller.close()


if __name__ == "__main__":
    asyncio.run(start(Path(sys.argv[1])))
