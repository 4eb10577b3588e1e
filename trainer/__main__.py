"""`python -m trainer corpus | grammar | train | evaluate | lr-find | bench`: make stories, teach a model, measure it."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import tyro

from trainer.errors import TrainerError
from trainer.settings import (
    BenchSettings,
    CorpusSettings,
    EvaluateSettings,
    GrammarSettings,
    LrFindSettings,
    TrainSettings,
)
from trainer.settings_file import with_file

Command = (
    Annotated[CorpusSettings, tyro.conf.subcommand("corpus")]
    | Annotated[GrammarSettings, tyro.conf.subcommand("grammar")]
    | Annotated[TrainSettings, tyro.conf.subcommand("train")]
    | Annotated[EvaluateSettings, tyro.conf.subcommand("evaluate")]
    | Annotated[LrFindSettings, tyro.conf.subcommand("lr-find")]
    | Annotated[BenchSettings, tyro.conf.subcommand("bench")]
)


def main(args: list[str] | None = None) -> int:
    """Run one command; the exit status. A TrainerError is one line on stderr and status 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    args = sys.argv[1:] if args is None else args
    try:
        if args[:1] == ["train"]:
            args = with_file(args, TrainSettings)
        settings = tyro.cli(
            Command,  # pyright: ignore[reportArgumentType] (a union is a form that tyro reads)
            prog="python -m trainer",
            description="Make a corpus of stories, teach GPT-2 to tell them, and measure it.",
            args=args,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
        return run(settings)
    except TrainerError as error:
        print(f"trainer: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # of `| head`: nobody reads on, and Python would complain once more when it closes stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:  # what no command had a better sentence for: a name that is too long, a folder that is closed
        print(f"trainer: {error.filename or 'a file'} can't be used ({error.strerror or error}).", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntrainer: stopped; what was saved before is kept.", file=sys.stderr)
        return 130


AnySettings = CorpusSettings | GrammarSettings | TrainSettings | EvaluateSettings | LrFindSettings | BenchSettings


def run(settings: AnySettings) -> int:
    """Run the command of these settings, whose imports are its own."""
    match settings:
        case CorpusSettings():
            from trainer.corpus.building import build

            return build(settings)
        case GrammarSettings():
            from trainer.grammar.command import tell_or_check

            return tell_or_check(settings)
        case TrainSettings():
            from trainer.training import train

            return train(settings)
        case EvaluateSettings():
            from trainer.evaluate import evaluate

            return evaluate(settings)
        case LrFindSettings():
            from trainer.lr_find import lr_find

            return lr_find(settings)
        case BenchSettings():
            from trainer.bench import bench

            return bench(settings)


if __name__ == "__main__":
    sys.exit(main())
