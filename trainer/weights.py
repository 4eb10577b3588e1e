"""What a training changes of a model, to a file and back: all weights, or with LoRA the few that are taught."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    import torch

FILE_NAME = "model.safetensors"


def taught_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that are taught, by name; those that are tied once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_weights(model: nn.Module, directory: Path) -> None:
    """Write them. Raises OSError and SafetensorError."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.cpu().contiguous() for name, tensor in taught_weights(model).items()}
    save_file(weights, directory / FILE_NAME, metadata={"format": "pt"})


def load_weights(model: nn.Module, directory: Path) -> None:
    """Read them back into a model of the same kind. Raises CheckpointMismatch for another one's."""
    from safetensors.torch import load_file

    from trainer.errors import CheckpointMismatch

    found = load_file(directory / FILE_NAME)
    expected = taught_weights(model)
    wrong = [name for name, tensor in expected.items() if name not in found or found[name].shape != tensor.shape]
    if wrong:
        raise CheckpointMismatch(
            f"The checkpoint {directory} is of another model: {wrong[0]} is {_shape(found, wrong[0])} there and "
            f"{_shape(expected, wrong[0])} here. Give the --base that it was started with, or --resume never to start over."
        )
    model.load_state_dict(found, strict=False)


def _shape(weights: dict[str, torch.Tensor], name: str) -> str:
    return " x ".join(map(str, weights[name].shape)) if name in weights else "missing"
