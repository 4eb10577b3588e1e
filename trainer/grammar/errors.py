"""What can be wrong in a grammar's files: a sentence with file and line."""

from trainer.errors import TrainerError


class GrammarError(TrainerError):
    """A plot or word list that can't be read or told; says file, line and what to do."""
