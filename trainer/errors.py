"""What can go wrong for a person at the keyboard: each error is a sentence with what to do, shown without a traceback."""


class TrainerError(Exception):
    """A sentence for the person at the keyboard."""


class BadSetting(TrainerError):
    """A setting with a value that no training can have."""


class CorpusError(TrainerError):
    """A source of stories that can't be read; says file and line."""


class BaseUnavailable(TrainerError):
    """The model to start from can't be had."""


class OutOfMemory(TrainerError):
    """The GPU can't hold what was asked for."""


class OutputError(TrainerError):
    """The output directory holds something that this run would harm, or can't be written."""


class LossNotFinite(TrainerError):
    """The weights have gone astray: there is nothing to learn from here on."""


class CheckpointMismatch(TrainerError):
    """A checkpoint's weights are not of the model that is being taught."""
