"""`python -m trainer train | evaluate`: teach a model, and measure one."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import tyro

from trainer.errors import TrainerError
from trainer.settings import EvaluateSettings, TrainSettings

Command = (
    Annotated[TrainSettings, tyro.conf.subcommand("train")] | Annotated[EvaluateSettings, tyro.conf.subcommand("evaluate")]
)


def main(args: list[str] | None = None) -> int:
    """Run one command; the exit status. A TrainerError is one line on stderr and status 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        settings = tyro.cli(
            Command,  # pyright: ignore[reportArgumentType] (a union is a form that tyro reads)
            prog="python -m trainer",
            description="Teach GPT-2 to tell stories, and measure it.",
            args=args,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
        if isinstance(settings, TrainSettings):
            from trainer.training import train

            return train(settings)
        from trainer.evaluate import evaluate

        return evaluate(settings)
    except TrainerError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntrainer: stopped; what was saved before is kept.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
