"""The processes of a training: one, or those that `torchrun` and `accelerate launch` start with the same command.

Everything is the same in each of them but who writes and speaks: that is the first. Trainer and accelerate do the rest.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

Thing = TypeVar("Thing")


def process_count() -> int:
    """How many processes teach together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_launched() -> bool:
    """Whether `torchrun` or the like started this process: Trainer then wraps the model for several, be it only one."""
    return "LOCAL_RANK" in os.environ


def is_first() -> bool:
    """Whether this process writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_all() -> None:
    """Go on when all processes are here."""
    if process_count() > 1:
        _state().wait_for_everyone()


def as_the_first_says(thing: Thing) -> Thing:
    """What the first process passed, in all of them."""
    if process_count() == 1:
        return thing
    from accelerate.utils import broadcast_object_list

    _state()
    return broadcast_object_list([thing])[0]


def anywhere(true: bool) -> bool:
    """Whether it is true in any of the processes; all of them have to ask."""
    if process_count() == 1:
        return true
    import torch

    _state()
    told = torch.tensor(float(true), device="cuda" if torch.cuda.is_available() else "cpu")
    torch.distributed.all_reduce(told)
    return bool(told.item())


def _state() -> Any:
    """accelerate's, which joins the processes when it is first asked for."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())
